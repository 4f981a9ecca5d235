from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.errors import ServiceError
from services.events.domain.conversions import decide_cart, decide_checkout, decide_purchase
from services.events.domain.event_ids import EventKind
from services.events.domain.model import (
    NO_MATCH_KEYS,
    CartLine,
    Consent,
    Conversion,
    Identity,
    Ignored,
    Money,
    Price,
    Reason,
    Source,
)
from services.events.domain.settings import (
    ConsentPolicy,
    ContentIdSource,
    DialectName,
    EventSettings,
    LimitedDataUse,
    MoneyChoice,
    OwnOrders,
)
from tests.unit.events.samples import (
    AT_S,
    NOW_S,
    SETTINGS,
    SOMEBODY,
    changed_cart,
    paid_order,
    sent,
    shoe,
    started_checkout,
    usd,
)

DAY_S = 86_400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"test": True}, Reason.TEST_ORDER),
        ({"source_name": "shopify_draft_order"}, Reason.DRAFT_ORDER),
        ({"source_name": "pos"}, Reason.POINT_OF_SALE),
        ({"source_name": "tiktok-shop"}, Reason.OWN_ECHO),
        ({"app_id": "4711"}, Reason.OWN_ECHO),
        ({"tags": frozenset({"vip", "tidewire-tiktok-shop"})}, Reason.OWN_ECHO),
        ({"paid_at_s": AT_S - 3_601}, Reason.BEFORE_ACTIVATION),
        ({"identity": replace(SOMEBODY, consent=Consent.DENIED)}, Reason.CONSENT_DENIED),
        ({"identity": replace(SOMEBODY, consent=Consent.UNKNOWN)}, Reason.CONSENT_UNKNOWN),
    ],
)
def test_an_order_that_is_no_sale_of_the_web_shop_is_ignored_for_its_own_reason(
    fields: dict[str, Any], reason: Reason
) -> None:
    settings = replace(
        SETTINGS,
        active_since_s=AT_S - 3_600,
        consent_unknown=ConsentPolicy.DROP,
        own_orders=OwnOrders(app_ids=frozenset({"4711"})),
    )

    assert decide_purchase(paid_order(**fields), settings, NOW_S) == Ignored(reason)


def test_an_order_paid_in_the_second_of_activation_is_sent() -> None:
    settings = replace(SETTINGS, active_since_s=AT_S)

    assert sent(decide_purchase(paid_order(), settings, NOW_S)).event_id == "purchase.98765"


def test_an_order_is_too_old_only_once_the_limit_has_passed() -> None:
    order = paid_order()

    sent(decide_purchase(order, SETTINGS, AT_S + 7 * DAY_S))
    late = decide_purchase(order, SETTINGS, AT_S + 7 * DAY_S + 1)
    unlimited = replace(SETTINGS, max_event_age_s=None)

    assert late == Ignored(Reason.TOO_OLD)
    sent(decide_purchase(order, unlimited, AT_S + 400 * DAY_S))


def test_history_is_refused_for_checkouts_and_carts_too() -> None:
    settings = replace(SETTINGS, active_since_s=AT_S + 1)
    cart = changed_cart(CartLine(shoe(), 0))

    assert decide_checkout(started_checkout(), settings, NOW_S) == Ignored(Reason.BEFORE_ACTIVATION)
    assert decide_cart(cart, settings, NOW_S) == Ignored(Reason.BEFORE_ACTIVATION)


def test_a_point_of_sale_order_is_an_offline_event_without_page_where_that_is_on() -> None:
    settings = replace(SETTINGS, offline_event_set_id="OFF1")

    found = sent(decide_purchase(paid_order(source_name="pos"), settings, NOW_S))

    assert (found.source, found.page) == (Source.OFFLINE, None)


def test_an_injected_order_stays_an_echo_where_offline_events_are_on() -> None:
    settings = replace(SETTINGS, offline_event_set_id="OFF1")
    order = paid_order(source_name="pos", tags=frozenset({"tidewire-tiktok-shop"}))

    assert decide_purchase(order, settings, NOW_S) == Ignored(Reason.OWN_ECHO)


