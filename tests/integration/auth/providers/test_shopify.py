"""Shopify's three flows: what is asked, what is granted, and whose fault a refusal is."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from libs.errors import Kind, ServiceError
from libs.settings import Secret
from services.auth.adapters.providers.shopify import Shopify
from services.auth.domain.grants import Answer, App, Consent, Family
from services.auth.ports import (
    APP_REFUSED,
    CODE_REFUSED,
    CONSENT_REFUSED,
    GRANT_REVOKED,
    Provider,
)
from tests.integration.auth.providers.bench import (
    APP,
    CODE,
    CONSENT,
    SECRET,
    SHOP,
    Bench,
    Reply,
)

_TOKENS = f"/shopify/{SHOP}/admin/oauth/access_token"
_INSTALLATION = f"/shopify/{SHOP}/admin/api_permissions/current.json"
_EXPIRING = {
    "access_token": "new-access",
    "scope": "read_products,read_orders",
    "expires_in": 3600,
    "refresh_token": "new-refresh",
    "refresh_token_expires_in": 7_776_000,
}
_CLIENT = {"client_id": APP.client_id, "client_secret": SECRET}


@pytest.fixture
def shopify(providers: Bench) -> Provider:
    return providers.table[Family.SHOPIFY]


def _answer(bench: Bench, **parameters: str) -> Answer:
    stated = {"code": CODE, "shop": SHOP, "timestamp": str(int(bench.clock.now_s)), **parameters}
    message = "&".join(f"{name}={stated[name]}" for name in sorted(stated))
    digest = hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
    return Answer(query=(*stated.items(), ("hmac", digest)), received_at=bench.now)


def test_the_browser_is_sent_to_the_shop(providers: Bench, shopify: Provider) -> None:
    url = urlsplit(shopify.consent_url(APP, CONSENT))

    assert url.path == f"/shopify/{SHOP}/admin/oauth/authorize"
    assert dict(parse_qsl(url.query, strict_parsing=True)) == {
        "client_id": APP.client_id,
        "scope": "read_products,read_orders",
        "redirect_uri": CONSENT.redirect_uri,
        "state": CONSENT.state,
    }


@pytest.mark.parametrize("shop", ["evil.com/.myshopify.com", f"{SHOP}\n", "evil.example", ""])
async def test_neither_browser_nor_secret_is_sent_to_what_is_no_shop(
    providers: Bench, shopify: Provider, shop: str
) -> None:
    consent = Consent(shop=shop, state="s", redirect_uri="https://tidewire.example/")

    with pytest.raises(ServiceError) as at_consent:
        shopify.consent_url(APP, consent)
    with pytest.raises(ServiceError) as at_exchange:
        await shopify.exchange(APP, consent, CODE)
    with pytest.raises(ServiceError) as at_refresh:
        await shopify.refresh(APP, shop, providers.old_grant())

    assert {error.value.code for error in (at_consent, at_exchange, at_refresh)} == {
        CONSENT_REFUSED
    }
    assert providers.asked == []


def test_a_signed_answer_gives_its_code(providers: Bench, shopify: Provider) -> None:
    assert shopify.code(APP, CONSENT, _answer(providers)) == CODE


@pytest.mark.parametrize(
    "changed",
    [
        {"shop": "other.myshopify.com"},
        {"timestamp": "1337178173"},
        {"code": ""},
        {"code": "c" * 2000},
    ],
)
def test_a_signed_answer_that_is_not_to_be_trusted_gives_none(
    providers: Bench, shopify: Provider, changed: dict[str, str]
) -> None:
    with pytest.raises(ServiceError) as caught:
        shopify.code(APP, CONSENT, _answer(providers, **changed))

    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, CONSENT_REFUSED)


def test_an_answer_signed_with_another_apps_secret_gives_none(
    providers: Bench, shopify: Provider
) -> None:
    other = App(APP.client_id, Secret("another-secret"))

    with pytest.raises(ServiceError, match="signed"):
        shopify.code(other, CONSENT, _answer(providers))


async def test_a_code_is_exchanged_for_an_expiring_token(
    providers: Bench, shopify: Provider
) -> None:
    providers.reply(_TOKENS, Reply(_EXPIRING))

    grant = await shopify.exchange(APP, CONSENT, CODE)

    [asked] = providers.asked
    assert (asked.method, asked.json) == ("POST", {**_CLIENT, "code": CODE, "expiring": 1})
    assert asked.headers["Content-Type"] == "application/json"
    assert grant.access_token == Secret("new-access")
    assert grant.expires_at == providers.now + timedelta(hours=1)
    assert grant.refresh_token == Secret("new-refresh")
    assert grant.scopes == ("read_products", "read_orders")


async def test_a_token_without_an_end_is_granted_where_that_is_asked(providers: Bench) -> None:
    providers.reply(_TOKENS, Reply({"access_token": "new-access", "scope": ""}))
    made = providers.table[Family.SHOPIFY]
    assert isinstance(made, Shopify)
    lasting = Shopify(made.tokens, expiring=False)

    grant = await lasting.exchange(APP, CONSENT, CODE)

    assert providers.asked[0].json == {**_CLIENT, "code": CODE}
    assert (grant.expires_at, grant.refresh_token) == (None, None)


async def test_a_refresh_rotates_the_refresh_token(providers: Bench, shopify: Provider) -> None:
    providers.reply(_TOKENS, Reply({**_EXPIRING, "scope": ""}))

    grant = await shopify.refresh(APP, SHOP, providers.old_grant(webhook_secrets=(Secret("w"),)))

    assert providers.asked[0].json == {
        **_CLIENT,
        "grant_type": "refresh_token",
        "refresh_token": "old-refresh",
    }
    assert (grant.access_token, grant.refresh_token) == (
        Secret("new-access"),
        Secret("new-refresh"),
    )
    assert grant.scopes == ("read_orders",)
    assert grant.webhook_secrets == (Secret("w"),)


async def test_a_grant_without_a_refresh_token_is_over(providers: Bench, shopify: Provider) -> None:
    with pytest.raises(ServiceError) as caught:
        await shopify.refresh(APP, SHOP, providers.old_grant(refresh_token=None))

    assert (caught.value.kind, caught.value.code) == (Kind.AUTH, GRANT_REVOKED)
    assert providers.asked == []


_USED = {
    "error": "invalid_request",
    "error_description": "The authorization code was not found or was already used",
}


async def test_a_code_is_good_once(providers: Bench, shopify: Provider) -> None:
    providers.reply(_TOKENS, Reply(_EXPIRING), Reply(_USED, 400))
    await shopify.exchange(APP, CONSENT, CODE)

    with pytest.raises(ServiceError) as caught:
        await shopify.exchange(APP, CONSENT, CODE)

    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, CODE_REFUSED)


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (Reply({"error": "invalid_grant"}, 400), Kind.AUTH, GRANT_REVOKED),
        (Reply({"error": "invalid_client"}, 401), Kind.PERMANENT, APP_REFUSED),
        (Reply("no such page", 404), Kind.PERMANENT, APP_REFUSED),
        (Reply(None, 302, {"Location": "https://evil.example/"}), Kind.PERMANENT, APP_REFUSED),
    ],
)
async def test_a_refused_refresh_says_whose_fault_it_is(
    providers: Bench, shopify: Provider, reply: Reply, kind: Kind, code: str
) -> None:
    providers.reply(_TOKENS, reply)

    with pytest.raises(ServiceError) as caught:
        await shopify.refresh(APP, SHOP, providers.old_grant())

    assert (caught.value.kind, caught.value.code) == (kind, code)
    assert len(providers.asked) == 1


async def test_revoking_removes_the_app_from_the_shop(providers: Bench, shopify: Provider) -> None:
    providers.reply(_INSTALLATION, Reply(b""))

    await shopify.revoke(APP, SHOP, providers.old_grant())

    [asked] = providers.asked
    assert (asked.method, asked.path) == ("DELETE", _INSTALLATION)
    assert asked.headers["X-Shopify-Access-Token"] == "old-access"


@pytest.mark.parametrize("status", [401, 404])
async def test_revoking_what_is_gone_is_no_error(
    providers: Bench, shopify: Provider, status: int
) -> None:
    providers.reply(_INSTALLATION, Reply({"errors": "gone"}, status))

    await shopify.revoke(APP, SHOP, providers.old_grant())

    assert len(providers.asked) == 1


@pytest.mark.parametrize(("status", "kind"), [(403, Kind.PERMANENT), (503, Kind.RETRYABLE)])
async def test_revoking_in_vain_is_an_error(
    providers: Bench, shopify: Provider, status: int, kind: Kind
) -> None:
    providers.reply(_INSTALLATION, Reply({}, status))

    with pytest.raises(ServiceError) as caught:
        await shopify.revoke(APP, SHOP, providers.old_grant())

    assert caught.value.kind is kind


async def test_a_token_that_has_expired_is_refreshed_to_revoke_with(
    providers: Bench, shopify: Provider
) -> None:
    providers.reply(_TOKENS, Reply(_EXPIRING))
    providers.reply(_INSTALLATION, Reply({}))

    await shopify.revoke(APP, SHOP, providers.old_grant(expires_at=providers.now))

    assert [asked.path for asked in providers.asked] == [_TOKENS, _INSTALLATION]
    assert providers.asked[1].headers["X-Shopify-Access-Token"] == "new-access"


async def test_client_credentials_are_granted_anew(providers: Bench) -> None:
    own = providers.table[Family.SHOPIFY_OWN]
    providers.reply(_TOKENS, Reply({"access_token": "new-access", "expires_in": 86_399}))

    first = await own.exchange(APP, CONSENT, "")
    second = await own.refresh(APP, SHOP, first)
    await own.revoke(APP, SHOP, second)

    asked = [{**_CLIENT, "grant_type": "client_credentials"}] * 2
    assert [request.json for request in providers.asked] == asked
    assert second.expires_at == providers.now + timedelta(seconds=86_399)
    with pytest.raises(ServiceError, match=CONSENT_REFUSED):
        own.consent_url(APP, CONSENT)


def _claims(bench: Bench, **changes: Any) -> dict[str, Any]:
    now_s = int(bench.clock.now_s)
    claims = {
        "iss": f"https://{SHOP}/admin",
        "dest": f"https://{SHOP}",
        "aud": APP.client_id,
        "sub": "42",
        "exp": now_s + 60,
        "nbf": now_s,
        "iat": now_s,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


async def _exchanged(bench: Bench, token: str) -> str:
    made = bench.table[Family.SHOPIFY]
    assert isinstance(made, Shopify)
    shop, _ = await made.exchange_session(APP, token)
    return shop


async def test_a_session_token_is_exchanged_for_an_offline_token(providers: Bench) -> None:
    providers.reply(_TOKENS, Reply(_EXPIRING))
    token = jwt.encode(_claims(providers), SECRET, "HS256")

    shop = await _exchanged(providers, token)

    assert shop == SHOP
    assert providers.asked[0].json == {
        **_CLIENT,
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "requested_token_type": "urn:shopify:params:oauth:token-type:offline-access-token",
        "expiring": 1,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-app"},
        {"aud": [APP.client_id, "another-app"]},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": 2**62},
        {"exp": "soon"},
        {"nbf": 2**40},
        {"nbf": None},
        {"dest": "https://evil.com/.myshopify.com"},
        {"dest": f"https://{SHOP}\n"},
        {"dest": f"http://{SHOP}"},
        {"dest": SHOP},
        {"dest": None},
        {"iss": "https://other.myshopify.com/admin"},
        {"iss": None},
        {"more": "x" * 5000},
    ],
    ids=str,
)
async def test_a_session_token_that_is_not_this_minutes_is_refused(
    providers: Bench, changes: dict[str, Any]
) -> None:
    token = jwt.encode(_claims(providers, **changes), SECRET, "HS256")

    with pytest.raises(ServiceError, match=CONSENT_REFUSED):
        await _exchanged(providers, token)

    assert providers.asked == []


@pytest.mark.parametrize("late_s", [-10, 0, 69])
async def test_a_session_token_is_good_for_its_minute(providers: Bench, late_s: float) -> None:
    providers.reply(_TOKENS, Reply(_EXPIRING))
    token = jwt.encode(_claims(providers), SECRET, "HS256")
    providers.clock.advance(late_s)

    assert await _exchanged(providers, token) == SHOP


@pytest.mark.parametrize("late_s", [-11, 70])
async def test_a_session_token_is_refused_outside_its_minute(
    providers: Bench, late_s: float
) -> None:
    token = jwt.encode(_claims(providers), SECRET, "HS256")
    providers.clock.advance(late_s)

    with pytest.raises(ServiceError, match=CONSENT_REFUSED):
        await _exchanged(providers, token)


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
async def test_a_session_token_of_another_algorithm_is_refused(
    providers: Bench, algorithm: str
) -> None:
    key = "" if algorithm == "none" else SECRET
    token = jwt.encode(_claims(providers), key, algorithm)

    with pytest.raises(ServiceError, match=CONSENT_REFUSED):
        await _exchanged(providers, token)


@pytest.mark.parametrize("token", ["", "a.b.c", "....", "é.é.é", "x" * 10_000])
async def test_what_is_no_session_token_is_refused(providers: Bench, token: str) -> None:
    with pytest.raises(ServiceError, match=CONSENT_REFUSED):
        await _exchanged(providers, token)
