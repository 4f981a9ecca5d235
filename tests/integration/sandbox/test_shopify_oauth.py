"""The Shopify simulator's OAuth, as hand-written requests meet it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from sandbox.oauth.apps import App, is_loopback
from sandbox.shopify_admin.oauth import callback_hmac
from tests.integration.sandbox.oauth_rig import (
    CALLBACK,
    JSON,
    SHOP,
    SHOPIFY,
    STATIC_TOKEN,
    Client,
)
from tests.unit.ingest.normalize.bodies_of import order

DEAD_REFRESH = {
    "error": "invalid_request",
    "error_description": "This request requires an active refresh_token",
}
AUTHORIZE = f"/shopify/{SHOP}/admin/oauth/authorize"
ASKED = {
    "client_id": SHOPIFY["client_id"],
    "scope": "read_products,write_orders",
    "redirect_uri": CALLBACK,
    "state": "a&b=c%",
}
DAY_S = 86_400
NAME = "{ shop { name } }"


def signed(claims: dict[str, Any], alg: str = "HS256") -> str:
    """A JWT by hand."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    text = f"{encoded(json.dumps({'alg': alg}).encode())}.{encoded(json.dumps(claims).encode())}"
    key = SHOPIFY["client_secret"].encode()
    return f"{text}.{encoded(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


async def test_consent_comes_back_with_a_code_signed_over_escaped_pairs(oauth: Client) -> None:
    address, query = await oauth.consent(AUTHORIZE, ASKED)

    message = "&".join(
        sorted(
            f"{name}={value.replace('%', '%25').replace('&', '%26')}"
            for name, value in query.items()
            if name != "hmac"
        )
    )
    key = SHOPIFY["client_secret"].encode()
    assert address == CALLBACK
    assert query["hmac"] == hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
    assert (query["state"], query["shop"]) == ("a&b=c%", SHOP)
    assert base64.b64decode(query["host"] + "==") == b"admin.shopify.com/store/example"


def test_the_callback_signature_is_that_of_shopifys_own_examples() -> None:
    query = {
        "code": "0907a61c0c8d55e99db179b68161bc00",
        "shop": "some-shop.myshopify.com",
        "timestamp": "1337178173",
    }

    expected = "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20"
    assert callback_hmac("hush", query) == expected


async def test_a_person_who_declines_comes_back_without_a_code(oauth: Client) -> None:
    _, query = await oauth.consent(AUTHORIZE, ASKED, "deny")

    assert "code" not in query
    assert query["error"] == "access_denied"


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "nobody"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1@evil.example/"},
        {"redirect_uri": "http://127.0.0.1\\@evil.example/"},
        {"scope": "read_everything"},
        {"state": "x" * 5000},
    ],
)
async def test_a_wrong_authorization_gives_a_page_and_no_redirect(
    oauth: Client, wrong: dict[str, str]
) -> None:
    status, page = await oauth.get(AUTHORIZE, ASKED | wrong)
    posted, _ = await oauth.post(AUTHORIZE, data=ASKED | wrong | {"decision": "allow"})

    assert (status, posted) == (400, 400)
    assert "<form" not in page


async def test_what_is_foreign_is_escaped_on_the_page(oauth: Client) -> None:
    _, page = await oauth.get(AUTHORIZE, ASKED | {"state": '"><script>alert(1)</script>'})

    assert "<script>" not in page


def test_only_what_every_reader_takes_for_this_machine_is_loopback() -> None:
    good = ["http://127.0.0.1:80/x", "http://localhost/", "https://[::1]:9/"]
    bad = [
        "http://127.0.0.1.evil.example/",
        "http://evil.example@127.0.0.1/",
        "http://127.0.0.1/a\\b",
        "http://127.0.0.1/a b",
        "http://127.0.0.1:0/",
        "ftp://localhost/",
        "http://localhost#x",
        "//localhost",
    ]

    assert [uri for uri in good + bad if is_loopback(uri)] == good


def test_an_app_without_loopback_takes_what_is_listed_alone() -> None:
    app = App(
        provider="shopify",
        id="x",
        secret="y",
        redirect_uris=["https://a.example/cb"],
        loopback_redirects=False,
    )

    uris = ["https://a.example/cb", "https://a.example/cb/", CALLBACK]
    assert [app.allows_redirect(uri) for uri in uris] == [True, False, False]


