"""What happened in a shop, and what is to be told to TikTok, before any wire shape.

Personal fields stay out of every repr: these objects end up in error messages and test output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from services.events.domain.event_ids import EventKind
from services.events.domain.pages import bare_url


class Consent(StrEnum):
    """What the shopper allowed for advertising."""

    GRANTED = "granted"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Where a conversion happened, in the words of TikTok's `event_source`."""

    WEB = "web"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` units of `currency` (upper-case ISO 4217): 12000 USD is 120 dollars."""

    minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Price:
    """One amount in the shop's currency and, where they differ, in the shopper's."""

    shop: Money
    presentment: Money | None = None


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone number as typed, with the ISO 3166 country of the address it stood beside."""

    raw: str = field(repr=False)
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """The address that stands for the shopper: billing, else shipping, else the default one."""

    city: str | None = field(default=None, repr=False)
    province: str | None = field(default=None, repr=False)
    province_code: str | None = field(default=None, repr=False)
    zip_code: str | None = field(default=None, repr=False)
    country_code: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who did it, as Shopify and the browser told us; nothing normalised, nothing hashed.

    Lists are in order of trust: order, customer, billing, shipping.
    """

    emails: tuple[str, ...] = field(default=(), repr=False)
    phones: tuple[Phone, ...] = field(default=(), repr=False)
    external_ids: tuple[str, ...] = field(default=(), repr=False)
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    address: Address | None = None
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)
    locale: str | None = None
    ttclid: str | None = field(default=None, repr=False)
    ttp: str | None = field(default=None, repr=False)
    page_url: str | None = field(default=None, repr=False)
    referrer: str | None = field(default=None, repr=False)
    order_status_url: str | None = field(default=None, repr=False)
    landing_site: str | None = field(default=None, repr=False)
    consent: Consent = Consent.UNKNOWN
    sale_of_data_allowed: bool | None = None
    """False where the shopper opted out of the sale of their data (US state laws)."""


@dataclass(frozen=True, slots=True)
class Line:
    """A position of an order, checkout or cart.

    `total` is what all `quantity` units cost after the line's discounts, so that a discount that
    does not divide evenly is not rounded before it must be.
    """

    quantity: int
    total: Price
    variant_id: str | None = None
    product_id: str | None = None
    sku: str | None = None
    title: str | None = None
    brand: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class PaidOrder:
    """An order became paid at `paid_at_s` (Unix seconds)."""

    order_id: str
    paid_at_s: int
    total: Price
    lines: tuple[Line, ...]
    identity: Identity
    checkout_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    test: bool = False
    source_name: str | None = None
    """Shopify's `source_name`: `web`, `pos`, `shopify_draft_order`, an app's id or handle."""
    app_id: str | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StartedCheckout:
    """A checkout came into being at `started_at_s` (Unix seconds)."""

    checkout_token: str
    started_at_s: int
    total: Price
    lines: tuple[Line, ...]
    identity: Identity
    checkout_id: str | None = None
    cart_token: str | None = None


@dataclass(frozen=True, slots=True)
class CartLine:
    """A cart line as it stands now (`line.quantity` units) and how many it had before."""

    line: Line
    quantity_before: int


@dataclass(frozen=True, slots=True)
class CartLinesAdded:
    """A cart changed at `changed_at_s` (Unix seconds); lines that did not grow may be among them.

    Where a cart holds one variant in several lines (other engravings, say), all of them belong
    here: the event id counts the variant's units over the whole cart, as the browser does.
    """

    cart_token: str
    changed_at_s: int
    lines: tuple[CartLine, ...]
    identity: Identity


class Note(StrEnum):
    """What was left out of an event, for counting; the value itself is never kept."""

    EMAIL_DROPPED = "email_dropped"
    PHONE_DROPPED = "phone_dropped"
    EXTERNAL_ID_DROPPED = "external_id_dropped"
    IP_DROPPED = "ip_dropped"
    CLICK_ID_DROPPED = "click_id_dropped"
    CURRENCY_UNSUPPORTED = "currency_unsupported"
    LINE_WITHOUT_ID = "line_without_id"
    CONSENT_STRIPPED = "consent_stripped"


@dataclass(frozen=True, slots=True)
class MatchKeys:
    """What TikTok matches a person by: hashed where it wants hashes, else normalised."""

    emails: tuple[str, ...] = field(default=(), repr=False)
    phones: tuple[str, ...] = field(default=(), repr=False)
    external_ids: tuple[str, ...] = field(default=(), repr=False)
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    zip_code: str | None = field(default=None, repr=False)
    city: str | None = field(default=None, repr=False)
    state: str | None = field(default=None, repr=False)
    country: str | None = None
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = field(default=None, repr=False)
    locale: str | None = None
    ttclid: str | None = field(default=None, repr=False)
    ttp: str | None = field(default=None, repr=False)


NO_MATCH_KEYS = MatchKeys()


@dataclass(frozen=True, slots=True)
class Page:
    url: str = field(repr=False)
    referrer: str | None = field(default=None, repr=False)

    def bare(self) -> Page:
        """The page without what may point at a person."""
        return Page(bare_url(self.url), None)


@dataclass(frozen=True, slots=True)
class Content:
    """One line as TikTok sees it; `price` is of one unit."""

    content_id: str
    quantity: int
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """One event, ready for any dialect. Name and id are final: together they are TikTok's key."""

    kind: EventKind
    name: str
    event_id: str
    occurred_at_s: int
    contents: tuple[Content, ...]
    items: int
    match: MatchKeys = NO_MATCH_KEYS
    page: Page | None = None
    currency: str | None = None
    value: Decimal | None = None
    order_id: str | None = None
    source: Source = Source.WEB
    limited_data_use: bool = False
    test_event_code: str | None = None
    notes: tuple[Note, ...] = ()


class Reason(StrEnum):
    """Why something that happened is not told to TikTok."""

    TEST_ORDER = "test_order"
    DRAFT_ORDER = "draft_order"
    POINT_OF_SALE = "point_of_sale"
    OWN_ECHO = "own_echo"
    BEFORE_ACTIVATION = "before_activation"
    TOO_OLD = "too_old"
    CONSENT_DENIED = "consent_denied"
    CONSENT_UNKNOWN = "consent_unknown"
    NO_LINE_GREW = "no_line_grew"


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: Reason
