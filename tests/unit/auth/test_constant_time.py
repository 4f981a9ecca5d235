"""How long a comparison takes tells nothing of what is secret: what `==` would give away."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from libs.settings import Secret
from services.auth import connecting, operator_pages
from services.auth.domain import signing
from services.ingest.domain.verification import fitting_secret

_COMPARE = "hmac.compare_digest"


def tree_of(function: Callable[..., Any]) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def calls_in(tree: ast.AST, name: str) -> list[str]:
    """The arguments of each call of `name`."""
    return [
        ", ".join(ast.unparse(one) for one in node.args)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def equalities_in(tree: ast.AST) -> list[str]:
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(one, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for one in node.ops)
    ]


@pytest.mark.parametrize(
    ("function", "compared", "equalities"),
    [
        pytest.param(
            signing.same,
            "one.encode(errors='surrogatepass'), other.encode(errors='surrogatepass')",
            [],
            id="signatures of ours",
        ),
        pytest.param(
            Secret.__eq__, "self._value.encode(), other._value.encode()", [], id="secrets"
        ),
        pytest.param(
            connecting._is_of, "record.browser_hash, hashed(browser)", [], id="cookies of attempts"
        ),
        pytest.param(
            connecting.Connecting.finish, "kept.record.state_hash, hashed(state)", [], id="state"
        ),
        pytest.param(
            fitting_secret,
            "hmac.digest(secret.key, body, 'sha256'), given",
            # Both sides of each are what was sent.
            [
                "len(given) != _DIGEST_BYTES",
                "binascii.b2a_base64(given, newline=False) != signature.encode()",
            ],
            id="signatures of webhooks",
        ),
    ],
)
def test_what_is_secret_is_compared_in_constant_time_alone(
    function: Callable[..., Any], compared: str, equalities: list[str]
) -> None:
    tree = tree_of(function)

    assert calls_in(tree, _COMPARE) == [compared]
    assert equalities_in(tree) == equalities


def test_what_was_signed_is_given_only_if_the_signature_is_the_same() -> None:
    tree = tree_of(signing.verified)

    assert calls_in(tree, "same") == ["claimed, signature(key, body)"]
    assert equalities_in(tree) == []


def test_a_password_is_compared_as_a_secret() -> None:
    tree = tree_of(operator_pages.OperatorPages.sign_in)

    assert calls_in(tree, "same") == ["fields.get('form_token', ''), token"]
    # `Secret` compares in constant time, whichever way it is asked.
    assert equalities_in(tree) == ["Secret(fields.get('password', '')) != self._password"]
    assert "__ne__" not in vars(Secret)
