"""What `CatalogService` shows and does: a port, and what it answers with.

Times are nanoseconds since 1970, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.catalog.domain.states import IssueSource, ItemState, SyncKind, SyncPhase

SHOP_NOT_FOUND: Final = "shop_not_found"
CATALOG_NOT_FOUND: Final = "catalog_not_found"
ITEM_NOT_FOUND: Final = "item_not_found"
PAGE_TOKEN_UNREADABLE: Final = "page_token_unreadable"  # noqa: S105  of a page


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueView:
    """Something that is wrong with an item."""

    source: IssueSource
    is_error: bool
    """It keeps the item out."""
    text: str
    """What is wrong, in TikTok's words where it is TikTok's."""
    code: str = ""
    """Ours, such as `brand_missing`; empty for TikTok's."""
    field: str = ""
    """The merchant's name for it, or TikTok's."""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """One item."""

    connection_id: str
    sku_id: str
    product_id: str
    variant_id: str
    state: ItemState
    issues: tuple[IssueView, ...] = ()
    accepted_ns: int = 0
    changed_ns: int = 0
    in_catalog: bool = False
    """TikTok's catalog holds it, in this version or an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogView:
    """One catalog."""

    connection_id: str
    catalog_id: str
    dialect: str
    country: str
    currency: str
    language: str
    items: Mapping[ItemState, int] = field(default_factory=dict)
    waiting: int = 0
    """Items that wait to be sent, those in flight too."""
    in_flight: int = 0
    next_submit_ns: int = 0
    """When the next submit may be made, while items wait for the spacing."""
    last_submit_ns: int = 0
    held_by: str = ""
    """`operator`, `credentials`, `outage` or what TikTok said; empty: nothing is in the way."""
    held_note: str = ""
    next_resend_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncView:
    """One sync of a shop."""

    run_id: str
    kind: SyncKind
    phase: SyncPhase
    products_total: int = 0
    products_done: int = 0
    items: int = 0
    items_changed: int = 0
    items_deleted: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    error: str = ""
    """Why it was given up, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSync:
    """A shop with its catalogs."""

    shop: str
    catalogs: tuple[CatalogView, ...]
    progress: SyncView | None = None
    """The newest sync; None where there never was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A sync that was asked for."""

    progress: SyncView
    joined: bool = False
    """One was under way already, and this is it."""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Some items, and where the next ones begin."""

    items: tuple[ItemView, ...]
    next_token: str = ""
    """Empty where there are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldView:
    """One field on its way from Shopify to TikTok."""

    field: str
    """As the dialect names it, such as `price_info.price`."""
    value: str
    """As JSON; empty where it is not sent."""
    source: str
    """Shopify's name, such as `variants.price`."""
    source_value: str
    rule: str
    """What made one of the other, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationView:
    """One item's story in one catalog."""

    status: ItemView
    fields: tuple[FieldView, ...] = ()
    item_json: str = ""
    """What is sent; empty where nothing is."""
    issues: tuple[IssueView, ...] = ()
    """Of the mapping as it is now; TikTok's are in `status`."""
    excluded: str = ""
    """Why the whole product is not for sale there, such as `not_active`."""
    is_current: bool = False
    """What TikTok has is what would be sent now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStory:
    """A variant with its story in each catalog."""

    product_id: str
    variant_id: str
    updated_ns: int = 0
    """When what is known of the product last changed at Shopify."""
    explanations: tuple[ExplanationView, ...] = ()


class CatalogViews(Protocol):
    """What the service can tell and do.

    All that name a shop raise PERMANENT, SHOP_NOT_FOUND, path `shop`, where it has no catalog; all
    that name a connection, PERMANENT, CATALOG_NOT_FOUND, path `connection_id`, where it is none of
    a catalog.
    """

    def shops(self) -> Sequence[str]:
        """Handles of all shops that have a catalog, in order."""

    async def status(self, shop: str) -> ShopSync:
        """How a shop's catalogs are."""

    async def items(self, connection_id: str, sku_ids: Sequence[str]) -> Sequence[ItemView]:
        """Those items that are known, in no order."""

    async def page(
        self, connection_id: str, states: AbstractSet[ItemState], *, size: int, token: str
    ) -> ItemPage:
        """At most `size` items in one of `states`, which is never empty.

        Raises:
            ServiceError: PERMANENT, PAGE_TOKEN_UNREADABLE, path `page_token`.
        """

    async def explain(self, shop: str, item: str, connection_id: str) -> ItemStory:
        """The story of what is called `item`; in one catalog, or with "" in all of the shop's.

        Raises:
            ServiceError: PERMANENT, ITEM_NOT_FOUND, path `item`; says what to try.
        """

    async def start(self, shop: str, kind: SyncKind, *, take_out_many: bool = False) -> Started:
        """Starts a sync, or joins the one under way.

        `take_out_many`: that most products are gone is right, and they are to be taken out.
        """

    def watch(self, shop: str) -> AsyncIterator[ShopSync]:
        """How the shop is: at once, then with each change, until its sync has come to rest.

        Ends after the first where none is under way. Closing it leaves the sync as it is.
        """

    async def pause(self, connection_id: str, note: str) -> CatalogView:
        """Stops a catalog for all replicas; how it is then."""

    async def resume(self, connection_id: str) -> CatalogView:
        """Lets a catalog go on, whatever had stopped it; how it is then."""

    async def bind_event_source(
        self, connection_id: str, *, advertiser_id: str, pixel_code: str
    ) -> None:
        """Has TikTok match the catalog with the events of a pixel.

        Raises:
            ServiceError: as TikTok's API: PERMANENT with its words, AUTH, THROTTLED, RETRYABLE.
        """
