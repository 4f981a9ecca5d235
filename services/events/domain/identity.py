"""A shopper's identity turned into match keys, with a note for everything that had to go."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from itertools import islice, starmap

from services.events.domain import hashing
from services.events.domain.click_ids import usable_click_id
from services.events.domain.model import Address, Identity, MatchKeys, Note, Phone

# The endpoint names no limit; a shopper has a handful, and a script's mistake has thousands.
VALUES_MAX = 10
_VALUES_READ_MAX = 50
_USER_AGENT_CHARACTERS_MAX = 2_048
_LOCALE_CHARACTERS_MAX = 35
# The library takes four times as long to read an IPv4 address, and most are.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_NO_ADDRESS = Address()


def match_keys(identity: Identity, shop_country: str | None) -> tuple[MatchKeys, tuple[Note, ...]]:
    """The keys to match `identity` by, and what could not be used.

    `shop_country` is the region of phone numbers that stand beside no address.
    """
    address = identity.address or _NO_ADDRESS
    country = address.country_code
    notes: list[Note] = []
    keys = MatchKeys(
        emails=_distinct(
            map(hashing.email_hash, _stated(identity.emails)), Note.EMAIL_DROPPED, notes
        ),
        phones=_distinct(_phones(identity.phones, shop_country), Note.PHONE_DROPPED, notes),
        external_ids=_distinct(
            map(hashing.external_id_hash, _stated(identity.external_ids)),
            Note.EXTERNAL_ID_DROPPED,
            notes,
        ),
        first_name=hashing.name_hash(identity.first_name) if identity.first_name else None,
        last_name=hashing.name_hash(identity.last_name) if identity.last_name else None,
        zip_code=hashing.zip_hash(address.zip_code, country) if address.zip_code else None,
        city=hashing.clear_place(address.city) if address.city else None,
        state=_state(address),
        country=hashing.clear_place(country) if country else None,
        ip=_noted(identity.ip, public_ip(identity.ip), Note.IP_DROPPED, notes),
        user_agent=_bounded(identity.user_agent, _USER_AGENT_CHARACTERS_MAX),
        locale=_locale(identity.locale),
        ttclid=_noted(
            identity.ttclid, usable_click_id(identity.ttclid), Note.CLICK_ID_DROPPED, notes
        ),
        ttp=_noted(identity.ttp, usable_click_id(identity.ttp), Note.CLICK_ID_DROPPED, notes),
    )
    return keys, tuple(notes)


def public_ip(raw: str | None) -> str | None:
    """`raw` where it may be a shopper's address on the internet, else None.

    Private, loopback, link-local and unspecified addresses are of proxies and servers. The ranges
    kept for documentation pass: they do no harm, and every example uses them.
    """
    text = (raw or "").strip()
    if not text:
        return None
    if _V4.fullmatch(text):
        return None if _is_local_v4(*map(int, text.split(".")[:2])) else text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    if address.ipv4_mapped is not None:
        return public_ip(str(address.ipv4_mapped))
    return None if _is_local_v6(int(address)) else text


def _is_local_v4(first: int, second: int) -> bool:
    return (
        first in {0, 10, 127}
        or first >= 224
        or (first == 100 and 64 <= second <= 127)
        or (first == 169 and second == 254)
        or (first == 172 and 16 <= second <= 31)
        or (first == 192 and second == 168)
    )


def _is_local_v6(number: int) -> bool:
    head = number >> 112
    return number <= 1 or head & 0xFE00 == 0xFC00 or head & 0xFFC0 == 0xFE80 or head >= 0xFF00


def _phones(phones: Iterable[Phone], shop_country: str | None) -> Iterable[str | None]:
    stated = (
        (phone.raw, phone.region or shop_country)
        for phone in islice(phones, _VALUES_READ_MAX)
        if phone.raw.strip()
    )
    return starmap(hashing.phone_hash, dict.fromkeys(stated))


def _stated(values: Iterable[str]) -> Iterable[str]:
    """Each once, without the empty ones: nothing was said there, so nothing is dropped.

    An order says the same address up to three times, and to hash it costs more than to look.
    """
    stated = (value for value in values if value and not value.isspace())
    return dict.fromkeys(islice(stated, _VALUES_READ_MAX))


def _distinct(hashes: Iterable[str | None], dropped: Note, notes: list[Note]) -> tuple[str, ...]:
    kept: dict[str, None] = {}
    for found in hashes:
        if found is None:
            notes.append(dropped)
        else:
            kept[found] = None
    return tuple(kept)[:VALUES_MAX]


def _noted(raw: str | None, usable: str | None, dropped: Note, notes: list[Note]) -> str | None:
    if raw and usable is None:
        notes.append(dropped)
    return usable


def _state(address: Address) -> str | None:
    """The code for the United States (`ca`), the name elsewhere (`mures`), else what there is."""
    named = (address.province, address.province_code)
    ordered = reversed(named) if (address.country_code or "").upper() == "US" else named
    return next((place for raw in ordered if raw and (place := hashing.clear_place(raw))), None)


def _bounded(raw: str | None, characters_max: int) -> str | None:
    text = (raw or "").strip()
    return text if text and len(text) <= characters_max else None


def _locale(raw: str | None) -> str | None:
    """BCP 47: `en_US` becomes `en-US`."""
    text = _bounded(raw, _LOCALE_CHARACTERS_MAX)
    return text.replace("_", "-") if text else None
