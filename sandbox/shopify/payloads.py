"""Full-size webhook bodies of carts, checkouts and orders, in invented data.

Every builder is pure: it is handed the shopper, the lines and the times and returns the JSON
object. Field sets follow what Shopify's 2026 API versions send.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sandbox.shopify.fiction import Person
from sandbox.shopify.model import JsonObject, Line, Shop, stamp, stamp_z
from sandbox.shopify.money import Terms

# A tenth of the goods, so that tax lines are there to be read; no country's real rate.
_TAX_DIVISOR = 10


@dataclass(frozen=True)
class Sale:
    """Everything about one shopper's purchase that does not change while it is told.

    `marks` are order fields that set this sale apart (`test`, `source_name`, odd values); they
    replace what the builder would have written.
    """

    shop: Shop
    person: Person
    terms: Terms
    lines: tuple[Line, ...]
    order_id: int
    customer_id: int
    cart_token: str
    checkout_token: str
    created_at: datetime
    landing_site: str
    offset_minutes: int
    shipping_minor: int = 0
    marks: tuple[tuple[str, object], ...] = ()

    @property
    def goods_minor(self) -> int:
        """What the lines cost before discounts."""
        return sum(line.total_minor for line in self.lines)

    @property
    def discount_minor(self) -> int:
        return sum(line.discount_minor for line in self.lines)

    @property
    def tax_minor(self) -> int:
        return (self.goods_minor - self.discount_minor) // _TAX_DIVISOR

    @property
    def total_minor(self) -> int:
        """What the shopper pays, shipping and tax included."""
        return self.goods_minor - self.discount_minor + self.tax_minor + self.shipping_minor


@dataclass(frozen=True)
class OrderMoment:
    """Where an order stands when a delivery tells of it."""

    updated_at: datetime
    financial_status: str = "pending"
    fulfillment_status: str | None = None
    cancelled_at: datetime | None = None
    closed_at: datetime | None = None
    fulfillments: tuple[JsonObject, ...] = ()
    refunds: tuple[JsonObject, ...] = ()
    note: str | None = None


def cart_body(sale: Sale, lines: tuple[Line, ...], updated_at: datetime) -> JsonObject:
    """A cart: a token, lines, and nothing about who holds it."""
    return {
        "id": sale.cart_token,
        "token": sale.cart_token,
        "line_items": [_cart_line(line, sale.terms) for line in lines],
        "note": None,
        "updated_at": stamp_z(updated_at, fraction=True),
        "created_at": stamp_z(sale.created_at, fraction=True),
    }


def checkout_body(sale: Sale, updated_at: datetime, *, contact_known: bool) -> JsonObject:
    """A checkout; e-mail, phone, addresses and customer are null until the shopper gives them."""
    person, terms = sale.person, sale.terms
    address = address_body(person) if contact_known else None
    return {
        "token": sale.checkout_token,
        "cart_token": sale.cart_token,
        "email": person.email if contact_known else None,
        "gateway": None,
        "buyer_accepts_marketing": False,
        "created_at": stamp(sale.created_at, sale.offset_minutes),
        "updated_at": stamp_z(updated_at),
        "landing_site": sale.landing_site,
        "note": None,
        "note_attributes": _note_attributes(person),
        "referring_site": "https://www.tiktok.com/" if person.ttclid else "",
        "shipping_lines": [],
        "taxes_included": False,
        "total_weight": 250 * len(sale.lines),
        "currency": terms.shop_currency,
        "completed_at": None,
        "closed_at": None,
        "user_id": None,
        "location_id": None,
        "source_identifier": None,
        "source_url": None,
        "device_id": None,
        "phone": person.phone if contact_known else None,
        "customer_locale": person.country.locale,
        "line_items": [_checkout_line(line, terms) for line in sale.lines],
        "name": f"#{sale.order_id}",
        "source": None,
        "abandoned_checkout_url": f"https://{sale.shop.domain}/checkouts/ac/{sale.checkout_token}",
        "discount_codes": [],
        "tax_lines": _tax_lines(sale),
        "source_name": "web",
        "presentment_currency": terms.presentment_currency,
        **_checkout_totals(sale),
        "billing_address": address,
        "shipping_address": address,
        "customer": _customer(sale) if contact_known else None,
    }


def order_body(sale: Sale, moment: OrderMoment) -> JsonObject:
    """An order as orders/create, updated, paid, cancelled and fulfilled send it."""
    return {
        "id": sale.order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{sale.order_id}",
        **_order_standing(sale, moment),
        **_order_origin(sale),
        **_order_money(sale),
        "billing_address": address_body(sale.person),
        "customer": _customer(sale),
        "discount_applications": [],
        "fulfillments": list(moment.fulfillments),
        "line_items": [order_line(line, sale.terms) for line in sale.lines],
        "payment_terms": None,
        "refunds": list(moment.refunds),
        "shipping_address": address_body(sale.person),
        "shipping_lines": [_shipping_line(sale)],
        "returns": [],
        "line_item_groups": [],
        **dict(sale.marks),
    }


def address_body(person: Person) -> JsonObject:
    """The shopper's address, with the telephone number as they wrote it."""
    place = person.place
    return {
        "first_name": person.first_name,
        "address1": person.street,
        "phone": person.phone,
        "city": place.city,
        "zip": place.postcode,
        "province": place.province,
        "country": person.country.name,
        "last_name": person.last_name,
        "address2": None,
        "company": None,
        "latitude": None,
        "longitude": None,
        "name": f"{person.first_name} {person.last_name}",
        "country_code": person.country.code,
        "province_code": place.province_code,
    }


