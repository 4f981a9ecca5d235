"""The gate that every event passes, whatever it is about: time and consent."""

from __future__ import annotations

from services.events.domain.model import Consent, Identity, Reason
from services.events.domain.settings import ConsentPolicy, EventSettings, LimitedDataUse


def refusal(
    identity: Identity, occurred_at_s: int, settings: EventSettings, now_s: float
) -> Reason | None:
    """Why nothing is sent of what happened at `occurred_at_s`, or None where it may be."""
    if settings.active_since_s is not None and occurred_at_s < settings.active_since_s:
        return Reason.BEFORE_ACTIVATION
    if settings.max_event_age_s is not None and now_s - occurred_at_s > settings.max_event_age_s:
        return Reason.TOO_OLD
    if identity.consent is Consent.DENIED:
        return Reason.CONSENT_DENIED
    unknown = identity.consent is Consent.UNKNOWN
    return (
        Reason.CONSENT_UNKNOWN
        if unknown and settings.consent_unknown is ConsentPolicy.DROP
        else None
    )


def must_strip(identity: Identity, settings: EventSettings) -> bool:
    """Whether the event goes without anything that points at a person."""
    unknown = identity.consent is Consent.UNKNOWN
    return unknown and settings.consent_unknown is ConsentPolicy.STRIP


def limits_data_use(identity: Identity, settings: EventSettings) -> bool:
    """Whether TikTok may use the event's data only in the limited way."""
    match settings.limited_data_use:
        case LimitedDataUse.OFF:
            return False
        case LimitedDataUse.ALWAYS:
            return True
        case LimitedDataUse.OPT_OUT:
            return identity.sale_of_data_allowed is False
        case LimitedDataUse.REGIONS:
            opted_out = identity.sale_of_data_allowed is False
            return opted_out or not _regions(identity).isdisjoint(settings.limited_data_use_regions)


def _regions(identity: Identity) -> frozenset[str]:
    if identity.address is None or not identity.address.country_code:
        return frozenset()
    country = identity.address.country_code.upper()
    part = (identity.address.province_code or "").upper()
    return frozenset({country, f"{country}-{part}"})
