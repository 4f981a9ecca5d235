"""The providers, and the service's own apps there, from its settings."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from libs.clock import Clock
from libs.settings import Secret
from services.auth.adapters.providers.shopify import Shopify
from services.auth.adapters.providers.table import Endpoints, providers
from services.auth.adapters.providers.tiktok_business import TikTokBusiness
from services.auth.domain.grants import App, Family, Grant
from services.auth.ports import Provider
from services.auth.settings import Settings


class SettingsProviders:
    """`Providers` and `Sessions`."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._providers = providers(
            Endpoints(
                shopify_url=settings.shopify_base_url,
                tiktok_api_url=settings.tiktok_api_base_url,
                tiktok_api_version=settings.tiktok_api_version,
                tiktok_consent_url=settings.tiktok_consent_url,
                tiktok_account_consent_url=settings.tiktok_account_consent_url,
                tiktok_shop_auth_url=settings.tiktok_shop_auth_base_url,
                tiktok_shop_api_url=settings.tiktok_shop_api_base_url,
                tiktok_shop_consent_url=settings.tiktok_shop_consent_url,
            ),
            session,
            clock,
            shopify_expiring=settings.shopify_expiring,
        )
        self._apps = _apps(settings)

    def of(self, family: Family) -> Provider:
        return self._providers[family]

    def app(self, family: Family) -> App | None:
        return self._apps.get(family)

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        provider, app = self._providers[family], grant.app or self.app(family)
        if isinstance(provider, Shopify):
            return await provider.tokens.is_alive(shop, grant)
        if app is None or not isinstance(provider, TikTokBusiness):
            return False
        return await provider.is_alive(app, grant)

    async def exchange_session(self, app: App, session_token: str) -> tuple[str, Grant]:
        shopify = self._providers[Family.SHOPIFY]
        assert isinstance(shopify, Shopify)
        return await shopify.exchange_session(app, session_token)


def app_secrets(settings: Settings) -> Sequence[Secret]:
    """What signs the webhooks of stores that have the service's own app."""
    both = (settings.shopify_client_secret, settings.shopify_old_secret)
    return [secret for secret in both if secret is not None]


def _apps(settings: Settings) -> dict[Family, App]:
    named = {
        Family.SHOPIFY: (settings.shopify_client_id, settings.shopify_client_secret, ""),
        Family.SHOPIFY_OWN: (settings.shopify_client_id, settings.shopify_client_secret, ""),
        Family.TIKTOK_BUSINESS: (
            settings.tiktok_business_app_id,
            settings.tiktok_business_secret,
            "",
        ),
        Family.TIKTOK_ACCOUNT: (
            settings.tiktok_account_client_id,
            settings.tiktok_account_client_secret,
            "",
        ),
        Family.TIKTOK_SHOP: (
            settings.tiktok_shop_app_key,
            settings.tiktok_shop_app_secret,
            settings.tiktok_shop_service_id,
        ),
    }
    return {
        family: App(client_id, secret, service_id)
        for family, (client_id, secret, service_id) in named.items()
        if client_id and secret is not None
    }
