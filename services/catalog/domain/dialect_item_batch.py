"""The integration guide's flat items, at `/catalog/item/batch/`.

TikTok documents no such endpoint; who uses this dialect knows one that takes it. It has no field
for a sale price, so `price` is what buyers pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.dialect_product_upload import ENCODER, ProductUpload, limits_of
from services.catalog.domain.items import Availability, Item
from services.catalog.domain.settings import CatalogSettings

# As TikTok's feed files spell them.
_AVAILABILITY: Final = {one: one.name.lower().replace("_", " ") for one in Availability}


class WireItem(msgspec.Struct, gc=False):
    item_id: str
    item_group_id: str
    title: str
    description: str
    availability: str
    condition: str
    price: str
    currency: str
    link: str
    image_link: str


class ItemBatch:
    """The guide's dialect. It has no way to delete: TikTok's own is used."""

    uploads_max = 1_000
    deletes_max = ProductUpload.deletes_max

    def encode(self, item: Item) -> bytes:
        """The item as in the guide's sample: its fields, in its order, the price as text."""
        paid = item.price if item.sale_price is None else item.sale_price
        return ENCODER.encode(
            WireItem(
                item_id=item.sku_id,
                item_group_id=item.first_sku,
                title=item.title,
                description=item.description,
                availability=_AVAILABILITY[item.availability],
                condition=item.condition.lower(),
                price=f"{paid:f}",
                currency=item.currency,
                link=item.landing_page_url,
                image_link=item.image_url,
            )
        )

    def upload(self, catalog: CatalogSettings, items: Sequence[bytes]) -> HttpRequest:
        """At most 1,000 items. They count as an upload of the catalog."""
        head = ENCODER.encode({"catalog_id": catalog.catalog_id})
        return HttpRequest(
            method="POST",
            path=f"/open_api/{catalog.api_version}/catalog/item/batch/",
            body=b'%b,"items":[%b]}' % (head[:-1], b",".join(items)),
            limits=limits_of("upload", catalog),
        )

    def delete(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> HttpRequest:
        """At most 1,000 ids, as `product_upload` does."""
        return ProductUpload().delete(catalog, sku_ids)
