"""The providers against the sandbox: a person agrees, tokens turn over, and the grant ends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.http.session import http_session
from libs.settings import Secret
from sandbox.oauth.apps import App as Registered
from sandbox.oauth.apps import Provider as Registering
from sandbox.oauth.apps import SellerShop
from sandbox.oauth.desk import Desk
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.tiktok.account_oauth import AccountOAuth
from sandbox.tiktok.oauth import BusinessOAuth
from sandbox.tiktok_shop.app import TikTokShopSandbox
from services.auth.adapters.providers import Endpoints, providers
from services.auth.adapters.providers.shopify import Shopify
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.ports import APP_REFUSED, CODE_REFUSED, GRANT_REVOKED, Provider

_SHOP = "some-shop.myshopify.com"
_SECRET = "a-secret-of-the-sandbox"
_REDIRECT = "http://127.0.0.1:9/callback"
_APP = App("1234567", Secret(_SECRET), service_id="service-7")
_CONSENT = Consent(
    shop=_SHOP, state="signed.state", redirect_uri=_REDIRECT, scopes=("read_orders",)
)
_CIPHER = "a-cipher"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


def _apps() -> list[Registered]:
    seller = SellerShop(id="7494049642642441621", cipher=_CIPHER, region="GB")

    def app(provider: Registering, **more: Any) -> Registered:
        return Registered(
            provider=provider,
            id=_APP.client_id,
            secret=_SECRET,
            redirect_uris=[_REDIRECT],
            **more,
        )

    return [
        app("shopify", scopes=["read_orders"], client_credentials_shops=[_SHOP]),
        app("tiktok-business", dialect="guide", advertiser_ids=["7400"], scopes=["4"]),
        app("tiktok-account", scopes=["read_orders"]),
        app(
            "tiktok-shop",
            scopes=["seller.authorization.info"],
            service_id=_APP.service_id,
            shops=[seller],
        ),
    ]


class Scene:
    """The providers, and a person with a browser."""

    def __init__(self, table: dict[Family, Provider], browser: aiohttp.ClientSession) -> None:
        self.table = table
        self._browser = browser

    async def answer(self, family: Family, decision: str = "allow") -> Answer:
        """What comes back when a person decides on the consent page."""
        page_url = URL(self.table[family].consent_url(_APP, _CONSENT), encoded=True)
        async with self._browser.get(page_url) as page:
            assert page.status == 200, await page.text()
            form = {name: unescape(value) for name, value in _HIDDEN.findall(await page.text())}
        asked = self._browser.post(
            page_url, data={**form, "decision": decision}, allow_redirects=False
        )
        async with asked as sent_on:
            location = URL(sent_on.headers["Location"])
        assert str(location).startswith(_REDIRECT)
        return Answer(query=tuple(location.query.items()), received_at=datetime.now(UTC))

    async def granted(self, family: Family) -> tuple[str, Grant]:
        """The code that a person's consent gave, and the grant for it."""
        provider = self.table[family]
        answer = await self.answer(family)
        assert answer.one("state") == _CONSENT.state
        code = provider.code(_APP, _CONSENT, answer)
        return code, await provider.exchange(_APP, _CONSENT, code)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = SystemClock()
    desk = Desk(clock, _apps())
    app = web.Application()
    ShopifyAdminSandbox(AdminConfig(), clock, desk).add_routes(app)
    BusinessOAuth(desk).add_routes(app)
    AccountOAuth(desk).add_routes(app)
    TikTokShopSandbox(desk).add_routes(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0][:2])
    where = Endpoints(
        shopify_url=f"{url}/shopify/{{shop}}",
        tiktok_api_url=url,
        tiktok_consent_url=f"{url}/portal/auth",
        tiktok_account_consent_url=f"{url}/v2/auth/authorize/",
        tiktok_shop_auth_url=url,
        tiktok_shop_api_url=url,
        tiktok_shop_consent_url=f"{url}/open/authorize",
    )
    async with http_session() as session:
        yield Scene(dict(providers(where, session, clock)), session)
    await runner.cleanup()


