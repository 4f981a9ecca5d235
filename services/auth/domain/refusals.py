"""What a provider's refusal amounts to. Pure.

TikTok answers 200 with failing codes and Shopify 400 with a word, so the body outranks the status.
A grant is condemned only where the provider says so in its own words: a proxy's 404 or a changed
base URL would otherwise condemn every grant at once, and each takes a person to mend.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from libs.tiktok import Action, Scope, return_code


class Step(StrEnum):
    """What was asked for."""

    EXCHANGE = "exchange"
    """A grant, for a code or the app's own credentials."""
    REFRESH = "refresh"
    REVOKE = "revoke"


class Refusal(StrEnum):
    """Why it was not given, by what to do next."""

    DOWN = "down"
    """Later, perhaps."""
    THROTTLED = "throttled"
    APP = "app"
    """The app, its secret, or how we ask is wrong."""
    CODE = "code"
    """The code is used, too old or not ours."""
    GRANT = "grant"
    """The grant is over."""


def _gone(step: Step) -> Refusal:
    """What "you have no such thing" means of what was sent."""
    return Refusal.CODE if step is Step.EXCHANGE else Refusal.GRANT


_DOWN_STATUSES: Final = frozenset({402, 408, 423, 425, 430})
"""Besides 5xx. 402, 423 and 430 are Shopify's: frozen, locked, and refused for safety's sake."""


def of_status(status: int) -> Refusal | None:
    """What an answer without a readable body amounts to; None below 300."""
    if status < 300:
        return None
    if status == 429:
        return Refusal.THROTTLED
    return Refusal.DOWN if status >= 500 or status in _DOWN_STATUSES else Refusal.APP


_CODE_WORDS: Final = re.compile(r"auth[a-z]*[\s_-]*code|\bcode\b", re.IGNORECASE)
_REFRESH_WORDS: Final = re.compile(r"refresh[\s_-]*token|\brt\b", re.IGNORECASE)
_APP_WORDS: Final = re.compile(
    r"(?:app|client|api)[\s_-]*(?:id|key|secret)|\bsecret\b|\bapplication\b|\bservice_id\b",
    re.IGNORECASE,
)


def _by_words(message: str, step: Step) -> Refusal | None:
    """Whom the message blames, of what this step sent; the app last, for it is named in passing."""
    if step is Step.EXCHANGE and _CODE_WORDS.search(message):
        return Refusal.CODE
    if step is Step.REFRESH and _REFRESH_WORDS.search(message):
        return Refusal.GRANT
    return Refusal.APP if _APP_WORDS.search(message) else None


_OF_APP_OR_CODE: Final = 40101
"""The app's id, its secret and the code do not belong together; which is wrong is not said."""


def business(code: int, message: str, step: Step) -> Refusal:
    """Of TikTok for Business and its account holders (`libs.tiktok.return_codes`); not of 0."""
    row = return_code(code, message)
    if row.action is Action.THROTTLED:
        return Refusal.THROTTLED
    if row.action in (Action.RETRY, Action.UNCERTAIN) or row.scope is Scope.UPSTREAM:
        return Refusal.DOWN
    if row.scope is Scope.APP:
        return Refusal.APP
    if row.action is Action.CREDENTIALS and code != _OF_APP_OR_CODE:
        return _gone(step)
    return _by_words(message, step) or (
        Refusal.CODE if step is Step.EXCHANGE else Refusal.APP  # to begin again costs least
    )


_SHOP_WAIT: Final = frozenset({36009002})
_SHOP_DOWN: Final = frozenset({36009003, 36009007, 10002014, 10002015, 10006402})
_SHOP_GONE: Final = frozenset({36004001, 36004004, 36004005, 98001005, 98001006, 105001, 105002})
"""Codes and refresh tokens that are unknown, used or too old."""
_SHOP_CODE_LACKS_SCOPE: Final = 105005
_SHOP_APP: Final = frozenset({106001, 36009009, 36009010, 36009014, 36009022, 36009033})
"""Signature, path, method, version, format, and the list of addresses that may call."""
_SHOP_OVERLOADED: Final = 36009004
"""A dozen faults, told apart by words alone."""


def tiktok_shop(code: int, message: str, step: Step) -> Refusal:
    """Of TikTok Shop; not of 0. A code that nobody has described condemns no grant."""
    if code in _SHOP_WAIT or re.search(r"too many requests|frequen", message, re.IGNORECASE):
        return Refusal.THROTTLED
    if code in _SHOP_DOWN:
        return Refusal.DOWN
    if code in _SHOP_GONE:
        return _gone(step)
    if code in _SHOP_APP or code == _SHOP_CODE_LACKS_SCOPE:
        return Refusal.APP
    found = _by_words(message, step)
    if found is not None or code == _SHOP_OVERLOADED:
        return found or Refusal.APP
    return Refusal.CODE if step is Step.EXCHANGE else Refusal.DOWN


_SHOPIFY_APP: Final = frozenset(
    {
        "application_cannot_be_found",
        "invalid_client",
        "invalid_scope",
        "shop_not_permitted",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
_SHOPIFY_GONE: Final = frozenset({"app_not_installed", "invalid_grant", "invalid_subject_token"})


def shopify(status: int, error: str, description: str, step: Step) -> Refusal | None:
    """Of Shopify's token endpoint; None below 300. `error` as in RFC 6749, section 5.2.

    Used codes and used refresh tokens come as `invalid_request` too; then the description tells.
    """
    by_status = of_status(status)
    if by_status is not Refusal.APP:
        return by_status
    if error in _SHOPIFY_APP:
        return Refusal.APP
    if error in _SHOPIFY_GONE:
        return _gone(step)
    return _by_words(description, step) or Refusal.APP
