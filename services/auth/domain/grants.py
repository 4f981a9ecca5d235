"""What a provider grants, and to which app: plain values, no IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from libs.settings import Secret


class Family(StrEnum):
    """Who grants, and by which dialogue; decides how a grant is refreshed and revoked."""

    SHOPIFY = "shopify"
    """Authorisation code or token exchange; may expire and rotate."""

    SHOPIFY_OWN = "shopify-client-credentials"
    """The app's own credentials: granted anew instead of refreshed."""

    TIKTOK_BUSINESS = "tiktok-business"
    """Marketing API; usually without expiry."""

    TIKTOK_ACCOUNT = "tiktok-account"
    """An account holder's consent, `/tt_user/oauth2/`."""

    TIKTOK_SHOP = "tiktok-shop"


@dataclass(frozen=True, slots=True)
class App:
    """An app at a provider: who asks for a grant."""

    client_id: str
    """Client id, app id or app key."""
    secret: Secret
    service_id: str = ""
    """TikTok Shop: what the consent page is opened with; not the app's key."""
    former: tuple[Secret, ...] = ()
    """Secrets before the last rotation: webhooks may still be signed with them for an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What was granted. Times have their zone; None means never, or not known."""

    access_token: Secret
    expires_at: datetime | None = None
    refresh_token: Secret | None = None
    refresh_expires_at: datetime | None = None
    scopes: tuple[str, ...] = ()
    """As the provider names them; empty where it does not say."""
    accounts: tuple[str, ...] = ()
    """Who granted: advertiser ids, an open id; of TikTok Shop the shop's id, then the open id."""
    shop_cipher: Secret | None = None
    app: App | None = None
    """The app, where it is not the service's own."""
    webhook_secrets: tuple[Secret, ...] = ()
    """Secrets that sign its webhooks, besides the app's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a browser is sent to a provider for."""

    shop: str
    """The shop's myshopify domain."""
    state: str
    """Signed, single use; comes back with the answer."""
    redirect_uri: str
    scopes: tuple[str, ...] = ()
    account: str = ""
    """Which one is meant, where who agrees has several: a TikTok Shop's id, code or region."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser brought back, query parameters in the order they came."""

    query: tuple[tuple[str, str], ...]
    received_at: datetime
    raw_query: str = field(default="", repr=False)
    """As it stood in the address, undecoded."""

    def one(self, name: str) -> str:
        """The parameter; empty where it is missing or stands there twice."""
        found = [value for key, value in self.query if key == name]
        return found[0] if len(found) == 1 else ""
