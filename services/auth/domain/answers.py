"""Providers' answers to a request for a token, as grants. Pure.

None means that the answer holds no token that could be sent: it counts as unreadable, not as a
refusal. Lifetimes come from the answer and from nowhere else, because providers move them; a
lifetime that a new token comes without is not known, and is not the old one's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from libs.settings import Secret
from services.auth.domain.grants import Grant

Node = Mapping[str, Any]

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
"""What can stand in a header."""
_SECONDS_MAX: Final = 253_402_300_799
"""The last second that a datetime can tell."""
_NAME_CHARS_MAX: Final = 200
_NAMES_MAX: Final = 10_000
_LISTED_MAX: Final = 20
_SEPARATORS: Final = re.compile(r"[,\s]+")


def shopify_grant(node: Node, now: datetime, before: Grant | None = None) -> Grant | None:
    """Of Shopify's token endpoint, whatever the grant type."""
    return _granted(
        node,
        expires_at=_after(now, node, "expires_in"),
        refresh_expires_at=_after(now, node, "refresh_token_expires_in", "refresh_expires_in"),
        scopes=_names(node.get("scope")),
        before=before,
    )


def business_grant(node: Node, now: datetime, before: Grant | None = None) -> Grant | None:
    """Of TikTok for Business: long-lived and alone, or with an expiry and a refresh token.

    Ids beyond 2^53 are kept as text, digit by digit.
    """
    return _granted(
        node,
        expires_at=_after(now, node, "expires_in"),
        refresh_expires_at=_after(now, node, "refresh_token_expires_in", "refresh_expires_in"),
        scopes=_names(node.get("scope")),
        accounts=_names(node.get("advertiser_ids")),
        before=before,
    )


def account_grant(node: Node, now: datetime, before: Grant | None = None) -> Grant | None:
    """Of a TikTok account holder."""
    return _granted(
        node,
        expires_at=_after(now, node, "expires_in"),
        refresh_expires_at=_after(now, node, "refresh_token_expires_in", "refresh_expires_in"),
        scopes=_names(node.get("scope")),
        accounts=_names(node.get("open_id")),
        before=before,
    )


def tiktok_shop_grant(node: Node, before: Grant | None = None) -> Grant | None:
    """Of TikTok Shop, where `…_expire_in` is a point in time, whatever the name suggests.

    The shop is not in the answer: see `tiktok_shops`.
    """
    return _granted(
        node,
        expires_at=_at(node, "access_token_expire_in"),
        refresh_expires_at=_at(node, "refresh_token_expire_in"),
        scopes=_names(node.get("granted_scopes")),
        # Afterwards they are led by the shop's id, which no answer repeats.
        accounts=_names(node.get("open_id")) if before is None else (),
        before=before,
    )


@dataclass(frozen=True, slots=True)
class TikTokShop:
    """A shop of the seller who agreed."""

    shop_id: str
    name: str
    region: str
    code: str
    cipher: Secret


def tiktok_shops(node: Node) -> tuple[TikTokShop, ...] | None:
    """The shops of `/authorization/202309/shops`; None where the answer cannot be read."""
    listed = node.get("shops")
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(shop, dict) for shop in listed):
        return None
    shops = tuple(
        TikTokShop(
            shop_id=_name(shop.get("id")),
            name=_name(shop.get("name")),
            region=_name(shop.get("region")),
            code=_name(shop.get("code")),
            cipher=Secret(_token(shop, "cipher")),
        )
        for shop in listed
    )
    return shops if all(shop.shop_id and shop.cipher for shop in shops) else None


def shop_meant(shops: tuple[TikTokShop, ...], wanted: str) -> TikTokShop | str:
    """The shop with the id, code or region `wanted`, or why that is none or several, for a person.

    Without `wanted`, the only one there is.
    """
    asked = wanted.strip().casefold()
    fitting = [shop for shop in shops if not asked or asked in _handles(shop)]
    if len(fitting) == 1:
        return fitting[0]
    if not shops:
        return "this seller has no TikTok Shop; agree as the seller whose shop it is"
    listing = "; ".join(
        f"{shop.name} ({shop.region}): {shop.shop_id}" for shop in shops[:_LISTED_MAX]
    )
    which = f"none is {_name(wanted)}" if not fitting else "which one is not clear"
    return f"the seller has {len(shops)} shops and {which}; begin again with one's id: {listing}"


def _handles(shop: TikTokShop) -> set[str]:
    return {shop.shop_id.casefold(), shop.code.casefold(), shop.region.casefold()}


def _granted(
    node: Node,
    *,
    expires_at: datetime | None,
    refresh_expires_at: datetime | None,
    scopes: tuple[str, ...],
    accounts: tuple[str, ...] = (),
    before: Grant | None,
) -> Grant | None:
    access = _token(node, "access_token")
    if not access:
        return None
    before = before or Grant(access_token=Secret(access))
    refresh = _token(node, "refresh_token")
    return replace(
        before,
        access_token=Secret(access),
        expires_at=expires_at,
        refresh_token=Secret(refresh) if refresh else before.refresh_token,
        refresh_expires_at=refresh_expires_at if refresh else before.refresh_expires_at,
        scopes=scopes or before.scopes,
        accounts=accounts or before.accounts,
    )


def _token(node: Node, name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else ""


def _after(now: datetime, node: Node, *names: str) -> datetime | None:
    """That many seconds from now; None where there is no such number, or the end of time is near.

    Zero is how Go services spell an absent number.
    """
    seconds = next((found for name in names if (found := _number(node.get(name)))), 0)
    if not 0 < seconds < _SECONDS_MAX - now.timestamp():
        return None
    return now + timedelta(seconds=seconds)


def _at(node: Node, name: str) -> datetime | None:
    seconds = _number(node.get(name))
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds <= _SECONDS_MAX else None


def _number(value: object) -> int:
    """A whole number, also as digits in a text; 0 for anything else."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    return value if isinstance(value, int) else 0


def _names(value: object) -> tuple[str, ...]:
    """Names or ids from a list, or from a text with commas or spaces between them."""
    if isinstance(value, str):
        value = _SEPARATORS.split(value)
    if not isinstance(value, list):
        value = [value]
    return tuple(name for item in value[:_NAMES_MAX] if (name := _name(item)))


def _name(value: object) -> str:
    """A name or an id as text that can be shown; empty for what is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**30 else ""
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value if char.isprintable())[:_NAME_CHARS_MAX].strip()
