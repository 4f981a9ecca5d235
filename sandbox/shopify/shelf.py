"""Webhook bodies of everything but shopping: products, stock, parcels, refunds, the shop itself."""

from __future__ import annotations

from datetime import datetime
from random import Random

from sandbox.shopify.model import Ids, JsonObject, Line, Product, Shop, Variant, stamp, stamp_z
from sandbox.shopify.money import Terms, amount
from sandbox.shopify.payloads import Sale, address_body, order_line

_THINGS = ("Candle", "Teapot", "Rucksack", "Blanket", "Lantern", "Notebook", "Apron", "Vase")
_MOODS = ("Harbour", "Juniper", "Driftwood", "Ember", "Meadow", "Basalt", "Saffron", "Tidal")
_SIZES = ("Small", "Medium", "Large", "Größe XL", "Navy / M", '12" round')


def make_product(rng: Random, ids: Ids, shop: Shop) -> Product:
    """Something to sell, with one to four variants; a few without SKU, one title with an emoji."""
    title = f"{rng.choice(_MOODS)} {rng.choice(_THINGS)}{' 🌊' if rng.random() < 0.05 else ''}"
    product_id = ids.take()
    base_minor = {"JPY": 1200, "BHD": 4500}.get(shop.currency, 1499)
    variants = tuple(
        Variant(
            variant_id=ids.take(),
            inventory_item_id=ids.take(),
            title=size,
            sku=f"SKU-{ids.take() % 1_000_000}" if rng.random() > 0.1 else rng.choice(("", None)),
            price_minor=base_minor + rng.randrange(0, 5000),
        )
        for size in rng.sample(_SIZES, rng.randrange(1, 5))
    )
    handle = f"{title.split(maxsplit=1)[0].lower()}-{product_id}"
    return Product(product_id, title, handle, f"Vendor {product_id % 7}", variants)


def product_body(shop: Shop, product: Product, updated_at: datetime) -> JsonObject:
    """A product as products/create and update send it; media and images left empty."""
    return {
        "admin_graphql_api_id": f"gid://shopify/Product/{product.product_id}",
        "body_html": f"<p>{product.title}, <b>made by hand</b> &amp; packed with care.</p>",
        "created_at": stamp_z(updated_at),
        "handle": product.handle,
        "id": product.product_id,
        "product_type": "Homeware",
        "published_at": stamp(updated_at, -300),
        "template_suffix": None,
        "title": product.title,
        "updated_at": stamp(updated_at, -300),
        "vendor": product.vendor,
        "status": "active",
        "published_scope": "global",
        "tags": "handmade, gift",
        "variants": [
            _variant(shop, product, place, variant, updated_at)
            for place, variant in enumerate(product.variants, 1)
        ],
        "options": [{"id": product.product_id + 1, "name": "Size", "position": 1}],
        "images": [],
        "image": None,
        "media": [],
        "variant_gids": [
            {
                "admin_graphql_api_id": _variant_gid(v),
                "updated_at": stamp_z(updated_at, fraction=True),
            }
            for v in product.variants
        ],
        "has_variants_that_requires_components": False,
        "category": None,
    }


def level_body(
    item_id: int, location_id: int, available: int | None, updated_at: datetime
) -> JsonObject:
    """An inventory level; `available` is None where stock is not tracked, and may be negative."""
    return {
        "inventory_item_id": item_id,
        "location_id": location_id,
        "available": available,
        "updated_at": stamp(updated_at, -300),
        "admin_graphql_api_id": (
            f"gid://shopify/InventoryLevel/{location_id}?inventory_item_id={item_id}"
        ),
    }


def item_body(variant: Variant, updated_at: datetime, cost: str | None) -> JsonObject:
    """An inventory item."""
    return {
        "id": variant.inventory_item_id,
        "sku": variant.sku,
        "created_at": stamp(updated_at, -300),
        "updated_at": stamp(updated_at, -300),
        "requires_shipping": True,
        "cost": cost,
        "country_code_of_origin": None,
        "province_code_of_origin": None,
        "harmonized_system_code": None,
        "tracked": True,
        "country_harmonized_system_codes": [],
        "admin_graphql_api_id": f"gid://shopify/InventoryItem/{variant.inventory_item_id}",
    }


