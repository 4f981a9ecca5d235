"""Orders and products as the Admin API shows them, made of what webhooks tell of them.

The shop's model writes webhook bodies; one body and one node made of it are one truth in two forms.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]

_FULFILLMENT: Final = {
    "fulfilled": "FULFILLED",
    "partial": "PARTIALLY_FULFILLED",
    "restocked": "RESTOCKED",
}
_MEDIUM_AFTER_IMAGE: Final = 1
"""A medium has another number than the image in it."""


def gid(kind: str, number: object) -> str:
    """A global id."""
    return f"gid://shopify/{kind}/{number}"


def utc(text: str | None) -> str | None:
    """An instant as the Admin API writes it: UTC, to the second."""
    if not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def windowed(nodes: Sequence[Any]) -> Callable[..., Json]:
    """A connection over `nodes`, in their order."""

    def resolve(
        _info: object, first: int | None = None, after: str | None = None, **_others: object
    ) -> Json:
        begin = int(base64.b64decode(after)) + 1 if after else 0
        end = len(nodes) if first is None else begin + first
        page = nodes[begin:end]
        cursors = [base64.b64encode(str(begin + place).encode()) for place in range(len(page))]
        return connection_of(page, [one.decode() for one in cursors], more=end < len(nodes))

    return resolve


def connection_of(nodes: Sequence[Any], cursors: Sequence[str], *, more: bool) -> Json:
    """One page of a connection."""
    return {
        "nodes": list(nodes),
        "edges": [
            {"node": node, "cursor": cursor} for node, cursor in zip(nodes, cursors, strict=True)
        ],
        "pageInfo": {
            "hasNextPage": more,
            "hasPreviousPage": False,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def order_node(body: Json, domain: str) -> Json:
    """The Order of a webhook's order."""
    own = body["currency"]
    return {
        "__typename": "Order",
        **_standing(body),
        **_origin(body, domain),
        "currencyCode": own,
        "presentmentCurrencyCode": body.get("presentment_currency") or own,
        "totalPriceSet": _bag(body, "total_price", own),
        "totalTaxSet": _bag(body, "total_tax", own),
        "totalShippingPriceSet": _bag(body, "total_shipping_price", own),
        "totalDiscountsSet": _bag(body, "total_discounts", own),
        "discountCodes": [each["code"] for each in body.get("discount_codes") or ()],
        "customer": _customer(body.get("customer")),
        "billingAddress": _address(body.get("billing_address"), 1),
        "shippingAddress": _address(body.get("shipping_address"), 2),
        "lineItems": windowed([_line(each, own) for each in body["line_items"]]),
        "refunds": _first_of([_refund(each, own) for each in body.get("refunds") or ()]),
    }


def _standing(body: Json) -> Json:
    return {
        "id": gid("Order", body["id"]),
        "name": body.get("name") or f"#{body['id']}",
        "createdAt": utc(body["created_at"]),
        "updatedAt": utc(body["updated_at"]),
        "processedAt": utc(body.get("processed_at") or body["created_at"]),
        "cancelledAt": utc(body.get("cancelled_at")),
        "closedAt": utc(body.get("closed_at")),
        "test": bool(body.get("test")),
        "tags": _tags(body.get("tags")),
        "displayFinancialStatus": (body.get("financial_status") or "").upper() or None,
        "displayFulfillmentStatus": _FULFILLMENT.get(
            body.get("fulfillment_status") or "", "UNFULFILLED"
        ),
    }


def _origin(body: Json, domain: str) -> Json:
    details = body.get("client_details") or {}
    return {
        "sourceName": body.get("source_name"),
        "sourceIdentifier": body.get("source_identifier"),
        "app": {"id": gid("App", body["app_id"])} if body.get("app_id") else None,
        "cartToken": body.get("cart_token"),
        "checkoutToken": body.get("checkout_token"),
        "email": body.get("email") or None,
        "phone": body.get("phone"),
        "clientIp": body.get("browser_ip") or details.get("browser_ip"),
        "customerLocale": body.get("customer_locale"),
        "statusPageUrl": body.get("order_status_url") or f"https://{domain}/orders/{body['id']}",
        "customAttributes": _attributes(body.get("note_attributes")),
        "customerJourneySummary": {
            "lastVisit": {
                "landingPage": _absolute(body.get("landing_site"), domain),
                "referrerUrl": body.get("referring_site"),
            }
        },
    }


