"""Webhook addresses of each TikTok Shop, one for each kind of event."""

from __future__ import annotations

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from sandbox.oauth.apps import is_loopback
from sandbox.oauth.desk import json_response

Json = dict[str, Any]
Key = tuple[str, str]
"""The app and the shop's cipher."""

EVENTS: Final = frozenset(
    {
        "ORDER_STATUS_CHANGE",
        "RECIPIENT_ADDRESS_UPDATE",
        "PACKAGE_UPDATE",
        "PRODUCT_STATUS_CHANGE",
        "SELLER_DEAUTHORIZATION",
        "UPCOMING_AUTHORIZATION_EXPIRATION",
        "CANCELLATION_STATUS_CHANGE",
        "RETURN_STATUS_CHANGE",
        "NEW_CONVERSATION",
        "NEW_MESSAGE",
        "PRODUCT_INFORMATION_CHANGE",
        "PRODUCT_CREATION",
        "PRODUCT_CATEGORY_CHANGE",
        "PRODUCT_AUDIT_STATUS_CHANGE",
        "INVENTORY_STATUS_CHANGE",
        "INVENTORY_CHANGE",
    }
)
_ADDRESS_MAX: Final = 255


class HookError(ValueError):
    """An address or a kind of event that is not taken."""


class Wish(msgspec.Struct):
    """The body of a PUT or a DELETE."""

    event_type: str
    address: str = ""


class Ending(msgspec.Struct, forbid_unknown_fields=True):
    """What a test ends behind an app's back: of every app at that shop."""

    cipher: str
    event_type: str


class ShopHooks:
    """The addresses. Their times are milliseconds, unlike most of TikTok Shop's."""

    def __init__(self) -> None:
        self._held: dict[Key, dict[str, Json]] = {}

    def asked(self, method: str, key: Key, body: bytes, now_s: float, *, loopback: bool) -> Json:
        """Does what a request asks for; the data of its answer.

        Raises:
            HookError: naming what is wrong.
        """
        held = self._held.setdefault(key, {})
        if method == "GET":
            return {"webhooks": list(held.values()), "total_count": len(held)}
        try:
            wish = msgspec.json.decode(body, type=Wish)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HookError("Invalid parameter") from error
        if wish.event_type not in EVENTS:
            raise HookError("Invalid event_type")
        if method == "DELETE":
            held.pop(wish.event_type, None)
            return {}
        if not _is_address(wish.address, loopback=loopback):
            raise HookError("Invalid address")
        at_ms = int(now_s * 1000)
        known = held.get(wish.event_type)
        held[wish.event_type] = {
            "event_type": wish.event_type,
            "address": wish.address,
            "create_time": known["create_time"] if known else at_ms,
            "update_time": at_ms,
        }
        return {}

    async def end_one(self, request: web.Request) -> web.Response:
        """Ends an address, as TikTok may."""
        try:
            wish = msgspec.json.decode(await request.read(), type=Ending)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        fitting = [held for (_, cipher), held in self._held.items() if cipher == wish.cipher]
        ended = sum(held.pop(wish.event_type, None) is not None for held in fitting)
        return json_response({"deleted": ended})


def _is_address(address: str, *, loopback: bool) -> bool:
    """HTTPS on a domain without a port, at most 255 characters; loopback if it is allowed."""
    if len(address) > _ADDRESS_MAX:
        return False
    if loopback and is_loopback(address):
        return True
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" and port is None and "." in host and not _is_ip(host)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