def fulfillment_body(
    sale: Sale, fulfillment_id: int, lines: tuple[Line, ...], at: datetime, status: str
) -> JsonObject:
    """A parcel of an order."""
    return {
        "id": fulfillment_id,
        "order_id": sale.order_id,
        "status": status,
        "created_at": stamp(at, sale.offset_minutes),
        "service": "manual",
        "updated_at": stamp(at, sale.offset_minutes),
        "tracking_company": "Other",
        "shipment_status": None,
        "location_id": 24826418,
        "origin_address": None,
        "email": sale.person.email,
        "destination": address_body(sale.person),
        "line_items": [order_line(line, sale.terms) for line in lines],
        "tracking_number": f"TW{fulfillment_id}",
        "tracking_numbers": [f"TW{fulfillment_id}"],
        "tracking_url": f"https://parcels.example.com/{fulfillment_id}",
        "tracking_urls": [f"https://parcels.example.com/{fulfillment_id}"],
        "receipt": {},
        "name": f"#{1000 + sale.order_id % 90000}.1",
        "admin_graphql_api_id": f"gid://shopify/Fulfillment/{fulfillment_id}",
    }


def refund_body(sale: Sale, refund_id: int, lines: tuple[Line, ...], at: datetime) -> JsonObject:
    """A refund of `lines`, with the JSON numbers and negative strings that real ones have."""
    terms = sale.terms
    return {
        "id": refund_id,
        "order_id": sale.order_id,
        "created_at": stamp(at, sale.offset_minutes),
        "note": "Arrived with a crack",
        "user_id": 548380009,
        "processed_at": stamp(at, sale.offset_minutes),
        "duties": [],
        "total_duties_set": terms.both(0),
        "return": None,
        "refund_shipping_lines": [],
        "restock": False,
        "admin_graphql_api_id": f"gid://shopify/Refund/{refund_id}",
        "order_adjustments": [_adjustment(sale, refund_id)],
        "refund_line_items": [_refund_line(line, terms, refund_id) for line in lines],
        "transactions": [_transaction(sale, refund_id, lines, at)],
    }


def edit_body(sale: Sale, edit_id: int, at: datetime) -> JsonObject:
    """orders/edited: what was added and removed, without the order itself."""
    return {
        "order_edit": {
            "id": edit_id,
            "app_id": None,
            "created_at": stamp(at, sale.offset_minutes),
            "committed_at": stamp(at, sale.offset_minutes),
            "notify_customer": False,
            "order_id": sale.order_id,
            "staff_note": "",
            "user_id": None,
            "line_items": {
                "additions": [],
                "removals": [{"id": sale.lines[0].line_id, "delta": 1}],
            },
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }
    }


def checkout_removal_body(ids: Ids, currency: str) -> JsonObject:
    """checkouts/delete: an id and totals, but no token."""
    return {
        "id": ids.take(),
        "presentment_currency": currency,
        "buyer_accepts_sms_marketing": False,
        "sms_marketing_phone": None,
        "total_discounts": amount(0, currency),
        "total_line_items_price": amount(4999, currency),
        "total_price": amount(4999, currency),
        "total_tax": amount(0, currency),
        "subtotal_price": amount(4999, currency),
        "cart_token": f"{ids.take():032x}",
        "total_duties": None,
        "reservation_token": None,
    }


def shop_body(shop: Shop, at: datetime) -> JsonObject:
    """shop/update: the store describes itself."""
    return {
        "id": 548380009,
        "name": shop.domain.split(".")[0],
        "email": "owner@example.com",
        "domain": shop.domain,
        "country": shop.country,
        "address1": "1 Tidewater Street",
        "phone": "",
        "created_at": stamp(at, -300),
        "updated_at": stamp(at, -300),
        "country_code": shop.country,
        "currency": shop.currency,
        "timezone": "(GMT-05:00) Eastern Time (US & Canada)",
        "iana_timezone": "America/New_York",
        "shop_owner": "Sam Example",
        "money_format": "${{amount}}",
        "plan_name": "enterprise",
        "myshopify_domain": shop.domain,
        "primary_location_id": 24826418,
        "enabled_presentment_currencies": [shop.currency],
    }


