"""TikTok's three dialogues: what is asked, what is granted, and whose fault a refusal is."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.settings import Secret, load
from services.auth.adapters.apps import SettingsProviders
from services.auth.domain.grants import Answer, App, Family, Grant
from services.auth.ports import APP_REFUSED, CODE_REFUSED, CONSENT_REFUSED, GRANT_REVOKED
from services.auth.settings import Settings
from tests.integration.auth.providers.bench import APP, CODE, CONSENT, SECRET, SHOP, Bench, Reply

_BUSINESS = "/tiktok/open_api/v1.3/oauth2"
_ACCOUNT = "/tiktok/open_api/v1.3/tt_user/oauth2"
_SHOP_GET = "/shop-auth/api/v2/token/get"
_SHOP_REFRESH = "/shop-auth/api/v2/token/refresh"
_SHOPS = "/shop-api/authorization/202309/shops"

_OWN = {"app_id": APP.client_id, "secret": SECRET}
_CLIENT = {"client_id": APP.client_id, "client_secret": SECRET}
_EXPIRING = {
    "access_token": "new-access",
    "expires_in": 86_400,
    "refresh_token": "new-refresh",
    "refresh_token_expires_in": 31_536_000,
}
_OF_SHOP = {
    "access_token": "new-access",
    "access_token_expire_in": 1_790_604_800,
    "refresh_token": "new-refresh",
    "refresh_token_expire_in": 4_838_377_000,
    "open_id": "open-1",
    "granted_scopes": ["seller.order.info"],
}


def _said(data: Any = None, code: int = 0, message: str = "OK") -> Reply:
    return Reply({"code": code, "message": message, "request_id": "r1", "data": data or {}})


def _shop(shop_id: str, region: str, cipher: str = "the-cipher") -> dict[str, str]:
    return {"id": shop_id, "name": "Toys", "region": region, "code": "C", "cipher": cipher}


@pytest.mark.parametrize(
    ("family", "path", "query"),
    [
        (
            Family.TIKTOK_BUSINESS,
            "/portal/auth",
            {"app_id": APP.client_id, "redirect_uri": CONSENT.redirect_uri},
        ),
        (
            Family.TIKTOK_ACCOUNT,
            "/v2/auth/authorize/",
            {
                "client_key": APP.client_id,
                "scope": "read_products,read_orders",
                "response_type": "code",
                "redirect_uri": CONSENT.redirect_uri,
            },
        ),
        # The service id is not the app's key, and where to come back to is fixed at TikTok.
        (Family.TIKTOK_SHOP, "/open/authorize", {"service_id": APP.service_id}),
    ],
)
def test_the_browser_is_sent_to_the_consent_page(
    providers: Bench, family: Family, path: str, query: dict[str, str]
) -> None:
    url = urlsplit(providers.table[family].consent_url(APP, CONSENT))

    assert url.path == path
    assert dict(parse_qsl(url.query, strict_parsing=True)) == {**query, "state": CONSENT.state}
    assert SECRET not in url.geturl()


def test_without_a_service_id_there_is_no_consent_page(providers: Bench) -> None:
    with pytest.raises(ServiceError, match="service id"):
        providers.table[Family.TIKTOK_SHOP].consent_url(App("k", Secret("s")), CONSENT)


@pytest.mark.parametrize(
    ("family", "query", "code"),
    [
        (Family.TIKTOK_BUSINESS, {"auth_code": "a1", "code": "c1", "id": "7"}, "a1"),
        (Family.TIKTOK_BUSINESS, {"code": "c1"}, "c1"),
        (Family.TIKTOK_ACCOUNT, {"code": "c1", "scopes": "a,b"}, "c1"),
        (Family.TIKTOK_SHOP, {"code": "c1", "app_key": "k"}, "c1"),
    ],
)
def test_an_answer_gives_its_code_with_or_without_a_state(
    providers: Bench, family: Family, query: dict[str, str], code: str
) -> None:
    for more in ({"state": CONSENT.state}, {}):
        answer = Answer(query=tuple({**query, **more}.items()), received_at=providers.now)

        assert providers.table[family].code(APP, CONSENT, answer) == code


@pytest.mark.parametrize(
    "family", [Family.TIKTOK_BUSINESS, Family.TIKTOK_ACCOUNT, Family.TIKTOK_SHOP]
)
@pytest.mark.parametrize(
    "query",
    [
        {"code": "null", "error": "auth_denied"},
        {"code": "c1", "error": "access_denied"},
        {"code": "null"},
        {"code": ""},
        {"code": "c" * 5000},
        {},
    ],
    ids=str,
)
def test_a_no_gives_no_code(providers: Bench, family: Family, query: dict[str, str]) -> None:
    answer = Answer(query=tuple(query.items()), received_at=providers.now)

    with pytest.raises(ServiceError) as caught:
        providers.table[family].code(APP, CONSENT, answer)

    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, CONSENT_REFUSED)


async def test_an_advertisers_code_is_exchanged_for_a_token_without_an_end(
    providers: Bench,
) -> None:
    big = 7123456789012345678901
    data = {"access_token": "new-access", "advertiser_ids": ["7400"], "scope": [4, big]}
    providers.reply(f"{_BUSINESS}/access_token/", _said(data))

    grant = await providers.table[Family.TIKTOK_BUSINESS].exchange(APP, CONSENT, CODE)

    [asked] = providers.asked
    assert asked.method == "POST"
    assert asked.json == {**_OWN, "auth_code": CODE, "grant_type": "auth_code"}
    assert grant == Grant(
        access_token=Secret("new-access"), accounts=("7400",), scopes=("4", str(big))
    )


async def test_an_advertisers_expiring_token_is_refreshed(providers: Bench) -> None:
    tiktok = providers.table[Family.TIKTOK_BUSINESS]
    providers.reply(f"{_BUSINESS}/access_token/", _said(_EXPIRING))
    providers.reply(f"{_BUSINESS}/refresh_token/", _said({**_EXPIRING, "refresh_token": "next"}))

    first = await tiktok.exchange(APP, CONSENT, CODE)
    second = await tiktok.refresh(APP, SHOP, first)

    assert providers.asked[1].json == {
        **_OWN,
        "refresh_token": "new-refresh",
        "grant_type": "refresh_token",
    }
    assert first.expires_at == providers.now + timedelta(days=1)
    assert first.refresh_expires_at == providers.now + timedelta(days=365)
    assert second.refresh_token == Secret("next")


async def test_an_account_holders_code_is_exchanged_and_refreshed(providers: Bench) -> None:
    tiktok = providers.table[Family.TIKTOK_ACCOUNT]
    providers.reply(f"{_ACCOUNT}/token/", _said({**_EXPIRING, "open_id": "o-1", "scope": "a,b"}))
    providers.reply(f"{_ACCOUNT}/refresh_token/", _said({**_EXPIRING, "refresh_token": "next"}))

    first = await tiktok.exchange(APP, CONSENT, CODE)
    second = await tiktok.refresh(APP, SHOP, first)

    assert [asked.json for asked in providers.asked] == [
        {
            **_CLIENT,
            "grant_type": "authorization_code",
            "auth_code": CODE,
            "redirect_uri": CONSENT.redirect_uri,
        },
        {**_CLIENT, "grant_type": "refresh_token", "refresh_token": "new-refresh"},
    ]
    assert (first.accounts, first.scopes) == (("o-1",), ("a", "b"))
    assert second.refresh_token == Secret("next")
    assert second.accounts == ("o-1",)


@pytest.mark.parametrize(
    ("family", "path", "client"),
    [
        (Family.TIKTOK_BUSINESS, f"{_BUSINESS}/revoke_token/", _OWN),
        (Family.TIKTOK_ACCOUNT, f"{_ACCOUNT}/revoke/", _CLIENT),
    ],
)
@pytest.mark.parametrize("code", [0, 40105])
async def test_a_grant_is_revoked_even_if_it_was_before(
    providers: Bench, family: Family, path: str, client: dict[str, str], code: int
) -> None:
    providers.reply(path, _said(code=code))

    await providers.table[family].revoke(APP, SHOP, providers.old_grant())

    [asked] = providers.asked
    assert asked.json == {**client, "access_token": "old-access"}


async def test_a_grant_that_could_not_be_revoked_is_an_error(providers: Bench) -> None:
    providers.reply(f"{_BUSINESS}/revoke_token/", _said(code=40113))

    with pytest.raises(ServiceError) as caught:
        await providers.table[Family.TIKTOK_BUSINESS].revoke(APP, SHOP, providers.old_grant())

    assert caught.value.code == APP_REFUSED


async def test_a_sellers_code_is_exchanged_and_the_shops_cipher_fetched(providers: Bench) -> None:
    providers.reply(_SHOP_GET, _said(_OF_SHOP))
    providers.reply(_SHOPS, _said({"shops": [_shop("7494049642642441621", "GB")]}))

    grant = await providers.table[Family.TIKTOK_SHOP].exchange(APP, CONSENT, CODE)

    token, shops = providers.asked
    assert (token.method, token.query) == (
        "GET",
        {
            "app_key": APP.client_id,
            "app_secret": SECRET,
            "auth_code": CODE,
            "grant_type": "authorized_code",
        },
    )
    stamp = str(int(providers.clock.now_s))
    text = f"/authorization/202309/shopsapp_key{APP.client_id}timestamp{stamp}"
    signed = hmac.new(SECRET.encode(), f"{SECRET}{text}{SECRET}".encode(), hashlib.sha256)
    assert shops.query == {
        "app_key": APP.client_id,
        "timestamp": stamp,
        "sign": signed.hexdigest(),
    }
    assert shops.headers["x-tts-access-token"] == "new-access"
    assert grant == Grant(
        access_token=Secret("new-access"),
        expires_at=datetime.fromtimestamp(1_790_604_800, UTC),
        refresh_token=Secret("new-refresh"),
        refresh_expires_at=datetime.fromtimestamp(4_838_377_000, UTC),
        scopes=("seller.order.info",),
        accounts=("7494049642642441621", "open-1"),
        shop_cipher=Secret("the-cipher"),
    )


async def test_of_several_shops_the_one_asked_for_is_connected(providers: Bench) -> None:
    providers.reply(_SHOP_GET, _said(_OF_SHOP))
    providers.reply(_SHOPS, _said({"shops": [_shop("1", "GB", "c-1"), _shop("2", "DE", "c-2")]}))
    tiktok = providers.table[Family.TIKTOK_SHOP]

    by_id = await tiktok.exchange(APP, dataclasses.replace(CONSENT, account="1"), CODE)
    by_region = await tiktok.exchange(APP, dataclasses.replace(CONSENT, account="de"), CODE)
    with pytest.raises(ServiceError) as unclear:
        await tiktok.exchange(APP, CONSENT, CODE)

    assert (by_id.shop_cipher, by_region.shop_cipher) == (Secret("c-1"), Secret("c-2"))
    assert (unclear.value.kind, unclear.value.code) == (Kind.PERMANENT, CONSENT_REFUSED)
    assert "Toys (GB): 1; Toys (DE): 2" in unclear.value.message


async def test_the_shops_are_read_again_where_the_code_is_already_spent(providers: Bench) -> None:
    providers.reply(_SHOP_GET, _said(_OF_SHOP))
    providers.reply(
        _SHOPS, Reply({}, 503), _said(code=36009003), _said({"shops": [_shop("1", "GB")]})
    )

    grant = await providers.table[Family.TIKTOK_SHOP].exchange(APP, CONSENT, CODE)

    assert grant.shop_cipher == Secret("the-cipher")
    assert [asked.path for asked in providers.asked] == [_SHOP_GET, _SHOPS, _SHOPS, _SHOPS]


async def test_a_sellers_grant_is_refreshed_and_keeps_its_shop(providers: Bench) -> None:
    providers.reply(_SHOP_REFRESH, _said(_OF_SHOP))
    old = providers.old_grant(accounts=("1", "open-1"), shop_cipher=Secret("the-cipher"))

    grant = await providers.table[Family.TIKTOK_SHOP].refresh(APP, SHOP, old)

    [asked] = providers.asked
    assert asked.query == {
        "app_key": APP.client_id,
        "app_secret": SECRET,
        "refresh_token": "old-refresh",
        "grant_type": "refresh_token",
    }
    assert (grant.accounts, grant.shop_cipher) == (("1", "open-1"), Secret("the-cipher"))
    assert grant.refresh_token == Secret("new-refresh")


async def test_what_a_query_carries_arrives_as_it_is(providers: Bench) -> None:
    providers.reply(_SHOP_REFRESH, _said(_OF_SHOP))
    odd = "a+b/c=d&app_key=x%20#é"

    old = providers.old_grant(refresh_token=Secret(odd))
    await providers.table[Family.TIKTOK_SHOP].refresh(APP, SHOP, old)

    assert providers.asked[0].query["refresh_token"] == odd
    assert providers.asked[0].query["app_key"] == APP.client_id


async def test_only_the_seller_can_end_a_sellers_grant(providers: Bench) -> None:
    await providers.table[Family.TIKTOK_SHOP].revoke(APP, SHOP, providers.old_grant())

    assert providers.asked == []


@pytest.mark.parametrize(
    ("family", "path", "used", "unknown_app"),
    [
        (Family.TIKTOK_BUSINESS, f"{_BUSINESS}/access_token/", 40110, (40113, "")),
        (Family.TIKTOK_ACCOUNT, f"{_ACCOUNT}/token/", 40110, (40002, "client_secret: wrong")),
        (Family.TIKTOK_SHOP, _SHOP_GET, 36004004, (36009004, "Invalid app_key")),
    ],
)
async def test_a_used_code_and_a_wrong_app_are_told_apart(
    providers: Bench, family: Family, path: str, used: int, unknown_app: tuple[int, str]
) -> None:
    providers.reply(path, _said(code=used), _said(None, *unknown_app))

    with pytest.raises(ServiceError) as at_code:
        await providers.table[family].exchange(APP, CONSENT, CODE)
    with pytest.raises(ServiceError) as at_app:
        await providers.table[family].exchange(APP, CONSENT, CODE)

    assert (at_code.value.kind, at_code.value.code) == (Kind.PERMANENT, CODE_REFUSED)
    assert (at_app.value.kind, at_app.value.code) == (Kind.PERMANENT, APP_REFUSED)


@pytest.mark.parametrize(
    ("family", "path", "used", "unknown_app"),
    [
        (Family.TIKTOK_BUSINESS, f"{_BUSINESS}/refresh_token/", 40107, (40101, "")),
        (Family.TIKTOK_ACCOUNT, f"{_ACCOUNT}/refresh_token/", 40103, (40113, "")),
        (Family.TIKTOK_SHOP, _SHOP_REFRESH, 36004001, (36009004, "Invalid app_secret")),
    ],
)
async def test_a_used_refresh_token_and_a_wrong_app_are_told_apart(
    providers: Bench, family: Family, path: str, used: int, unknown_app: tuple[int, str]
) -> None:
    providers.reply(path, _said(code=used), _said(None, *unknown_app))

    with pytest.raises(ServiceError) as at_grant:
        await providers.table[family].refresh(APP, SHOP, providers.old_grant())
    with pytest.raises(ServiceError) as at_app:
        await providers.table[family].refresh(APP, SHOP, providers.old_grant())

    assert (at_grant.value.kind, at_grant.value.code) == (Kind.AUTH, GRANT_REVOKED)
    assert (at_app.value.kind, at_app.value.code) == (Kind.PERMANENT, APP_REFUSED)


async def test_a_code_in_the_body_outranks_the_status(providers: Bench) -> None:
    body = _said(code=36004001).body
    providers.reply(_SHOP_REFRESH, Reply(body, 401))

    with pytest.raises(ServiceError) as caught:
        await providers.table[Family.TIKTOK_SHOP].refresh(APP, SHOP, providers.old_grant())

    assert caught.value.code == GRANT_REVOKED


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_status_without_a_code_condemns_no_grant(providers: Bench, status: int) -> None:
    providers.reply(_SHOP_REFRESH, Reply(b"<html>denied</html>", status))

    with pytest.raises(ServiceError) as caught:
        await providers.table[Family.TIKTOK_SHOP].refresh(APP, SHOP, providers.old_grant())

    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, APP_REFUSED)


@pytest.mark.parametrize(
    ("family", "path"),
    [(Family.TIKTOK_BUSINESS, "oauth2"), (Family.TIKTOK_ACCOUNT, "tt_user/oauth2")],
)
async def test_the_version_in_the_settings_is_the_one_that_is_asked(
    providers: Bench, family: Family, path: str
) -> None:
    environ = {
        "TIDEWIRE_TIKTOK_API_BASE_URL": f"{providers.url}/tiktok",
        "TIDEWIRE_TIKTOK_API_VERSION": "v1.4",
    }
    providers.reply(f"/tiktok/open_api/v1.4/{path}/refresh_token/", _said(_EXPIRING))

    async with http_session() as session:
        table = SettingsProviders(load(Settings, environ), session, providers.clock)
        new = await table.of(family).refresh(APP, SHOP, providers.old_grant())

    assert new.access_token == Secret("new-access")
