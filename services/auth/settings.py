"""Every knob of the auth service."""

from __future__ import annotations

from dataclasses import dataclass

from libs.foundation import CommonSettings
from libs.settings import Address, Secret, env


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Read once, from `TIDEWIRE_…`."""

    grpc_address: Address = env(
        "AUTH_GRPC_ADDRESS",
        "ConnectionService and TokenService",
        default=Address("127.0.0.1", 9084),
    )
    metrics_address: Address = env(
        "AUTH_METRICS_ADDRESS", "/livez /readyz /metrics", default=Address("127.0.0.1", 9184)
    )
    shopify_base_url: str = env(
        "SHOPIFY_BASE_URL",
        "Shopify's Admin API; `{shop}` stands for a shop's domain",
        default="https://{shop}",
    )
    shopify_api_version: str = env(
        "SHOPIFY_API_VERSION",
        "version of the Admin API where a connection names none",
        default="2026-10",
    )
    tiktok_api_base_url: str = env(
        "TIKTOK_API_BASE_URL", "TikTok for Business", default="https://business-api.tiktok.com"
    )
    tiktok_api_version: str = env("TIKTOK_API_VERSION", "version in the path", default="v1.3")
    tiktok_consent_url: str = env(
        "TIKTOK_CONSENT_URL",
        "where an advertiser agrees",
        default="https://business-api.tiktok.com/portal/auth",
    )
    tiktok_account_consent_url: str = env(
        "TIKTOK_ACCOUNT_CONSENT_URL",
        "where a TikTok account holder agrees",
        default="https://www.tiktok.com/v2/auth/authorize/",
    )
    tiktok_shop_auth_base_url: str = env(
        "TIKTOK_SHOP_AUTH_BASE_URL",
        "where TikTok Shop's tokens are given",
        default="https://auth.tiktok-shops.com",
    )
    tiktok_shop_api_base_url: str = env(
        "TIKTOK_SHOP_API_BASE_URL",
        "TikTok Shop's API",
        default="https://open-api.tiktokglobalshop.com",
    )
    tiktok_shop_consent_url: str = env(
        "TIKTOK_SHOP_CONSENT_URL",
        "where a seller agrees; in the United States"
        " https://services.us.tiktokshop.com/open/authorize",
        default="https://services.tiktokshop.com/open/authorize",
    )
    webhooks_url: str = env(
        "AUTH_WEBHOOKS_URL",
        "where stores send webhooks, such as https://hooks.example.com/webhooks/shopify; none: no"
        " subscription is made",
        default="",
    )
    tiktok_shop_webhooks_url: str = env(
        "AUTH_TIKTOK_SHOP_WEBHOOKS_URL",
        "where TikTok Shop sends webhooks: https on a domain, without a port, at most 255"
        " characters; none: no subscription is made",
        default="",
    )
    topics_in_app: bool = env(
        "AUTH_TOPICS_IN_APP",
        "the app's configuration subscribes for all stores: none is made at a store",
        default=False,
    )
    keep_every_s: float = env(
        "AUTH_KEEP_EVERY_S",
        "seconds between looks at a store's subscriptions, scopes and version",
        default=3600.0,
        least=1,
    )
    shopify_expiring: bool = env(
        "AUTH_SHOPIFY_EXPIRING",
        "ask for tokens that expire after an hour and are refreshed, as public apps must",
        default=True,
    )
    shopify_old_secret: Secret | None = env(
        "AUTH_SHOPIFY_OLD_CLIENT_SECRET",
        "the app's secret before it was rotated: signs webhooks for another hour",
        default=None,
    )
    http_address: Address = env(
        "AUTH_HTTP_ADDRESS",
        "pages for merchants who connect, and for the operator",
        default=Address("127.0.0.1", 8081),
    )
    public_url: str = env(
        "AUTH_PUBLIC_URL",
        "where browsers reach AUTH_HTTP_ADDRESS, without a path; https beyond this machine. The"
        " providers' apps name `<it>/oauth/<provider>/callback` as their redirect address",
        default="http://127.0.0.1:8081",
    )
    operator_password: Secret | None = env(
        "AUTH_OPERATOR_PASSWORD",
        "signs in to the page of connections, 12 characters or more; without one the page is off",
        default=None,
    )
    allow_installs: bool = env(
        "AUTH_ALLOW_INSTALLS",
        "connect stores whose owners install the app although nobody here began it",
        default=False,
    )
    shopify_scopes: tuple[str, ...] = env(
        "AUTH_SHOPIFY_SCOPES",
        "scopes that a store is asked for; none named: all that the suite needs",
        default=(),
    )
    tiktok_account_scopes: tuple[str, ...] = env(
        "AUTH_TIKTOK_ACCOUNT_SCOPES",
        "scopes that a TikTok account holder is asked for",
        default=(),
    )
    shopify_client_id: str = env("AUTH_SHOPIFY_CLIENT_ID", "the app at Shopify", default="")
    shopify_client_secret: Secret | None = env(
        "AUTH_SHOPIFY_CLIENT_SECRET", "its secret", default=None
    )
    tiktok_business_app_id: str = env(
        "AUTH_TIKTOK_BUSINESS_APP_ID", "the app at TikTok for Business", default=""
    )
    tiktok_business_secret: Secret | None = env(
        "AUTH_TIKTOK_BUSINESS_SECRET", "its secret", default=None
    )
    tiktok_account_client_id: str = env(
        "AUTH_TIKTOK_ACCOUNT_CLIENT_ID", "the app that account holders agree to", default=""
    )
    tiktok_account_client_secret: Secret | None = env(
        "AUTH_TIKTOK_ACCOUNT_CLIENT_SECRET", "its secret", default=None
    )
    tiktok_shop_app_key: str = env("AUTH_TIKTOK_SHOP_APP_KEY", "the app at TikTok Shop", default="")
    tiktok_shop_app_secret: Secret | None = env(
        "AUTH_TIKTOK_SHOP_APP_SECRET", "its secret", default=None
    )
    tiktok_shop_service_id: str = env(
        "AUTH_TIKTOK_SHOP_SERVICE_ID",
        "what its consent page is opened with; not the app's key",
        default="",
    )
