"""Webhook bodies of a catalog: products, stock, the things in stock (contracts: shopify.md 1.5)."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Final

from sandbox.shopify.catalog_model import VIDEO, Item, Level, Medium, Option, Product, Variant
from sandbox.shopify.model import JsonObject, stamp, stamp_z
from sandbox.shopify.shelf import level_body

VARIANTS_SHOWN: Final = 100
"""Those beyond are only named, in `variant_gids`."""

_OFFSET_MINUTES: Final = -300
_WEIGHT_UNITS: Final = {"KILOGRAMS": "kg", "GRAMS": "g", "OUNCES": "oz", "POUNDS": "lb"}


def product_body(product: Product) -> JsonObject:
    """A product as products/create and products/update have it since 2024-07."""
    published = product.published_at_s
    images = [one for one in product.media if one.content_type != VIDEO and one.status == "READY"]
    shown = [_image(product, one) for one in images]
    return {
        "admin_graphql_api_id": f"gid://shopify/Product/{product.number}",
        "body_html": product.body_html,
        "created_at": _local(product.created_at_s),
        "handle": product.handle,
        "id": product.number,
        "product_type": product.product_type,
        "published_at": None if published is None else _local(published),
        "template_suffix": None,
        "title": product.title,
        "updated_at": _local(product.updated_at_s),
        "vendor": product.vendor,
        "status": product.status.lower(),
        "published_scope": "global",
        "tags": ", ".join(product.tags),
        "variants": [_variant(product, one) for one in product.variants[:VARIANTS_SHOWN]],
        "options": [_option(product, one) for one in product.options],
        "images": shown,
        "image": shown[0] if shown else None,
        "media": [_medium(product, place, one) for place, one in enumerate(product.media, 1)],
        "variant_gids": [
            {
                "admin_graphql_api_id": f"gid://shopify/ProductVariant/{one.number}",
                "updated_at": stamp_z(_at(one.updated_at_s), fraction=True),
            }
            for one in product.variants
        ],
        "has_variants_that_requires_components": False,
        "category": product.category and _category(product.category),
    }


def product_removal_body(number: int) -> JsonObject:
    """products/delete, which tells nothing more."""
    return {"id": number}


def inventory_level_body(level: Level) -> JsonObject:
    """inventory_levels/update; of what is not tracked nothing is said."""
    available = level.available if level.item.tracked else None
    at = _at(level.updated_at_s)
    return level_body(level.item.number, level.location.number, available, at)


def inventory_item_body(item: Item) -> JsonObject:
    """inventory_items/update."""
    return {
        "id": item.number,
        "sku": item.variant.sku,
        "created_at": _local(item.variant.created_at_s),
        "updated_at": _local(item.updated_at_s),
        "requires_shipping": True,
        "cost": item.cost,
        "country_code_of_origin": None,
        "province_code_of_origin": None,
        "harmonized_system_code": None,
        "tracked": item.tracked,
        "country_harmonized_system_codes": [],
        "weight_value": item.weight or 0.0,
        "weight_unit": _WEIGHT_UNITS[item.weight_unit],
        "admin_graphql_api_id": f"gid://shopify/InventoryItem/{item.number}",
    }


def image_number(medium: Medium) -> int:
    """An image has another number than the medium around it."""
    return medium.number - 1


def _variant(product: Product, variant: Variant) -> JsonObject:
    chosen = [*variant.values, None, None, None][:3]
    return {
        "admin_graphql_api_id": f"gid://shopify/ProductVariant/{variant.number}",
        "barcode": variant.barcode,
        "compare_at_price": variant.compare_at_price,
        "created_at": _local(variant.created_at_s),
        "id": variant.number,
        "inventory_policy": variant.inventory_policy.lower(),
        "position": variant.position,
        "price": variant.price,
        "product_id": product.number,
        "sku": variant.sku,
        "taxable": True,
        "title": variant.title,
        "updated_at": _local(variant.updated_at_s),
        "option1": chosen[0],
        "option2": chosen[1],
        "option3": chosen[2],
        "image_id": image_number(variant.media[0]) if variant.media else None,
        "inventory_item_id": variant.item.number,
        "inventory_quantity": variant.quantity,
        "old_inventory_quantity": variant.quantity,
    }


def _option(product: Product, option: Option) -> JsonObject:
    return {
        "name": option.name,
        "id": option.number,
        "product_id": product.number,
        "position": option.position,
        "values": [one.name for one in option.values],
    }


def _of_variants(product: Product, medium: Medium) -> list[int]:
    shown = product.variants[:VARIANTS_SHOWN]
    return [one.number for one in shown if medium in one.media]


def _image(product: Product, medium: Medium) -> JsonObject:
    return {
        "id": image_number(medium),
        "alt": medium.alt,
        "position": product.media.index(medium) + 1,
        "product_id": product.number,
        "created_at": _local(product.created_at_s),
        "updated_at": _local(product.updated_at_s),
        "admin_graphql_api_id": f"gid://shopify/ProductImage/{image_number(medium)}",
        "width": medium.width,
        "height": medium.height,
        "src": medium.url,
        "variant_ids": _of_variants(product, medium),
    }


def _medium(product: Product, place: int, medium: Medium) -> JsonObject:
    is_ready = medium.status == "READY"
    return {
        "id": medium.number,
        "product_id": product.number,
        "position": place,
        "created_at": _local(product.created_at_s),
        "updated_at": _local(product.updated_at_s),
        "alt": medium.alt,
        "status": medium.status,
        "media_content_type": medium.content_type,
        "preview_image": {
            "width": medium.width,
            "height": medium.height,
            "src": medium.url,
            "status": "READY",
        }
        if is_ready
        else None,
        "variant_ids": _of_variants(product, medium),
        "admin_graphql_api_id": f"gid://shopify/{medium.type_name}/{medium.number}",
    }


def _category(full_name: str) -> JsonObject:
    number = zlib.crc32(full_name.encode())
    return {
        "admin_graphql_api_id": f"gid://shopify/TaxonomyCategory/sb-{number}",
        "name": full_name.rpartition(" > ")[2],
        "full_name": full_name,
    }


def _at(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _local(at_s: int) -> str:
    return stamp(_at(at_s), _OFFSET_MINUTES)