def test_unknown_consent_is_sent_by_default_and_stripped_where_told() -> None:
    order = paid_order(identity=replace(SOMEBODY, consent=Consent.UNKNOWN))

    whole = sent(decide_purchase(order, SETTINGS, NOW_S))
    stripping = replace(SETTINGS, consent_unknown=ConsentPolicy.STRIP)
    bare = sent(decide_purchase(order, stripping, NOW_S))

    assert whole.match.emails
    assert bare.match == NO_MATCH_KEYS
    assert (bare.value, bare.event_id) == (whole.value, whole.event_id)


@pytest.mark.parametrize(
    ("policy", "opted_out", "limited"),
    [
        (LimitedDataUse.OFF, True, False),
        (LimitedDataUse.ALWAYS, False, True),
        (LimitedDataUse.OPT_OUT, True, True),
        (LimitedDataUse.OPT_OUT, False, False),
        (LimitedDataUse.REGIONS, True, True),
        (LimitedDataUse.REGIONS, False, False),
    ],
)
def test_data_use_is_limited_by_policy_and_opt_out(
    policy: LimitedDataUse,
    opted_out: bool,  # noqa: FBT001
    limited: bool,  # noqa: FBT001
) -> None:
    settings = replace(
        SETTINGS, limited_data_use=policy, limited_data_use_regions=frozenset({"US-CA"})
    )
    order = paid_order(identity=replace(SOMEBODY, sale_of_data_allowed=not opted_out))

    assert sent(decide_purchase(order, settings, NOW_S)).limited_data_use is limited


def test_the_purchase_name_follows_the_dialect_unless_it_is_set() -> None:
    legacy = replace(SETTINGS, dialect=DialectName.PIXEL_TRACK)
    named = replace(legacy, purchase_event="PlaceAnOrder")

    names = [sent(decide_purchase(paid_order(), s, NOW_S)).name for s in (SETTINGS, legacy, named)]

    assert names == ["Purchase", "CompletePayment", "PlaceAnOrder"]


def test_a_checkout_and_its_order_are_two_events_whatever_their_common_token() -> None:
    settings = replace(
        SETTINGS,
        purchase_id_template="{checkout_token}",
        checkout_id_template="{checkout_token}",
    )

    purchase = sent(decide_purchase(paid_order(), settings, NOW_S))
    checkout = sent(decide_checkout(started_checkout(), settings, NOW_S))

    assert purchase.event_id == checkout.event_id == "c0ffee"
    assert purchase.name != checkout.name


def test_an_order_without_checkout_token_falls_back_to_the_id_by_its_order() -> None:
    settings = replace(SETTINGS, purchase_id_template="p.{checkout_token}")

    found = sent(decide_purchase(paid_order(checkout_token=None), settings, NOW_S))

    assert found.event_id == "purchase.98765"


def test_only_lines_that_grew_are_sent_and_only_what_was_added() -> None:
    cart = changed_cart(
        CartLine(shoe(3, 3_000, "1"), 1),
        CartLine(shoe(2, 2_000, "2"), 2),
        CartLine(shoe(1, 1_000, "3"), 4),
        CartLine(shoe(0, 0, "4"), 1),
        CartLine(shoe(1, 700, "5"), 0),
    )

    found = decide_cart(cart, SETTINGS, NOW_S)

    assert isinstance(found, tuple)
    assert [(c.event_id, c.items, str(c.value)) for c in found] == [
        ("atc.ca47.1.3", 2, "20.00"),
        ("atc.ca47.5.1", 1, "7.00"),
    ]
    assert {c.kind for c in found} == {EventKind.ADD_TO_CART}


