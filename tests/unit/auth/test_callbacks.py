"""What a browser brings back: forged, altered, old, foreign or oversized, it is refused."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import inspect
import json
import urllib.parse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain import callbacks
from services.auth.domain.callbacks import (
    authorisation_code,
    shop_domain,
    shopify_refusal,
    shopify_signature_fits,
)
from services.auth.domain.grants import Answer

_SECRET = "hush"
_SHOP = "some-shop.myshopify.com"
_NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
_STAMP = str(int(_NOW.timestamp()))
_HOST = base64.b64encode(b"admin.shopify.com/store/some-shop").decode().rstrip("=")
_PLAIN = [
    ("code", "0907a61c0c8d55e99db179b68161bc00"),
    ("host", _HOST),
    ("shop", _SHOP),
    ("state", "0.6784241404160823"),
    ("timestamp", _STAMP),
]

Pairs = Sequence[tuple[str, str]]


def _signed(pairs: Pairs, secret: str = _SECRET) -> list[tuple[str, str]]:
    """The pairs as Shopify signs them; none here has anything to escape."""
    message = "&".join(sorted(f"{name}={value}" for name, value in pairs))
    digest = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return [*pairs, ("hmac", digest)]


def _refusal(pairs: Pairs, *, late: timedelta = timedelta()) -> str | None:
    answer = Answer(query=tuple(pairs), received_at=_NOW + late)
    return shopify_refusal(answer, _SECRET, _SHOP, window_s=90)


def _with(name: str, value: str) -> list[tuple[str, str]]:
    return _signed([(known, value if known == name else was) for known, was in _PLAIN])


def test_an_answer_of_shopifys_is_trusted() -> None:
    assert _refusal(_signed(_PLAIN)) is None


def test_the_order_of_the_parameters_does_not_matter() -> None:
    assert _refusal(_signed(_PLAIN)[::-1]) is None


def test_signatures_equal_those_recorded_elsewhere(corpus_dir: Path) -> None:
    file = corpus_dir / "contracts" / "shopify-hmac-vectors.json"
    if not file.is_file():
        pytest.skip(f"no signature vectors at {file}")
    vectors = json.loads(file.read_bytes())["oauth_query"]

    fitting = [
        shopify_signature_fits(
            [*urllib.parse.parse_qsl(vector["message"]), ("hmac", vector["hmac_hex"])],
            vector["secret"],
        )
        for vector in vectors
    ]

    assert fitting == [True] * 4


@pytest.mark.parametrize(
    ("pairs", "digest"),
    [
        # Published in Shopify's documentation.
        (
            [
                ("code", "0907a61c0c8d55e99db179b68161bc00"),
                ("shop", _SHOP),
                ("timestamp", "1337178173"),
            ],
            "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20",
        ),
        # Computed beforehand over: a%3Db=1%26c%25=3&ids=["1", "2"]
        (
            [("a=b", "1&c%=3"), ("ids[]", "1"), ("ids[]", "2")],
            "4e73bae6f1f983a22476d71c3486f6cee1685093003dc6a802bf47f55104f4dc",
        ),
    ],
)
def test_signatures_that_were_known_beforehand_fit(pairs: Pairs, digest: str) -> None:
    assert shopify_signature_fits([*pairs, ("hmac", digest)], _SECRET)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_changed_bit_anywhere_is_refused(data: st.DataObject) -> None:
    pairs = _signed(_PLAIN)
    at = data.draw(st.integers(0, len(pairs) - 1))
    which = data.draw(st.integers(0, 1))
    place = data.draw(st.integers(0, len(pairs[at][which]) - 1))
    bit = data.draw(st.integers(0, 6))
    text = pairs[at][which]
    changed = text[:place] + chr(ord(text[place]) ^ (1 << bit)) + text[place + 1 :]

    pairs[at] = (changed, pairs[at][1]) if which == 0 else (pairs[at][0], changed)

    assert _refusal(pairs) is not None


@pytest.mark.parametrize(
    "pairs",
    [
        _PLAIN,
        [*_PLAIN, ("hmac", "")],
        [*_PLAIN, ("hmac", "0" * 64)],
        _signed(_PLAIN, secret="another"),
        _signed(_PLAIN, secret=""),
        [*_signed(_PLAIN), _signed(_PLAIN)[-1]],
        [*_signed(_PLAIN), ("more", "1")],
        _signed(_PLAIN)[1:],
        [*_PLAIN, ("hmac", _signed(_PLAIN)[-1][1].upper())],
        [*_PLAIN, ("hmac", _signed(_PLAIN)[-1][1] + "\n")],
        [*_PLAIN, ("hmac", "é" * 64)],
        [*_signed(_PLAIN), ("x", "\udce9")],
    ],
    ids=[
        "none",
        "empty",
        "zeros",
        "of another secret",
        "of no secret",
        "twice",
        "a parameter more",
        "a parameter less",
        "upper case",
        "a newline more",
        "no digits",
        "bytes that are no text",
    ],
)
def test_a_signature_that_does_not_fit_is_refused(pairs: Pairs) -> None:
    assert "signed" in (_refusal(pairs) or "")


@pytest.mark.parametrize(
    "pairs",
    [_signed([*_PLAIN, ("shop", _SHOP)]), [*_signed([*_PLAIN, ("x", "1")]), ("x", "2")]],
    ids=["signed", "one of them signed"],
)
def test_a_parameter_that_stands_there_twice_is_refused(pairs: Pairs) -> None:
    assert "signed" in (_refusal(pairs) or "")


@pytest.mark.parametrize(
    "shop",
    [
        "other.myshopify.com",
        "",
        "some-shop",
        "some-shop.myshopify.com.evil.example",
        "evil.example/.myshopify.com",
        f"{_SHOP}\n",
    ],
)
def test_an_answer_about_another_shop_is_refused_even_if_signed(shop: str) -> None:
    assert "another shop" in (_refusal(_with("shop", shop)) or "")


def test_a_shop_in_upper_case_is_the_same_shop() -> None:
    assert (
        _refusal(_with("shop", _SHOP.upper().replace(".MYSHOPIFY.COM", ".myshopify.com"))) is None
    )


@pytest.mark.parametrize(
    ("late_s", "trusted"), [(90, True), (-90, True), (91, False), (-91, False)]
)
def test_an_answer_is_good_for_ninety_seconds_either_way(late_s: float, trusted: bool) -> None:  # noqa: FBT001
    refusal = _refusal(_signed(_PLAIN), late=timedelta(seconds=late_s))

    assert (refusal is None) is trusted


@pytest.mark.parametrize("stamp", ["", "now", f"{_STAMP}.0", f" {_STAMP}", f"-{_STAMP}", "9" * 400])
def test_a_timestamp_that_is_no_number_is_refused(stamp: str) -> None:
    assert _refusal(_with("timestamp", stamp)) is not None


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        (_HOST, True),
        (base64.b64encode(f"{_SHOP}/admin".encode()).decode().rstrip("="), True),
        (base64.b64encode(b"evil.example/admin").decode().rstrip("="), False),
        (base64.b64encode(b"admin.shopify.com.evil.example/store/a").decode(), False),
        (base64.b64encode(b"admin.shopify.com/store/a\n").decode(), False),
        ("", False),
        ("*", False),
    ],
)
def test_a_host_is_the_shops_admin_or_refused(host: str, trusted: bool) -> None:  # noqa: FBT001
    assert (_refusal(_with("host", host)) is None) is trusted


def test_an_answer_without_a_host_is_trusted() -> None:
    assert _refusal(_signed([pair for pair in _PLAIN if pair[0] != "host"])) is None


@pytest.mark.parametrize(
    "more",
    [[("x", "y" * 9000)], [("x" * 9000, "")], [(f"p{at}", "") for at in range(60)]],
    ids=["long value", "long name", "many"],
)
def test_more_than_a_provider_sends_is_refused_before_it_is_hashed(more: Pairs) -> None:
    assert "longer" in (_refusal(_signed([*_PLAIN, *more])) or "")


def test_a_reason_repeats_nothing_of_what_came() -> None:
    refusals = [
        _refusal([*_PLAIN, ("hmac", "0" * 64)]),
        _refusal(_with("shop", "marker.myshopify.com")),
        _refusal(_with("timestamp", "marker")),
        _refusal(_with("host", "marker")),
    ]

    assert all(refusals)
    for text in ["marker", _SECRET, "0907a61c", "some-shop"]:
        assert text not in "".join(map(str, refusals))


def test_signatures_are_compared_in_constant_time() -> None:
    tree = ast.parse(inspect.getsource(callbacks.shopify_signature_fits))
    returned = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Return)}
    equalities = [node for node in ast.walk(tree) if isinstance(node, ast.Eq | ast.NotEq)]

    assert returned == {"return False", "return hmac.compare_digest(expected, given[0])"}
    assert len(equalities) == 2  # the name of the parameter, and how many there are


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("some-shop.myshopify.com", "some-shop.myshopify.com"),
        ("Some-Shop.myshopify.com", "some-shop.myshopify.com"),
        ("1.myshopify.com", "1.myshopify.com"),
        ("evil.com/.myshopify.com", None),
        ("evil.com#.myshopify.com", None),
        ("evil.com?.myshopify.com", None),
        ("user@evil.myshopify.com", None),
        ("a.b.myshopify.com", None),
        ("-a.myshopify.com", None),
        ("some-shop.myshopify.com\n", None),
        ("\nsome-shop.myshopify.com", None),
        ("some-shop.myshopify.com.", None),
        ("some-shop.myshopify.com.evil.example", None),
        ("some-shop.myshopify.com:443", None),
        ("https://some-shop.myshopify.com", None),
        ("sоme-shop.myshopify.com", None),  # noqa: RUF001 - the Cyrillic letter is the attack
        ("some-shop.myshopify。com", None),
        ("１.myshopify.com", None),  # noqa: RUF001 - so is the full-width digit
        ("ſome.myshopify.com", None),  # noqa: RUF001 - lower case of it is ASCII
        ("some%2dshop.myshopify.com", None),
        ("some-shopxmyshopify.com", None),
        ("a" * 64 + ".myshopify.com", None),
        (".myshopify.com", None),
        ("", None),
    ],
)
def test_only_a_shops_domain_is_one(text: str, domain: str | None) -> None:
    assert shop_domain(text) == domain


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ([("code", "c1")], "c1"),
        ([("code", "c1"), ("auth_code", "a1")], "a1"),
        ([("auth_code", "a1"), ("auth_code", "a2"), ("code", "c1")], "c1"),
        ([("auth_code", "null"), ("code", "null")], ""),
        ([("code", "")], ""),
        ([("code", "c" * 1025)], ""),
        ([("code", "a b")], ""),
        ([("code", "a\r\nb")], ""),
        ([("code", "cödé")], ""),
        ([], ""),
        ([("code", "c1"), ("x", "y" * 9000)], ""),
    ],
)
def test_a_code_is_the_first_that_can_be_used(query: Pairs, code: str) -> None:
    answer = Answer(query=tuple(query), received_at=_NOW)

    assert authorisation_code(answer, "auth_code", "code") == code
