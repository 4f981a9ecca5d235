"""Webhook subscriptions at the Shopify simulator, and what happens behind an app's back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from graphql import validate
from graphql.language import parse

from sandbox.shopify_admin.schema import SUPPORTED, schema_of
from tests.integration.sandbox.oauth_rig import (
    SHOP,
    SHOPIFY,
    STATIC_TOKEN,
    Client,
    connected,
)

CREATE = """
mutation Make($topic: WebhookSubscriptionTopic!, $with: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $with) {
    webhookSubscription { id topic uri format filter includeFields }
    userErrors { field message }
  }
}"""
UPDATE = """
mutation Change($id: ID!, $with: WebhookSubscriptionInput!) {
  webhookSubscriptionUpdate(id: $id, webhookSubscription: $with) {
    webhookSubscription { id uri includeFields } userErrors { field message }
  }
}"""
DELETE = """
mutation End($id: ID!) {
  webhookSubscriptionDelete(id: $id) {
    deletedWebhookSubscriptionId userErrors { field message }
  }
}"""
LIST = """
query All($first: Int!, $after: String) {
  webhookSubscriptions(first: $first, after: $after) {
    nodes { id topic uri apiVersion { handle } } pageInfo { hasNextPage endCursor }
  }
}"""
URI = "https://hooks.example.com/webhooks/shopify"
ADDRESS = ["webhookSubscription", "callbackUrl"]


async def created(
    oauth: Client, token: str, topic: str = "ORDERS_PAID", **asked: Any
) -> dict[str, Any]:
    variables = {"topic": topic, "with": {"uri": URI} | asked}
    status, body = await oauth.admin(token, CREATE, variables)
    assert status == 200
    found: dict[str, Any] = body["data"]["webhookSubscriptionCreate"]
    return found


async def listed(oauth: Client, token: str) -> list[dict[str, Any]]:
    _, body = await oauth.admin(token, LIST, {"first": 50})
    nodes: list[dict[str, Any]] = body["data"]["webhookSubscriptions"]["nodes"]
    return nodes


@pytest.fixture
async def token(oauth: Client) -> str:
    pair = await oauth.installed("read_products,write_orders")
    access: str = pair["access_token"]
    return access


@pytest.fixture(scope="session")
def schemas(corpus_dir: Path) -> Path:
    folder = corpus_dir / "data" / "schema" / "admin"
    if not (folder / "admin_2026-10.introspection.json.gz").is_file():
        pytest.skip(f"no Admin schema of Shopify's under {folder}")
    return folder


@pytest.mark.parametrize("version", [SUPPORTED[0], SUPPORTED[-1]])
def test_what_is_asked_here_is_valid_by_shopifys_own_schema(schemas: Path, version: str) -> None:
    for document in (CREATE, UPDATE, DELETE, LIST):
        assert validate(schema_of(version, schemas), parse(document)) == []


async def test_under_shopifys_own_schema_the_answers_are_the_same(schemas: Path) -> None:
    async with connected(schemas) as oauth:
        token = (await oauth.installed())["access_token"]
        made = await created(oauth, token, "PRODUCTS_UPDATE", includeFields=["id"])
        found = await listed(oauth, token)
        _, body = await oauth.admin(
            token,
            "{ shop { name billingAddress { countryCodeV2 } }"
            " currentAppInstallation { id accessScopes { handle } } }",
        )

    assert made["userErrors"] == []
    assert [one["topic"] for one in found] == ["PRODUCTS_UPDATE"]
    assert body["data"]["shop"]["billingAddress"] == {"countryCodeV2": "US"}
    assert {"handle": "read_orders"} in body["data"]["currentAppInstallation"]["accessScopes"]


async def test_a_subscription_is_made_listed_changed_and_ended(oauth: Client, token: str) -> None:
    made = await created(oauth, token, includeFields=["id"], name="paid")
    id_ = made["webhookSubscription"]["id"]
    after_making = await listed(oauth, token)
    _, changed = await oauth.admin(token, UPDATE, {"id": id_, "with": {"uri": f"{URI}/2"}})
    _, ended = await oauth.admin(token, DELETE, {"id": id_})

    assert made["userErrors"] == []
    assert [(one["id"], one["topic"]) for one in after_making] == [(id_, "ORDERS_PAID")]
    assert changed["data"]["webhookSubscriptionUpdate"]["webhookSubscription"] == {
        "id": id_,
        "uri": f"{URI}/2",
        "includeFields": ["id"],
    }
    assert ended["data"]["webhookSubscriptionDelete"] == {
        "deletedWebhookSubscriptionId": id_,
        "userErrors": [],
    }
    assert await listed(oauth, token) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"uri": "http://hooks.example.com/x"}, "Address protocol http:// is not supported"),
        ({"uri": "  "}, "Address can't be blank"),
        ({"uri": "https://x.myshopify.com"}, "Address cannot be a Shopify or an internal domain"),
        ({"uri": "https://10.1.2.3/x"}, "Address cannot be a Shopify or an internal domain"),
        ({"uri": "https://a.example/" + "x" * 65_536}, "Address is too big (maximum is 64 KB)"),
        ({"uri": "hooks.example.com"}, "Address is invalid"),
        ({"uri": "kafka://broker/topic"}, "Address protocol kafka:// is not supported"),
    ],
)
async def test_an_address_that_shopify_refuses_is_refused_in_its_words(
    oauth: Client, token: str, asked: dict[str, str], message: str
) -> None:
    found = await created(oauth, token, **asked)

    assert found["webhookSubscription"] is None
    assert found["userErrors"] == [{"field": ADDRESS, "message": message}]


async def test_the_same_address_is_taken_once_for_a_topic(oauth: Client, token: str) -> None:
    await created(oauth, token)
    again = await created(oauth, token)
    other_topic = await created(oauth, token, "ORDERS_UPDATED")

    text = "Address for this topic has already been taken"
    assert again["userErrors"] == [{"field": ADDRESS, "message": text}]
    assert other_topic["userErrors"] == []


async def test_a_topic_needs_its_scope(oauth: Client, token: str) -> None:
    denied = await created(oauth, token, "INVENTORY_LEVELS_UPDATE")
    free = await created(oauth, token, "APP_UNINSTALLED")

    text = "You cannot create a webhook subscription with the specified topic"
    assert [error["message"] for error in denied["userErrors"]] == [text]
    assert free["userErrors"] == []


async def test_loopback_is_an_address_by_configuration_alone(oauth: Client, token: str) -> None:
    loopback = "http://127.0.0.1:9/hook"
    allowed = await created(oauth, token, uri=loopback)
    await oauth.change(provider="shopify", id="sandbox-shopify-app", loopback_webhooks=False)
    refused = await created(oauth, token, "ORDERS_UPDATED", uri=loopback)
    static = await created(oauth, STATIC_TOKEN, uri=loopback)

    texts = [
        "Address protocol http:// is not supported",
        "Address cannot be a Shopify or an internal domain",
    ]
    assert allowed["userErrors"] == []
    assert [error["message"] for error in refused["userErrors"]] == texts
    assert [error["message"] for error in static["userErrors"]] == texts


async def test_an_unknown_subscription_cannot_be_changed_or_ended(
    oauth: Client, token: str
) -> None:
    id_ = "gid://shopify/WebhookSubscription/1"
    _, changed = await oauth.admin(token, UPDATE, {"id": id_, "with": {"uri": URI}})
    _, ended = await oauth.admin(token, DELETE, {"id": id_})

    error = {"field": ["id"], "message": "Webhook subscription does not exist"}
    assert changed["data"]["webhookSubscriptionUpdate"]["userErrors"] == [error]
    assert ended["data"]["webhookSubscriptionDelete"]["userErrors"] == [error]


async def test_a_compliance_topic_is_no_topic_of_the_api(oauth: Client, token: str) -> None:
    variables = {"topic": "CUSTOMERS_REDACT", "with": {"uri": URI}}

    status, body = await oauth.admin(token, CREATE, variables)

    assert status == 200
    assert body.get("data") is None
    assert "CUSTOMERS_REDACT" in body["errors"][0]["message"]


async def test_a_filter_asks_for_fields_that_are_sent(oauth: Client, token: str) -> None:
    found = await created(oauth, token, filter="total_price:>10", includeFields=["id"])

    assert found["userErrors"][0]["field"] == ["webhookSubscription", "filter"]


async def test_a_listing_comes_in_pages(oauth: Client, token: str) -> None:
    for topic in ("ORDERS_PAID", "ORDERS_UPDATED", "ORDERS_CANCELLED"):
        await created(oauth, token, topic)

    _, first = await oauth.admin(token, LIST, {"first": 2})
    page = first["data"]["webhookSubscriptions"]
    cursor = page["pageInfo"]["endCursor"]
    _, rest = await oauth.admin(token, LIST, {"first": 2, "after": cursor})

    assert page["pageInfo"]["hasNextPage"] is True
    assert [one["topic"] for one in rest["data"]["webhookSubscriptions"]["nodes"]] == [
        "ORDERS_CANCELLED"
    ]


async def test_a_subscription_can_vanish_behind_the_apps_back(oauth: Client, token: str) -> None:
    await created(oauth, token)
    kept = await created(oauth, token, "ORDERS_UPDATED")

    _, gone = await oauth.post(
        "/_sandbox/shopify/webhooks/delete", json={"shop": SHOP, "topic": "ORDERS_PAID"}
    )

    assert len(gone["deleted"]) == 1
    assert [one["id"] for one in await listed(oauth, token)] == [kept["webhookSubscription"]["id"]]


@dataclass
class Receiver:
    """An app's webhook address, on loopback."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


