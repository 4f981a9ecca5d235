"""What a shop is beside its orders: its facts, its apps, their webhooks, the versions it serves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec

from sandbox.oauth.apps import is_loopback
from sandbox.oauth.desk import Desk
from sandbox.oauth.vault import Connection
from sandbox.shopify_admin.access import STATIC, Caller
from sandbox.shopify_admin.shapes import gid
from sandbox.shopify_admin.subscriptions import Subscription, Subscriptions

Json = dict[str, Any]

_PATIENCE: Final = aiohttp.ClientTimeout(total=5, connect=1)
"""Shopify's own: a second to connect, five for the whole (contracts: shopify.md 1.3)."""

_FIRST_NUMBER: Final = 1_000_000_001


class Facts(msgspec.Struct, forbid_unknown_fields=True):
    """What is told of a shop itself."""

    name: str = ""
    currency: str = "USD"
    country: str = "US"
    email: str = "owner@example.com"
    timezone: str = "America/New_York"
    primary_domain: str = ""
    """Where shoppers go, if not to the shop's own domain."""


@dataclass(slots=True)
class Premises:
    """One shop."""

    domain: str
    facts: Facts = field(default_factory=Facts)
    serves: str | None = None
    """The version that answers, whatever is asked for."""

    deprecated: str | None = None
    subscriptions: dict[str, Subscriptions] = field(default_factory=dict)

    def of_app(self, app_id: str, *, loopback: bool) -> Subscriptions:
        held = self.subscriptions.setdefault(app_id, Subscriptions(loopback))
        held.loopback = loopback
        return held

    def shop_node(self) -> Json:
        name = self.facts.name or self.domain.removesuffix(".myshopify.com")
        host = self.facts.primary_domain or self.domain
        url = f"https://{host}"
        return {
            "__typename": "Shop",
            "id": gid("Shop", _number_of(self.domain)),
            "name": name,
            "email": self.facts.email,
            "contactEmail": self.facts.email,
            "myshopifyDomain": self.domain,
            "url": url,
            "primaryDomain": {"host": host, "url": url, "id": gid("Domain", 1)},
            "currencyCode": self.facts.currency,
            "ianaTimezone": self.facts.timezone,
            "billingAddress": {
                "__typename": "ShopAddress",
                "id": gid("ShopAddress", 1),
                "countryCodeV2": self.facts.country,
                "country": self.facts.country,
            },
        }

    def shop_body(self) -> Json:
        """The shop as app/uninstalled and shop/update have it, the part that is read."""
        return {
            "id": _number_of(self.domain),
            "name": self.facts.name or self.domain.removesuffix(".myshopify.com"),
            "email": self.facts.email,
            "domain": self.facts.primary_domain or self.domain,
            "myshopify_domain": self.domain,
            "currency": self.facts.currency,
            "country_code": self.facts.country,
            "iana_timezone": self.facts.timezone,
            "plan_name": "basic",
            "shop_owner": "Sandbox Owner",
        }