def redaction_body(shop: Shop, customer_id: int, orders: tuple[int, ...]) -> JsonObject:
    """customers/redact: whom to forget."""
    return {
        "shop_id": 954889,
        "shop_domain": shop.domain,
        "customer": {"id": customer_id, "email": "forget.me@example.com", "phone": None},
        "orders_to_redact": list(orders),
    }


def data_request_body(shop: Shop, customer_id: int, orders: tuple[int, ...]) -> JsonObject:
    """customers/data_request: who wants to know."""
    return {
        "shop_id": 954889,
        "shop_domain": shop.domain,
        "orders_requested": list(orders),
        "customer": {"id": customer_id, "email": "tell.me@example.com", "phone": None},
        "data_request": {"id": customer_id + 1},
    }


def scopes_body(at: datetime) -> JsonObject:
    """app/scopes_update."""
    return {
        "id": 1,
        "shop_id": "gid://shopify/Shop/548380009",
        "previous": ["read_products"],
        "current": ["read_products", "read_orders"],
        "updated_at": stamp_z(at, fraction=True),
    }


def bulk_body(operation_id: int, at: datetime) -> JsonObject:
    """bulk_operations/finish, in lower case as webhooks have it."""
    return {
        "admin_graphql_api_id": f"gid://shopify/BulkOperation/{operation_id}",
        "completed_at": stamp(at, -240),
        "created_at": stamp(at, -240),
        "error_code": None,
        "status": "completed",
        "type": "query",
    }


def _variant_gid(variant: Variant) -> str:
    return f"gid://shopify/ProductVariant/{variant.variant_id}"


def _variant(
    shop: Shop, product: Product, place: int, variant: Variant, updated_at: datetime
) -> JsonObject:
    return {
        "admin_graphql_api_id": _variant_gid(variant),
        "barcode": None,
        "compare_at_price": amount(variant.price_minor * 5 // 4, shop.currency)
        if place % 2
        else None,
        "created_at": stamp(updated_at, -300),
        "id": variant.variant_id,
        "inventory_policy": "deny",
        "position": place,
        "price": amount(variant.price_minor, shop.currency),
        "product_id": product.product_id,
        "sku": variant.sku,
        "taxable": True,
        "title": variant.title,
        "updated_at": stamp_z(updated_at),
        "option1": variant.title,
        "option2": None,
        "option3": None,
        "image_id": None,
        "inventory_item_id": variant.inventory_item_id,
        "inventory_quantity": variant.variant_id % 80,
        "old_inventory_quantity": variant.variant_id % 80,
    }


def _adjustment(sale: Sale, refund_id: int) -> JsonObject:
    negative = sale.terms.shop(-100)
    return {
        "id": refund_id + 1,
        "amount": negative,
        "tax_amount": sale.terms.shop(0),
        "kind": "refund_discrepancy",
        "reason": "Refund discrepancy",
        "order_id": sale.order_id,
        "refund_id": refund_id,
        "amount_set": sale.terms.both(-100),
        "tax_amount_set": sale.terms.both(0),
    }


def _refund_line(line: Line, terms: Terms, refund_id: int) -> JsonObject:
    return {
        "id": refund_id + line.line_id % 1000,
        "quantity": line.quantity,
        "line_item_id": line.line_id,
        "location_id": None,
        "restock_type": "no_restock",
        # JSON numbers here, strings beside them: so they are on the wire.
        "subtotal": float(terms.shop(line.total_minor)),
        "total_tax": 0,
        "subtotal_set": terms.both(line.total_minor),
        "total_tax_set": terms.both(0),
        "line_item": order_line(line, terms),
    }


def _transaction(sale: Sale, refund_id: int, lines: tuple[Line, ...], at: datetime) -> JsonObject:
    return {
        "id": refund_id + 2,
        "order_id": sale.order_id,
        "kind": "refund",
        "gateway": "bogus",
        "status": "success",
        "created_at": stamp(at, sale.offset_minutes),
        "test": False,
        "amount": sale.terms.shop(sum(line.total_minor for line in lines)),
        "currency": sale.terms.shop_currency,
        "parent_id": refund_id - 1,
    }
