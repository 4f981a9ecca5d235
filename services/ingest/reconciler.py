"""The reconciler: asks Shopify what has changed, and injects what no webhook has brought.

Webhooks get lost: Shopify says itself that delivery is not guaranteed. What is found missing goes
into WEBHOOKS like any delivery, so that there is one way into the state and one trail.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Protocol, TypeVar

import msgspec
import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.bus import subjects
from libs.bus.commit_log import CommitLog
from libs.bus.lease import Lease
from libs.clock import Clock
from libs.connections import Connections, Credentials, ShopView
from libs.errors import Kind as ErrorKind
from libs.errors import ServiceError
from libs.ids import Ids
from libs.keys import KeySource
from libs.shopify.admin import ACCESS_DENIED
from libs.telemetry import Metrics, Tracer
from services.ingest.adapters.marks import Watermarks
from services.ingest.adapters.shopify import (
    NODES_AT_ONCE,
    ORDERS,
    PRODUCTS,
    Kind,
    ShopifyReader,
    Whole,
)
from services.ingest.committer import GroupCommitter
from services.ingest.domain.reconciling import (
    Held,
    Listed,
    Mark,
    Rules,
    delivery_id,
    is_due,
    is_missing,
    since_s,
)
from services.ingest.http import store_delivery
from tidewire.commerce.v1 import record_pb2
from tidewire.ingest.v1 import delivery_pb2

_log = structlog.stdlib.get_logger()

T = TypeVar("T")

KINDS: Final = (ORDERS, PRODUCTS)
_SHOPS_AT_ONCE: Final = 8
_THROTTLES_MAX: Final = 5
_THROTTLE_S_MAX: Final = 30.0
_LEASE_S: Final = 120
"""Longer than a page takes, throttles included, so that it is renewed in time."""
_REREAD_AFTER_S: Final = 2.0
"""Two changes of one second come within it; a product is read once for all of them."""
_REREADS_MAX: Final = 10_000
"""Beyond it the next run finds them: a tie that is stored counts as missing."""


class Shops(Connections, Credentials, Protocol):
    """Which shops there are, and their tokens."""


class ShopLeases:
    """One replica at a time compares a shop."""

    def __init__(self, nats: Client, log: CommitLog, clock: Clock, ids: Ids) -> None:
        self._nats = nats
        self._log = log
        self._clock = clock
        self._ids = ids

    @asynccontextmanager
    async def of(self, shop: str) -> AsyncIterator[Lease]:
        """The lease of a shop, not yet held; given up on leaving."""
        name = f"reconcile.{subjects.token(shop)}"
        lease = Lease(self._log, self._clock, name, self._ids.new(), lasts_s=_LEASE_S)
        try:
            yield lease
        finally:
            await lease.release(self._nats)


class Stop(Exception):  # noqa: N818  # it says what to do, not what went wrong
    """The lease was lost: somebody else goes on."""


class Reconciler:
    """Compares each shop with Shopify every few minutes; any number of replicas may run it."""

    def __init__(
        self,
        *,
        states: CommitLog,
        leases: ShopLeases,
        watermarks: Watermarks,
        reader: ShopifyReader,
        inject: Inject,
        shops: Shops,
        metrics: Metrics,
        clock: Clock,
        rules: Rules,
    ) -> None:
        self._states = states
        self._leases = leases
        self._watermarks = watermarks
        self._reader = reader
        self._inject = inject
        self._shops = shops
        self._metrics = metrics
        self._clock = clock
        self._rules = rules
        self._told: dict[str, str] = {}
        self._tied: dict[tuple[str, str], float] = {}
        self._some_tied = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Compares until `stop`; what is under way is broken off, and harmless to do again."""
        ready()
        tasks = [asyncio.create_task(self._rounds()), asyncio.create_task(self._rereads())]
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopped):
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def note_tied(self, shop: str, product_id: str) -> None:
        """Has a product read again shortly, once for all that is noted of it until then."""
        if len(self._tied) < _REREADS_MAX:
            due_s = self._clock.monotonic_s() + _REREAD_AFTER_S
            self._tied.setdefault((shop, product_id), due_s)
            self._some_tied.set()

    async def _rounds(self) -> None:
        while True:
            began_s = self._clock.monotonic_s()
            await self.compare_all()
            spent_s = self._clock.monotonic_s() - began_s
            await self._clock.sleep(max(1.0, self._rules.every_s - spent_s))

    async def compare_all(self) -> None:
        """One round: each shop that is due, several at a time."""
        waiting = list(self._shops.shops())

        async def work() -> None:
            while waiting:
                await self._compare_safely(waiting.pop())

        await asyncio.gather(*(work() for _ in range(min(_SHOPS_AT_ONCE, len(waiting)))))

    async def _compare_safely(self, shop: ShopView) -> None:
        """One shop; whatever is wrong with it is told once and leaves the others alone."""
        try:
            await self._shops.access_token(f"{shop.handle}.shopify")
            await self._compare_under_lease(shop)
        except ServiceError as error:
            self._tell_once(shop.handle, error)
        except Stop:
            _log.info("reconcile_lease_lost", shop=shop.handle)
        except Exception:  # noqa: BLE001  # a surprise at one shop is not the next one's
            _log.exception("reconcile_failed", shop=shop.handle)
        else:
            self._told.pop(shop.handle, None)

    def _tell_once(self, shop: str, error: ServiceError) -> None:
        if self._told.get(shop) == error.code:
            return
        self._told[shop] = error.code
        if error.code == "access_token_missing":
            self._count_run("any", "no_token")
            _log.warning("reconcile_without_token", shop=shop, advice=error.message)
        else:
            _log.warning("reconcile_refused", shop=shop, code=error.code, reason=error.message)

    def _count_run(self, kind: str, result: str) -> None:
        self._metrics.counter(metric_names.RECONCILE_RUNS, kind=kind, result=result).value += 1

    # -- one shop --------------------------------------------------------------------------------

    async def _compare_under_lease(self, shop: ShopView) -> None:
        async with self._leases.of(shop.handle) as lease:
            if not await lease.hold():
                return
            denied: ServiceError | None = None
            for kind in KINDS:
                try:
                    await self._compare_counted(shop, kind, lease)
                except ServiceError as error:
                    # A scope that is missing for one kind says nothing of the other.
                    if error.code != ACCESS_DENIED:
                        raise
                    denied = error
            if denied is not None:
                raise denied

    async def _compare_counted(self, shop: ShopView, kind: Kind, lease: Lease) -> None:
        now_s = self._clock.now_ns() / 1e9
        mark = await self._watermarks.load(shop.handle, kind.name)
        if not is_due(mark, now_s, self._rules):
            return
        active_since_s = shop.active_since.timestamp()
        begin_s = since_s(mark, active_since_s, now_s, self._rules)
        try:
            cursor = mark.cursor if mark is not None else None
            result = await self._compare(shop.handle, kind, lease, begin_s, now_s, cursor)
        except ServiceError as error:
            self._count_run(kind.name, error.kind.value)
            if mark is not None and mark.cursor and error.kind is ErrorKind.PERMANENT:
                # Were it the cursor that Shopify takes no more, no run would ever get past it.
                await self._watermarks.save(shop.handle, kind.name, replace(mark, cursor=None))
            raise
        self._count_run(kind.name, result)

    async def _compare(
        self,
        shop: str,
        kind: Kind,
        lease: Lease,
        begin_s: float,
        now_s: float,
        cursor: str | None,
    ) -> str:
        """Goes through all that has changed since `begin_s` and has settled; how that ended.

        With a `cursor` it goes on there.
        """
        settled_s = now_s - self._rules.settle_s
        through_s = begin_s
        for _ in range(self._rules.pages_max):
            if not await lease.hold():
                raise Stop
            page = await self._patiently(self._reader.changed, shop, kind, begin_s, cursor)
            settled = [one for one in page.listed if one.updated_at_s <= settled_s]
            await self.repair(shop, kind, settled)
            self._metrics.counter(metric_names.RECONCILE_LISTED, kind=kind.name).value += len(
                settled
            )
            cursor = page.next_cursor
            if cursor is None or len(settled) < len(page.listed):
                break
            through_s = max(through_s, settled[-1].updated_at_s if settled else through_s)
            # A cursor is one of the question that was asked, which is by the second.
            is_same = int(through_s) == int(begin_s)
            mark = Mark(
                through_s=through_s,
                is_complete=False,
                ran_at_s=now_s,
                cursor=cursor if is_same else None,
            )
            await self._watermarks.save(shop, kind.name, mark)
        else:
            return "bounded"
        mark = Mark(through_s=max(begin_s, settled_s), is_complete=True, ran_at_s=now_s)
        await self._watermarks.save(shop, kind.name, mark)
        return "done"

    async def repair(self, shop: str, kind: Kind, listed: Sequence[Listed]) -> int:
        """Injects those of `listed` that are missing; how many.

        Raises:
            ServiceError: as the reader, or RETRYABLE where NATS did not answer.
        """
        missing = await self._missing(shop, kind, listed)
        gids = [one.gid for one in listed if one.gid in missing]
        for start in range(0, len(gids), NODES_AT_ONCE):
            some = gids[start : start + NODES_AT_ONCE]
            found = await self._patiently(self._reader.whole, shop, kind, some)
            await asyncio.gather(*(self._inject(shop, kind, one) for one in found))
            for one in found:
                self._tell_repair(shop, kind, one, missing[one.listed.gid])
        return len(gids)

    async def _missing(self, shop: str, kind: Kind, listed: Sequence[Listed]) -> Mapping[str, str]:
        """The global ids of what is missing, each with why; what was injected before is not."""
        states = {subjects.state(kind.name, shop, one.resource_id): one for one in listed}
        markers = {subjects.seen(shop, delivery_id(kind.name, one)): one for one in listed}
        found = await self._states.read([*states, *markers])
        injected = {one.gid for name, one in markers.items() if name in found}
        reasons: dict[str, str] = {}
        for name, one in states.items():
            held = _held(found[name].data) if name in found else None
            if one.gid not in injected and is_missing(one, held):
                reasons[one.gid] = _reason(one, held)
        return reasons

    def _tell_repair(self, shop: str, kind: Kind, one: Whole, reason: str) -> None:
        self._metrics.counter(
            metric_names.RECONCILE_REPAIRS, kind=kind.name, reason=reason
        ).value += 1
        _log.info(
            "resource_repaired",
            shop=shop,
            kind=kind.name,
            resource_id=one.listed.resource_id,
            reason=reason,
        )

    async def _patiently(self, ask: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """What Shopify answers in the end: a backfill waits out a throttle, a few times."""
        for _ in range(_THROTTLES_MAX):
            try:
                return await ask(*arguments)
            except ServiceError as error:
                if error.kind is not ErrorKind.THROTTLED:
                    raise
                await self._clock.sleep(min(_THROTTLE_S_MAX, (error.retry_after_s or 1.0) + 0.1))
        return await ask(*arguments)

    # -- ties ------------------------------------------------------------------------------------

    async def _rereads(self) -> None:
        while True:
            await self._some_tied.wait()
            self._some_tied.clear()
            while self._tied:
                now_s = self._clock.monotonic_s()
                due = [key for key, due_s in self._tied.items() if due_s <= now_s]
                if not due:
                    await self._clock.sleep(min(self._tied.values()) - now_s)
                    continue
                by_shop: defaultdict[str, list[str]] = defaultdict(list)
                for shop, product_id in due:
                    del self._tied[shop, product_id]
                    by_shop[shop].append(product_id)
                for shop, product_ids in by_shop.items():
                    await self._reread(shop, product_ids)

    async def _reread(self, shop: str, product_ids: Sequence[str]) -> None:
        """Reads tied products again; where that fails, the next run does it."""
        try:
            for start in range(0, len(product_ids), NODES_AT_ONCE):
                some = product_ids[start : start + NODES_AT_ONCE]
                gids = [f"gid://shopify/{PRODUCTS.type}/{product_id}" for product_id in some]
                found = await self._patiently(self._reader.whole, shop, PRODUCTS, gids)
                for one in found:
                    await self._inject(shop, PRODUCTS, one)
                    self._tell_repair(shop, PRODUCTS, one, "tied")
        except ServiceError as error:
            self._tell_once(shop, error)
        except Exception:  # noqa: BLE001  # as above
            _log.exception("reread_failed", shop=shop)


class Inject:
    """Stores what was read as a delivery, as the door stores a webhook."""

    def __init__(
        self, *, keys: KeySource, committer: GroupCommitter, tracer: Tracer, clock: Clock
    ) -> None:
        self._keys = keys
        self._committer = committer
        self._tracer = tracer
        self._clock = clock

    async def __call__(self, shop: str, kind: Kind, one: Whole) -> None:
        """Returns when it is on disk.

        It counts as triggered when it was read: of several bodies of one second the one that was
        read back after all of them is the true one.

        Raises:
            ServiceError: RETRYABLE, where it cannot be stored in time.
        """
        body = msgspec.json.encode(one.node)
        now_ns = self._clock.now_ns()
        delivery = delivery_pb2.Delivery(
            delivery_id=delivery_id(kind.name, one.listed),
            source=delivery_pb2.SOURCE_RECONCILER,
            shop=shop,
            topic=kind.topic,
            api_version=one.api_version,
            traceparent=self._tracer.start_trace().traceparent(),
            body_size_bytes=len(body),
            request_started_ns=now_ns,
        )
        delivery.triggered_at.FromNanoseconds(now_ns)
        await store_delivery(delivery, body, self._keys, self._committer, self._clock)


def _held(data: bytes) -> Held:
    record = record_pb2.StateRecord.FromString(data)
    return Held(
        updated_at_s=record.version.updated_at.seconds,
        rank=record.version.lifecycle_rank,
        is_final=record.deleted or record.redacted,
        is_tied=record.tied,
    )


def _reason(listed: Listed, held: Held | None) -> str:
    if held is None:
        return "missing"
    is_same = (listed.updated_at_s, listed.rank) == (held.updated_at_s, held.rank)
    return "tied" if is_same else "older"
