"""How one TikTok pixel wants its events: the settings of a connection, checked when loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from libs.errors import ServiceError, permanent
from services.events.domain.event_ids import DEFAULT_TEMPLATES, EventKind, event_id_template
from services.events.domain.pages import absolute_url


class DialectName(StrEnum):
    EVENT_TRACK = "event_track"
    PIXEL_TRACK = "pixel_track"


class ContentIdSource(StrEnum):
    """What `content_id` is taken from; it must equal the id that the catalog was given."""

    SKU = "sku"
    VARIANT_ID = "variant_id"
    PRODUCT_ID = "product_id"


class MoneyChoice(StrEnum):
    PRESENTMENT = "presentment"
    SHOP = "shop"


class ConsentPolicy(StrEnum):
    """What to do where nobody knows whether the shopper agreed."""

    SEND = "send"
    STRIP = "strip"
    """Send the event without anything that points at a person."""
    DROP = "drop"


class LimitedDataUse(StrEnum):
    """When events carry `limited_data_use`."""

    OFF = "off"
    ALWAYS = "always"
    OPT_OUT = "opt_out"
    """For shoppers who opted out of the sale of their data."""
    REGIONS = "regions"
    """For those, and for all of `limited_data_use_regions`."""


# The current name is the default of the current API, the legacy name that of the legacy one.
_PURCHASE_EVENTS = {
    DialectName.EVENT_TRACK: "Purchase",
    DialectName.PIXEL_TRACK: "CompletePayment",
}
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class OwnOrders:
    """How the orders that we brought in from TikTok Shop are recognised: any one sign is enough."""

    source_names: frozenset[str] = frozenset(
        {"tidewire", "tiktok", "tiktok-shop", "channel:tiktok-shop"}
    )
    app_ids: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset({"tidewire-tiktok-shop"})


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Settings of one pixel.

    `storefront_url` is the shop's own https address, the last resort of `page.url`.

    Raises:
        ServiceError: PERMANENT, `event_settings_invalid` or `event_id_template_invalid`.
    """

    pixel_code: str
    storefront_url: str
    dialect: DialectName = DialectName.EVENT_TRACK
    api_version: str = "v1.3"
    purchase_event: str | None = None
    """None: the default of the dialect."""
    shop_id: str | None = None
    """For event id templates that name `{shop_id}`."""
    country: str | None = None
    """ISO 3166 country of the shop, for phone numbers that stand beside no address."""
    content_id: ContentIdSource = ContentIdSource.SKU
    purchase_id_template: str = DEFAULT_TEMPLATES[EventKind.PURCHASE]
    checkout_id_template: str = DEFAULT_TEMPLATES[EventKind.INITIATE_CHECKOUT]
    cart_id_template: str = DEFAULT_TEMPLATES[EventKind.ADD_TO_CART]
    test_event_code: str | None = None
    money: MoneyChoice = MoneyChoice.PRESENTMENT
    guide_lists: bool = False
    """`pixel_track` only: `emails[]`, `phone_numbers[]` and one `content_type` beside contents."""
    consent_unknown: ConsentPolicy = ConsentPolicy.SEND
    limited_data_use: LimitedDataUse = LimitedDataUse.OFF
    limited_data_use_regions: frozenset[str] = frozenset()
    """Countries (`US`) or their parts (`US-CA`)."""
    offline_event_set_id: str | None = None
    """Where point of sale orders are reported, as offline events; None: they are not."""
    own_orders: OwnOrders = field(default_factory=OwnOrders)
    active_since_s: int | None = None
    """Unix seconds of the connection's activation; what is older is history. None: no limit."""
    max_event_age_s: int | None = 7 * _DAY_S
    """None: no limit, for previews."""
    shadow: bool = False
    """Map and record, but do not send."""

    def __post_init__(self) -> None:
        event_id_template(EventKind.PURCHASE, self.purchase_id_template)
        event_id_template(EventKind.INITIATE_CHECKOUT, self.checkout_id_template)
        event_id_template(EventKind.ADD_TO_CART, self.cart_id_template)
        for field_name, fault in self._faults():
            raise _invalid(field_name, fault)

    @property
    def purchase_name(self) -> str:
        return self.purchase_event or _PURCHASE_EVENTS[self.dialect]

    def _faults(self) -> list[tuple[str, str]]:
        legacy = self.dialect is DialectName.PIXEL_TRACK
        templates = (self.purchase_id_template, self.checkout_id_template, self.cart_id_template)
        checks = [
            ("pixel_code", not self.pixel_code.strip(), "is empty"),
            ("storefront_url", absolute_url(self.storefront_url) is None, "is no http(s) address"),
            ("purchase_event", self.purchase_event == "", "is empty; leave it out for the default"),
            ("offline_event_set_id", legacy and self.offline_event_set_id is not None,
             "needs the dialect event_track"),
            ("guide_lists", self.guide_lists and not legacy, "needs the dialect pixel_track"),
            ("shop_id", self.shop_id is None and any("{shop_id}" in t for t in templates),
             "is missing, but a template names {shop_id}"),
            ("max_event_age_s", (self.max_event_age_s or 0) > 28 * _DAY_S,
             "is above 28 days, the longest window in which TikTok attributes"),
        ]  # fmt: skip
        return [(name, fault) for name, wrong, fault in checks if wrong]


def _invalid(field_name: str, fault: str) -> ServiceError:
    return permanent("event_settings_invalid", f"{field_name} {fault}", path=f"$.{field_name}")
