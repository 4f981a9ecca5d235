"""Signatures and claims of webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from services.ingest.domain.verification import (
    AmbiguousHeaderError,
    claim,
    fitting_secret,
    safe_delivery_id,
)


@dataclass(frozen=True)
class Secret:
    secret_id: str
    key: bytes


def _sign(key: bytes, body: bytes) -> str:
    return base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()


def _claim(headers: Sequence[tuple[str, str]], name: str) -> str:
    return claim(CIMultiDict(headers).getall, name)


def test_every_published_vector_fits(corpus_dir: Path) -> None:
    vectors = json.loads((corpus_dir / "contracts/shopify-hmac-vectors.json").read_bytes())
    unfit = [
        vector["source"]
        for vector in vectors["webhook"]
        if fitting_secret(
            [Secret("s", vector["secret"].encode())],
            vector["hmac_header"],
            base64.b64decode(vector["body_base64"]),
        )
        is None
    ]

    assert vectors["webhook"]
    assert unfit == []


@given(st.binary(min_size=1, max_size=200), st.data())
def test_no_body_with_one_bit_changed_fits(body: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[place // 8] ^= 1 << place % 8
    secrets = [Secret("s", b"key")]

    assert fitting_secret(secrets, _sign(b"key", body), body) is secrets[0]
    assert fitting_secret(secrets, _sign(b"key", body), bytes(changed)) is None


@pytest.mark.parametrize("signature", ["", "====", "not base64!", "AAAA", "é" * 44, "A" * 44])
def test_what_is_no_signature_fits_nothing(signature: str) -> None:
    assert fitting_secret([Secret("s", b"key")], signature, b"{}") is None


def test_after_a_rotation_the_old_secret_still_fits() -> None:
    secrets = [Secret("shop.0", b"new"), Secret("shop.1", b"old")]

    assert fitting_secret(secrets, _sign(b"old", b"{}"), b"{}") is secrets[1]


def test_both_families_of_header_names_are_read() -> None:
    assert _claim([("X-Shopify-Topic", "orders/paid")], "Topic") == "orders/paid"
    assert _claim([("shopify-topic", "orders/paid")], "Topic") == "orders/paid"
    assert _claim([], "Topic") == ""


def test_a_header_that_comes_twice_must_say_the_same() -> None:
    same = [("X-Shopify-Topic", "orders/paid"), ("x-shopify-topic", "orders/paid")]
    differing = [("X-Shopify-Topic", "orders/paid"), ("x-shopify-topic", "orders/create")]

    assert _claim(same, "Topic") == "orders/paid"
    with pytest.raises(AmbiguousHeaderError):
        _claim(differing, "Topic")


def test_a_missing_webhook_id_is_made_up_and_a_huge_one_is_shortened() -> None:
    assert safe_delivery_id("", lambda: "01J") == "none-01J"
    assert safe_delivery_id("b54557e4", lambda: "01J") == "b54557e4"
    assert len(safe_delivery_id("x" * 200, lambda: "01J")) == len("long-") + 64
