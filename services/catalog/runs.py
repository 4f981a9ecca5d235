"""Syncs of whole shops: asked for or due, gone on with after a crash, and brought to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Final

import msgspec
import structlog

from libs import metric_names
from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.ids import Ids
from libs.telemetry import Metrics
from services.catalog import keys, records
from services.catalog.book import CHUNK, ShopBook, Taken, unchanged
from services.catalog.comparing import Change
from services.catalog.domain import merging
from services.catalog.domain.due import Due, History, is_too_much_gone
from services.catalog.domain.merging import CLOCKS_DIFFER_NS
from services.catalog.domain.model import Product
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.pauses import pause
from services.catalog.ports import BulkState, ShopFacts, ShopifyCatalog, Wanted
from services.catalog.records import Run
from services.catalog.store import Kept, SyncStore

_log = structlog.stdlib.get_logger()

_TELL_EVERY_S: Final = 0.5
_LOOK_EVERY_S: Final = 0.5
_AFTER_TROUBLE_S: Final = 5.0
_BUSY_S: Final = 15.0
_TRIES_MAX: Final = 3
_ENDED_BADLY: Final = frozenset({"failed", "canceled", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What syncs of all shops share."""

    store: SyncStore
    shopify: ShopifyCatalog
    clock: Clock
    ids: Ids
    metrics: Metrics
    room: asyncio.Semaphore
    """How many shops are read at once."""
    bulk_poll_s: float


