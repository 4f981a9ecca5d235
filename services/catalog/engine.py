"""What `CatalogService` shows and does, put together from records, lanes and gates.

Any process answers: what others own it reads from the bucket, as its owner has last told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.connections import Connections, ShopView
from libs.errors import permanent
from libs.gates import Gates, connection_gate
from libs.ids import Ids
from services.catalog import keys, records
from services.catalog.adapters.connections import catalog_settings
from services.catalog.basis import Bases
from services.catalog.domain.explain import explained
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import IssueSource, ItemState, SyncKind, SyncPhase
from services.catalog.domain.sync import SyncIssue, SyncItem, SyncProduct
from services.catalog.gatekeeper import SINK
from services.catalog.mapper import Made, made_of
from services.catalog.ports import TikTokCatalog
from services.catalog.records import Run, ShopRecord, Status
from services.catalog.runs import queued
from services.catalog.store import SyncStore
from services.catalog.views import (
    CATALOG_NOT_FOUND,
    ITEM_NOT_FOUND,
    PAGE_TOKEN_UNREADABLE,
    SHOP_NOT_FOUND,
    CatalogView,
    ExplanationView,
    FieldView,
    IssueView,
    ItemPage,
    ItemStory,
    ItemView,
    ShopSync,
    Started,
    SyncView,
)
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_TIKTOK_CATALOG
from tidewire.delivery.v1 import gate_pb2

_WATCH_EVERY_S: Final = 0.5
_TRIES: Final = 5


class Engine:
    """`CatalogViews` on what is stored."""

    def __init__(
        self,
        *,
        store: SyncStore,
        connections: Connections,
        bases: Bases,
        gates: Gates,
        api: TikTokCatalog,
        clock: Clock,
        ids: Ids,
        api_version: str,
        owners: Callable[[str], Callable[[str], str | None] | None] = lambda _: None,
    ) -> None:
        """`owners` tells of a catalog which product an id belongs to, where this process knows."""
        self._store = store
        self._connections = connections
        self._bases = bases
        self._gates = gates
        self._api = api
        self._clock = clock
        self._ids = ids
        self._api_version = api_version
        self._owners = owners

    # -- how it is -----------------------------------------------------------------------------

    def shops(self) -> Sequence[str]:
        """Handles of all shops that have a catalog, in order."""
        return sorted(
            view.handle
            for view in self._connections.shops()
            if self._connections.connections(view.handle, CONNECTION_KIND_TIKTOK_CATALOG)
        )

    async def status(self, shop: str) -> ShopSync:
        """How a shop's catalogs are."""
        catalogs = self._catalogs_of(shop)
        names = [keys.run(shop), *(keys.status(shop, one.connection_id) for one in catalogs)]
        found = await self._store.read_all(names)
        run = found.get(keys.run(shop))
        views = []
        for one in catalogs:
            stored = found.get(keys.status(shop, one.connection_id))
            views.append(self._catalog_view(one, records.status(stored.data) if stored else None))
        progress = _sync_view(records.run(run.data)) if run else None
        return ShopSync(shop=shop, catalogs=tuple(views), progress=progress)

    async def watch(self, shop: str) -> AsyncIterator[ShopSync]:
        """How the shop is: at once, then with each change, until its sync has come to rest."""
        told: ShopSync | None = None
        while True:
            now = await self.status(shop)
            if now != told:
                yield now
                told = now
            if now.progress is None or now.progress.phase.is_end:
                return
            await self._clock.sleep(_WATCH_EVERY_S)

    # -- items ---------------------------------------------------------------------------------

    async def items(self, connection_id: str, sku_ids: Sequence[str]) -> Sequence[ItemView]:
        """Those items that are known."""
        settings = self._catalog(connection_id)
        wanted = set(sku_ids)
        found: list[ItemView] = []
        async for record in self._records(settings, wanted):
            for one in record.items:
                if one.sku_id in wanted:
                    wanted.discard(one.sku_id)
                    found.append(_item_view(connection_id, record.product_id, one))
            if not wanted:
                break
        return found

    async def _records(
        self, catalog: CatalogSettings, sku_ids: AbstractSet[str]
    ) -> AsyncIterator[SyncProduct]:
        """Those of the items' products, or of all where another process owns the lane."""
        owner_of = self._owners(catalog.connection_id)
        if owner_of is None:
            async for _, record in self._store.every_sync(catalog.shop, catalog.connection_id):
                yield record
            return
        products = {owner for one in sku_ids if (owner := owner_of(one)) is not None}
        stored = await self._store.syncs(catalog.shop, catalog.connection_id, products)
        for kept in stored.values():
            if kept.record is not None:
                yield kept.record

    async def page(
        self, connection_id: str, states: AbstractSet[ItemState], *, size: int, token: str
    ) -> ItemPage:
        """At most `size` items in one of `states`; a page may begin within a product."""
        settings = self._catalog(connection_id)
        after, skip = _place_of(token)
        found: list[ItemView] = []
        async for sequence, record in self._store.every_sync(
            settings.shop, connection_id, after=after
        ):
            if sequence != after + 1:
                # The product that the page broke off in has changed, and comes again later.
                skip = 0
            for place, one in enumerate(record.items):
                if place < skip or one.state not in states:
                    continue
                if len(found) == size:
                    return ItemPage(tuple(found), f"{sequence - 1}.{place}")
                found.append(_item_view(connection_id, record.product_id, one))
            skip = 0
        return ItemPage(tuple(found))

    async def explain(self, shop: str, item: str, connection_id: str) -> ItemStory:
        """The story of what is called `item`; in one catalog, or with "" in all of the shop's."""
        catalogs = [
            one for one in self._catalogs_of(shop) if connection_id in ("", one.connection_id)
        ]
        if not catalogs:
            raise _no_catalog(connection_id)
        product_id, variant_id = await self._found(shop, item, catalogs)
        ids = [one.connection_id for one in catalogs]
        kept = (await self._store.products(shop, [product_id], ids))[product_id]
        product = kept.source.record
        if product is None:
            raise _no_item(item)
        stored = await self._store.read(keys.shop(shop))
        facts = records.shop(stored.data) if stored else ShopRecord()
        return ItemStory(
            product_id=product_id,
            variant_id=variant_id,
            updated_ns=product.updated_ns,
            explanations=tuple(
                self._explanation(
                    one, product, variant_id, kept.syncs[one.connection_id].record, facts
                )
                for one in catalogs
            ),
        )

    async def _found(
        self, shop: str, item: str, catalogs: Sequence[CatalogSettings]
    ) -> tuple[str, str]:
        """The product and the variant that an id, a SKU or a number names."""
        for one in catalogs:
            # An id is the usual name: where it is known, nothing has to be searched.
            is_here = self._owners(one.connection_id) is not None
            for found in await self.items(one.connection_id, [item]) if is_here else ():
                return found.product_id, found.variant_id
        for one in catalogs:
            async for _, record in self._store.every_sync(shop, one.connection_id):
                for each in record.items:
                    if item in (each.sku_id, each.variant_id):
                        return record.product_id, each.variant_id
        # Products that are in no catalog, drafts for one, are looked for in what is known of them.
        async for product in self._store.every_product(shop):
            for variant in product.variants:
                if item in (variant.sku, variant.variant_id):
                    return product.product_id, variant.variant_id
        raise _no_item(item)

    def _explanation(
        self,
        catalog: CatalogSettings,
        product: Product,
        variant_id: str,
        record: SyncProduct | None,
        facts: ShopRecord,
    ) -> ExplanationView:
        basis = self._bases.of(catalog.shop, facts)
        made = made_of(product, catalog, basis, record, lambda _: product.product_id)
        item = next((one for one in made.mapped.items if one.variant_id == variant_id), None)
        known = next(
            (one for one in (record.items if record else ()) if one.variant_id == variant_id), None
        )
        status = (
            _item_view(catalog.connection_id, product.product_id, known)
            if known
            else ItemView(
                connection_id=catalog.connection_id,
                sku_id="",
                product_id=product.product_id,
                variant_id=variant_id,
                state=ItemState.REFUSED,
            )
        )
        fields = (
            ()
            if made.mapped.excluded
            else explained(product, variant_id, basis.shop, catalog, item, basis.rates, basis.today)
        )
        digest = made.encoded[item.sku_id].digest if item is not None else 0
        return ExplanationView(
            status=status,
            fields=tuple(
                FieldView(
                    field=one.field,
                    value=one.value,
                    source=one.source,
                    source_value=one.source_value,
                    rule=one.rule,
                )
                for one in fields
            ),
            item_json=made.bodies[item.sku_id].decode() if item is not None else "",
            issues=tuple(_mapping_issues(made, variant_id)),
            excluded=made.mapped.excluded,
            is_current=known is not None and digest != 0 and known.accepted == digest,
        )

    # -- acts ----------------------------------------------------------------------------------

    async def start(self, shop: str, kind: SyncKind, *, take_out_many: bool = False) -> Started:
        """Starts a sync, or joins the one under way."""
        self._catalogs_of(shop)
        for _ in range(_TRIES):
            stored = await self._store.read(keys.run(shop))
            before = records.run(stored.data) if stored else None
            if before is not None and not SyncPhase(before.phase).is_end:
                return Started(progress=_sync_view(before), joined=True)
            run = queued(
                before,
                shop,
                kind,
                run_id=self._ids.new(),
                now_ns=self._clock.now_ns(),
                take_out_many=take_out_many,
            )
            try:
                expected = stored.sequence if stored else 0
                await self._store.put(keys.run(shop), records.encode(run), expected)
            except ConflictError:
                continue
            return Started(progress=_sync_view(run))
        raise permanent(
            "sync_contended", "several syncs were asked for at once: look at the status"
        )

    async def pause(self, connection_id: str, note: str) -> CatalogView:
        """Stops a catalog for all replicas; how it is then."""
        self._catalog(connection_id)
        reason = gate_pb2.GATE_REASON_OPERATOR
        await self._gates.close(connection_gate(connection_id), reason, note=note)
        return await self._view_of(connection_id)

    async def resume(self, connection_id: str) -> CatalogView:
        """Lets a catalog go on, whatever had stopped it; how it is then."""
        self._catalog(connection_id)
        await self._gates.reopen(connection_gate(connection_id), by_operator=True)
        return await self._view_of(connection_id)

    async def bind_event_source(
        self, connection_id: str, *, advertiser_id: str, pixel_code: str
    ) -> None:
        """Has TikTok match the catalog with the events of a pixel."""
        await self._api.bind_event_source(
            self._catalog(connection_id), advertiser_id=advertiser_id, pixel_code=pixel_code
        )

    # -- what is known -------------------------------------------------------------------------

    async def _view_of(self, connection_id: str) -> CatalogView:
        settings = self._catalog(connection_id)
        stored = await self._store.read(keys.status(settings.shop, connection_id))
        return self._catalog_view(settings, records.status(stored.data) if stored else None)

    def _catalog_view(self, one: CatalogSettings, status: Status | None) -> CatalogView:
        status = status or Status()
        gate = self._gates.shut(SINK) or self._gates.shut(connection_gate(one.connection_id))
        held_by, note = status.held_by, status.held_note
        if gate is not None:
            # The gate is newer than what the catalog's sender has told.
            held_by = gate_pb2.GateReason.Name(gate.reason).removeprefix("GATE_REASON_").lower()
            note = gate.note or gate.code
        elif held_by in ("operator", "credentials"):
            held_by, note = "", ""
        return CatalogView(
            connection_id=one.connection_id,
            catalog_id=one.catalog_id,
            dialect=one.dialect.value,
            country=one.country,
            currency=one.currency,
            language=one.language,
            items={ItemState(state): count for state, count in status.states.items()},
            waiting=status.waiting,
            in_flight=status.in_flight,
            next_submit_ns=status.next_submit_ns,
            last_submit_ns=status.last_submit_ns,
            held_by=held_by,
            held_note=note,
            next_resend_ns=status.next_resend_ns,
        )

    def _catalogs_of(self, shop: str) -> list[CatalogSettings]:
        view = self._connections.shop(shop)
        found = [] if view is None else list(self._settings_of(view))
        if not found:
            raise permanent(
                SHOP_NOT_FOUND, "it has no catalog: see `tidewire connections`", path="shop"
            )
        return found

    def _settings_of(self, view: ShopView) -> Iterator[CatalogSettings]:
        for one in self._connections.connections(view.handle, CONNECTION_KIND_TIKTOK_CATALOG):
            yield catalog_settings(one, view, api_version=self._api_version)

    def _catalog(self, connection_id: str) -> CatalogSettings:
        view = self._connections.shop(connection_id.partition(".")[0])
        for one in self._settings_of(view) if view else ():
            if one.connection_id == connection_id:
                return one
        raise _no_catalog(connection_id)


