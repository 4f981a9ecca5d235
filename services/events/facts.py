"""Facts of the bus as the domain knows them: the one place where protobuf becomes domain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from services.events.domain.click_ids import ClickIds, click_ids
from services.events.domain.model import (
    Address,
    CartLine,
    CartLinesAdded,
    Identity,
    Line,
    Money,
    PaidOrder,
    Phone,
    Price,
    StartedCheckout,
)
from services.events.domain.tracked import TrackedEvent
from tidewire.commerce.v1 import (
    cart_pb2,
    checkout_pb2,
    customer_pb2,
    fact_pb2,
    order_pb2,
    tracked_event_pb2,
)
from tidewire.common.v1 import money_pb2


def paid_order(fact: fact_pb2.OrderPaid) -> PaidOrder:
    """The order that became paid."""
    order = fact.order
    return PaidOrder(
        order_id=order.order_id,
        paid_at_s=_seconds(fact.paid_at, order.processed_at, order.updated_at, order.created_at),
        total=_price(order.total),
        lines=_lines(order.line_items),
        identity=_order_identity(order),
        checkout_token=order.checkout_token or None,
        cart_token=order.cart_token or None,
        test=order.test,
        source_name=order.source_name or None,
        app_id=order.app_id or None,
        tags=frozenset(order.tags),
    )


def started_checkout(fact: fact_pb2.CheckoutStarted) -> StartedCheckout:
    """The checkout that began."""
    checkout = fact.checkout
    return StartedCheckout(
        checkout_token=checkout.checkout_token,
        started_at_s=_seconds(checkout.created_at, checkout.updated_at),
        total=_price(checkout.total),
        lines=_lines(checkout.line_items),
        identity=_checkout_identity(checkout),
        cart_token=checkout.cart_token or None,
    )


def cart_lines_added(fact: fact_pb2.CartLinesAdded) -> CartLinesAdded:
    """The cart that grew, all its lines included.

    Lines that did not grow count too: where one variant stands in several lines, its event id
    counts the units of all of them, as the browser does.
    """
    cart = fact.cart
    before = {_line_key(added.line): added.quantity_before for added in fact.lines}
    lines = cart.line_items or [added.line for added in fact.lines]
    return CartLinesAdded(
        cart_token=cart.cart_token,
        changed_at_s=_seconds(cart.updated_at, cart.created_at),
        lines=tuple(
            CartLine(_line(item), before.get(_line_key(item), item.quantity)) for item in lines
        ),
        identity=_cart_identity(cart),
    )


def tracked_event(event: tracked_event_pb2.TrackedEvent) -> TrackedEvent:
    """The event that another service handed in."""
    person = event.person
    identity = Identity(
        emails=tuple(person.emails),
        phones=tuple(Phone(raw) for raw in person.phones),
        external_ids=tuple(person.external_ids),
        ip=person.ip or None,
        user_agent=person.user_agent or None,
        locale=person.locale or None,
        ttclid=person.ttclid or None,
        ttp=person.ttp or None,
    )
    value = Money(event.value.amount_minor, event.value.currency)
    return TrackedEvent(
        name=event.event,
        event_id=event.event_id,
        occurred_at_s=event.occurred_at.seconds,
        identity=identity,
        page_url=event.page_url,
        referrer=event.referrer or None,
        lines=_lines(event.lines),
        value=value if value.currency else None,
        order_id=event.order_id or None,
    )


def _line_key(item: order_pb2.LineItem) -> str:
    return item.line_id or item.variant_id


def _order_identity(order: order_pb2.Order) -> Identity:
    customer, client = order.customer, order.client
    addresses = [order.billing_address, order.shipping_address, customer.default_address]
    found = _clicks(order.note_attributes, client)
    return Identity(
        emails=_present(order.email, order.contact_email, customer.email),
        phones=_phones(order.phone, customer.phone, addresses),
        external_ids=_present(customer.customer_id),
        first_name=_first_of(customer.first_name, *(a.first_name for a in addresses)),
        last_name=_first_of(customer.last_name, *(a.last_name for a in addresses)),
        address=_address(addresses),
        ip=client.ip or None,
        user_agent=client.user_agent or None,
        locale=client.locale or None,
        ttclid=found.ttclid,
        ttp=found.ttp,
        referrer=client.referring_site or None,
        order_status_url=order.order_status_url or None,
        landing_site=client.landing_site or None,
    )


def _checkout_identity(checkout: checkout_pb2.Checkout) -> Identity:
    addresses = [
        checkout.billing_address,
        checkout.shipping_address,
        checkout.customer.default_address,
    ]
    client = checkout.client
    found = _clicks(checkout.note_attributes, client)
    return Identity(
        emails=_present(checkout.email, checkout.customer.email),
        phones=_phones(checkout.phone, checkout.customer.phone, addresses),
        external_ids=_present(checkout.customer.customer_id),
        first_name=_first_of(checkout.customer.first_name, *(a.first_name for a in addresses)),
        last_name=_first_of(checkout.customer.last_name, *(a.last_name for a in addresses)),
        address=_address(addresses),
        ip=client.ip or None,
        user_agent=client.user_agent or None,
        locale=client.locale or None,
        ttclid=found.ttclid,
        ttp=found.ttp,
        referrer=client.referring_site or None,
        landing_site=client.landing_site or None,
    )


def _cart_identity(cart: cart_pb2.Cart) -> Identity:
    found = click_ids(cart_attributes=_named(cart.attributes))
    return Identity(ttclid=found.ttclid, ttp=found.ttp)


def _clicks(attributes: Iterable[order_pb2.Attribute], client: order_pb2.ClientContext) -> ClickIds:
    return click_ids(
        note_attributes=_named(attributes),
        landing_site=client.landing_site,
        referring_site=client.referring_site,
    )


def _named(attributes: Iterable[order_pb2.Attribute]) -> dict[str, object]:
    return {attribute.name: attribute.value for attribute in attributes}


def _phones(
    own: customer_pb2.Phone,
    customers: customer_pb2.Phone,
    addresses: Sequence[customer_pb2.Address],
) -> tuple[Phone, ...]:
    pairs = [(own, ""), (customers, ""), *((a.phone, a.country) for a in addresses)]
    return tuple(
        Phone(phone.e164 or phone.raw, country or None)
        for phone, country in pairs
        if phone.e164 or phone.raw
    )


def _address(addresses: Sequence[customer_pb2.Address]) -> Address | None:
    found = next((a for a in addresses if a.city or a.zip or a.country or a.province), None)
    if found is None:
        return None
    return Address(
        city=found.city or None,
        province=found.province or None,
        province_code=found.province or None,
        zip_code=found.zip or None,
        country_code=found.country or None,
    )


def _lines(items: Iterable[order_pb2.LineItem]) -> tuple[Line, ...]:
    return tuple(_line(item) for item in items)


def _line(item: order_pb2.LineItem) -> Line:
    return Line(
        quantity=item.quantity,
        total=_line_total(item),
        variant_id=item.variant_id or None,
        product_id=item.product_id or None,
        sku=item.sku or None,
        title=item.title or None,
        brand=item.vendor or None,
    )


def _line_total(item: order_pb2.LineItem) -> Price:
    """What all units cost after the line's discounts, exactly."""
    unit, discount = item.unit_price, item.total_discount
    shop = _less(unit.shop, discount.shop, item.quantity)
    if not unit.HasField("presentment"):
        return Price(shop)
    return Price(shop, _less(unit.presentment, discount.presentment, item.quantity))


def _less(unit: money_pb2.Money, discount: money_pb2.Money, quantity: int) -> Money:
    off = discount.amount_minor if discount.currency == unit.currency else 0
    return Money(max(unit.amount_minor * quantity - off, 0), unit.currency)


def _price(pair: money_pb2.MoneyPair) -> Price:
    shop = Money(pair.shop.amount_minor, pair.shop.currency)
    if not pair.HasField("presentment"):
        return Price(shop)
    return Price(shop, Money(pair.presentment.amount_minor, pair.presentment.currency))


def _seconds(*moments: Timestamp) -> int:
    return next((moment.seconds for moment in moments if moment.seconds), 0)


def _present(*values: str) -> tuple[str, ...]:
    return tuple(value for value in values if value)


def _first_of(*values: str) -> str | None:
    return next((value for value in values if value), None)