class ShopRuns:
    """The syncs of one shop, one after the other."""

    def __init__(
        self,
        book: ShopBook,
        means: Means,
        *,
        wanted: Callable[[], Wanted],
        facts_read: Callable[[ShopFacts], None],
        is_at_rest: Callable[[float], bool],
        before_end: Callable[[], Awaitable[None]],
        retell_stock: Callable[[int], Awaitable[None]],
    ) -> None:
        """Nothing is done yet.

        `facts_read` is told what Shopify says of the shop, `is_at_rest` tells whether nothing that
        can be sent waits since a moment, and `before_end` is awaited before a sync is said to have
        ended. `retell_stock` puts the stock that was told since a moment to the book once more.
        """
        self._book = book
        self._means = means
        self._wanted = wanted
        self._facts_read = facts_read
        self._is_at_rest = is_at_rest
        self._before_end = before_end
        self._retell_stock = retell_stock
        self._kept: Kept[Run | None] = Kept(None, 0)
        self._told_s = 0.0
        self._ended_operation = asyncio.Event()

    @property
    def newest(self) -> Run | None:
        """The newest sync."""
        return self._kept.record

    @property
    def history(self) -> History:
        """What has been done so far."""
        run = self._kept.record
        if run is None:
            return History()
        failed_ns = run.ended_ns if run.phase == SyncPhase.FAILED else 0
        return History(run.full_ended_ns, run.read_as, run.mapped_as, run.resent_ns, failed_ns)

    def bulk_ended(self) -> None:
        """A bulk operation of the shop has ended: look at once."""
        self._ended_operation.set()

    async def read(self) -> None:
        """Takes in what is stored: somebody may have asked for a sync.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        stored = await self._means.store.read(keys.run(self._book.handle))
        if stored is not None and stored.sequence != self._kept.sequence:
            self._kept = Kept(records.run(stored.data), stored.sequence)

    async def begin(self, due: Due) -> None:
        """Begins a sync that is due by itself; where one was asked for meanwhile, it is that one.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        run = queued(
            self._kept.record,
            self._book.handle,
            due.kind,
            run_id=self._means.ids.new(),
            now_ns=self._means.clock.now_ns(),
            resend_before_ns=due.resend_before_ns,
        )
        try:
            await self._write(run)
        except ServiceError as error:
            if error.code != "not_the_owner":
                raise
            await self.read()

    async def perform(self, read_as: Callable[[], str], mapped_as: Callable[[], str]) -> None:
        """Brings the sync that is under way to its end; its failure is recorded, not raised.

        Raises:
            ServiceError: RETRYABLE: it goes on from where it is when this is called again.
        """
        run = self._kept.record
        if run is None or SyncPhase(run.phase).is_end:
            return
        try:
            if run.phase != SyncPhase.SENDING:
                await self._compare(run, lambda: (read_as(), mapped_as()))
            await self._rest()
        except ServiceError as error:
            if error.kind in (Kind.RETRYABLE, Kind.THROTTLED):
                raise
            await self._fail(error)
        except Exception as error:  # noqa: BLE001  # a bug, or a full disk, costs this sync, not the lane
            _log.exception("catalog_sync_broke", shop=self._book.handle)
            why = f"{type(error).__name__}: see this service's log, mend it and sync again"
            await self._fail(permanent("unforeseen", why))

    async def _compare(self, run: Run, compared_as: Callable[[], tuple[str, str]]) -> None:
        if run.kind == SyncKind.FULL:
            async with self._means.room:
                # What is asked for and how it is mapped hangs on what the shop says it is.
                self._facts_read(await self._means.shopify.shop(self._book.handle))
                as_begun = compared_as()
                await self._read_all()
            await self._retell_stock(self._current().begun_ns - CLOCKS_DIFFER_NS)
        else:
            as_begun = compared_as()
            await self._update(phase=SyncPhase.COMPARING, products_done=0)
            await self._map_all(run)
        # As it was at the beginning: what has changed meanwhile makes another sync due.
        await self._update(
            phase=SyncPhase.SENDING,
            compared_read_as=as_begun[0],
            compared_mapped_as=as_begun[1],
        )

    # -- from Shopify --------------------------------------------------------------------------

    async def _read_all(self) -> None:
        wanted = self._wanted()
        for _ in range(_TRIES_MAX):
            state = await self._exported(wanted)
            if state.status == "completed":
                await self._take_all(state, wanted)
                return
            if state.partial_url:
                # What is there is right; what is missing is not gone.
                await self._take_in(state.partial_url, wanted, set())
            await self._update(operation_id="", begun_ns=0)
            if state.error_code.lower() == "access_denied":
                # Translations and prices of markets need scopes of their own; products go without.
                _log.warning("catalog_export_narrowed", shop=self._book.handle)
                wanted = Wanted()
        why = f"Shopify's export ended as {state.status} ({state.error_code or 'no reason given'})"
        raise permanent("export_failed", f"{why}: start a sync again; if it repeats, ask Shopify")

    async def _exported(self, wanted: Wanted) -> BulkState:
        """The bulk operation of this sync once it has ended; begun where it was not."""
        shop, shopify = self._book.handle, self._means.shopify
        run = self._current()
        await self._update(phase=SyncPhase.EXPORTING)
        if not run.operation_id:
            await self._start_export(run, wanted)
        while True:
            self._ended_operation.clear()
            state = await shopify.bulk(shop, self._current().operation_id)
            if state.status == "completed" or state.status in _ENDED_BADLY:
                return state
            await self._update(products_total=state.roots)
            await pause(self._means.clock, self._means.bulk_poll_s, self._ended_operation)

    async def _start_export(self, run: Run, wanted: Wanted) -> None:
        shop, shopify = self._book.handle, self._means.shopify
        if run.begun_ns:
            # Begun before a crash, and perhaps at Shopify too: one export is enough.
            since_ns = run.begun_ns - CLOCKS_DIFFER_NS
            found = await shopify.find_bulk(shop, since_ns)
            begun = _of_this_sync(found, run.former_operation_id)
            if begun:
                await self._update(operation_id=begun[0].operation_id)
                return
        await self._update(begun_ns=self._means.clock.now_ns())
        while True:
            try:
                operation_id = await shopify.start_bulk(shop, wanted)
            except ServiceError as error:
                if error.code != "bulk_busy":
                    raise
                await self._means.clock.sleep(error.retry_after_s or _BUSY_S)
            else:
                await self._update(operation_id=operation_id)
                return

    async def _take_all(self, state: BulkState, wanted: Wanted) -> None:
        await self._update(
            phase=SyncPhase.COMPARING, products_total=state.roots, products_done=0, items=0
        )
        seen: set[str] = set()
        if state.url and not await self._take_in(state.url, wanted, seen):
            raise permanent(
                "export_unreadable",
                "some lines of Shopify's export could not be read, so nothing was taken out of"
                " TikTok: start a sync again; if it repeats, report it",
            )
        known = self._book.products
        gone = known - seen
        run = self._current()
        if is_too_much_gone(len(gone), len(known)) and not run.take_out_many:
            raise permanent(
                "too_much_gone",
                f"Shopify's export lacks {len(gone)} of {len(known)} products, and nothing was"
                " taken out of TikTok: check the app's scopes and the store; if they are really"
                " gone, sync again with --take-out-many",
            )
        # What changed so shortly before the export began is not gone because it is not there.
        until_ns = run.begun_ns - CLOCKS_DIFFER_NS
        unsure: set[str] = set()
        changes = {one: _gone_before(one, until_ns, unsure) for one in gone}
        # Anew: what TikTok would not take out before is tried again.
        await self._count(await self._book.take(changes, anew=True, lacking=unsure), 0)

    async def _take_in(self, url: str, wanted: Wanted, seen: set[str]) -> bool:
        """Takes products in and adds their ids to `seen`; whether every one could be read."""
        export = self._means.shopify.products(self._book.handle, url, wanted)
        async with aclosing(export):
            async for part in export:
                await self._take_part(part, seen)
        return export.is_whole

    async def _take_part(self, part: Sequence[Product], seen: set[str]) -> None:
        read = {one.product_id for one in part}
        asked_ns = self._current().begun_ns
        changes: dict[str, Change] = {
            one.product_id: partial(_read_back, read=one, asked_ns=asked_ns, current=read)
            for one in part
        }
        taken = await self._book.take(changes, anew=True, read=read)
        seen.update(changes)
        await self._count(taken, len(part))

    # -- from what is known --------------------------------------------------------------------

    async def _map_all(self, run: Run) -> None:
        part: dict[str, Change] = {}
        async for product in self._means.store.every_product(self._book.handle):
            part[product.product_id] = unchanged
            if len(part) == CHUNK:
                await self._map(part, run)
                part = {}
        await self._map(part, run)

    async def _map(self, part: dict[str, Change], run: Run) -> None:
        taken = await self._book.take(part, anew=True, resend_before_ns=run.resend_before_ns)
        await self._count(taken, len(part))

    # -- how it goes ---------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Ends the sync once nothing of it that can be sent waits.

        What changes from now on is not waited for: in a busy shop something always waits.
        """
        since_s = self._means.clock.monotonic_s()
        while not self._is_at_rest(since_s):
            await self._means.clock.sleep(_LOOK_EVERY_S)
        await self._before_end()
        run = self._current()
        now_ns = self._means.clock.now_ns()
        is_full = run.kind == SyncKind.FULL
        await self._update(
            phase=SyncPhase.DONE,
            ended_ns=now_ns,
            full_ended_ns=now_ns if is_full else run.full_ended_ns,
            read_as=run.compared_read_as if is_full else run.read_as,
            mapped_as=run.compared_mapped_as,
            resent_ns=now_ns if run.kind == SyncKind.RESEND else run.resent_ns,
        )
        self._tell_end("done")

    async def _fail(self, error: ServiceError) -> None:
        text = f"{error.code}: {error.message}" if error.message else error.code
        await self._update(
            phase=SyncPhase.FAILED, ended_ns=self._means.clock.now_ns(), error=text[:500]
        )
        _log.warning("catalog_sync_failed", shop=self._book.handle, code=error.code)
        self._tell_end(error.code)

    def _tell_end(self, result: str) -> None:
        run = self._current()
        name = SyncKind(run.kind).name.lower()
        self._means.metrics.counter(
            metric_names.CATALOG_SYNCS, kind=name, result="done" if result == "done" else "failed"
        ).value += 1
        _log.info(
            "catalog_sync_ended",
            shop=self._book.handle,
            kind=name,
            result=result,
            products=run.products_done,
            items=run.items,
            changed=run.items_changed,
            deleted=run.items_deleted,
        )

    async def _count(self, taken: Taken, products: int) -> None:
        """Adds to the progress; written down now and then."""
        run = self._current()
        self._kept = Kept(
            msgspec.structs.replace(
                run,
                products_done=run.products_done + products,
                products_total=max(run.products_total, run.products_done + products),
                items=run.items + taken.items,
                items_changed=run.items_changed + taken.changed,
                items_deleted=run.items_deleted + taken.deleted,
            ),
            self._kept.sequence,
        )
        if self._means.clock.monotonic_s() - self._told_s >= _TELL_EVERY_S:
            await self._update()

    def _current(self) -> Run:
        run = self._kept.record
        if run is None:
            raise AssertionError("a sync is under way")
        return run

    async def _update(self, **changes: object) -> None:
        await self._write(msgspec.structs.replace(self._current(), **changes))

    async def _write(self, run: Run) -> None:
        name = keys.run(self._book.handle)
        try:
            sequence = await self._means.store.put(name, records.encode(run), self._kept.sequence)
        except ConflictError as error:
            raise ServiceError(
                Kind.RETRYABLE, "not_the_owner", f"somebody else syncs {self._book.handle}"
            ) from error
        self._kept = Kept(run, sequence)
        self._told_s = self._means.clock.monotonic_s()


def queued(
    before: Run | None,
    shop: str,
    kind: SyncKind,
    *,
    run_id: str,
    now_ns: int,
    resend_before_ns: int = 0,
    take_out_many: bool = False,
) -> Run:
    """A sync that is asked for, with what is known of those before it."""
    if kind is SyncKind.RESEND and not resend_before_ns:
        resend_before_ns = now_ns
    return Run(
        run_id=run_id,
        shop=shop,
        kind=kind,
        started_ns=now_ns,
        resend_before_ns=resend_before_ns,
        take_out_many=take_out_many,
        full_ended_ns=before.full_ended_ns if before else 0,
        read_as=before.read_as if before else "",
        mapped_as=before.mapped_as if before else "",
        resent_ns=before.resent_ns if before else 0,
        former_operation_id=(before.operation_id or before.former_operation_id) if before else "",
    )


def _of_this_sync(found: Sequence[BulkState], former_operation_id: str) -> list[BulkState]:
    """Those that may be this sync's of what was found, newest first.

    The sync before may have ended just now: its export is as old as that, and shows nothing that
    has changed since.
    """
    newer = takewhile(lambda one: one.operation_id != former_operation_id, found)
    return [one for one in newer if one.status not in _ENDED_BADLY]


def _read_back(known: Product | None, read: Product, asked_ns: int, current: set[str]) -> Product:
    """What an export says; `current` loses those that have changed since it was made."""
    if merging.is_behind(known, read, asked_ns):
        # What a webhook has had read anew is to be read all the same.
        current.discard(read.product_id)
    return merging.read_back(known, read, asked_ns)


def _gone_before(product_id: str, until_ns: int, unsure: set[str]) -> Change:
    """That a product is gone which an export lacks; where it may be newer, it is to be read."""

    def change(known: Product | None) -> Product | None:
        if known is not None and known.status == merging.GONE:
            return known
        if known is not None and known.updated_ns > until_ns:
            unsure.add(product_id)
            return known
        return merging.gone(known, product_id, until_ns)

    return change