def order_line(line: Line, terms: Terms) -> JsonObject:
    """A line item of an order, a fulfilment or a refund."""
    variant = line.variant
    return {
        "id": line.line_id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.line_id}",
        "attributed_staffs": [],
        "current_quantity": line.quantity,
        "fulfillable_quantity": line.quantity,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "gift_card": False,
        "grams": 250,
        "name": f"{line.product.title} - {variant.title}",
        "price": terms.shop(variant.price_minor),
        "price_set": terms.both(variant.price_minor),
        "product_exists": True,
        "product_id": line.product.product_id,
        "properties": [],
        "quantity": line.quantity,
        "requires_shipping": True,
        "sales_line_item_group_id": None,
        "sku": variant.sku,
        "taxable": True,
        "title": line.product.title,
        "total_discount": terms.shop(0),
        "total_discount_set": terms.both(0),
        "variant_id": variant.variant_id,
        "variant_inventory_management": "shopify",
        "variant_title": variant.title,
        "vendor": line.product.vendor,
        "tax_lines": [_tax_line((line.total_minor - line.discount_minor) // _TAX_DIVISOR, terms)],
        "duties": [],
        "discount_allocations": _discount_allocations(line, terms),
    }


def _discount_allocations(line: Line, terms: Terms) -> list[JsonObject]:
    if not line.discount_minor:
        return []
    return [
        {
            "amount": terms.shop(line.discount_minor),
            "amount_set": terms.both(line.discount_minor),
            "discount_application_index": 0,
        }
    ]


def _order_standing(sale: Sale, moment: OrderMoment) -> JsonObject:
    """The fields that move. Time forms are mixed inside one object, as Shopify mixes them."""
    zone = sale.offset_minutes
    cancelled = moment.cancelled_at
    closed = moment.closed_at
    return {
        "created_at": stamp(sale.created_at, zone),
        "processed_at": stamp(sale.created_at, zone),
        "updated_at": stamp(moment.updated_at, zone)
        if sale.order_id % 3
        else stamp_z(moment.updated_at),
        "cancelled_at": stamp(cancelled, zone) if cancelled else None,
        "cancel_reason": "customer" if cancelled else None,
        "closed_at": stamp(closed, zone) if closed else None,
        "confirmed": True,
        "financial_status": moment.financial_status,
        "fulfillment_status": moment.fulfillment_status,
        "note": moment.note,
    }


def _order_origin(sale: Sale) -> JsonObject:
    """Who ordered, from where, with what browser."""
    person = sale.person
    return {
        "app_id": 580111,
        "browser_ip": person.ip,
        "buyer_accepts_marketing": False,
        "cart_token": sale.cart_token,
        "checkout_token": sale.checkout_token,
        "client_details": {
            "accept_language": person.country.locale,
            "browser_height": None,
            "browser_ip": person.ip,
            "browser_width": None,
            "session_hash": None,
            "user_agent": person.user_agent,
        },
        "confirmation_number": f"{sale.order_id:X}",
        "contact_email": person.email,
        "customer_locale": person.country.locale,
        "device_id": None,
        "email": person.email,
        "landing_site": sale.landing_site,
        "landing_site_ref": None,
        "location_id": None,
        "merchant_business_entity_id": "MTU0ODM4MDAwOQ",
        "merchant_of_record_app_id": None,
        "name": f"#{1000 + sale.order_id % 90000}",
        "note_attributes": _note_attributes(person),
        "number": sale.order_id % 90000,
        "order_number": 1000 + sale.order_id % 90000,
        "order_status_url": f"https://{sale.shop.domain}/1/orders/{sale.checkout_token}"
        "/authenticate?key=example",
        "payment_gateway_names": ["bogus"],
        "phone": person.phone,
        "po_number": None,
        "reference": None,
        "referring_site": "https://www.tiktok.com/" if person.ttclid else None,
        "source_identifier": None,
        "source_name": "web",
        "source_url": None,
        "tags": "",
        "tax_exempt": False,
        "test": False,
        "token": f"{sale.order_id:032x}",
        "user_id": None,
    }


def _order_money(sale: Sale) -> JsonObject:
    """Totals, each as a string and as a set."""
    subtotal = sale.goods_minor - sale.discount_minor
    plain = {
        "current_subtotal_price": subtotal,
        "current_total_discounts": sale.discount_minor,
        "current_total_price": sale.total_minor,
        "current_total_tax": sale.tax_minor,
        "subtotal_price": subtotal,
        "total_discounts": sale.discount_minor,
        "total_line_items_price": sale.goods_minor,
        "total_price": sale.total_minor,
        "total_tax": sale.tax_minor,
    }
    sets = {
        **plain,
        "current_shipping_price": sale.shipping_minor,
        "total_shipping_price": sale.shipping_minor,
        "total_cash_rounding_payment_adjustment": 0,
        "total_cash_rounding_refund_adjustment": 0,
    }
    terms = sale.terms
    return {
        "currency": terms.shop_currency,
        "presentment_currency": terms.presentment_currency,
        **{name: terms.shop(minor) for name, minor in plain.items()},
        **{f"{name}_set": terms.both(minor) for name, minor in sets.items()},
        "current_total_additional_fees_set": None,
        "current_total_duties_set": None,
        "original_total_additional_fees_set": None,
        "original_total_duties_set": None,
        "discount_codes": [],
        "duties_included": False,
        "estimated_taxes": False,
        "tax_lines": _tax_lines(sale),
        "taxes_included": False,
        "total_outstanding": terms.shop(0),
        "total_tip_received": terms.shop(0),
        "total_weight": 250 * len(sale.lines),
    }


def _customer(sale: Sale) -> JsonObject:
    person = sale.person
    return {
        "id": sale.customer_id,
        "created_at": stamp(sale.created_at, sale.offset_minutes),
        "updated_at": stamp_z(sale.created_at),
        "first_name": person.first_name,
        "last_name": person.last_name,
        "state": "disabled",
        "note": None,
        "verified_email": True,
        "multipass_identifier": None,
        "tax_exempt": False,
        "email": person.email,
        "phone": None,
        "currency": sale.terms.presentment_currency,
        "tax_exemptions": [],
        "admin_graphql_api_id": f"gid://shopify/Customer/{sale.customer_id}",
        "default_address": {
            "id": sale.customer_id + 1,
            "customer_id": sale.customer_id,
            **address_body(person),
            "country_name": person.country.name,
            "default": True,
        },
    }


def _shipping_line(sale: Sale) -> JsonObject:
    terms, minor = sale.terms, sale.shipping_minor
    return {
        "id": sale.order_id + 1,
        "carrier_identifier": None,
        "code": "Standard",
        "current_discounted_price_set": terms.both(minor),
        "discounted_price": terms.shop(minor),
        "discounted_price_set": terms.both(minor),
        "is_removed": False,
        "phone": None,
        "price": terms.shop(minor),
        "price_set": terms.both(minor),
        "requested_fulfillment_service_id": None,
        "source": "shopify",
        "title": "Standard",
        "tax_lines": [],
        "discount_allocations": [],
    }


def _tax_lines(sale: Sale) -> list[JsonObject]:
    return [_tax_line(sale.tax_minor, sale.terms)]


def _tax_line(minor: int, terms: Terms) -> JsonObject:
    return {
        "channel_liable": False,
        "price": terms.shop(minor),
        "price_set": terms.both(minor),
        "rate": 0.1,
        "title": "Tax",
    }


def _note_attributes(person: Person) -> list[JsonObject]:
    """What a theme's script leaves on the cart: click id and cookie, for a share of shoppers."""
    if not person.ttp:
        return []
    kept: list[JsonObject] = [{"name": "_ttp", "value": person.ttp}]
    if person.ttclid and person.number % 2:
        kept.append({"name": "ttclid", "value": person.ttclid})
    return kept


def _checkout_totals(sale: Sale) -> JsonObject:
    terms = sale.terms
    return {
        "total_discounts": terms.shop(sale.discount_minor),
        "total_line_items_price": terms.shop(sale.goods_minor),
        "total_price": terms.shop(sale.total_minor),
        "total_tax": terms.shop(sale.tax_minor),
        "subtotal_price": terms.shop(sale.goods_minor - sale.discount_minor),
        "total_duties": None,
        "reservation_token": None,
    }


def _checkout_line(line: Line, terms: Terms) -> JsonObject:
    variant = line.variant
    return {
        "applied_discounts": [],
        "discount_allocations": [],
        "key": f"{line.line_id:032x}",
        "fulfillment_service": "manual",
        "gift_card": False,
        "grams": 250,
        "presentment_title": line.product.title,
        "presentment_variant_title": variant.title,
        "product_id": line.product.product_id,
        "properties": None,
        "quantity": line.quantity,
        "requires_shipping": True,
        "sku": variant.sku,
        "tax_lines": [],
        "taxable": True,
        "title": line.product.title,
        "variant_id": variant.variant_id,
        "variant_title": variant.title,
        "variant_price": terms.shop(variant.price_minor),
        "vendor": line.product.vendor,
        "compare_at_price": None,
        "line_price": terms.shop(line.total_minor),
        "price": terms.shop(variant.price_minor),
    }


def _cart_line(line: Line, terms: Terms) -> JsonObject:
    variant = line.variant
    return {
        "id": variant.variant_id,
        "properties": {} if variant.variant_id % 2 else None,
        "quantity": line.quantity,
        "variant_id": variant.variant_id,
        "key": f"{variant.variant_id}:{line.line_id:032x}",
        "discounted_price": terms.shop(variant.price_minor),
        "discounts": [],
        "gift_card": False,
        "grams": 250,
        "line_price": terms.shop(line.total_minor),
        "original_line_price": terms.shop(line.total_minor),
        "original_price": terms.shop(variant.price_minor),
        "price": terms.shop(variant.price_minor),
        "product_id": line.product.product_id,
        "sku": variant.sku,
        "taxable": True,
        "title": line.product.title,
        "total_discount": terms.shop(0),
        "vendor": line.product.vendor,
        "discounted_price_set": terms.both(variant.price_minor),
        "line_price_set": terms.both(line.total_minor),
        "original_line_price_set": terms.both(line.total_minor),
        "price_set": terms.both(variant.price_minor),
        "total_discount_set": terms.both(0),
    }
