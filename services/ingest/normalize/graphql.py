"""Orders and products of Shopify's Admin GraphQL API, rewritten as webhooks have them.

One normaliser reads both: what comes out of here goes through the same readers as a webhook body.
Global ids are left as they are, because those readers take their digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from libs.errors import permanent

Json = dict[str, Any]

TOPICS: Final = ("reconcile/orders", "reconcile/products")
"""Topics of what we read ourselves: no webhook has them, and the body is a GraphQL node."""

LACKED: Final[Mapping[str, Mapping[str, str]]] = {
    "order": {
        "client.user_agent": "no field has it",
        "client.locale": "customerLocale only; webhooks also have Accept-Language",
        "client.landing_site": "an address with its host, of the last visit, once it is worked out",
        "client.referring_site": "of the last visit, once it is worked out",
        "contact_email": "no field has it",
        "checkout_token": "from 2026-07",
        "cart_token": "from 2026-07",
        "subtotal": "summed over the lines; presentment money may differ in the last digit",
        "line_items.variant_id": "null once the variant is deleted; webhooks keep it",
        "line_items.product_id": "null once the product is deleted; some webhooks keep it",
        "refunds": "both currencies; the first 10, of each the first 20 lines and 5 transactions",
    },
    "product": {
        "images.image_id": "the id of the medium, which is another than the image's",
        "variants.image_id": "likewise",
        "variants": "the first 100, as in webhooks",
    },
}
"""Where a node and a webhook of the same version may differ, by message field, and why.

