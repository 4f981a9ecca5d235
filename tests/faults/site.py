"""A running suite with its shops, all that it was ever sent, and what must have come of it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from nats.aio.client import Client

from cli.demo.evidence import gather_evidence
from cli.demo.scenery import PixelPlan, connections_yaml, plan_pixels
from cli.demo.verdict import Check, EventKey, judge
from cli.demo.watch import pending
from cli.stack import SERVICES, Stack
from libs.bus import subjects
from libs.bus.api import ApiError
from libs.connections import shop_handle
from libs.foundation import connected
from libs.http.session import http_session
from sandbox.shopify.model import Delivery, Ids, Shop
from sandbox.shopify.oracle import Expected, Oracle
from sandbox.shopify.payloads import OrderMoment, order_body
from sandbox.shopify.sender import Sent
from sandbox.shopify.shelf import make_product
from sandbox.shopify.shopper import Wares, make_sale
from sandbox.shopify.storm import Storm, default_shops, make_storm
from sandbox.shopify.wire import Dispatcher, Told, random_uuid
from tests.faults.cluster import NatsCluster
from tests.faults.wire import Wire

_SEED: Final = 11
_FRESH_SEED: Final = 12
_FRESH_IDS_FROM: Final = 900 * 10**12
"""Far from the ids of the storms, which begin at 12 * 10**12."""
_PRODUCTS: Final = 12
_ATTEMPTS_MAX: Final = "8"
"""So few that an outage which burns attempts ends in dead letters while one watches."""

_PERMANENT: Final = "TikTok refused nothing"
"""The one check that a scripted refusal must fail."""


class Kind(StrEnum):
    """What a site is like where faults need more than the plain one."""

    PLAIN = "plain"
    WIRED = "wired"
    """The services reach NATS through a wire that can be spoiled."""

    CLUSTER = "cluster"
    """Three NATS servers, three replicas of everything."""


class SiteStack(Stack):
    """A stack whose processes can be told more than the others, each for itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: dict[str, str] = {"TIDEWIRE_EVENTS_ATTEMPTS_MAX": _ATTEMPTS_MAX}
        self.told_to: dict[str, dict[str, str]] = {}

    def environment(self, name: str = "") -> dict[str, str]:
        return {**super().environment(name), **self.told, **self.told_to.get(name, {})}


@dataclass(slots=True)
class Accepted:
    """What the simulator has accepted, followed as it comes."""

    events: list[dict[str, Any]]
    first_s: dict[EventKey, float]
    """When each key came first, in Unix seconds."""

    repeats: int = 0
    """Events that TikTok knew already by their key."""

    def take(self, new: Sequence[dict[str, Any]]) -> None:
        for event in new:
            self.first_s.setdefault(EventKey(*event["key"]), float(event["received_at"]))
            self.repeats += bool(event["is_duplicate"])
        self.events += new


