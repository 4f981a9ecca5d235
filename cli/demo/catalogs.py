"""Catalogs in the demo: shops that are seeded, changed while all else goes on, and come to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

from cli.demo.catalog_verdict import TAKEN
from cli.demo.shelves import KIND, SANDBOX_CATALOG, CatalogChoice, Shelf
from cli.stack import Stack
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.rpc.client import call
from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import Manners, Sent, send_all
from tidewire.catalog.v1 import catalog_service_pb2 as pb

CALL_S: Final = 30.0
_HTTP: Final = aiohttp.ClientTimeout(total=60)
_TICK_S: Final = 0.25
_CHANGES_PER_S: Final = 20
_LOOK_EVERY_S: Final = 0.5
_JUDGE_EVERY_S: Final = 1.5
"""A comparison costs the simulators a second of work."""
_STALLED_AFTER_S: Final = 30.0
_MANNERS: Final = Manners(connections=4)
_ENDED: Final = (pb.SYNC_PHASE_DONE, pb.SYNC_PHASE_FAILED)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Told:
    """One product that has changed, and when (Unix time) Shopify had the change."""

    shop: str
    product_id: str
    variant_ids: frozenset[str]
    at_s: float


@dataclass(slots=True)
class Changed:
    """What was changed in the shops."""

    kinds: dict[str, int] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    at_rest: list[Told] = field(default_factory=list)
    """What has changed after the catalogs were seeded, of which alone it can be said how long it
    took."""


class Judge:
    """The simulators' side: what shops sell, and what TikTok holds."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def get(self, path: str, **query: str) -> Any:
        """What is found there.

        Raises:
            ServiceError: PERMANENT, `no_judge`: what came instead.
        """
        url = f"{self._url}{path}"
        async with self._session.get(url, params=query, timeout=_HTTP) as answer:
            return await _read(answer, path)

    async def post(self, path: str, body: object) -> Any:
        """What was answered to `body`: as it is where it is bytes, else as JSON.

        Raises:
            ServiceError: PERMANENT, `no_judge`: what came instead.
        """
        url = f"{self._url}{path}"
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self._session.post(url, data=data, timeout=_HTTP) as answer:
            return await _read(answer, path)

    async def against(self, shelf: Shelf, choice: CatalogChoice) -> Mapping[str, Any]:
        """How a catalog at TikTok differs from its shop."""
        found: Mapping[str, Any] = await self.get(
            f"/_sandbox/catalogs/{choice.catalog_id}/against",
            shop=shelf.shop.domain,
            country=choice.country,
            currency=choice.currency,
            language=choice.language,
        )
        return found