def product_node(body: Json) -> Json:
    """The Product of a webhook's product."""
    options = [each["name"] for each in body.get("options") or ()]
    variants: list[Json] = [_variant(each, options) for each in body.get("variants") or ()]
    # Webhooks name all variants and show 100: those beyond are there, and never on a first page.
    hidden = max(0, len(body.get("variant_gids") or ()) - len(variants))
    return {
        "__typename": "Product",
        "id": gid("Product", body["id"]),
        "title": body.get("title") or "",
        "descriptionHtml": body.get("body_html") or "",
        "vendor": body.get("vendor") or "",
        "productType": body.get("product_type") or "",
        "handle": body.get("handle") or "",
        "status": (body.get("status") or "active").upper(),
        "tags": _tags(body.get("tags")),
        "createdAt": utc(body["created_at"]),
        "updatedAt": utc(body["updated_at"]),
        "publishedAt": utc(body.get("published_at")),
        "options": [
            {"id": gid("ProductOption", each.get("id", place)), "name": each["name"]}
            for place, each in enumerate(body.get("options") or (), 1)
        ],
        "variants": windowed(variants + [{}] * hidden),
        "media": windowed([_medium(each) for each in body.get("images") or ()]),
    }


def _variant(body: Json, options: Sequence[str]) -> Json:
    chosen = [body.get(f"option{place}") for place in (1, 2, 3)]
    image_id = body.get("image_id")
    return {
        "__typename": "ProductVariant",
        "id": gid("ProductVariant", body["id"]),
        "sku": body.get("sku"),
        "barcode": body.get("barcode"),
        "title": body.get("title") or "Default Title",
        "price": body["price"],
        "compareAtPrice": body.get("compare_at_price"),
        "inventoryQuantity": body.get("inventory_quantity"),
        "inventoryPolicy": (body.get("inventory_policy") or "deny").upper(),
        "updatedAt": utc(body.get("updated_at")) or "1970-01-01T00:00:00Z",
        "inventoryItem": {"id": gid("InventoryItem", body.get("inventory_item_id", 0))},
        "selectedOptions": [
            {"name": name, "value": value}
            for name, value in zip(options, chosen, strict=False)
            if value
        ],
        "media": windowed([_medium({"id": image_id})] if image_id else []),
    }


def _medium(image: Json) -> Json:
    url = image.get("src")
    return {
        "__typename": "MediaImage",
        "id": gid("MediaImage", image["id"] + _MEDIUM_AFTER_IMAGE),
        "alt": image.get("alt"),
        "image": {
            "url": f"https:{url}" if url.startswith("//") else url,
            "width": image.get("width"),
            "height": image.get("height"),
        }
        if url
        else None,
    }


def _line(body: Json, own: str) -> Json:
    unit = _bag(body, "price", own)
    return {
        "__typename": "LineItem",
        "id": gid("LineItem", body["id"]),
        "sku": body.get("sku"),
        "title": body.get("title") or "",
        "variantTitle": body.get("variant_title"),
        "vendor": body.get("vendor"),
        "quantity": body["quantity"],
        "currentQuantity": body.get("current_quantity", body["quantity"]),
        "isGiftCard": bool(body.get("gift_card")),
        "variant": _reference("ProductVariant", body.get("variant_id")),
        "product": _reference("Product", body.get("product_id")),
        "originalUnitPriceSet": unit,
        "originalTotalSet": _times(unit, body["quantity"]),
        "totalDiscountSet": _bag(body, "total_discount", own),
        "discountAllocations": [
            {"allocatedAmountSet": _bag(each, "amount", own)}
            for each in body.get("discount_allocations") or ()
        ],
        "customAttributes": _attributes(body.get("properties")),
    }


