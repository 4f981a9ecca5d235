"""The apps that are registered with the simulated platforms, and how strict each is taken.

They are changed over HTTP: `POST /_sandbox/apps` with one or a list, as JSON. An app that is known
keeps every field that is not sent, so that a test switches one thing alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

Provider: TypeAlias = Literal["shopify", "tiktok-business", "tiktok-account", "tiktok-shop"]
Rotation: TypeAlias = Literal["grace", "strict", "keep"]
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Named: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

DAY_S: Final = 86_400
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

ACCESS_S: Final[dict[str, float]] = {
    "shopify": 3600,
    "tiktok-business": DAY_S,
    "tiktok-account": DAY_S,
    "tiktok-shop": 7 * DAY_S,
}
REFRESH_S: Final[dict[str, float]] = {
    "shopify": 90 * DAY_S,
    "tiktok-business": 365 * DAY_S,
    "tiktok-account": 365 * DAY_S,
    "tiktok-shop": 365 * DAY_S,
}
CODE_S: Final[dict[str, float]] = {
    "shopify": 60,
    "tiktok-business": 3600,
    "tiktok-account": 3600,
    "tiktok-shop": 1800,
}


class SellerShop(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A TikTok Shop of the seller who consents."""

    id: str
    cipher: str
    name: str = "Sandbox Shop"
    region: str = "US"
    seller_type: Literal["LOCAL", "CROSS_BORDER"] = "LOCAL"
    code: str = "SANDBOX"