class Town:
    """Every shop, and the deliveries of their webhooks."""

    def __init__(self, desk: Desk, *, loopback_webhooks: bool = False) -> None:
        self._desk = desk
        self._loopback = loopback_webhooks
        self._shops: dict[str, Premises] = {}
        self._numbers = itertools.count(_FIRST_NUMBER)
        self._deliveries = itertools.count(1)

    def shop(self, domain: str) -> Premises:
        return self._shops.setdefault(domain, Premises(domain))

    def known(self, domain: str, app_id: str) -> Subscriptions:
        """The subscriptions of an app at a shop."""
        app = self._desk.apps.get("shopify", app_id)
        loopback = self._loopback if app is None else app.loopback_webhooks
        return self.shop(domain).of_app(app_id, loopback=loopback)

    def equipped(self, domain: str, caller: Caller, version: str) -> Caller:
        """The caller with all that it finds at the shop."""
        held = self.known(domain, caller.app_id)
        roots, mutations = held.resolvers(caller, version, self._desk.now_s(), self._numbers)
        roots |= {
            "shop": lambda _info: self.shop(domain).shop_node(),
            "currentAppInstallation": lambda _info: self._installation(domain, caller),
        }
        return Caller(caller.app_id, caller.scopes, roots, mutations)

    def _installation(self, domain: str, caller: Caller) -> Json:
        app = self._desk.apps.get("shopify", caller.app_id)
        title = app.title if app is not None else caller.app_id
        return {
            "__typename": "AppInstallation",
            "id": gid("AppInstallation", _number_of(f"{caller.app_id}@{domain}")),
            "accessScopes": [
                {"handle": one, "description": one.replace("_", " ")}
                for one in sorted(caller.shown_scopes())
            ],
            "app": {
                "id": gid("App", _number_of(caller.app_id)),
                "apiKey": caller.app_id,
                "title": title,
                "handle": caller.app_id,
            },
        }

    def narrow(self, domain: str, app_id: str, scopes: list[str]) -> tuple[list[str], list[str]]:
        """Gives an app's grants other scopes; what they were, and what they are."""
        grants = self._desk.vault.grants(Connection("shopify", app_id, domain))
        before = sorted({scope for one in grants for scope in one.scopes})
        for grant in grants:
            grant.scopes = frozenset(scopes)
        return before, sorted(scopes)

    async def uninstall(self, domain: str, app_id: str) -> tuple[int, list[Json]]:
        """Ends an app at a shop, then tells it; the grants that ended, and what was sent where."""
        ended = self._desk.end_grants(Connection("shopify", app_id, domain))
        body = self.shop(domain).shop_body()
        sent = await self.send(domain, app_id, "app/uninstalled", body)
        self.shop(domain).subscriptions.pop(app_id, None)
        return ended, sent

    async def scopes_updated(self, domain: str, app_id: str, scopes: list[str]) -> Json:
        """Narrows or widens an app's scopes and tells it."""
        before, after = self.narrow(domain, app_id, scopes)
        body = {
            "id": _number_of(f"{app_id}@{domain}"),
            "previous": before,
            "current": after,
            "updated_at": datetime.fromtimestamp(self._desk.now_s(), UTC).isoformat(),
        }
        sent = await self.send(domain, app_id, "app/scopes_update", body)
        return {"previous": before, "current": after, "sent": sent}

    async def send(
        self, domain: str, app_id: str, topic: str, body: Json, secret: str = "", uri: str = ""
    ) -> list[Json]:
        """Posts a webhook to every HTTPS subscription to `topic`, else to the app's own address.

        With `uri` it goes there and nowhere else.
        """
        app = self._desk.apps.get("shopify", app_id)
        key = secret or (app.secret if app is not None else "")
        enum = topic.upper().replace("/", "_")
        found = [one for one in self.known(domain, app_id).held.values() if one.topic == enum]
        targets: list[tuple[str, Subscription | None]] = [(one.uri, one) for one in found]
        if uri:
            targets = [(uri, None)]
        elif not targets and app is not None and app.webhook_uri:
            targets = [(app.webhook_uri, None)]
        sent: list[Json] = []
        data = msgspec.json.encode(body)
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
            for address, subscription in targets:
                # This sandbox stays on the machine: what is addressed elsewhere is only named.
                status = 0
                if is_loopback(address):
                    headers = self._headers(domain, topic, data, key, subscription)
                    status = await _posted(session, address, data, headers)
                sent.append({"uri": address, "topic": topic, "status": status})
        return sent

    def _headers(
        self, domain: str, topic: str, data: bytes, key: str, subscription: Subscription | None
    ) -> dict[str, str]:
        number = next(self._deliveries)
        signature = hmac.new(key.encode(), data, hashlib.sha256).digest()
        at = datetime.fromtimestamp(self._desk.now_s(), UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Shopify-Captain-Hook",
            "X-Shopify-Topic": topic,
            "X-Shopify-Hmac-Sha256": base64.b64encode(signature).decode(),
            "X-Shopify-Shop-Domain": domain,
            "X-Shopify-API-Version": self.shop(domain).serves or "2026-10",
            "X-Shopify-Webhook-Id": f"00000000-0000-4000-8000-{number:012d}",
            "X-Shopify-Event-Id": f"00000000-0000-4000-9000-{number:012d}",
            "X-Shopify-Triggered-At": at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z",
        }
        if subscription is not None and subscription.name:
            headers["X-Shopify-Name"] = subscription.name
        return headers


async def _posted(
    session: aiohttp.ClientSession, uri: str, data: bytes, headers: dict[str, str]
) -> int:
    """The status that came back; 0 where none did."""
    try:
        async with session.post(uri, data=data, headers=headers, allow_redirects=False) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


def _number_of(text: str) -> int:
    """A number that is always the same for `text`, as Shopify's ids are."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:5], "big")


__all__ = ["STATIC", "Facts", "Premises", "Town"]
