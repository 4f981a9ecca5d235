"""Names on the bus."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from libs.bus import subjects

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
