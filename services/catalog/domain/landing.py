"""Where a buyer lands."""

from __future__ import annotations

from urllib.parse import quote

from services.catalog.domain.faults import Fault
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings, ShopContext


def product_page(product: Product, shop: ShopContext, catalog: CatalogSettings) -> str | Fault:
    """The address of the product's page, up to the variant's number; or why there is none.

    On the shop's own domain, or below the catalog's `storefront_url`, which may hold the path of a
    market (`https://example.com/fr`): Shopify's markets choose these freely.
    """
    if not product.handle.strip():
        return Fault(
            "handle_missing", "handle", "It has no handle, and so no page that a buyer could open."
        )
    base = catalog.storefront_url.rstrip("/") or (f"https://{shop.domain}" if shop.domain else "")
    if not base:
        return Fault(
            "domain_unknown",
            "storefront_url",
            "The shop's domain is not known: set the catalog's `storefront_url`.",
        )
    try:
        handle = quote(product.handle.strip(), safe="%-._~")
    except UnicodeError:
        return Fault("handle_unreadable", "handle", "Its handle cannot be part of an address.")
    return f"{base}/products/{handle}?variant="
