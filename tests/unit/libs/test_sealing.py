from __future__ import annotations

import json
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Kind, ServiceError
from libs.sealing import PLAIN_BYTES_MAX, DataKey, KeyFinder, seal, unseal
from tidewire.common.v1.sealed_pb2 import ENCODING_UNSPECIFIED, ENCODING_ZSTD, Payload

KEY = DataKey("0123456789abcdef", bytes(range(32)))
KEYS: KeyFinder = {KEY.key_id: KEY}.get
SHOP = b"example"
LONG = json.dumps([{"id": number, "email": "jo@example.com"} for number in range(100)]).encode()


def refusal(payload: Payload, keys: KeyFinder = KEYS, associated: bytes = SHOP) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        unseal(payload, keys, associated=associated)
    assert caught.value.kind is Kind.PERMANENT
    return caught.value


@given(st.binary(max_size=5_000), st.binary(max_size=40))
def test_what_was_sealed_comes_back(plain: bytes, shop: bytes) -> None:
    assert unseal(seal(plain, KEY, associated=shop), KEYS, associated=shop) == plain


def test_a_sealed_payload_shows_nothing_of_what_it_holds() -> None:
    sealed = seal(b"jo@example.com", KEY, associated=SHOP)

    assert b"jo@" not in sealed.SerializeToString()
    assert sealed.key_id == KEY.key_id


def test_the_same_bytes_are_sealed_differently_each_time() -> None:
    sealed = [seal(LONG, KEY, associated=SHOP) for _ in range(100)]

    assert len({payload.nonce for payload in sealed}) == 100
    assert {len(payload.nonce) for payload in sealed} == {12}
    assert len({payload.data for payload in sealed}) == 100


def test_bytes_are_compressed_where_that_makes_them_smaller() -> None:
    sealed = seal(LONG, KEY, associated=SHOP)

    assert sealed.encoding == ENCODING_ZSTD
    assert len(sealed.data) < len(LONG) / 4


@pytest.mark.parametrize("plain", [b"", b"a" * 255, os.urandom(4_096)])
def test_short_and_random_bytes_stay_as_they_are(plain: bytes) -> None:
    sealed = seal(plain, KEY, associated=SHOP)

    assert sealed.encoding == ENCODING_UNSPECIFIED
    assert len(sealed.data) == len(plain) + 16


def test_a_payload_opens_for_its_own_shop_only() -> None:
    assert refusal(seal(LONG, KEY, associated=SHOP), associated=b"other").code == "unsealing_failed"


def test_another_key_of_the_same_id_opens_nothing() -> None:
    other = DataKey(KEY.key_id, bytes(32))

    assert refusal(seal(LONG, KEY, associated=SHOP), lambda _: other).code == "unsealing_failed"


def test_a_key_that_is_gone_is_named() -> None:
    error = refusal(seal(LONG, KEY, associated=SHOP), lambda _: None)

    assert error.code == "key_unknown"
    assert KEY.key_id in error.message


def test_one_changed_bit_anywhere_is_noticed() -> None:
    sealed = seal(b"twelve bytes", KEY, associated=SHOP)
    places = [("data", n) for n in range(len(sealed.data) * 8)] + [("nonce", n) for n in range(96)]

    for name, place in places:
        altered = Payload.FromString(sealed.SerializeToString())
        content = bytearray(getattr(altered, name))
        content[place // 8] ^= 1 << place % 8
        setattr(altered, name, bytes(content))
        assert refusal(altered).code == "unsealing_failed", (name, place)


@pytest.mark.parametrize("plain", [b"short", LONG])
def test_a_changed_encoding_is_noticed(plain: bytes) -> None:
    sealed = seal(plain, KEY, associated=SHOP)
    swapped = {ENCODING_ZSTD: ENCODING_UNSPECIFIED, ENCODING_UNSPECIFIED: ENCODING_ZSTD}

    sealed.encoding = swapped[sealed.encoding]

    assert refusal(sealed).code == "unsealing_failed"


@pytest.mark.parametrize("damage", ["nonce", "data"])
def test_missing_parts_are_a_failure_like_any_other(damage: str) -> None:
    sealed = seal(LONG, KEY, associated=SHOP)
    sealed.ClearField(damage)  # type: ignore[arg-type]

    assert refusal(sealed).code == "unsealing_failed"


def test_a_payload_in_clear_is_only_unpacked() -> None:
    packed = zstandard.compress(LONG)

    assert unseal(Payload(data=b"clear"), KEYS, associated=SHOP) == b"clear"
    zstd = Payload(data=packed, encoding=ENCODING_ZSTD)
    assert unseal(zstd, KEYS, associated=SHOP) == LONG


def test_a_frame_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    bomb = zstandard.compress(bytes(PLAIN_BYTES_MAX + 1))

    assert len(bomb) < 10_000
    assert refusal(Payload(data=bomb, encoding=ENCODING_ZSTD)).code == "unsealing_failed"


def test_a_frame_that_hides_its_size_is_still_bounded() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    bomb = compressor.compress(bytes(PLAIN_BYTES_MAX + 1))

    assert refusal(Payload(data=bomb, encoding=ENCODING_ZSTD)).code == "unsealing_failed"


def test_more_than_can_be_opened_again_is_not_sealed() -> None:
    with pytest.raises(ServiceError, match="payload_too_large"):
        seal(bytes(PLAIN_BYTES_MAX + 1), KEY, associated=SHOP)


def test_what_is_no_zstd_frame_or_of_an_unknown_encoding_is_refused() -> None:
    assert refusal(Payload(data=b"junk", encoding=ENCODING_ZSTD)).code == "unsealing_failed"
    packed = Payload(data=zstandard.compress(LONG))
    newer = Payload.FromString(packed.SerializeToString() + b"\x20\x63")
    assert refusal(newer).code == "unsealing_failed"


def test_a_data_key_does_not_print_its_secret() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    key = DataKey("id", secret)

    assert "0123456789" not in f"{key!r}{key}"
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey("id", secret[:16])