def _place_of(token: str) -> tuple[int, int]:
    """After which sequence a page begins, and with which of the product's items."""
    if not token:
        return 0, 0
    after, dot, place = token.partition(".")
    if not (dot and after.isdigit() and place.isdigit() and len(token) < 40):
        raise permanent(PAGE_TOKEN_UNREADABLE, "give one as an answer had it", path="page_token")
    return int(after), int(place)


def _item_view(connection_id: str, product_id: str, one: SyncItem) -> ItemView:
    return ItemView(
        connection_id=connection_id,
        sku_id=one.sku_id,
        product_id=product_id,
        variant_id=one.variant_id,
        state=ItemState(one.state),
        issues=tuple(map(_issue_view, one.issues)),
        accepted_ns=one.accepted_ns,
        changed_ns=one.changed_ns,
        in_catalog=one.is_in_catalog,
    )


def _issue_view(issue: SyncIssue) -> IssueView:
    return IssueView(
        source=IssueSource(issue.source),
        is_error=issue.is_error,
        text=issue.text,
        code=issue.code,
        field=issue.field,
        fix=issue.fix,
    )


def _mapping_issues(made: Made, variant_id: str) -> Iterator[IssueView]:
    for refusal in made.mapped.refusals:
        if refusal.variant_id == variant_id:
            yield IssueView(
                source=IssueSource.MAPPING,
                is_error=True,
                text=refusal.message,
                code=refusal.code,
                field=refusal.field,
            )
    for note in (*made.notes, *made.mapped.notes):
        if note.variant_id in ("", variant_id):
            yield IssueView(
                source=IssueSource.MAPPING,
                is_error=False,
                text=note.message,
                code=note.code,
                field=note.field,
            )


def _sync_view(run: Run) -> SyncView:
    return SyncView(
        run_id=run.run_id,
        kind=SyncKind(run.kind),
        phase=SyncPhase(run.phase),
        products_total=run.products_total,
        products_done=run.products_done,
        items=run.items,
        items_changed=run.items_changed,
        items_deleted=run.items_deleted,
        started_ns=run.started_ns,
        ended_ns=run.ended_ns,
        error=run.error,
    )


def _no_catalog(connection_id: str) -> Exception:
    return permanent(
        CATALOG_NOT_FOUND,
        f"{connection_id} is no catalog: see `tidewire catalog status`",
        path="connection_id",
    )


def _no_item(item: str) -> Exception:
    return permanent(
        ITEM_NOT_FOUND,
        f"no product of the shop has {item!r}: give an id in the catalog, a SKU or the number of a"
        " variant; what was made a moment ago may need a full sync",
        path="item",
    )
