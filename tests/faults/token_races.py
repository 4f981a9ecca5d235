"""The moment of expiry, and outages while tokens expire: everybody asks at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from libs.errors import Kind, ServiceError
from tests.faults.token_house import REPLICAS, House, Store
from tests.faults.token_judge import doubles

CALLERS: Final = 1000
SERVED_WITHIN_S: Final = 30.0
_NATS_AWAY_S: Final = 5.0
_OUTAGE_S: Final = 20.0
_LOOK_S: Final = 0.1
_BOUND_S: Final = 90.0


@dataclass(slots=True)
class Crowd:
    """What came of callers who each wanted one token and one call."""

    statuses: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    last_s: float = 0.0
    """When the last of them had used its token, in Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raced:
    """A race, judged."""

    refreshes_most: int
    """Of one store."""

    lost: int
    dead_calls: int
    served_s: float
    complaints: tuple[str, ...]


async def crowd(house: House, stores: Sequence[Store], size: int) -> Crowd:
    """So many callers at once, spread over all replicas; each asks until it has a token."""
    seen = Crowd()

    async def one(number: int) -> None:
        store, turn = stores[number % len(stores)], number
        while True:
            present = house.present
            try:
                token = await house.token(store, present[turn % len(present)])
            except ServiceError as error:
                seen.refused[error.code] += 1
                if error.kind is Kind.AUTH:
                    return
                turn += 1
                await asyncio.sleep(_LOOK_S)
                continue
            seen.statuses[await house.use(store, token)] += 1
            seen.last_s = time.time()
            return

    async with asyncio.timeout(_BOUND_S):
        await asyncio.gather(*(one(number) for number in range(size)))
    return seen


async def at_expiry(house: House, store: Store, *, killed: bool, callers: int = CALLERS) -> Raced:
    """All callers at the moment at which the token ends; `killed`: so does the holder, then."""
    await house.at_least(len(REPLICAS))
    # Time for everybody to arrive: the provider thinks first, and is slow to answer.
    fault = _fault(store, times=1, before_ms=600, latency_ms=6000 if killed else 200)
    await house.script(fault)
    await house.take_in(store, lives_s=0.0, replica=REPLICAS[0])
    began_s = time.time()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(crowd(house, [store], callers))
        if killed:
            victim = await house.holder(store) or house.present[0]
            await house.rotated(store)
            began_s = time.time()
            await house.kill(victim)
            house.revive(victim)
    due = 2 if killed else 1
    return await _judged(house, [store], asked.result(), began_s, due={due}, callers=callers)


async def nats_killed(house: House, store: Store, *, away_s: float = _NATS_AWAY_S) -> Raced:
    """NATS dies between the rotation and its storing, and comes back."""
    await house.at_least(len(REPLICAS))
    await house.script(_fault(store, times=1, latency_ms=1000))
    await house.take_in(store, lives_s=0.0, replica=REPLICAS[0])
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(crowd(house, [store], 40))
        await house.rotated(store)
        await house.stack.kill("nats")
        await asyncio.sleep(away_s)
        await house.stack.restart("nats")
        began_s = time.time()
    return await _judged(house, [store], asked.result(), began_s, due={1, 2}, callers=40)


async def upstream_down(house: House, stores: Sequence[Store]) -> Raced:
    """The token endpoints answer 503 for 20 s, while tokens end."""
    await house.at_least(len(REPLICAS))
    effect = {"kind": "http_status", "status": 503}
    match = {"provider": "shopify", "endpoint": "refresh"}
    await house.script({"match": match, "duration_s": _OUTAGE_S, "effect": effect})
    began_s = time.time()
    for store in stores:
        await house.take_in(store, lives_s=0.0, replica=REPLICAS[0])
    asked = await crowd(house, stores, 4 * len(stores))
    ended_s = began_s + _OUTAGE_S
    callers = 4 * len(stores)
    return await _judged(house, stores, asked, ended_s, due={1}, callers=callers)


async def _judged(
    house: House,
    stores: Sequence[Store],
    asked: Crowd,
    since_s: float,
    *,
    due: set[int],
    callers: int,
) -> Raced:
    complaints = []
    accounts = [await house.account(store) for store in stores]
    for store, account in zip(stores, accounts, strict=True):
        if account["refreshes"] not in due:
            complaints.append(f"{account['refreshes']} refreshes of {store.handle}")
        if account["grant_lost"] or store.handle in house.told_s:
            complaints.append(f"{store.handle} is lost, or was called so")
    if asked.statuses != {200: callers}:
        complaints.append(f"calls were answered {dict(asked.statuses)}")
    served_s = asked.last_s - since_s
    if served_s > SERVED_WITHIN_S:
        complaints.append(f"the last caller was served after {served_s:.0f} s")
    mine = {store.connection_id for store in stores}
    complaints += doubles(one for one in house.handed if one.connection_id in mine)
    return Raced(
        refreshes_most=max(account["refreshes"] for account in accounts),
        lost=sum(account["grant_lost"] for account in accounts),
        dead_calls=sum(sum(account["calls_dead"].values()) for account in accounts),
        served_s=served_s,
        complaints=tuple(complaints),
    )


def _fault(store: Store, **what: Any) -> dict[str, Any]:
    match = {"provider": "shopify", "endpoint": "refresh", "account": store.domain}
    return {"match": match, **what}
