"""How one catalog behaves, changed over HTTP: `POST /_sandbox/catalogs/<id>` with what differs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class ReviewRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Items that TikTok's review turns down: those that fit every pattern (`*`, `?`) given."""

    sku: str | None = None
    field: str | None = None
    """A path in the product, such as `title` or `product_detail.color`; needs `value`."""

    value: str = "*"
    reason: str = "Prohibited content"
    suggestion: str = "Change the product so that it follows the advertising policies"


class ImageRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Images that TikTok does not take; their items stay at `processing` for ever."""

    url: str
    """A shell pattern that `image_url` fits."""

    status: Literal["PROCESSING", "FAIL", "FILTERED", "NOT_SUPPORTED", "NO_FOUND"] = "FILTERED"


class CatalogSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a catalog is and how strict it is taken. Times are of the sandbox's clock."""

    bc_id: str = ""
    """The Business Center; `""` is that of the first who calls."""

    name: str = "Sandbox catalog"
    catalog_type: str = "ECOM"
    region: str = "US"
    currency: str = "USD"
    channel: str = "CLIENT"
    """Where the catalog comes from; what is sent to one that is not CLIENT's is not ingested."""

    submit_spacing_s: Amount = 60.0
    """Least time between submits; one that comes sooner is taken, and every SKU is an error."""

    ingestion_ms: Amount = 1000.0
    ingestion_us_per_item: Amount = 50.0
    waiting_ms: Amount = 100.0
    """The first part of the ingestion, in which the log says WAITING."""

    review_ms: Amount = 2000.0
    uploads_per_hour: Count = 1000
    deletes_per_hour: Count = 1000

    duplicates: Literal["refuse", "first", "last"] = "refuse"
    """One SKU twice in a request: 40002, or which of the two is kept."""

    refusals: Literal["mixed", "synchronous", "asynchronous"] = "mixed"
    """Which faults refuse the whole request: those of shape (missing, wrong type, wrong enum), all,
    or none; the others become rows of the log."""

    overlap: Literal["refuse", "accept"] = "refuse"
    """A write while another one runs."""

    overlap_code: int = 40202
    """No source names the code; this one is "write conflict"."""

    currency_mismatch: Literal["error", "silent"] = "error"
    """An item in another currency than the catalog's: a row of the log, or left out in silence."""

    prose_emoji: Literal["refuse", "accept"] = "refuse"
    """Emoji outside of `sku_id` and `title`. The help page on issues forbids them everywhere, the
    reference in these two."""

    ingests: bool = True
    """Off, every submit ends as SUCCESS with zero counts and nothing is kept."""

    never_ends: bool = False
    """Logs of submits from now on stay at PROCESSING; nothing is kept."""

    log_status: Literal["process_status", "status", "none"] = "process_status"
    """The name under which the log tells its state, if it does."""

    sparse_counts: bool = False
    """The log leaves out the counts that are zero."""

    download_path: Literal["nested", "flat"] = "nested"
    """Whether the CSV's address stands under `download_path` or one level above."""

    item_batch: Literal["sync", "feed_log"] = "sync"
    """How `/catalog/item/batch/` answers; nobody documents it."""

    update_ignores: tuple[str, ...] = ()
    """Fields that `/catalog/product/update/` takes and does not change."""

    review_rules: tuple[ReviewRule, ...] = ()
    image_rules: tuple[ImageRule, ...] = ()


def changed(settings: CatalogSettings, body: bytes) -> CatalogSettings:
    """`settings` with the fields of the JSON object `body`.

    Raises:
        msgspec.DecodeError: naming the field at fault.
    """
    told = msgspec.json.decode(body, type=dict[str, Any])
    return msgspec.convert(msgspec.to_builtins(settings) | told, CatalogSettings)