async def test_a_code_is_good_once_and_gives_a_token_without_end(oauth: Client) -> None:
    code = await oauth.shopify_code()

    first = await oauth.shopify_token(code=code)
    second = await oauth.shopify_token(code=code)

    assert first[0] == 200
    assert set(first[1]) == {"access_token", "scope"}
    assert first[1]["scope"] == "read_products,write_orders"
    assert second == (
        400,
        {
            "error": "invalid_request",
            "error_description": "The authorization code was not found or was already used",
        },
    )


async def test_a_code_ends_after_a_minute_and_is_of_one_shop(oauth: Client) -> None:
    old = await oauth.shopify_code()
    oauth.clock.advance(60)
    fresh = await oauth.shopify_code()

    too_late, _ = await oauth.shopify_token(code=old)
    elsewhere, _ = await oauth.shopify_token("other.myshopify.com", code=fresh)

    assert (too_late, elsewhere) == (400, 400)


async def test_an_expiring_pair_says_how_long_it_lives(oauth: Client) -> None:
    pair = await oauth.installed()

    assert (pair["expires_in"], pair["refresh_token_expires_in"]) == (3600, 90 * DAY_S)
    assert pair["access_token"].startswith("shpat_")


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 400, "application_cannot_be_found"),
        ({"client_id": ""}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"code": "made-up"}, 400, "invalid_request"),
    ],
)
async def test_the_token_endpoint_names_what_is_wrong(
    oauth: Client, fields: dict[str, str], status: int, error: str
) -> None:
    found, body = await oauth.shopify_token(**fields)

    assert (found, body["error"]) == (status, error)


async def test_an_error_is_a_page_for_who_does_not_ask_for_json(oauth: Client) -> None:
    path = f"/shopify/{SHOP}/admin/oauth/access_token"
    form = SHOPIFY | {"grant_type": "refresh_token", "refresh_token": "dead"}

    status, page = await oauth.post(path, data=form)

    assert status == 401
    assert "Oauth error invalid_request: This request requires an active refresh_token" in page


async def test_the_token_endpoint_takes_json_too(oauth: Client) -> None:
    path = f"/shopify/{SHOP}/admin/oauth/access_token"
    body = SHOPIFY | {"code": await oauth.shopify_code(), "expiring": 1}

    status, found = await oauth.post(path, json=body, headers=JSON)

    assert status == 200
    assert "refresh_token" in found


async def test_under_grace_a_lost_answer_costs_nothing(oauth: Client) -> None:
    first = await oauth.installed()
    lost = await oauth.refreshed(first["refresh_token"])

    status, again = await oauth.refreshed(first["refresh_token"])
    used, _ = await oauth.admin(again["access_token"], NAME)

    assert (lost[0], status, used) == (200, 200, 200)
    assert again["refresh_token"] != lost[1]["refresh_token"]
    assert (await oauth.oauth())["grants_lost"] == 0


@pytest.mark.parametrize("use", ["access", "refresh"])
async def test_grace_ends_when_the_replacement_is_first_used(oauth: Client, use: str) -> None:
    first = await oauth.installed()
    _, second = await oauth.refreshed(first["refresh_token"])

    if use == "access":
        await oauth.admin(second["access_token"], NAME)
    else:
        await oauth.refreshed(second["refresh_token"])

    assert await oauth.refreshed(first["refresh_token"]) == (401, DEAD_REFRESH)


async def test_the_use_of_one_replacement_ends_the_others(oauth: Client) -> None:
    first = await oauth.installed()
    _, left = await oauth.refreshed(first["refresh_token"])
    _, right = await oauth.refreshed(first["refresh_token"])
    await oauth.admin(right["access_token"], NAME)

    assert await oauth.refreshed(left["refresh_token"]) == (401, DEAD_REFRESH)
    assert (await oauth.refreshed(right["refresh_token"]))[0] == 200


async def test_grace_lasts_thirty_days(oauth: Client) -> None:
    first = await oauth.installed()
    await oauth.refreshed(first["refresh_token"])
    oauth.clock.advance(30 * DAY_S)

    assert (await oauth.refreshed(first["refresh_token"]))[0] == 401


