"""Rounds in which the holder of a refresh is killed or stopped; each with a store of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from libs.errors import Kind, ServiceError
from tests.faults.token_house import FIRST, House, Store, until
from tests.faults.token_judge import Plan, Seen, Strike
from tidewire.auth.v1 import record_pb2
from tidewire.connections.v1 import connection_pb2

NEEDS_PERSON: Final = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION

_LOOK_S: Final = 0.05
_CALLERS_A_REPLICA: Final = 3
_BOUND_S: Final = 20.0
_LATENCY_MS: Final = {True: 1500, False: 300}
"""From the rotation to the answer: a staged strike falls before it, others around it."""

_NAP_LATENCY_MS: Final = 400
_FAR_S: Final = 3600.0


def store_of(plan: Plan) -> Store:
    """The store of a round."""
    return Store(f"round-{plan.number}-{plan.rotation}", plan.rotation)


async def played(house: House, plan: Plan) -> Seen:
    """One round from the grant to the last token.

    Raises:
        TimeoutError: something that the round waits for never came.
    """
    store = store_of(plan)
    await house.at_least(3)
    latency_ms = _NAP_LATENCY_MS if plan.strike is Strike.NAP else _LATENCY_MS[plan.staged]
    match = {"provider": "shopify", "endpoint": "refresh", "account": store.domain}
    await house.script({"match": match, "times": 1, "before_ms": 100, "latency_ms": latency_ms})
    await _begun(house, store, plan)
    async with asyncio.TaskGroup() as group:
        callers = [
            group.create_task(_calls(house, store, replica))
            for replica in house.present
            for _ in range(_CALLERS_A_REPLICA * plan.asked)
        ]
        # Whoever it is, where the refresh was over before anybody could look.
        victim = await house.holder(store) or house.present[0]
        if plan.staged:
            await house.rotated(store)
        await asyncio.sleep(plan.delay_s)
        struck_s = time.time()
        await _struck(house, plan, victim)

        async def over() -> bool:
            return _is_over(await house.record(store))

        answer_lost = plan.staged and plan.strike is not Strike.NAP and not await over()
        await until(over, _BOUND_S)
        if plan.strike is Strike.PAUSE:
            await asyncio.sleep(plan.seconds)
            house.go_on(victim)
        lost = bool((await house.account(store))["grant_lost"])
        condemned = await _condemned(house, store) if lost else False
        if lost:
            await house.connect(store, replica=house.present[0])
        served_s = await _served(house, store, struck_s)
        await asyncio.gather(*callers)
    if plan.strike is Strike.KILL:
        house.revive(victim)
    account = await house.account(store)
    told_s = house.told_s.get(store.handle)
    return Seen(
        plan=plan,
        refreshes=account["refreshes"],
        answer_lost=answer_lost,
        lost=lost,
        reported_s=None if told_s is None else told_s - struck_s,
        condemned=condemned,
        served_s=served_s,
        dead_calls=sum(account["calls_dead"].values()),
        handed=[one for one in house.handed if one.connection_id == store.connection_id],
    )


async def _begun(house: House, store: Store, plan: Plan) -> None:
    """Has a refresh begin."""
    first = house.present[plan.number % len(house.present)]
    if plan.asked:
        await house.take_in(store, lives_s=0.0, replica=first)
        return
    await house.take_in(store, lives_s=_FAR_S, replica=first)
    asked = asyncio.create_task(house.rotate(store, first))
    # Nobody waits for its answer: it dies with the replica that it was asked of.
    asked.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _struck(house: House, plan: Plan, victim: str) -> None:
    if plan.strike is Strike.KILL:
        await house.kill(victim)
        return
    house.pause(victim)
    if plan.strike is Strike.NAP:
        await asyncio.sleep(plan.seconds)
        house.go_on(victim)


def _is_over(record: record_pb2.StoredGrant) -> bool:
    return record.token_revision > FIRST or record.needs_reauthorization


async def _condemned(house: House, store: Store) -> bool:
    """Whether each replica soon says that a person is needed, counts it, and the bus was told."""

    async def told() -> bool:
        said = [
            await house.state(store, replica) == NEEDS_PERSON and await house.ended(replica) > 0
            for replica in house.present
        ]
        return all(said) and store.handle in house.told_s

    return await _comes(told)


async def _served(house: House, store: Store, struck_s: float) -> float | None:
    """Seconds from the strike until each replica present gave a token that worked."""
    for replica in house.present:

        async def works(replica: str = replica) -> bool:
            return await _works(house, store, replica)

        if not await _comes(works):
            return None
    return time.time() - struck_s


async def _comes(fits: Callable[[], Awaitable[bool]]) -> bool:
    with suppress(TimeoutError):
        await until(fits, _BOUND_S)
        return True
    return False


async def _works(house: House, store: Store, replica: str) -> bool:
    try:
        return await house.use(store, await house.token(store, replica, timeout_s=5.0)) == 200
    except ServiceError:
        return False


async def _calls(house: House, store: Store, replica: str) -> None:
    """One caller: gets a token and uses it, and asks again for as long as that may help."""
    async with asyncio.timeout(2 * _BOUND_S):
        while replica in house.present:
            try:
                token = await house.token(store, replica, timeout_s=5.0)
            except ServiceError as error:
                if error.kind is Kind.AUTH:
                    return
                await asyncio.sleep(_LOOK_S)
                continue
            await house.use(store, token)
            return
