"""Names on the bus."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bus import subjects
from libs.bus.dead_letters import delivery_letter_id, places_of, unit_letter_id

_LEGAL = re.compile(r"[A-Za-z0-9_=-]+")


@given(st.text(max_size=16))
def test_a_token_is_legal_and_comes_back(text: str) -> None:
    encoded = subjects.token(text)

    assert _LEGAL.fullmatch(encoded)
    assert subjects.text_of(encoded) == text


@given(st.text(max_size=300), st.text(max_size=300))
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (subjects.token(one) == subjects.token(other)) == (one == other)


@given(st.text(alphabet="ab/ü", min_size=1, max_size=9000))
def test_a_token_is_never_longer_than_a_subject_can_bear(text: str) -> None:
    encoded = subjects.token(text)

    assert len(encoded) <= 200
    assert _LEGAL.fullmatch(encoded)


def test_lanes_never_move() -> None:
    lanes = {shop: subjects.lane(shop) for shop in ("example", "aurora-goods", "kumo-store")}

    assert lanes == {"example": 15, "aurora-goods": 13, "kumo-store": 15}


def test_a_cart_token_with_padding_is_one_token() -> None:
    subject = subjects.state("cart", "example", "Z2NwLXVz+/==")

    assert subject == "commerce.state.cart.15.example.Z2NwLXVz=2B=2F=3D=3D"


@given(st.text(min_size=1, max_size=400))
def test_a_replay_is_told_by_its_subject_however_long_its_letters_id_is(letter_id: str) -> None:
    subject = subjects.fact("order_paid", "example", subjects.replay_id(letter_id))

    assert subjects.is_replay(subject)
    assert not subjects.is_replay(subjects.fact("order_paid", "example", f"1{letter_id}"))


@given(st.text(max_size=300), st.text(max_size=300))
def test_different_letters_have_different_replays(one: str, other: str) -> None:
    assert (subjects.replay_id(one) == subjects.replay_id(other)) == (one == other)


def test_only_outcomes_of_units_are_a_units() -> None:
    assert subjects.is_of_a_unit(subjects.outcome("events.C1", "example", "order_paid.1"))
    assert not subjects.is_of_a_unit(subjects.outcome(subjects.BY_EVENT, "example", "e1"))
    assert not subjects.is_of_a_unit(subjects.letter_fate("example", "ingest.example.w1"))


@pytest.mark.parametrize(
    "letter_id",
    [
        delivery_letter_id("example", "w1.2"),
        unit_letter_id("events.C1", "example", "order_paid.1"),
        unit_letter_id("events.C1", "example", "order_paid.replay.ingest.other.w1"),
    ],
)
def test_a_letters_id_says_where_the_letter_stands(letter_id: str) -> None:
    service = letter_id.partition(".")[0]
    pattern = places_of(letter_id).split(".")

    subject = subjects.dead_letter(service, "upstream_40002", "example").split(".")
    elsewhere = subjects.dead_letter(service, "upstream_40002", "other").split(".")

    assert all(token in ("*", part) for token, part in zip(pattern, subject, strict=True))
    assert not all(token in ("*", part) for token, part in zip(pattern, elsewhere, strict=True))


def test_an_id_that_says_nothing_is_looked_for_everywhere() -> None:
    assert places_of("segment-7") == "dlq.*.*.*.*"
