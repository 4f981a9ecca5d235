"""No bit of what is signed, or of the signature, can change unnoticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.connections import WebhookSecret
from services.ingest.domain.verification import fitting_secret
from tests.integration.ingest.harness import SECRETS, SHOP, signature

OWN = [WebhookSecret(str(place), key.encode()) for place, key in enumerate(SECRETS[SHOP])]


def _flipped(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_body_with_one_bit_changed_is_refused(body: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 8 * len(body) - 1))

    assert fitting_secret(OWN, signature(body), body) is not None
    assert fitting_secret(OWN, signature(body), _flipped(body, bit)) is None


@given(st.binary(max_size=50))
def test_a_signature_with_any_one_bit_changed_is_refused(body: bytes) -> None:
    given_text = signature(body).encode()

    for bit in range(8 * len(given_text)):
        changed = _flipped(given_text, bit).decode("latin-1")

        assert fitting_secret(OWN, changed, body) is None, changed
