"""The rules of an attempt to connect, and of what a signature is worth."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Kind, ServiceError
from services.auth.domain.flows import (
    FLOW_ID_BYTES,
    FLOW_UNKNOWN,
    STATE_MISSING,
    STATE_REFUSED,
    Claim,
    claim_of,
    family_of,
    is_flow_id,
    needs_browser,
    signed_state,
)
from services.auth.domain.grants import Family
from services.auth.domain.signing import derived, encoded, signed, verified

KEY = derived(b"a secret for tests", "state")
CLAIM = Claim("flow-1", Family.SHOPIFY, 1_000)
STATE = signed_state(KEY, CLAIM, "nonce")


def refused(state: str, *, family: Family = Family.SHOPIFY, now_s: float = 999.0) -> str:
    with pytest.raises(ServiceError) as raised:
        claim_of(KEY, state, family, now_s)
    assert raised.value.kind is Kind.PERMANENT
    return raised.value.code


def test_a_state_says_what_was_put_into_it() -> None:
    assert claim_of(KEY, STATE, Family.SHOPIFY, 999.0) == CLAIM


def test_a_state_is_refused_with_any_one_character_changed() -> None:
    for place, char in enumerate(STATE):
        other = "A" if char != "A" else "B"
        assert refused(STATE[:place] + other + STATE[place + 1 :]) == STATE_REFUSED


@given(st.text(max_size=600))
def test_no_text_is_taken_for_a_state(text: str) -> None:
    assert refused(text) == (STATE_REFUSED if text else STATE_MISSING)


@pytest.mark.parametrize(
    "text",
    [
        "a.shopify.1000",
        "a.shopify.1000.n.n",
        "a.shopify.later.n",
        "a.shopify.-1.n",
        "a.shopify.².n",
    ],
)
def test_what_was_signed_in_another_shape_is_no_state(text: str) -> None:
    assert refused(signed(KEY, text)) == STATE_REFUSED


def test_a_state_of_one_provider_is_refused_from_another() -> None:
    assert refused(STATE, family=Family.TIKTOK_SHOP) == STATE_REFUSED


def test_a_state_is_too_old_at_its_very_expiry() -> None:
    assert claim_of(KEY, STATE, Family.SHOPIFY, 999.9) == CLAIM
    assert refused(STATE, now_s=1_000.0) == FLOW_UNKNOWN


def test_a_signature_for_one_purpose_is_worth_nothing_for_another() -> None:
    other = derived(b"a secret for tests", "session")

    assert verified(KEY, signed(KEY, "text")) == "text"
    assert verified(other, signed(KEY, "text")) is None


def test_a_signature_is_not_what_the_secret_itself_would_sign() -> None:
    raw = hmac.digest(b"a secret for tests", b"text", "sha256")
    claimed = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    assert signed(KEY, "text") != f"text.{claimed}"
    assert verified(KEY, f"text.{claimed}") is None


def test_a_key_is_derived_as_rfc_5869_says() -> None:
    extracted = hmac.digest(b"salt", b"secret", "sha256")

    assert derived(b"secret", "info", salt=b"salt") == hmac.digest(extracted, b"info\x01", "sha256")


@pytest.mark.parametrize(
    ("kind", "flow", "family"),
    [
        ("shopify", "unspecified", Family.SHOPIFY),
        ("shopify", "client_credentials", Family.SHOPIFY_OWN),
        ("shopify", "account_holder", None),
        ("tiktok_events", "unspecified", Family.TIKTOK_BUSINESS),
        ("tiktok_events", "account_holder", Family.TIKTOK_ACCOUNT),
        ("tiktok_catalog", "authorization_code", Family.TIKTOK_BUSINESS),
        ("tiktok_catalog", "token_exchange", None),
        ("tiktok_shop", "unspecified", Family.TIKTOK_SHOP),
        ("tiktok_shop", "account_holder", None),
        ("unspecified", "unspecified", None),
    ],
)
def test_each_kind_has_its_families(kind: str, flow: str, family: Family | None) -> None:
    assert family_of(kind, flow) is family


def test_only_exchanges_of_what_we_hold_need_no_browser() -> None:
    assert not needs_browser("token_exchange")
    assert not needs_browser("client_credentials")
    assert needs_browser("unspecified")


def test_only_what_may_be_an_attempt_is_looked_up() -> None:
    assert is_flow_id(encoded(bytes(FLOW_ID_BYTES)))
    assert is_flow_id(encoded(b"\xff" * FLOW_ID_BYTES))
    for text in ("", "a" * 23, "a" * 25, "a" * 23 + ".", "a" * 24 + "\n", "\u00e9" * 24):
        assert not is_flow_id(text)