def test_a_cart_of_which_nothing_grew_is_ignored() -> None:
    assert decide_cart(changed_cart(CartLine(shoe(), 1)), SETTINGS, NOW_S) == Ignored(
        Reason.NO_LINE_GREW
    )
    assert decide_cart(changed_cart(), SETTINGS, NOW_S) == Ignored(Reason.NO_LINE_GREW)


def test_a_variant_that_moved_from_one_cart_line_to_another_did_not_grow() -> None:
    cart = changed_cart(CartLine(shoe(1), 2), CartLine(shoe(1), 0))

    assert decide_cart(cart, SETTINGS, NOW_S) == Ignored(Reason.NO_LINE_GREW)


def test_a_cart_without_token_cannot_be_named() -> None:
    with pytest.raises(ServiceError, match="event_id_incomplete"):
        decide_cart(changed_cart(CartLine(shoe(), 0), token=""), SETTINGS, NOW_S)


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        (ContentIdSource.SKU, ["SHOE", "402", "703"]),
        (ContentIdSource.VARIANT_ID, ["401", "402", "703"]),
        (ContentIdSource.PRODUCT_ID, ["701", "402", "703"]),
    ],
)
def test_a_content_id_comes_from_the_chosen_source_or_the_next_that_the_line_has(
    source: ContentIdSource, ids: list[str]
) -> None:
    lines = (
        replace(shoe(), product_id="701"),
        replace(shoe(variant_id="402"), sku=" "),
        replace(shoe(variant_id=None), sku=None, product_id="703"),
        replace(shoe(variant_id=None), sku="", title="Tip"),
    )

    found = sent(
        decide_purchase(paid_order(lines=lines), replace(SETTINGS, content_id=source), NOW_S)
    )

    assert [content.content_id for content in found.contents] == ids
    assert found.items == 4


def test_the_value_is_the_orders_total_whatever_the_lines_round_to() -> None:
    found = sent(
        decide_purchase(paid_order(lines=(shoe(3, 1_000),), total=usd(1_000)), SETTINGS, NOW_S)
    )

    assert str(found.contents[0].price) == "3.33"
    assert str(found.value) == "10.00"


def test_money_is_the_shoppers_unless_the_shops_is_chosen_or_all_there_is() -> None:
    both = paid_order(total=Price(Money(15_000, "AUD"), Money(10_000, "USD")), lines=())
    one = paid_order(total=Price(Money(15_000, "AUD")), lines=())
    by_shop = replace(SETTINGS, money=MoneyChoice.SHOP)

    found = [
        sent(decide_purchase(order, settings, NOW_S)).currency
        for order, settings in ((both, SETTINGS), (both, by_shop), (one, SETTINGS))
    ]

    assert found == ["USD", "AUD", "AUD"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"pixel_code": " "}, "pixel_code"),
        ({"storefront_url": "shop.example"}, "storefront_url"),
        ({"purchase_event": ""}, "purchase_event"),
        ({"guide_lists": True}, "guide_lists"),
        ({"purchase_id_template": "{shop_id}.{order_id}"}, "{shop_id}"),
        ({"purchase_id_template": "{orderid}"}, "{orderid}"),
        ({"checkout_id_template": "{token}"}, "{token}"),
        ({"cart_id_template": "{cart_token}"}, "{variant_id}"),
        ({"max_event_age_s": 29 * DAY_S}, "max_event_age_s"),
        (
            {"dialect": DialectName.PIXEL_TRACK, "offline_event_set_id": "OFF1"},
            "offline_event_set_id",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_by_the_name_of_the_field(
    fields: dict[str, Any], named: str
) -> None:
    sound: dict[str, Any] = {"pixel_code": "C1", "storefront_url": "https://shop.example"}

    with pytest.raises(ServiceError) as caught:
        EventSettings(**(sound | fields))

    assert named in caught.value.message


def test_an_event_of_an_unknown_person_is_an_event() -> None:
    found = decide_purchase(paid_order(identity=Identity()), SETTINGS, NOW_S)

    assert isinstance(found, Conversion)
    assert found.match == NO_MATCH_KEYS