async def test_under_strict_rotation_a_lost_answer_is_a_lost_grant(oauth: Client) -> None:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", rotation="strict")
    first = await oauth.installed()
    await oauth.refreshed(first["refresh_token"])

    refused = await oauth.refreshed(first["refresh_token"])

    found = await oauth.oauth()
    assert refused == (401, DEAD_REFRESH)
    assert (found["refreshes"], found["grants_lost"], found["refreshes_refused"]) == (1, 1, 1)


async def test_a_loser_whose_rival_holds_the_new_pair_lost_no_grant(oauth: Client) -> None:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", rotation="strict")
    first = await oauth.installed()
    _, second = await oauth.refreshed(first["refresh_token"])
    await oauth.refreshed(first["refresh_token"])
    await oauth.admin(second["access_token"], NAME)

    assert (await oauth.oauth())["grants_lost"] == 0


async def test_an_old_access_token_lives_to_its_end_and_no_longer(oauth: Client) -> None:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", access_token_s=2)
    first = await oauth.installed()
    await oauth.refreshed(first["refresh_token"])

    early, _ = await oauth.admin(first["access_token"], NAME)
    oauth.clock.advance(2)
    late, body = await oauth.admin(first["access_token"], NAME)

    assert (first["expires_in"], early, late) == (2, 200, 401)
    assert "Invalid API key or access token" in body["errors"]
    [line] = (await oauth.oauth())["connections"]
    assert line["calls_dead"] == {"expired": 1}


async def test_a_new_install_ends_the_expiring_pair_before_it(oauth: Client) -> None:
    first = await oauth.installed()
    await oauth.installed()

    assert (await oauth.admin(first["access_token"], NAME))[0] == 401
    assert (await oauth.refreshed(first["refresh_token"]))[0] == 401


async def test_client_credentials_last_a_day_less_a_second(oauth: Client) -> None:
    status, found = await oauth.shopify_token(grant_type="client_credentials")
    await oauth.change(provider="shopify", id="sandbox-shopify-app", client_credentials_shops=[])
    refused, body = await oauth.shopify_token(grant_type="client_credentials")

    assert (status, found["expires_in"], "refresh_token" in found) == (200, 86_399, False)
    assert (refused, body["error"]) == (400, "shop_not_permitted")


async def exchanged(oauth: Client, subject: str, kind: str = "offline") -> tuple[int, Any]:
    return await oauth.shopify_token(
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=subject,
        subject_token_type="urn:ietf:params:oauth:token-type:id_token",
        requested_token_type=f"urn:shopify:params:oauth:token-type:{kind}-access-token",
        expiring="1",
    )


async def test_a_session_token_is_exchanged_for_an_offline_or_online_token(oauth: Client) -> None:
    _, given = await oauth.post("/_sandbox/shopify/session-token", json={"shop": SHOP})

    offline = await exchanged(oauth, given["session_token"])
    online = await exchanged(oauth, given["session_token"], "online")

    assert (offline[0], "refresh_token" in offline[1]) == (200, True)
    assert (online[0], "associated_user" in online[1]) == (200, True)


@pytest.mark.parametrize(
    ("wrong", "alg"),
    [
        ({"aud": "another-app"}, "HS256"),
        ({"dest": "https://other.myshopify.com"}, "HS256"),
        ({"exp": 1}, "HS256"),
        ({"nbf": 9_999_999_999}, "HS256"),
        ({}, "none"),
    ],
)
async def test_a_session_token_that_does_not_fit_is_refused(
    oauth: Client, wrong: dict[str, Any], alg: str
) -> None:
    now = int(oauth.clock.now_s)
    claims = {
        "iss": f"https://{SHOP}/admin",
        "dest": f"https://{SHOP}",
        "aud": SHOPIFY["client_id"],
        "nbf": now,
        "exp": now + 60,
    }

    good, _ = await exchanged(oauth, signed(claims))
    status, body = await exchanged(oauth, signed(claims | wrong, alg))

    assert (good, status, body["error"]) == (200, 400, "invalid_subject_token")


async def test_an_app_that_must_expire_is_not_served_on_a_token_without_end(oauth: Client) -> None:
    await oauth.change(provider="shopify", id="sandbox-shopify-app", expiring="required")
    _, found = await oauth.shopify_token(code=await oauth.shopify_code())

    status, body = await oauth.admin(found["access_token"], NAME)

    assert status == 403
    assert "Non-expiring access tokens are no longer accepted" in body["errors"]


