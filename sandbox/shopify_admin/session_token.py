"""Session tokens (ID tokens) as App Bridge gives them: HS256 JWTs of one minute."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

import msgspec

from sandbox.oauth.apps import App

LIFETIME_S: Final = 60
_LEEWAY_S: Final = 10


class SessionTokenError(ValueError):
    """A session token that Shopify would not take."""


def session_token(app: App, shop: str, now_s: float, lifetime_s: float = LIFETIME_S) -> str:
    """A token for somebody at `shop` who has `app` open."""
    at = int(now_s)
    claims = {
        "iss": f"https://{shop}/admin",
        "dest": f"https://{shop}",
        "aud": app.id,
        "sub": "1",
        "exp": int(now_s + lifetime_s),
        "nbf": at,
        "iat": at,
        "jti": f"sandbox-{at}",
        "sid": "sandbox-session",
    }
    head = _encoded(msgspec.json.encode({"alg": "HS256", "typ": "JWT"}))
    signed = f"{head}.{_encoded(msgspec.json.encode(claims))}"
    return f"{signed}.{_encoded(_signature(app, signed))}"


def check_session_token(token: str, app: App, shop: str, now_s: float) -> dict[str, Any]:
    """The claims of a token that is for `app` and of `shop`, and whose time it is.

    Raises:
        SessionTokenError: naming what is wrong.
    """
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    try:
        header = msgspec.json.decode(_decoded(head), type=dict[str, Any])
        claims = msgspec.json.decode(_decoded(body), type=dict[str, Any])
        given = _decoded(signature)
    except (ValueError, msgspec.DecodeError) as error:
        raise SessionTokenError("no JWT") from error
    if header.get("alg") != "HS256":
        raise SessionTokenError("another algorithm than HS256")
    if not hmac.compare_digest(given, _signature(app, signed)):
        raise SessionTokenError("the signature is wrong")
    times = claims.get("nbf"), claims.get("exp")
    if not all(isinstance(one, int) for one in times):
        raise SessionTokenError("no times")
    if not claims["nbf"] - _LEEWAY_S <= now_s < claims["exp"] + _LEEWAY_S:
        raise SessionTokenError("not its time")
    if claims.get("aud") != app.id or claims.get("dest") != f"https://{shop}":
        raise SessionTokenError("for another app or of another shop")
    if claims.get("iss") != f"https://{shop}/admin":
        raise SessionTokenError("issued by another shop")
    return claims


def _signature(app: App, signed: str) -> bytes:
    return hmac.new(app.secret.encode(), signed.encode(), hashlib.sha256).digest()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
