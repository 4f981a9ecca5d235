"""TikTok's own catalog API: `/catalog/product/upload/` creates and replaces, `delete` deletes.

The structs below are the wire shape, in the order that TikTok documents. What is empty is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.items import Availability, Item
from services.catalog.domain.settings import CatalogSettings

AVAILABILITY: Final = {one: one.name for one in Availability}

# Amounts leave as JSON numbers with the digits of the decimal, never through a float.
ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class WireDetail(msgspec.Struct, omit_defaults=True, gc=False):
    condition: str
    age_group: str = ""
    gender: str = ""
    color: str = ""
    pattern: str = ""
    material: str = ""
    size: str = ""
    shipping_weight: str = ""
    product_category: str = ""


class WirePrice(msgspec.Struct, omit_defaults=True, gc=False):
    price: Decimal
    sale_price: Decimal | None = None
    currency: str = ""


class WireLanding(msgspec.Struct, gc=False):
    landing_page_url: str


class WireProduct(msgspec.Struct, omit_defaults=True, gc=False):
    sku_id: str
    title: str
    description: str
    availability: str
    brand: str
    image_url: str
    product_detail: WireDetail
    price_info: WirePrice
    landing_page: WireLanding
    additional_image_urls: tuple[str, ...] = ()
    item_group_id: str = ""
    google_product_category: str = ""
    global_trade_item_number: str = ""
    manufacturer_part_number: str = ""
    extra_info: Mapping[str, str] | None = None


class ProductUpload:
    """The default dialect."""

    uploads_max = 5_000
    deletes_max = 1_000

    def encode(self, item: Item) -> bytes:
        """The item as a product of TikTok's documents."""
        return ENCODER.encode(
            WireProduct(
                sku_id=item.sku_id,
                title=item.title,
                description=item.description,
                availability=AVAILABILITY[item.availability],
                brand=item.brand,
                image_url=item.image_url,
                product_detail=WireDetail(
                    condition=item.condition,
                    age_group=item.age_group,
                    gender=item.gender,
                    color=item.color,
                    pattern=item.pattern,
                    material=item.material,
                    size=item.size,
                    shipping_weight=item.shipping_weight,
                    product_category=item.product_category,
                ),
                price_info=WirePrice(item.price, item.sale_price, item.currency),
                landing_page=WireLanding(item.landing_page_url),
                additional_image_urls=item.additional_image_urls,
                item_group_id=item.item_group_id,
                google_product_category=item.google_product_category,
                global_trade_item_number=item.gtin,
                manufacturer_part_number=item.mpn,
                extra_info=_labels(item.custom_labels) if item.custom_labels else None,
            )
        )

    def upload(self, catalog: CatalogSettings, items: Sequence[bytes]) -> HttpRequest:
        """At most 5,000 items; what is in the catalog under their ids is replaced whole."""
        return HttpRequest(
            method="POST",
            path=f"/open_api/{catalog.api_version}/catalog/product/upload/",
            body=_body(catalog, "products", items),
            limits=limits_of("upload", catalog),
        )

    def delete(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> HttpRequest:
        """At most 1,000 ids, none twice."""
        return HttpRequest(
            method="POST",
            path=f"/open_api/{catalog.api_version}/catalog/product/delete/",
            body=_body(catalog, "sku_ids", [ENCODER.encode(one) for one in sku_ids]),
            limits=limits_of("delete", catalog),
        )


def limits_of(verb: str, catalog: CatalogSettings) -> tuple[str, ...]:
    """The limits of a write: of the app, of the endpoint, and of the catalog."""
    return (
        "tiktok.catalog.app",
        f"tiktok.catalog.{verb}",
        f"tiktok.catalog.{verb}.{catalog.catalog_id}",
    )


def _body(catalog: CatalogSettings, name: str, parts: Sequence[bytes]) -> bytes:
    told = {"bc_id": catalog.business_center_id, "catalog_id": catalog.catalog_id}
    if catalog.feed_id:
        told["feed_id"] = catalog.feed_id
    head = ENCODER.encode(told)
    return b'%b,"%b":[%b]}' % (head[:-1], name.encode(), b",".join(parts))


def _labels(labels: Sequence[str]) -> dict[str, str]:
    return {f"custom_label_{place}": label for place, label in enumerate(labels) if label}