async def test_a_missing_scope_denies_the_field_under_http_200(oauth: Client) -> None:
    pair = await oauth.installed("read_products")

    status, body = await oauth.admin(
        pair["access_token"],
        "{ orders(first: 1) { nodes { id } } products(first: 1) { nodes { id } } }",
    )

    assert status == 200
    assert body["data"] == {"orders": None, "products": {"nodes": []}}
    [error] = body["errors"]
    assert error["extensions"]["code"] == "ACCESS_DENIED"
    assert "`read_orders` access scope" in error["message"]


async def test_an_installation_lists_what_it_may_with_what_is_implied(oauth: Client) -> None:
    pair = await oauth.installed("write_orders")

    _, body = await oauth.admin(
        pair["access_token"],
        "{ currentAppInstallation { accessScopes { handle } } shop { name myshopifyDomain"
        " currencyCode billingAddress { countryCodeV2 } } }",
    )
    status, listed = await oauth.get(
        f"/shopify/{SHOP}/admin/oauth/access_scopes.json",
        headers={"X-Shopify-Access-Token": pair["access_token"]},
    )

    handles = [{"handle": "read_orders"}, {"handle": "write_orders"}]
    assert body["data"]["currentAppInstallation"]["accessScopes"] == handles
    assert (status, listed) == (200, {"access_scopes": handles})
    assert body["data"]["shop"] == {
        "name": "example",
        "myshopifyDomain": SHOP,
        "currencyCode": "USD",
        "billingAddress": {"countryCodeV2": "US"},
    }


async def test_an_app_that_uninstalls_itself_has_no_live_token_left(oauth: Client) -> None:
    pair = await oauth.installed()

    status, _ = await oauth.delete(
        f"/shopify/{SHOP}/admin/api_permissions/current.json",
        headers={"X-Shopify-Access-Token": pair["access_token"]},
    )

    assert status == 200
    assert (await oauth.admin(pair["access_token"], NAME))[0] == 401
    assert await oauth.refreshed(pair["refresh_token"]) == (401, DEAD_REFRESH)
    [line] = (await oauth.oauth())["connections"]
    assert (line["revocations"], line["calls_dead"]) == (1, {"revoked": 1})


async def test_a_token_of_one_shop_is_dead_at_another_and_static_tokens_go_on(
    oauth: Client,
) -> None:
    pair = await oauth.installed()

    elsewhere, _ = await oauth.post(
        "/shopify/other.myshopify.com/admin/api/2026-10/graphql.json",
        json={"query": NAME},
        headers={"X-Shopify-Access-Token": pair["access_token"]},
    )
    static, _ = await oauth.admin(STATIC_TOKEN, NAME)

    assert (elsewhere, static) == (401, 200)
    assert (await oauth.oauth())["calls_dead"] == 1


async def test_without_a_scope_nodes_and_customers_are_hidden_too(oauth: Client) -> None:
    body = order(id=7, updated_at="2026-09-01T12:00:00Z")
    await oauth.post("/_sandbox/shopify/orders", json={"shop": SHOP, "orders": [body]})
    query = "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } order(id: %s) { customer { id } } }"
    query = query.replace("%s", '"gid://shopify/Order/7"')
    variables = {"ids": ["gid://shopify/Order/7"]}

    orders_alone = (await oauth.installed("read_orders"))["access_token"]
    _, half = await oauth.admin(orders_alone, query, variables)
    products_alone = (await oauth.installed("read_products"))["access_token"]
    _, none = await oauth.admin(products_alone, query, variables)

    assert half["data"] == {"nodes": [{"id": "gid://shopify/Order/7"}], "order": {"customer": None}}
    assert [error["path"] for error in half["errors"]] == [["order", "customer"]]
    assert none["data"] == {"nodes": [None], "order": None}
    assert {error["extensions"]["code"] for error in none["errors"]} == {"ACCESS_DENIED"}


async def test_an_alias_or_a_fragment_opens_no_door(oauth: Client) -> None:
    token = (await oauth.installed("read_products"))["access_token"]

    _, body = await oauth.admin(
        token,
        "query Q { products: orders(first: 1) { nodes { id } } ...F ... { b: orders(first: 1)"
        " { nodes { id } } } } fragment F on QueryRoot { a: orders(first: 1) { nodes { id } } }",
    )

    assert body["data"] == {"products": None, "a": None, "b": None}
