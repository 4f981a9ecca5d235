"""The rules of an attempt to connect: whom it is made with, and what its `state` proves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from libs.errors import ServiceError, permanent
from services.auth.domain.grants import Family
from services.auth.domain.signing import signed, verified

LIFETIME_S: Final = 15 * 60
"""From its beginning until the answer must be there: time to sign in at a provider, no more."""

STATE_PURPOSE: Final = "tidewire/auth/oauth-state/v1"

STATE_MISSING: Final = "state_missing"
"""PERMANENT: an answer that nobody asked for."""

STATE_REFUSED: Final = "state_refused"
"""PERMANENT: a `state` that is not ours, of another provider, altered, or used before."""

FLOW_UNKNOWN: Final = "flow_unknown"
"""PERMANENT: there is no such attempt, or its time is over."""

FLOW_TAKEN: Final = "flow_taken"
"""PERMANENT: the attempt belongs to another browser."""

FLOW_OVER: Final = "flow_over"
"""PERMANENT: the attempt has ended, well or badly; another must be begun."""

SPEC_UNFIT: Final = "spec_unfit"
"""PERMANENT: what is to be connected cannot be, as it was described."""

APP_MISSING: Final = "app_missing"
"""PERMANENT: the settings name no app at the provider."""

FLOW_ID_BYTES: Final = 18
"""Of chance, before they are encoded."""

_FLOW_ID: Final = re.compile(r"[A-Za-z0-9_-]{24}")
_PARTS: Final = 4
_DIGITS: Final = re.compile(r"[0-9]{1,12}")

_FAMILIES: Final = {
    ("shopify", "unspecified"): Family.SHOPIFY,
    ("shopify", "authorization_code"): Family.SHOPIFY,
    ("shopify", "token_exchange"): Family.SHOPIFY,
    ("shopify", "client_credentials"): Family.SHOPIFY_OWN,
    ("tiktok_events", "unspecified"): Family.TIKTOK_BUSINESS,
    ("tiktok_events", "authorization_code"): Family.TIKTOK_BUSINESS,
    ("tiktok_events", "account_holder"): Family.TIKTOK_ACCOUNT,
    ("tiktok_catalog", "unspecified"): Family.TIKTOK_BUSINESS,
    ("tiktok_catalog", "authorization_code"): Family.TIKTOK_BUSINESS,
    ("tiktok_catalog", "account_holder"): Family.TIKTOK_ACCOUNT,
    ("tiktok_shop", "unspecified"): Family.TIKTOK_SHOP,
    ("tiktok_shop", "authorization_code"): Family.TIKTOK_SHOP,
}

_WITHOUT_BROWSER: Final = frozenset({"token_exchange", "client_credentials"})


def family_of(kind: str, flow: str) -> Family | None:
    """Who grants; None where the kind knows no such flow.

    Both are named as in the schema, in lower case: `tiktok_events`, `account_holder`; a flow that
    is `unspecified` is the kind's usual one.
    """
    return _FAMILIES.get((kind, flow))


def needs_browser(flow: str) -> bool:
    """Whether a person must agree."""
    return flow not in _WITHOUT_BROWSER


def is_flow_id(text: str) -> bool:
    """Whether an attempt of ours may be called so: anybody can ask, and most need no look-up."""
    return _FLOW_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a `state` says."""

    flow_id: str
    family: Family
    expires_s: int
    """Seconds since the epoch."""


def signed_state(key: bytes, claim: Claim, nonce: str) -> str:
    """A `state`; two of the same attempt differ by `nonce`. No part may hold a dot."""
    return signed(key, f"{claim.flow_id}.{claim.family}.{claim.expires_s}.{nonce}")


def claim_of(key: bytes, state: str, family: Family, now_s: float) -> Claim:
    """What a `state` says that came back from `family`.

    Raises:
        ServiceError: PERMANENT, STATE_MISSING, STATE_REFUSED or FLOW_UNKNOWN (it is too old).
    """
    if not state:
        raise permanent(STATE_MISSING, "the answer belongs to no attempt to connect")
    parts = (verified(key, state) or "").split(".")
    if len(parts) != _PARTS or parts[1] != family or not _DIGITS.fullmatch(parts[2]):
        raise state_refused()
    claim = Claim(parts[0], family, int(parts[2]))
    if now_s >= claim.expires_s:
        raise flow_unknown()
    return claim


def state_refused() -> ServiceError:
    """The error for a `state` that is not to be trusted."""
    return permanent(STATE_REFUSED, "the state is not one that was given out for this, or is used")


def flow_unknown() -> ServiceError:
    """The error for an attempt that is not there."""
    return permanent(FLOW_UNKNOWN, "there is no such attempt, or its time is over: begin again")