Of an order, `sequence.DETAILS` are kept from webhooks; all else is as good as theirs.
"""

_ORDER: Final = {
    **dict.fromkeys(("id", "name", "test", "email", "phone", "tags"), ""),
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "processedAt": "processed_at",
    "cancelledAt": "cancelled_at",
    "closedAt": "closed_at",
    "sourceName": "source_name",
    "sourceIdentifier": "source_identifier",
    "checkoutToken": "checkout_token",
    "cartToken": "cart_token",
    "currencyCode": "currency",
    "presentmentCurrencyCode": "presentment_currency",
    "clientIp": "browser_ip",
    "customerLocale": "customer_locale",
    "statusPageUrl": "order_status_url",
}
_ORDER_BAGS: Final = {
    "totalPriceSet": "total_price_set",
    "totalTaxSet": "total_tax_set",
    "totalShippingPriceSet": "total_shipping_price_set",
    "totalDiscountsSet": "total_discounts_set",
}
_FULFILLMENT: Final = {
    "FULFILLED": "fulfilled",
    "PARTIALLY_FULFILLED": "partial",
    "RESTOCKED": "restocked",
}
_LINE: Final = {
    **dict.fromkeys(("id", "sku", "title", "vendor", "quantity"), ""),
    "variantTitle": "variant_title",
    "currentQuantity": "current_quantity",
    "isGiftCard": "gift_card",
}
_ADDRESS: Final = {
    **dict.fromkeys(("address1", "address2", "city", "company", "zip", "phone", "province"), ""),
    "firstName": "first_name",
    "lastName": "last_name",
    "provinceCode": "province_code",
    "countryCodeV2": "country_code",
}
_CUSTOMER: Final = {
    "id": "",
    "updatedAt": "updated_at",
    "firstName": "first_name",
    "lastName": "last_name",
}
_PRODUCT: Final = {
    **dict.fromkeys(("id", "title", "vendor", "handle", "tags", "options"), ""),
    "descriptionHtml": "body_html",
    "productType": "product_type",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "publishedAt": "published_at",
}
_VARIANT: Final = {
    **dict.fromkeys(("id", "sku", "barcode", "title", "price"), ""),
    "compareAtPrice": "compare_at_price",
    "inventoryQuantity": "inventory_quantity",
    "updatedAt": "updated_at",
}


def as_webhook(topic: str, node: Json) -> Json:
    """The body that a webhook of this resource and version would have; see `LACKED`.

    Raises:
        ServiceError: PERMANENT, `wrong_shape`, where the node is of another type: a topic is only
            claimed, and a rewritten body has every key that the shapes of bodies ask for.
    """
    typename, rewrite = _REWRITERS[topic]
    if node.get("__typename") != typename:
        raise permanent("wrong_shape", f"a node of type {typename} is needed", path="$.__typename")
    return rewrite(node)


def order(node: Json) -> Json:
    """An order of the Admin API as a webhook body."""
    visit = _object(_object(node.get("customerJourneySummary")).get("lastVisit"))
    lines = _nodes(node.get("lineItems"))
    fulfillment = node.get("displayFulfillmentStatus")
    return {
        **_renamed(node, _ORDER),
        **_bags(node, _ORDER_BAGS),
        "total_line_items_price_set": _summed(
            [_bag(line.get("originalTotalSet")) for line in lines]
        ),
        "financial_status": _lower(node.get("displayFinancialStatus")),
        "fulfillment_status": _FULFILLMENT.get(str(fulfillment)),
        "app_id": _object(node.get("app")).get("id"),
        "landing_site": visit.get("landingPage"),
        "referring_site": visit.get("referrerUrl"),
        "note_attributes": _attributes(node),
        "discount_codes": [{"code": code} for code in _list(node.get("discountCodes"))],
        "customer": _customer(node.get("customer")),
        "billing_address": _address(node.get("billingAddress")),
        "shipping_address": _address(node.get("shippingAddress")),
        "line_items": [_line(line) for line in lines],
        "refunds": [_refund(each, node.get("id")) for each in _objects(node.get("refunds"))],
    }


def product(node: Json) -> Json:
    """A product of the Admin API as a webhook body."""
    variants = _object(node.get("variants"))
    known = _nodes(variants)
    more = bool(_object(variants.get("pageInfo")).get("hasNextPage"))
    return {
        **_renamed(node, _PRODUCT),
        "status": _lower(node.get("status")),
        "variants": [_variant(each) for each in known],
        # One more than came: that is how a webhook tells that it does not have them all.
        "variant_gids": [None] * (len(known) + more),
        "images": [
            image for each in _nodes(node.get("media")) if (image := _image(each)) is not None
        ],
    }


_REWRITERS: Final[Mapping[str, tuple[str, Callable[[Json], Json]]]] = dict(
    zip(TOPICS, (("Order", order), ("Product", product)), strict=True)
)


def _line(node: Json) -> Json:
    return {
        **_renamed(node, _LINE),
        **_bags(
            node,
            {"originalUnitPriceSet": "price_set", "totalDiscountSet": "total_discount_set"},
        ),
        "variant_id": _object(node.get("variant")).get("id"),
        "product_id": _object(node.get("product")).get("id"),
        "discount_allocations": [
            {"amount_set": _bag(each.get("allocatedAmountSet"))}
            for each in _objects(node.get("discountAllocations"))
        ],
        "properties": _attributes(node),
    }


def _refund(node: Json, order_id: object) -> Json:
    return {
        "id": node.get("id"),
        "order_id": order_id,
        "created_at": node.get("createdAt"),
        "note": node.get("note"),
        "refund_line_items": [
            {
                "line_item_id": _object(each.get("lineItem")).get("id"),
                "quantity": each.get("quantity"),
                **_bags(each, {"subtotalSet": "subtotal_set", "totalTaxSet": "total_tax_set"}),
            }
            for each in _nodes(node.get("refundLineItems"))
        ],
        "transactions": [
            {
                "kind": _lower(each.get("kind")),
                "status": _lower(each.get("status")),
                "amount_set": _bag(each.get("amountSet")),
            }
            for each in _nodes(node.get("transactions"))
        ],
    }


def _customer(found: object) -> Json | None:
    if not isinstance(found, dict):
        return None
    return {
        **_renamed(found, _CUSTOMER),
        "email": _object(found.get("defaultEmailAddress")).get("emailAddress"),
        "phone": _object(found.get("defaultPhoneNumber")).get("phoneNumber"),
        "default_address": _address(found.get("defaultAddress")),
    }


def _address(found: object) -> Json | None:
    return _renamed(found, _ADDRESS) if isinstance(found, dict) else None


def _variant(node: Json) -> Json:
    chosen = [each.get("value") for each in _objects(node.get("selectedOptions"))]
    media = _nodes(node.get("media"))
    return {
        **_renamed(node, _VARIANT),
        **{f"option{place}": value for place, value in enumerate(chosen[:3], 1)},
        "inventory_policy": _lower(node.get("inventoryPolicy")),
        "inventory_item_id": _object(node.get("inventoryItem")).get("id"),
        "image_id": media[0].get("id") if media else None,
    }


def _image(node: Json) -> Json | None:
    """An image; None for another medium, and for an image that is still being made."""
    image = _object(node.get("image"))
    if not image.get("url"):
        return None
    return {
        "id": node.get("id"),
        "src": image["url"],
        "alt": node.get("alt"),
        "width": image.get("width"),
        "height": image.get("height"),
    }


def _attributes(node: Json) -> list[Json]:
    return [
        {"name": each.get("key"), "value": each.get("value")}
        for each in _objects(node.get("customAttributes"))
    ]


def _renamed(node: Json, names: Mapping[str, str]) -> Json:
    """The fields of `names` that `node` has, under their other name; empty is the same name."""
    return {other or own: node[own] for own, other in names.items() if own in node}


def _bags(node: Json, names: Mapping[str, str]) -> Json:
    return {other: _bag(node.get(own)) for own, other in names.items()}


def _bag(found: object) -> Json | None:
    """A money bag as a `…_set`."""
    if not isinstance(found, dict):
        return None
    return {
        f"{side}_money": {"amount": money.get("amount"), "currency_code": money.get("currencyCode")}
        for side in ("shop", "presentment")
        if (money := _object(found.get(f"{side}Money")))
    }


def _summed(sets: Sequence[Json | None]) -> Json | None:
    """The sum of sets in both currencies; None where one cannot be added."""
    try:
        return {
            side: {
                "amount": str(sum(Decimal(str(each[side]["amount"])) for each in sets if each)),
                "currency_code": next(each[side]["currency_code"] for each in sets if each),
            }
            for side in ("shop_money", "presentment_money")
        }
    except (KeyError, StopIteration, InvalidOperation):
        return None


def _lower(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[Json]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _nodes(connection: object) -> list[Json]:
    return _objects(_object(connection).get("nodes"))
