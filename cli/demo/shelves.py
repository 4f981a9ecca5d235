"""The shops of the demo that fill TikTok's catalogs: what they sell, and who is shown it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from libs.connections import shop_handle
from sandbox.shopify.model import Shop

VARIANTS_MIN: Final = 50
KIND: Final = "shelf"
"""What deliveries of these shops are called, to tell them from the storm's."""

SPACING_S: Final = 1
"""Least time between two submits. TikTok asks for a minute: the demo would take twenty."""

BUSINESS_CENTER: Final = "7000000000000000010"
BRAND: Final = "Harbour Supplies"
"""Of what has no vendor."""

SANDBOX_CATALOG: Final[dict[str, object]] = {
    "bc_id": BUSINESS_CENTER,
    "submit_spacing_s": SPACING_S,
    "ingestion_ms": 150,
    "waiting_ms": 50,
}
"""How the simulated TikTok treats a catalog; it takes 50 µs more for each item."""

PACE: Final = {
    "TIDEWIRE_CATALOG_BULK_POLL_S": "0.5",
    "TIDEWIRE_CATALOG_LOG_POLL_S": "0.2",
    "TIDEWIRE_CATALOG_SETTLE_S": "0.5",
    # Shops of this size are on Plus. What webhooks leave out is read at this pace.
    "TIDEWIRE_SANDBOX_SHOPIFY_POINTS_PER_S": "1000",
    # Of a new limit all of the hour counts as used, which is a minute's wait.
    "TIDEWIRE_LIMITS": "tiktok.catalog.upload.*=2/s;tiktok.catalog.delete.*=2/s",
}
"""Settings of the catalog service that fit a TikTok and a Shopify in such a hurry."""

_LONG_AGO: Final = datetime(2010, 1, 1, tzinfo=UTC)
_ODD: Final = ("barcodes", "statuses", "prices", "stock")
"""Trouble that is mixed in. Not what the simulators cannot judge, as which of two items a repeated
SKU belongs to and what becomes of emoji; nor lacking images, without which nothing sells."""

_OTHER_CURRENCIES: Final = ("_ae", "_dk", "_brl", "_vnd")
"""At the end of a file's name: what is sold there has no prices in dollars."""

_ABROAD_SHARE: Final = 25
"""The second shop has one variant for so many of the first."""

_ABROAD_MIN: Final = 100
"""But so many that products which are taken off leave something to sell."""


@dataclass(frozen=True, slots=True)
class CatalogChoice:
    """One catalog: whose it is, how it is spoken to, and whom it is for."""

    catalog_id: str
    shop: str
    """The shop's domain."""

    dialect: str = "product_upload"
    country: str = "US"
    currency: str = "USD"
    language: str = "en"

    @property
    def connection_id(self) -> str:
        return f"{shop_handle(self.shop)}.catalog.{self.catalog_id}"

    @property
    def market(self) -> str:
        """In short."""
        return f"{self.country} {self.currency} {self.language}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A shop that sells through catalogs."""

    shop: Shop
    plan: dict[str, Any]
    """As `POST /_sandbox/shopify/catalog` takes it."""

    catalogs: tuple[CatalogChoice, ...]
    changes: int
    """How often something of it changes during the storm."""

    exports: tuple[Path, ...] = ()
    """Files of Shopify's own form with more of what it sells."""

    exports_max: int = 0
    """At most so many variants of them."""

    @property
    def handle(self) -> str:
        return shop_handle(self.shop.domain) or self.shop.domain


def plan_shelves(variants: int, seed: int, corpus: Path | None = None) -> tuple[Shelf, ...]:
    """A large shop that speaks both dialects, a small one that sells abroad, and a real one.

    The real one sells what `products/*.csv` of `corpus` hold; without any there is none.

    Raises:
        ValueError: there are fewer than `VARIANTS_MIN`.
    """
    if variants < VARIANTS_MIN:
        raise ValueError(f"a catalog of the demo has at least {VARIANTS_MIN} variants")
    large = Shop("harbour-supplies.myshopify.com", ("shpss_harbour",), "US", "USD", _LONG_AGO)
    abroad = Shop("atelier-morvane.myshopify.com", ("shpss_morvane",), "US", "USD", _LONG_AGO)
    few = max(_ABROAD_MIN, variants // _ABROAD_SHARE)
    return (
        Shelf(
            large,
            _plan(large, variants, seed),
            (
                CatalogChoice("7001", large.domain),
                CatalogChoice("7002", large.domain, "item_batch"),
            ),
            _changes(variants),
        ),
        Shelf(
            abroad,
            _plan(abroad, few, seed + 1),
            (
                CatalogChoice(
                    "7003",
                    abroad.domain,
                    country="FR",
                    currency="EUR",
                    language="fr",
                ),
            ),
            _changes(few),
        ),
        *_real(variants, seed + 2, corpus),
    )


def _real(variants: int, seed: int, corpus: Path | None) -> Iterator[Shelf]:
    found = sorted((corpus / "products").glob("*.csv")) if corpus else []
    files = [one for one in found if not one.stem.endswith(_OTHER_CURRENCIES)]
    if not files:
        return
    shop = Shop("real-exports.myshopify.com", ("shpss_exports",), "US", "USD", _LONG_AGO)
    plan = {**_plan(shop, 0, seed), "markets": {}, "locales": [], "odd": ()}
    choice = CatalogChoice("7004", shop.domain)
    yield Shelf(shop, plan, (choice,), _changes(variants // 10), tuple(files), variants)


def _plan(shop: Shop, variants: int, seed: int) -> dict[str, Any]:
    return {
        "shop": shop.domain,
        "seed": seed,
        "variants": variants,
        "markets": {"FR": "EUR"},
        "locales": ["fr"],
        "odd": _ODD,
    }


def _changes(variants: int) -> int:
    """Two of a hundred, and enough of each kind in a small shop."""
    return max(30, variants * 2 // 100)