async def test_narrowed_scopes_are_told_and_hold(
    oauth: Client, token: str, receiver: Receiver
) -> None:
    await created(oauth, token, "APP_SCOPES_UPDATE", uri=receiver.url)

    _, told = await oauth.post(
        "/_sandbox/shopify/scopes", json={"shop": SHOP, "scopes": ["read_products"]}
    )

    [(headers, body)] = receiver.got
    key = SHOPIFY["client_secret"].encode()
    signature = base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()
    assert told["sent"] == [{"uri": receiver.url, "topic": "app/scopes_update", "status": 200}]
    assert headers["X-Shopify-Hmac-Sha256"] == signature
    assert headers["X-Shopify-Topic"] == "app/scopes_update"
    assert json.loads(body)["current"] == ["read_products"]
    _, denied = await oauth.admin(token, "{ orders(first: 1) { nodes { id } } }")
    assert denied["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"


async def test_an_uninstall_is_told_and_ends_tokens_and_subscriptions(
    oauth: Client, token: str, receiver: Receiver
) -> None:
    await created(oauth, token, "APP_UNINSTALLED", uri=receiver.url)

    _, told = await oauth.post("/_sandbox/shopify/uninstall", json={"shop": SHOP})

    assert (told["revoked"], len(receiver.got)) == (1, 1)
    assert (await oauth.admin(token, LIST, {"first": 1}))[0] == 401
    again = await oauth.installed()
    assert await listed(oauth, again["access_token"]) == []


async def test_what_is_addressed_elsewhere_is_named_and_not_sent(oauth: Client, token: str) -> None:
    await created(oauth, token)

    _, told = await oauth.post(
        "/_sandbox/shopify/send", json={"shop": SHOP, "topic": "orders/paid", "body": {"id": 1}}
    )

    assert told["sent"] == [{"uri": URI, "topic": "orders/paid", "status": 0}]


async def test_another_version_than_asked_and_a_deprecation_are_in_the_headers(
    oauth: Client, token: str
) -> None:
    wish = {"shop": SHOP, "serves": "2026-01", "deprecated": "orders.x is deprecated"}
    await oauth.post("/_sandbox/shopify/version", json=wish)
    url = f"{oauth.url}/shopify/{SHOP}/admin/api/2026-10/graphql.json"
    headers = {"X-Shopify-Access-Token": token}

    async with oauth.session.post(url, json={"query": "{ shop { id } }"}, headers=headers) as got:
        assert got.status == 200
        assert got.headers["X-Shopify-API-Version"] == "2026-01"
        assert got.headers["X-Shopify-API-Deprecated-Reason"] == "orders.x is deprecated"


async def test_a_wish_that_cannot_be_read_is_refused(oauth: Client) -> None:
    status, body = await oauth.post("/_sandbox/shopify/scopes", json={"shop": SHOP})

    assert status == 400
    assert "scopes" in body["error"]
