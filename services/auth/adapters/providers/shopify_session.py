"""Session tokens of Shopify's admin: who is looking at the app, for one minute."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import jwt

from libs.errors import ServiceError
from services.auth.adapters.providers.calls import refused_consent
from services.auth.domain.callbacks import shop_domain
from services.auth.domain.grants import App

LIFE_S: Final = 60
LEEWAY_S: Final = 10
"""Seconds that Shopify's clock and ours may differ, as in Shopify's own libraries."""
_CHARS_MAX: Final = 4096


def shop_of_session(app: App, session_token: str, now: datetime) -> str:
    """The domain of the shop whose admin issued the token, for this app and within its minute.

    Raises:
        ServiceError: PERMANENT, CONSENT_REFUSED.
    """
    claims = _claims(app, session_token)
    shop = shop_domain(_text(claims, "dest").removeprefix("https://")) if claims else None
    if claims is None or shop is None:
        raise _refused()
    if _text(claims, "dest").lower() != f"https://{shop}":
        raise _refused()
    if _text(claims, "iss").lower() != f"https://{shop}/admin":
        raise _refused()
    now_s = now.timestamp()
    begins_s, ends_s = claims.get("nbf"), claims.get("exp")
    if not isinstance(begins_s, int) or not isinstance(ends_s, int):
        raise _refused()
    # A token that lives longer than Shopify's do is not one of them.
    if not now_s - LEEWAY_S < ends_s <= now_s + LIFE_S + LEEWAY_S or begins_s > now_s + LEEWAY_S:
        raise _refused()
    return shop


def _claims(app: App, session_token: str) -> dict[str, Any] | None:
    """What the token claims, signed with the app's secret and no other algorithm."""
    if len(session_token) > _CHARS_MAX:
        return None
    try:
        found: dict[str, Any] = jwt.decode(
            session_token,
            app.secret.reveal(),
            algorithms=["HS256"],
            audience=app.client_id,
            # Times are judged by our clock, which the library does not know.
            options={
                "require": ["aud", "dest", "exp", "iss", "nbf"],
                "strict_aud": True,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.InvalidTokenError, ValueError):
        return None
    return found


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _refused() -> ServiceError:
    return refused_consent("that is no session token of Shopify's for this app, or no longer")