class Site:
    """A stack that is up. Storms and fresh orders tell of different resources each time."""

    def __init__(
        self,
        kind: Kind,
        stack: SiteStack,
        nats: Client,
        session: aiohttp.ClientSession,
        *,
        shops: tuple[Shop, ...],
        tiktok: Wire,
        nats_wire: Wire | None,
    ) -> None:
        self.kind = kind
        self.stack = stack
        self.nats = nats
        self.session = session
        self.shops = shops
        self.pixels = plan_pixels(shops)
        self.tiktok = tiktok
        self.nats_wire = nats_wire
        self.accepted = Accepted([], {})
        self.sent: list[Sent] = []
        self.known = Expected()
        self.refused: set[EventKey] = set()
        self._now = datetime.now(UTC)
        self._waves = itertools.count()
        rng = Random(_FRESH_SEED)
        self._ids = Ids(rng, _FRESH_IDS_FROM)
        self._rng = rng
        self._dispatcher = Dispatcher(rng)
        self._wares = {
            shop.domain: Wares(
                shop, tuple(make_product(rng, self._ids, shop) for _ in range(_PRODUCTS)), self._ids
            )
            for shop in shops
        }

    @property
    def struck(self) -> Shop:
        """The shop that suffers where only one does; it has one pixel and the usual dialect."""
        return self.shops[3]

    @property
    def others(self) -> tuple[Shop, ...]:
        """All but the struck one; the last of them is of the same lane."""
        return tuple(shop for shop in self.shops if shop is not self.struck)

    def pixels_of(self, *shops: Shop) -> list[PixelPlan]:
        domains = {shop.domain for shop in shops}
        return [pixel for pixel in self.pixels if pixel.shop in domains]

    async def brew(self, size: int, shops: tuple[Shop, ...]) -> Storm:
        """A storm that no other resembles; what must come of it is taken down."""
        storm = await asyncio.to_thread(
            make_storm, _SEED, size, shops, self._now, wave=next(self._waves)
        )
        self.known.merge(storm.expected)
        return storm

    def fresh_order(self, shop: Shop) -> tuple[Delivery, Expected, str]:
        """An order that was paid just now: its delivery, what is due, and its event's id."""
        now = datetime.now(UTC)
        sale = make_sale(self._rng, self._wares[shop.domain], now)
        body = order_body(sale, OrderMoment(now, financial_status="paid"))
        told = Told("orders/paid", body, now, random_uuid(self._rng), "fresh")
        delivery = self._dispatcher.deliver(shop, told)
        oracle = Oracle(now)
        oracle.answered(delivery)
        oracle.told(shop, told.topic, body, now)
        due = oracle.expected()
        self.known.merge(due)
        return delivery, due, f"purchase.{sale.order_id}"

    async def look(self) -> None:
        """Takes in what the simulator has accepted since the last look."""
        start = len(self.accepted.events)
        url = f"{self.stack.sandbox_url}/_sandbox/events?start={start}"
        async with self.session.get(url) as answer:
            self.accepted.take(msgspec.json.decode(await answer.read()))

    async def script(self, *faults: dict[str, Any]) -> None:
        """Posts faults to the simulator."""
        url = f"{self.stack.sandbox_url}/_sandbox/faults"
        async with self.session.post(url, json=list(faults)) as answer:
            assert answer.status == 200, await answer.text()

    async def scripted(self) -> list[dict[str, Any]]:
        """The simulator's faults, each with how many requests have met it."""
        async with self.session.get(f"{self.stack.sandbox_url}/_sandbox/faults") as answer:
            found: list[dict[str, Any]] = msgspec.json.decode(await answer.read())
            return found

    async def unscript(self) -> None:
        """Ends the simulator's faults."""
        async with self.session.delete(f"{self.stack.sandbox_url}/_sandbox/faults") as answer:
            assert answer.status == 200

    async def simulator(self, *, full: bool = False) -> dict[str, Any]:
        """The simulator's ledger."""
        url = f"{self.stack.sandbox_url}/_sandbox/ledger{'?full=1' if full else ''}"
        async with self.session.get(url) as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            return found

    async def failed_checks(self) -> list[Check]:
        """What does not hold of everything that this site was ever sent."""
        evidence = await gather_evidence(
            self.nats,
            self.stack.kek_file,
            await self.simulator(full=True),
            self.sent,
            self._without_refused(),
            self.pixels,
            self.pixels,
        )
        return [one for one in judge(evidence) if not one.passed and one.name != _PERMANENT]

    def _without_refused(self) -> Expected:
        shops = {pixel.code: pixel.shop for pixel in self.pixels}
        for key in self.refused - self.accepted.first_s.keys():
            for due in (self.known.purchases, self.known.checkouts):
                due.get(shops[key.pixel], set()).discard(key.event_id)
        return self.known


@asynccontextmanager
async def raised(kind: Kind, directory: Path) -> AsyncIterator[Site]:
    """A site of its kind, everything of it up and ready; on leaving every process of it ends."""
    shops = _with_lane_mate(default_shops(datetime.now(UTC)))
    cluster = NatsCluster(directory / "nats") if kind is Kind.CLUSTER else None
    tiktok = Wire(lambda: stack.ports.sandbox)
    await tiktok.open()
    stack = SiteStack(directory, os.environ, tiktok_url=f"http://{tiktok.address}", nats=cluster)
    stack.connections_file.write_text(connections_yaml(shops, plan_pixels(shops)), "utf-8")
    nats_wire = None
    if kind is Kind.CLUSTER:
        stack.told["TIDEWIRE_NATS_REPLICAS"] = "3"
    if kind is Kind.WIRED:
        nats_wire = Wire(lambda: urlsplit(stack.nats.url).port or 0)
        await nats_wire.open()
        stack.told["TIDEWIRE_NATS_URL"] = f"nats://{nats_wire.address}"
    try:
        async with stack, _session() as session:
            await stack.start_all()
            nats = await connected(stack.nats.url)
            try:
                yield Site(
                    kind, stack, nats, session, shops=shops, tiktok=tiktok, nats_wire=nats_wire
                )
            finally:
                await nats.close()
    finally:
        for wire in (tiktok, nats_wire):
            if wire is not None:
                await wire.shut()


def _session() -> aiohttp.ClientSession:
    """With so many connections that no wait for a free one counts as the door's."""
    return http_session(connections_max=1000, connections_max_per_host=500)


def _with_lane_mate(shops: tuple[Shop, ...]) -> tuple[Shop, ...]:
    """One more shop, in the lane of the one that is struck: it would be the first to suffer."""
    lane = subjects.lane(shop_handle(shops[3].domain) or "")
    handle = next(
        name for n in itertools.count() if subjects.lane(name := f"lane-mate-{n}") == lane
    )
    mate = Shop(f"{handle}.myshopify.com", ("shpss_mate",), "US", "USD", shops[0].active_since)
    return (*shops, mate)


def services() -> list[str]:
    """The processes that a fault may strike: all but the judge."""
    return [name for name in SERVICES if name != "sandbox"]


async def in_flight(site: Site) -> dict[str, int]:
    """What waits anywhere in the suite: unread, unacknowledged or parked; empty where it rests."""
    try:
        return await pending(site.nats)
    except ApiError as error:
        # A cluster without a leader answers that it cannot say.
        return {error.description: 1}