def _refund(body: Json, own: str) -> Json:
    lines = [
        {
            "quantity": each["quantity"],
            "lineItem": {"__typename": "LineItem", "id": gid("LineItem", each["line_item_id"])},
            "subtotalSet": _bag(each, "subtotal", own),
            "totalTaxSet": _bag(each, "total_tax", own),
        }
        for each in body.get("refund_line_items") or ()
    ]
    transactions = [
        {
            "__typename": "OrderTransaction",
            "id": gid("OrderTransaction", each.get("id", place)),
            "kind": each["kind"].upper(),
            "status": each["status"].upper(),
            "amountSet": _bag(each, "amount", each.get("currency") or own),
        }
        for place, each in enumerate(body.get("transactions") or (), 1)
    ]
    return {
        "__typename": "Refund",
        "id": gid("Refund", body["id"]),
        "createdAt": utc(body.get("created_at")),
        "note": body.get("note"),
        "refundLineItems": windowed(lines),
        "transactions": windowed(transactions),
    }


def _customer(body: Json | None) -> Json | None:
    if not body:
        return None
    email, phone = body.get("email"), body.get("phone")
    return {
        "__typename": "Customer",
        "id": gid("Customer", body["id"]),
        "firstName": body.get("first_name"),
        "lastName": body.get("last_name"),
        "updatedAt": utc(body.get("updated_at")) or "1970-01-01T00:00:00Z",
        "defaultEmailAddress": {"emailAddress": email} if email else None,
        "defaultPhoneNumber": {"phoneNumber": phone} if phone else None,
        "defaultAddress": _address(body.get("default_address"), 3),
    }


def _address(body: Json | None, number: int) -> Json | None:
    if not body:
        return None
    return {
        "__typename": "MailingAddress",
        "id": gid("MailingAddress", number),
        "firstName": body.get("first_name"),
        "lastName": body.get("last_name"),
        "company": body.get("company"),
        "address1": body.get("address1"),
        "address2": body.get("address2"),
        "city": body.get("city"),
        "zip": body.get("zip"),
        "province": body.get("province"),
        "provinceCode": body.get("province_code"),
        "country": body.get("country"),
        "countryCodeV2": body.get("country_code"),
        "phone": body.get("phone"),
    }


def _bag(body: Mapping[str, Any], name: str, currency: str) -> Json:
    """The money bag of an amount, from its set, else from the plain amount on both sides."""
    both = body.get(f"{name}_set")
    if not both:
        plain = {"amount": str(body.get(name) or "0.0"), "currency_code": currency}
        both = {"shop_money": plain, "presentment_money": plain}
    return {
        f"{side}Money": {
            "amount": both[f"{side}_money"]["amount"],
            "currencyCode": both[f"{side}_money"]["currency_code"],
        }
        for side in ("shop", "presentment")
    }


def _times(bag: Json, count: int) -> Json:
    return {
        side: {**money, "amount": str(Decimal(str(money["amount"])) * count)}
        for side, money in bag.items()
    }


def _reference(kind: str, number: object) -> Json | None:
    return {"__typename": kind, "id": gid(kind, number)} if number else None


def _attributes(found: object) -> list[Json]:
    listed = found if isinstance(found, list) else []
    return [{"key": each["name"], "value": each.get("value")} for each in listed]


def _tags(found: object) -> list[str]:
    return (
        [tag.strip() for tag in found.split(",") if tag.strip()] if isinstance(found, str) else []
    )


def _absolute(page: str | None, domain: str) -> str | None:
    return f"https://{domain}{page}" if page and page.startswith("/") else page


def _first_of(listed: list[Json]) -> Callable[..., list[Json]]:
    return lambda _info, first=None, **_others: listed[:first]