class CatalogPlay:
    """Makes the shops, changes them, and waits until TikTok has what they sell."""

    def __init__(
        self,
        stack: Stack,
        stub: Any,
        shelves: Sequence[Shelf],
        session: aiohttp.ClientSession,
        clock: Clock,
    ) -> None:
        """`stub` is that of the stack's `CatalogService`."""
        self.shelves = shelves
        self.changed = Changed()
        self.judge = Judge(stack.sandbox_url, session)
        self.seeds: dict[str, pb.SyncProgress] = {}
        """The first sync of each shop, by handle."""

        self._stack = stack
        self._stub = stub
        self._clock = clock
        self._seed = 0

    async def prepare(self) -> None:
        """Fills the shelves, and makes the catalogs at TikTok."""
        for shelf in self.shelves:
            await self.judge.post("/_sandbox/shopify/catalog", shelf.plan)
            await self._stock(shelf)
            for one in shelf.catalogs:
                place = {"region": one.country, "currency": one.currency}
                path = f"/_sandbox/catalogs/{one.catalog_id}"
                await self.judge.post(path, SANDBOX_CATALOG | place)

    async def _stock(self, shelf: Shelf) -> None:
        left = shelf.exports_max
        for file in shelf.exports:
            path = f"/_sandbox/shopify/catalog/export?shop={shelf.shop.domain}&limit={left}"
            left -= (await self.judge.post(path, file.read_bytes()))["added"]

    async def play(self, say: Say) -> None:
        """Half of the changes while the shops are seeded, the others afterwards."""
        looking = asyncio.create_task(self._look_on(say), name="catalogs looked at")
        try:
            await asyncio.gather(*(self._change(one, is_at_rest=False) for one in self.shelves))
            await self._seeded()
            await asyncio.gather(*(self._change(one, is_at_rest=True) for one in self.shelves))
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def until_equal(self, say: Say) -> str:
        """Returns when TikTok has what the shops sell: "" then, else what was waited for."""
        moved_s, before = self._clock.monotonic_s(), ""
        while True:
            statuses = await self.statuses()
            say(told(statuses.values()))
            waits, pause_s = _waits(statuses.values()), _LOOK_EVERY_S
            if not waits:
                waits, pause_s = await self._differing(), _JUDGE_EVERY_S
            if not waits:
                return ""
            state = f"{waits} {told(statuses.values())}"
            now_s = self._clock.monotonic_s()
            moved_s, before = (moved_s if state == before else now_s), state
            if now_s - moved_s > _STALLED_AFTER_S:
                return waits
            await self._clock.sleep(pause_s)

    async def statuses(self) -> dict[str, pb.ShopStatus]:
        """What the suite says of each shop, by handle.

        Raises:
            ServiceError: as `libs.rpc.client.call` does.
        """
        answer = await self.ask("GetStatus", pb.GetStatusRequest())
        return {one.shop: one for one in answer.shops}

    async def ask(self, method: str, request: Any) -> Any:
        """What `CatalogService` answers.

        Raises:
            ServiceError: as `libs.rpc.client.call` does.
        """
        return await call(getattr(self._stub, method), request, timeout_s=CALL_S)

    async def _change(self, shelf: Shelf, *, is_at_rest: bool) -> None:
        """Half of a shop's changes, at a steady pace, told of as Shopify does."""
        wanted = shelf.changes // 2
        began_s = self._clock.monotonic_s()
        made = 0
        while made < wanted:
            spent_s = self._clock.monotonic_s() - began_s
            due = min(wanted, int(spent_s * _CHANGES_PER_S) + 1)
            if due > made:
                await self._mutate(shelf, due - made, is_at_rest=is_at_rest)
                made = due
            await self._clock.sleep(_TICK_S)

    async def _mutate(self, shelf: Shelf, count: int, *, is_at_rest: bool) -> None:
        self._seed += 1
        secret = shelf.shop.secrets[0]
        domain = shelf.shop.domain
        wish = {"shop": domain, "count": count, "seed": self._seed, "secret": secret}
        made = await self.judge.post("/_sandbox/shopify/mutate", wish)
        at_s = self._clock.now_ns() / 1e9
        deliveries = [_delivery(domain, one) for one in made["deliveries"]]
        for one in deliveries:
            if one.topic.startswith("products/"):
                kind = one.kind.partition(":")[2]
                self.changed.kinds[kind] = self.changed.kinds.get(kind, 0) + 1
                if is_at_rest:
                    self.changed.at_rest.append(_told_of(domain, one, at_s))
        report = await send_all(self._stack.webhooks_url, deliveries, _MANNERS, self._clock)
        self.changed.sent += report.sent

    async def _seeded(self) -> None:
        """Returns when the first sync of each shop has ended, or nothing moves any more."""
        wanted = {one.handle for one in self.shelves}
        moved_s, before = self._clock.monotonic_s(), b""
        while self._clock.monotonic_s() - moved_s < _STALLED_AFTER_S:
            statuses = await self.statuses()
            for handle, status in statuses.items():
                if status.progress.phase in _ENDED:
                    self.seeds.setdefault(handle, status.progress)
            if wanted <= self.seeds.keys():
                return
            state = b"".join(one.SerializeToString() for one in statuses.values())
            if state != before:
                moved_s, before = self._clock.monotonic_s(), state
            await self._clock.sleep(_LOOK_EVERY_S)

    async def _look_on(self, say: Say) -> None:
        while True:
            try:
                say(told((await self.statuses()).values()))
            except ServiceError:
                say("no answer")
            await self._clock.sleep(2 * _LOOK_EVERY_S)

    async def _differing(self) -> str:
        for shelf in self.shelves:
            for choice in shelf.catalogs:
                found = await self.judge.against(shelf, choice)
                if not found["equal"]:
                    return (
                        f"catalog {choice.connection_id}: {found['wrong']} items differ from the"
                        f" shop, {found['extra']} are not in it"
                    )
        return ""


def told(statuses: Any) -> str:
    """How far the catalogs are, in a line."""
    counts: dict[int, int] = {}
    waiting = 0
    for shop in statuses:
        for one in shop.catalogs:
            waiting += one.waiting
            for state, count in one.items.items():
                counts[state] = counts.get(state, 0) + count
    taken = sum(counts.get(state, 0) for state in TAKEN)
    return f"{taken:,} of {sum(counts.values()):,} items taken, {waiting:,} wait"


def _waits(statuses: Any) -> str:
    """What is on its way still; "" for nothing."""
    for shop in statuses:
        if shop.progress.phase not in _ENDED:
            return f"the sync of {shop.shop}"
        for one in shop.catalogs:
            if one.waiting:
                return f"catalog {one.connection_id} has {one.waiting} items waiting"
    return ""


def _delivery(domain: str, shown: Mapping[str, Any]) -> Delivery:
    headers = tuple((name, value) for name, value in shown["headers"])
    kind = f"{KIND}:{shown['kind'].partition(':')[2]}"
    return Delivery(domain, shown["topic"], headers, shown["body"].encode(), kind)


def _told_of(domain: str, delivery: Delivery, at_s: float) -> Told:
    body = msgspec.json.decode(delivery.body)
    gids = [one["admin_graphql_api_id"] for one in body.get("variant_gids", ())]
    variants = frozenset(one.rpartition("/")[2] for one in gids)
    return Told(domain, str(body["id"]), variants, at_s)


async def _read(answer: aiohttp.ClientResponse, path: str) -> Any:
    body = await answer.read()
    if answer.status != 200:
        raise permanent("no_judge", f"the sandbox says {answer.status} at {path}: {body[:300]!r}")
    return msgspec.json.decode(body)
