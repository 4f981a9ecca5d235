"""Who is asked for which family of grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from libs.clock import Clock
from libs.errors import permanent
from libs.http.client import Observe, unobserved
from services.auth.adapters.providers.calls import Caller
from services.auth.adapters.providers.shopify import CALLBACK_AGE_S, Shopify
from services.auth.adapters.providers.shopify_own import ShopifyOwn
from services.auth.adapters.providers.shopify_tokens import ShopifyTokens
from services.auth.adapters.providers.tiktok_account import TikTokAccount
from services.auth.adapters.providers.tiktok_business import TikTokBusiness
from services.auth.adapters.providers.tiktok_shop import TikTokShopProvider
from services.auth.domain.grants import Family
from services.auth.ports import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the providers are. Those that a browser is sent to are whole addresses."""

    shopify_url: str = "https://{shop}"
    """`{shop}` stands for a shop's domain; the browser is sent there too."""
    tiktok_api_url: str = "https://business-api.tiktok.com"
    tiktok_api_version: str = "v1.3"
    tiktok_consent_url: str = "https://business-api.tiktok.com/portal/auth"
    tiktok_account_consent_url: str = "https://www.tiktok.com/v2/auth/authorize/"
    tiktok_shop_auth_url: str = "https://auth.tiktok-shops.com"
    tiktok_shop_api_url: str = "https://open-api.tiktokglobalshop.com"
    tiktok_shop_consent_url: str = "https://services.tiktokshop.com/open/authorize"
    """Of the United States: `https://services.us.tiktokshop.com/open/authorize`."""


def providers(
    endpoints: Endpoints,
    session: aiohttp.ClientSession,
    clock: Clock,
    *,
    shopify_expiring: bool = True,
    shopify_callback_age_s: float = CALLBACK_AGE_S,
    timeout_s: float = 10.0,
    observe: Observe = unobserved,
) -> Mapping[Family, Provider]:
    """The provider of each family.

    Raises:
        ServiceError: PERMANENT, `base_url_without_shop`.
    """
    if "{shop}" not in endpoints.shopify_url:
        raise permanent("base_url_without_shop", "TIDEWIRE_SHOPIFY_BASE_URL needs {shop}")

    def caller(family: Family) -> Caller:
        return Caller(family.value, session, clock, timeout_s=timeout_s, observe=observe)

    def tokens(family: Family) -> ShopifyTokens:
        return ShopifyTokens(caller(family), endpoints.shopify_url)

    return {
        Family.SHOPIFY: Shopify(
            tokens(Family.SHOPIFY),
            expiring=shopify_expiring,
            callback_age_s=shopify_callback_age_s,
        ),
        Family.SHOPIFY_OWN: ShopifyOwn(tokens(Family.SHOPIFY_OWN)),
        Family.TIKTOK_BUSINESS: TikTokBusiness(
            caller(Family.TIKTOK_BUSINESS),
            api_url=endpoints.tiktok_api_url,
            api_version=endpoints.tiktok_api_version,
            consent_url=endpoints.tiktok_consent_url,
        ),
        Family.TIKTOK_ACCOUNT: TikTokAccount(
            caller(Family.TIKTOK_ACCOUNT),
            api_url=endpoints.tiktok_api_url,
            api_version=endpoints.tiktok_api_version,
            consent_url=endpoints.tiktok_account_consent_url,
        ),
        Family.TIKTOK_SHOP: TikTokShopProvider(
            caller(Family.TIKTOK_SHOP),
            auth_url=endpoints.tiktok_shop_auth_url,
            api_url=endpoints.tiktok_shop_api_url,
            consent_url=endpoints.tiktok_shop_consent_url,
        ),
    }
