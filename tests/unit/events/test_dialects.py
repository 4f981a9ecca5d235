from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from services.events.domain.conversions import decide_purchase
from services.events.domain.dialects import dialect_of
from services.events.domain.hashing import HASH_OF_NOTHING
from services.events.domain.model import (
    Address,
    Consent,
    Conversion,
    Identity,
    Ignored,
    Line,
    Money,
    PaidOrder,
    Phone,
    Price,
)
from services.events.domain.settings import (
    DialectName,
    EventSettings,
    LimitedDataUse,
    MoneyChoice,
)
from tests.unit.events.samples import AT_S, NOW_S, SETTINGS, paid_order, sent

LEGACY = replace(SETTINGS, dialect=DialectName.PIXEL_TRACK)


def purchases(count: int, settings: EventSettings = SETTINGS) -> list[Conversion]:
    return [
        sent(decide_purchase(paid_order(order_id=str(n)), settings, NOW_S))
        for n in range(1, count + 1)
    ]


def bodies(conversions: list[Conversion], settings: EventSettings) -> list[Any]:
    requests = dialect_of(settings.dialect).encode(conversions, settings)
    return [json.loads(request.body) for request in requests]


@pytest.mark.parametrize("settings", [SETTINGS, LEGACY])
def test_no_request_is_above_the_cap_and_every_event_is_in_one_of_them(
    settings: EventSettings,
) -> None:
    dialect = dialect_of(settings.dialect)
    conversions = purchases(dialect.cap + 1, settings)

    requests = dialect.encode(conversions, settings)

    assert [len(request.conversions) for request in requests] == [dialect.cap, 1]
    assert [c for request in requests for c in request.conversions] == conversions


def test_the_caps_are_those_of_the_two_endpoints() -> None:
    assert dialect_of(DialectName.EVENT_TRACK).cap == 1_000
    assert dialect_of(DialectName.PIXEL_TRACK).cap == 50


@pytest.mark.parametrize("settings", [SETTINGS, LEGACY])
def test_nothing_to_send_makes_no_request(settings: EventSettings) -> None:
    assert dialect_of(settings.dialect).encode([], settings) == []


@pytest.mark.parametrize("settings", [SETTINGS, LEGACY])
def test_test_events_never_share_a_request_with_real_ones(settings: EventSettings) -> None:
    real, tested = purchases(2, settings), purchases(4, settings)[2:]
    mixed = [
        real[0],
        replace(tested[0], test_event_code="T1"),
        real[1],
        replace(tested[1], test_event_code="T1"),
    ]

    requests = dialect_of(settings.dialect).encode(mixed, settings)

    assert [{c.test_event_code for c in request.conversions} for request in requests] == [
        {None},
        {"T1"},
    ]
    assert [json.loads(request.body).get("test_event_code") for request in requests] == [None, "T1"]


def test_positions_in_a_request_are_those_of_its_conversions() -> None:
    (request,) = dialect_of(DialectName.EVENT_TRACK).encode(purchases(3), SETTINGS)

    sent_ids = [event["event_id"] for event in json.loads(request.body)["data"]]

    assert sent_ids == [conversion.event_id for conversion in request.conversions]


def test_one_legacy_event_goes_alone_and_two_as_a_batch() -> None:
    dialect = dialect_of(DialectName.PIXEL_TRACK)

    paths = [dialect.encode(purchases(n, LEGACY), LEGACY)[0].path for n in (1, 2)]

    assert paths == ["/open_api/v1.3/pixel/track/", "/open_api/v1.3/pixel/batch/"]


@pytest.mark.parametrize("settings", [SETTINGS, LEGACY])
def test_the_api_version_is_a_setting(settings: EventSettings) -> None:
    newer = replace(settings, api_version="v1.4")

    (request,) = dialect_of(newer.dialect).encode(purchases(1, newer), newer)

    assert request.path.startswith("/open_api/v1.4/")


def test_limited_use_cannot_be_said_on_the_legacy_dialect_so_nothing_personal_is() -> None:
    limited = replace(LEGACY, limited_data_use=LimitedDataUse.ALWAYS)

    (body,) = bodies(purchases(1, limited), limited)

    assert set(body["context"]) == {"page"}
    assert "limited_data_use" not in body


def test_the_guides_lists_hold_every_value_and_single_strings_the_first() -> None:
    identity = Identity(emails=("a@x.org", "b@x.org"), phones=(Phone("+12133734253"),))
    order = paid_order(identity=identity)
    guide = replace(LEGACY, guide_lists=True)

    (single,) = bodies([sent(decide_purchase(order, LEGACY, NOW_S))], LEGACY)
    (listed,) = bodies([sent(decide_purchase(order, guide, NOW_S))], guide)

    users = single["context"]["user"], listed["context"]["user"]
    assert set(users[0]) == {"email", "phone_number"}
    assert set(users[1]) == {"emails", "phone_numbers"}
    assert users[0]["email"] == users[1]["emails"][0]
    assert len(users[1]["emails"]) == 2


