"""States of the bus as the domain knows them: the one place where protobuf becomes domain."""

from __future__ import annotations

from typing import Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from services.catalog.domain.model import Image, Money, Product, Variant
from tidewire.commerce.v1 import product_pb2
from tidewire.common.v1 import money_pb2

_NEW: Final = Variant(variant_id="")


def product_of(message: product_pb2.Product, previous: Product | None) -> Product:
    """The product that a webhook told, with what webhooks do not tell as `previous` has it.

    That is: translations, prices of markets, metafields, category, weights, stock by location,
    whether stock is counted, and addresses of variants' images. Of a truncated product the
    variants that it left out are kept too, behind those that it has; one that was not truncated
    has no others.
    """
    known = {one.variant_id: one for one in previous.variants} if previous else {}
    images = tuple(
        Image(one.url, one.image_id, one.width_px, one.height_px) for one in message.images
    )
    addresses = {_without_version(one.url) for one in images}
    told = [_variant(one, known.pop(one.variant_id, _NEW), addresses) for one in message.variants]
    kept = known.values() if message.variants_truncated else ()
    return Product(
        product_id=message.product_id,
        title=message.title,
        body_html=message.body_html,
        vendor=message.vendor,
        product_type=message.product_type,
        handle=message.handle,
        status=message.status,
        published=message.HasField("published_at"),
        tags=tuple(message.tags),
        option_names=tuple(message.option_names) or (previous.option_names if previous else ()),
        category=previous.category if previous else "",
        images=images,
        variants=(*told, *kept),
        texts=previous.texts if previous else {},
        metafields=previous.metafields if previous else {},
        updated_ns=_nanoseconds(message.updated_at),
        read_ns=previous.read_ns if previous else 0,
    )


def _variant(message: product_pb2.Variant, before: Variant, addresses: set[str]) -> Variant:
    """`before` with what the webhook told of the variant."""
    return msgspec.structs.replace(
        before,
        variant_id=message.variant_id,
        sku=message.sku,
        barcode=message.barcode,
        title=message.title,
        option_values=tuple(message.option_values),
        # Translations are of values: where the values changed they are of others.
        option_texts=before.option_texts
        if before.option_values == tuple(message.option_values)
        else {},
        price=_money(message.price) if message.HasField("price") else None,
        compare_at=_money(message.compare_at_price)
        if message.HasField("compare_at_price")
        else None,
        policy=message.inventory_policy,
        inventory_item_id=message.inventory_item_id or before.inventory_item_id,
        quantity=message.inventory_quantity,
        image_id=message.image_id,
        image_url=_image_url(message, before, addresses),
        updated_ns=_nanoseconds(message.updated_at),
    )


def _image_url(message: product_pb2.Variant, before: Variant, addresses: set[str]) -> str:
    """The address of the variant's own image, where only it is known and it still counts.

    A webhook names the image by its id; one that names none may be of a version that knows media
    only. An image that the product no longer has is nobody's.
    """
    if message.image_id or _without_version(before.image_url) not in addresses:
        return ""
    return before.image_url


def _money(money: money_pb2.Money) -> Money:
    return Money(money.amount_minor, money.currency)


def _without_version(url: str) -> str:
    return url.partition("?")[0]


def _nanoseconds(moment: Timestamp) -> int:
    return moment.seconds * 1_000_000_000 + moment.nanos
