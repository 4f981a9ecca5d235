from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from sandbox.shopify.signing import webhook_signature


def test_signatures_equal_those_recorded_elsewhere(corpus_dir: Path) -> None:
    vectors_file = corpus_dir / "contracts" / "shopify-hmac-vectors.json"
    if not vectors_file.is_file():
        pytest.skip(f"no signature vectors at {vectors_file}")
    vectors = json.loads(vectors_file.read_bytes())["webhook"]

    signed = [
        webhook_signature(vector["secret"], base64.b64decode(vector["body_base64"]))
        for vector in vectors
    ]

    assert signed == [vector["hmac_header"] for vector in vectors]


def test_an_empty_body_has_a_signature_too() -> None:
    assert (
        webhook_signature("0" * 32, b"")
        == "vhwRQys0GZozEzsl9+bjquUnCkjSE7r1YPgl9S0CY1E="  # known beforehand
    )