def test_an_amount_beyond_the_precision_of_a_float_keeps_its_digits() -> None:
    order = paid_order(total=Price(Money(12_345_678_901_234_567_89, "USD")), lines=())

    (request,) = dialect_of(DialectName.EVENT_TRACK).encode(
        [sent(decide_purchase(order, SETTINGS, NOW_S))], SETTINGS
    )

    assert b'"value":12345678901234567.89,' in request.body


def test_a_request_shows_nothing_of_its_body() -> None:
    (request,) = dialect_of(DialectName.EVENT_TRACK).encode(purchases(1), SETTINGS)

    assert repr(request) == "HttpRequest(path='/open_api/v1.3/event/track/')"


WORD = st.none() | st.text(max_size=12) | st.sampled_from(["", " ", "0"])
# What goes out hashed may also come in hashed, the hash of nothing included.
SECRET = WORD | st.just(HASH_OF_NOTHING)
CURRENCY = st.sampled_from(["USD", "JPY", "BHD", "GHS"])
MONEY = st.builds(Money, st.integers(0, 10**9), CURRENCY)
PRICE = st.builds(Price, MONEY, st.none() | MONEY)
LINE = st.builds(Line, st.integers(-1, 9), PRICE, *[WORD] * 6)
IDENTITY = st.builds(
    Identity,
    emails=st.lists(st.text(max_size=9) | st.emails(), max_size=3).map(tuple),
    phones=st.lists(st.builds(Phone, st.text("+0123456789 ", max_size=14), WORD), max_size=3).map(
        tuple
    ),
    external_ids=st.lists(SECRET.map(lambda word: word or ""), max_size=3).map(tuple),
    first_name=SECRET,
    last_name=SECRET,
    address=st.none() | st.builds(Address, WORD, WORD, WORD, WORD, WORD),
    ip=WORD | st.sampled_from(["84.17.33.9", "10.0.0.1", "2a02::1"]),
    user_agent=WORD,
    locale=WORD,
    ttclid=WORD,
    ttp=WORD,
    page_url=WORD,
    referrer=WORD,
    order_status_url=WORD,
    landing_site=WORD,
    consent=st.sampled_from([Consent.GRANTED, Consent.UNKNOWN]),
)
ORDER = st.builds(
    PaidOrder,
    order_id=st.integers(1, 2**63).map(str),
    paid_at_s=st.just(AT_S),
    total=PRICE,
    lines=st.lists(LINE, max_size=3).map(tuple),
    identity=IDENTITY,
)
ANY_SETTINGS = st.builds(
    EventSettings,
    pixel_code=st.just("C123"),
    storefront_url=st.just("https://shop.example/"),
    country=st.sampled_from([None, "US", "GB"]),
    dialect=st.sampled_from(DialectName),
    money=st.sampled_from(MoneyChoice),
    limited_data_use=st.sampled_from([LimitedDataUse.OFF, LimitedDataUse.ALWAYS]),
)

# An order has thirty fields to draw: the other properties' hundred examples would take seconds.
FEWER = examples(max_examples=40, deadline=None)


def leaves(document: object) -> list[object]:
    if isinstance(document, dict):
        return [document, *(leaf for value in document.values() for leaf in leaves(value))]
    if isinstance(document, list):
        return [document, *(leaf for value in document for leaf in leaves(value))]
    return [document]


@FEWER
@given(ORDER, ANY_SETTINGS)
def test_no_request_holds_an_empty_value_or_the_hash_of_nothing(
    order: PaidOrder, settings: EventSettings
) -> None:
    decided = decide_purchase(order, settings, NOW_S)
    assert not isinstance(decided, Ignored)

    (body,) = bodies([decided], settings)

    for leaf in leaves(body):
        assert leaf not in (None, [], {}, HASH_OF_NOTHING)
        assert not isinstance(leaf, str) or leaf.strip()


@FEWER
@given(ORDER, ANY_SETTINGS)
def test_the_same_order_makes_the_same_bytes(order: PaidOrder, settings: EventSettings) -> None:
    dialect = dialect_of(settings.dialect)
    twice = [
        dialect.encode([sent(decide_purchase(order, settings, now_s))], settings)
        for now_s in (NOW_S, NOW_S + 1)
    ]

    assert twice[0] == twice[1]


@FEWER
@given(ORDER, ANY_SETTINGS)
def test_ids_are_text_amounts_are_numbers_and_web_events_have_a_page(
    order: PaidOrder, settings: EventSettings
) -> None:
    decided = sent(decide_purchase(order, settings, NOW_S))
    (request,) = dialect_of(settings.dialect).encode([decided], settings)
    body = json.loads(request.body, parse_float=Decimal)

    event = body["data"][0] if "data" in body else body
    properties = event.get("properties", {})

    assert isinstance(event["event_id"], str)
    assert event.get("page", event.get("context", {}).get("page"))["url"].startswith("http")
    assert ("value" in properties) == ("currency" in properties)
    assert isinstance(properties.get("value", 0), int | Decimal)
    for content in properties.get("contents", []):
        assert isinstance(content["content_id"], str)
        assert isinstance(content.get("price", 0), int | Decimal)