class App(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One app at one platform. Times are seconds; those left out are the platform's own."""

    provider: Provider
    id: Named
    """client_id, app_id or app_key."""

    secret: Named
    name: str = ""
    redirect_uris: list[str] = []
    """Allowed exactly as written. TikTok Shop sends people to the first, whatever they ask."""

    loopback_redirects: bool = True
    """http on 127.0.0.1, localhost or ::1 is allowed on any port and path."""

    scopes: list[str] = []
    """What the app may ask for. At TikTok for Business numbers, written as text."""

    rotation: Rotation | None = None
    """What becomes of a refresh token that was used: `grace` lets it live until its replacement is
    first used, `strict` kills it at once, `keep` gives it out again. None: Shopify `grace`, TikTok
    `strict`."""

    access_token_s: Positive | None = None
    refresh_token_s: Positive | None = None
    code_s: Positive | None = None
    grace_s: Positive = 30 * DAY_S
    """The longest that a replaced refresh token stays usable under `grace`."""

    # Shopify
    expiring: Literal["optional", "required"] = "optional"
    """`required`: a token without expiry is answered 403, as for public apps of 2026-04 and on."""

    client_credentials_shops: list[str] = []
    """Domains for which client credentials are given out; `*` for all."""

    loopback_webhooks: bool = False
    """Webhook addresses on loopback are taken, http too. Both platforms refuse them otherwise."""

    webhook_uri: str = ""
    """Where the topics of the app's own configuration (compliance, uninstall) are sent."""

    # TikTok for Business
    dialect: Literal["long_lived", "guide"] = "long_lived"
    """`guide`: the token ends after a day and comes with a refresh token, as the guide has it."""

    advertiser_ids: list[str] = []
    pixels: tuple[str, ...] = ("*",)
    """Pixels that a token of this app may report for; `*` for all."""

    # TikTok Shop, and the account holder
    service_id: str = ""
    open_id: str = "sandbox-open-id"
    shops: list[SellerShop] = []

    @property
    def key(self) -> tuple[str, str]:
        return self.provider, self.id

    @property
    def title(self) -> str:
        return self.name or self.id

    @property
    def access_s(self) -> float:
        return self.access_token_s or ACCESS_S[self.provider]

    @property
    def refresh_s(self) -> float:
        return self.refresh_token_s or REFRESH_S[self.provider]

    @property
    def code_life_s(self) -> float:
        return self.code_s or CODE_S[self.provider]

    @property
    def rotates(self) -> Rotation:
        return self.rotation or ("grace" if self.provider == "shopify" else "strict")

    def allows_redirect(self, uri: str) -> bool:
        """Whether a browser may be sent to `uri` with a code."""
        return uri in self.redirect_uris or (self.loopback_redirects and is_loopback(uri))


def is_loopback(uri: str) -> bool:
    """Whether `uri` is plain http(s) to this machine, with nothing that can be read in two ways.

    A backslash, user info or a fragment would be such.
    """
    if "\\" in uri or any(ord(letter) <= 32 for letter in uri):
        return False
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    odd = "@" in parts.netloc or parts.fragment or port == 0
    return parts.scheme in {"http", "https"} and not odd and parts.hostname in _LOOPBACK


SHOPIFY_SCOPES: Final = [
    "read_products",
    "read_inventory",
    "read_orders",
    "read_customers",
    "read_fulfillments",
    "write_orders",
    "write_products",
    "write_inventory",
    "read_assigned_fulfillment_orders",
    "write_assigned_fulfillment_orders",
    "read_merchant_managed_fulfillment_orders",
    "write_merchant_managed_fulfillment_orders",
    "read_fulfillment_orders",
    "write_fulfillment_orders",
    "read_locations",
    "read_translations",
    "read_locales",
    "read_markets",
]

DEFAULT_APPS: Final = (
    App(
        provider="shopify",
        id="sandbox-shopify-app",
        secret="sandbox-shopify-secret",  # noqa: S106 - made up, and says so
        name="Sandbox app",
        scopes=SHOPIFY_SCOPES,
        client_credentials_shops=["*"],
        loopback_webhooks=True,
    ),
    App(
        provider="tiktok-business",
        id="7000000000000000001",
        secret="sandbox-tiktok-secret",  # noqa: S106
        name="Sandbox app",
        # One of TikTok's own scope ids is beyond 2^53: who reads them as doubles loses it.
        scopes=["4", "9", "15", "900", "901", "910", "911", "9007199254740993"],
        advertiser_ids=["7000000000000000011", "7000000000000000012"],
    ),
    App(
        provider="tiktok-account",
        id="sandbox-account-app",
        secret="sandbox-account-secret",  # noqa: S106
        name="Sandbox app",
        scopes=["user.info.basic", "user.info.username", "video.list"],
        open_id="sandbox-account-open-id",
    ),
    App(
        provider="tiktok-shop",
        id="sandbox-shop-key",
        secret="sandbox-shop-secret",  # noqa: S106
        name="Sandbox app",
        service_id="7000000000000000021",
        redirect_uris=["http://127.0.0.1:8081/oauth/tiktok-shop/callback"],
        scopes=[
            "seller.authorization.info",
            "seller.order.info",
            "seller.fulfillment.basic",
            "seller.return_refund.basic",
            "seller.product.basic",
            "seller.product.write",
        ],
        shops=[SellerShop(id="7000000000000000031", cipher="SANDBOX_cipher_1")],
        loopback_webhooks=True,
    ),
)
"""Obviously made up, so that a sandbox works without being told anything."""


class AppBook:
    """Which apps there are."""

    def __init__(self, apps: Iterable[App] = DEFAULT_APPS) -> None:
        self._apps = {app.key: app for app in apps}

    def get(self, provider: Provider, app_id: str) -> App | None:
        return self._apps.get((provider, app_id))

    def of_service(self, service_id: str) -> App | None:
        """The TikTok Shop app with that `service_id`, which is not its key."""
        found = (app for app in self._apps.values() if app.provider == "tiktok-shop")
        return next((app for app in found if service_id and app.service_id == service_id), None)

    def of_provider(self, provider: Provider) -> list[App]:
        return [app for app in self._apps.values() if app.provider == provider]

    def post(self, body: bytes) -> list[App]:
        """Registers apps, or changes the fields sent of those that are known.

        Raises:
            msgspec.DecodeError: naming the field at fault; nothing is changed then.
        """
        found = msgspec.json.decode(body, type=list[dict[str, Any]] | dict[str, Any])
        changed = [self._merged(each) for each in (found if isinstance(found, list) else [found])]
        self._apps |= {app.key: app for app in changed}
        return changed

    def _merged(self, told: dict[str, Any]) -> App:
        known = self._apps.get((str(told.get("provider")), str(told.get("id"))))
        base = msgspec.to_builtins(known) if known is not None else {}
        return msgspec.convert(base | told, App)

    def listing(self) -> list[App]:
        """All of them, with their secrets: they are made up."""
        return list(self._apps.values())