_BROWSED = pytest.mark.parametrize(
    "family",
    [Family.SHOPIFY, Family.TIKTOK_BUSINESS, Family.TIKTOK_ACCOUNT, Family.TIKTOK_SHOP],
)


@_BROWSED
async def test_a_grant_is_agreed_to_and_turned_over(scene: Scene, family: Family) -> None:
    provider = scene.table[family]

    code, first = await scene.granted(family)
    second = await provider.refresh(_APP, _SHOP, first)
    with pytest.raises(ServiceError) as code_again:
        await provider.exchange(_APP, _CONSENT, code)

    assert first.expires_at is not None
    assert second.expires_at is not None
    assert second.access_token != first.access_token
    assert second.refresh_token != first.refresh_token
    assert (second.scopes, second.accounts) == (first.scopes, first.accounts)
    assert first.scopes
    assert code_again.value.code == CODE_REFUSED


@pytest.mark.parametrize(
    "family", [Family.TIKTOK_BUSINESS, Family.TIKTOK_ACCOUNT, Family.TIKTOK_SHOP]
)
async def test_tiktoks_refresh_token_is_good_once(scene: Scene, family: Family) -> None:
    provider = scene.table[family]
    _, first = await scene.granted(family)
    await provider.refresh(_APP, _SHOP, first)

    with pytest.raises(ServiceError) as again:
        await provider.refresh(_APP, _SHOP, first)

    assert again.value.code == GRANT_REVOKED


async def test_a_store_is_asked_whether_it_takes_a_token(scene: Scene) -> None:
    provider = scene.table[Family.SHOPIFY]
    assert isinstance(provider, Shopify)
    _, grant = await scene.granted(Family.SHOPIFY)

    before = await provider.tokens.is_alive(_SHOP, grant)
    await provider.revoke(_APP, _SHOP, grant)

    assert (before, await provider.tokens.is_alive(_SHOP, grant)) == (True, False)


@pytest.mark.parametrize("family", [Family.SHOPIFY, Family.TIKTOK_BUSINESS, Family.TIKTOK_ACCOUNT])
async def test_a_grant_that_was_revoked_is_over(scene: Scene, family: Family) -> None:
    provider = scene.table[family]
    _, grant = await scene.granted(family)

    await provider.revoke(_APP, _SHOP, grant)
    await provider.revoke(_APP, _SHOP, grant)
    with pytest.raises(ServiceError) as over:
        await provider.refresh(_APP, _SHOP, grant)

    assert over.value.code == GRANT_REVOKED


@_BROWSED
async def test_a_wrong_secret_is_our_own_fault(scene: Scene, family: Family) -> None:
    provider = scene.table[family]
    wrong = replace(_APP, secret=Secret("another-secret"))
    _, grant = await scene.granted(family)

    with pytest.raises(ServiceError) as at_refresh:
        await provider.refresh(wrong, _SHOP, grant)
    with pytest.raises(ServiceError) as at_exchange:
        await provider.exchange(wrong, _CONSENT, "any-code")

    assert (at_refresh.value.code, at_exchange.value.code) == (APP_REFUSED, APP_REFUSED)


@_BROWSED
async def test_a_person_may_say_no(scene: Scene, family: Family) -> None:
    answer = await scene.answer(family, "deny")

    with pytest.raises(ServiceError, match="declined"):
        scene.table[family].code(_APP, _CONSENT, answer)


async def test_a_sellers_grant_comes_with_the_shops_cipher(scene: Scene) -> None:
    _, grant = await scene.granted(Family.TIKTOK_SHOP)

    assert grant.shop_cipher == Secret(_CIPHER)
    assert grant.accounts[0] == "7494049642642441621"


async def test_client_credentials_are_worth_a_token(scene: Scene) -> None:
    own = scene.table[Family.SHOPIFY_OWN]

    first = await own.exchange(_APP, _CONSENT, "")
    second = await own.refresh(_APP, _SHOP, first)

    assert first.access_token != second.access_token
    assert second.expires_at is not None
