"""What the catalog service needs of the world, each as narrow as its use."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.errors import ServiceError
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.feed_log import CatalogFacts, FeedLog, Review, Submitted
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings


class TikTokCatalog(Protocol):
    """TikTok's catalog API. One try a call; who calls knows whether to try again.

    Every method takes its turns under the limits that all replicas share, and raises ServiceError:
    THROTTLED with the wait; AUTH where a person must act; PERMANENT where TikTok refused the
    request whole for what it holds, its words in the message; RETRYABLE for what may pass.
    """

    async def submit(self, catalog: CatalogSettings, request: HttpRequest) -> Submitted:
        """Sends what a dialect has built. An accepted submit is only queued at TikTok."""

    async def feed_log(self, catalog: CatalogSettings, feed_log_id: str) -> FeedLog:
        """The log of a submit, with the issues of every item once it has ended."""

    async def reviews(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> Sequence[Review]:
        """The reviews of items, in no order; those that TikTok does not have are missing."""

    async def facts(self, catalog: CatalogSettings) -> CatalogFacts:
        """What TikTok says the catalog is.

        Raises:
            ServiceError: as above; PERMANENT, `catalog_unknown`, where the token's Business Center
                has no such catalog.
        """

    async def bind_event_source(
        self, catalog: CatalogSettings, *, advertiser_id: str, pixel_code: str
    ) -> None:
        """Lets the catalog be matched with the events of a pixel."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why nothing is sent to a catalog now."""

    reason: str
    """`operator`, `credentials`, `outage`, or `tiktok` where its catalog is not as it should be."""
    note: str
    """What a person should know and do about it."""
    wait_s: float
    """When to ask again."""


class Gatekeeper(Protocol):
    """What may be sent now, and what the ends of calls say about TikTok and its catalogs."""

    def may_send(self, catalog: CatalogSettings) -> Held | None:
        """None where a call may be made, be it to see whether TikTok works again."""

    async def ended(self, catalog: CatalogSettings, error: ServiceError | None) -> None:
        """Takes in how a call ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a shop's catalogs need of its products beyond what webhooks tell."""

    languages: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    metafields: tuple[str, ...] = ()
    """`namespace.key`, of variants and products alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkState:
    """A bulk operation as Shopify tells of it."""

    operation_id: str
    status: str
    """Lower case: `created`, `running`, `completed`, `canceling`, `canceled`, `failed`,
    `expired`."""
    error_code: str = ""
    url: str = ""
    """Of the whole result; empty where there is none."""
    partial_url: str = ""
    """Of what came before a failure."""
    objects: int = 0
    roots: int = 0
    """Products so far."""
    bytes_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopFacts:
    """What Shopify says of a shop."""

    currency: str
    primary_domain: str
    country: str
    language: str
    """Primary locale; empty where the app may not read it."""


class Export(Protocol):
    """The products of an export, some at a time, by ascending number of their ids."""

    def __aiter__(self) -> AsyncIterator[Sequence[Product]]: ...

    async def aclose(self) -> None:
        """Ends the reading; to be called whether or not it was read to the end."""

    @property
    def is_whole(self) -> bool:
        """Whether every line could be read; known once the first products are there."""


class ShopifyCatalog(Protocol):
    """What the catalog service reads of Shopify. One try a call.

    Raises ServiceError as `libs.shopify.admin.ShopifyAdmin.call` does, and where said.
    """

    async def shop(self, shop: str) -> ShopFacts:
        """What the shop is."""

    async def start_bulk(self, shop: str, wanted: Wanted) -> str:
        """Starts the export of all products; the operation's id.

        Raises:
            ServiceError: THROTTLED, `bulk_busy`, where the shop runs as many operations of this app
                as it may; PERMANENT, `bulk_refused`, with Shopify's words.
        """

    async def bulk(self, shop: str, operation_id: str) -> BulkState:
        """How an operation is doing."""

    async def find_bulk(self, shop: str, since_ns: int) -> Sequence[BulkState]:
        """Operations of this app that were created since then, newest first; queries only."""

    def products(self, shop: str, url: str, wanted: Wanted, *, after: str = "") -> Export:
        """The products of a result.

        `after` leaves out those up to and including that product. Memory does not grow with the
        result, and the order of its lines does not matter.

        Raises:
            ServiceError: RETRYABLE where the download broke off for good, or the address is gone.
        """

    async def product(self, shop: str, product_id: str, wanted: Wanted) -> Product | None:
        """One product whole, all variants of it; None where Shopify has none."""


class Images(Protocol):
    """Looks at images where settings ask for it."""

    async def look(self, urls: Sequence[str], found: MutableMapping[str, str]) -> None:
        """Puts into `found` what is wrong with images, by address, each as soon as it is known.

        One of `unreachable`, `not_an_image`, `too_small`, `too_large`; of those that are good,
        nothing.
        """
