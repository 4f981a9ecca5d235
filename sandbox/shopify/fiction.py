"""Invented shoppers: names, addresses, telephone numbers, browsers. None belongs to anybody.

Telephone numbers come from the ranges that national regulators keep free for film and radio; a
country without such a range goes without. E-mail addresses use the reserved example domains.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from random import Random

_FIRST = [
    "Ada",
    "Amaia",
    "Anselm",
    "Aoife",
    "Asha",
    "Bastian",
    "Bea",
    "Bram",
    "Calla",
    "Caspian",
    "Chidi",
    "Cleo",
    "Dagny",
    "Dario",
    "Dilys",
    "Edda",
    "Eero",
    "Elio",
    "Esme",
    "Ewan",
    "Fenna",
    "Fiora",
    "Gaspard",
    "Greta",
    "Hana",
    "Hollis",
    "Idris",
    "Ilse",
    "Imre",
    "Inés",
    "Jonah",
    "Jun",
    "Kaia",
    "Kenji",
    "Lars",
    "Leocadia",
    "Linnéa",
    "Maëlle",
    "Malik",
    "Marit",
    "Mirela",
    "Nadia",
    "Nils",
    "Noor",
    "Odile",
    "Orla",
    "Otto",
    "Pia",
    "Priya",
    "Quentin",
    "Rafe",
    "Roza",
    "Saskia",
    "Seren",
    "Soren",
    "Søren",
    "Tamsin",
    "Theo",
    "Uma",
    "Vesna",
    "Wilf",
    "Xenia",
    "Yara",
    "Zofia",
]
_LAST = [
    "Abernathy",
    "Alderwick",
    "Amundsgard",
    "Ashgrove",
    "Bakersby",
    "Barleycote",
    "Bellweather",
    "Birkensholm",
    "Brackenridge",
    "Carrowmore",
    "Castellane",
    "Dunmarrow",
    "Eddingsworth",
    "Elmhurst",
    "Fairbairn",
    "Fernsby",
    "Foxglove",
    "Galloway",
    "Greyfriar",
    "Halvorsrud",
    "Hartwell",
    "Hollowell",
    "Inverlane",
    "Jessamine",
    "Kestrelby",
    "Kirkholm",
    "Lindqvist",
    "Longmire",
    "Marchbanks",
    "Meadowcroft",
    "Merriweather",
    "Nightingale",
    "Norrland",
    "Oakenfell",
    "O'Tarrant",
    "Pemberlin",
    "Quillfeather",
    "Ravenscar",
    "Rosenquarz",
    "Saltmarsh",
    "Silberbach",
    "Stonebridge",
    "Tanglewood",
    "Thistledown",
    "Underhill",
    "Vandermeer",
    "Wainwright",
    "Waldemar",
    "Weatherby",
    "Winterbourne",
    "Yarrowby",
    "Zimmerwald",
]
_STREETS = ("Larkspur Way", "Old Mill Road", "Tidewater Street", "Quarry Lane", "Juniper Close")
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)"
_BROWSERS = (
    f"{_IPHONE} {_WEBKIT} Version/18.6 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} {_WEBKIT} Mobile/15E148 musical_ly_41.2.0 BytedanceWebview/d8a21c6",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_BLINK} Chrome/141.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_BLINK} Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
)


@dataclass(frozen=True)
class Place:
    """A town; `postcode` is None where the country has none."""

    city: str
    province: str | None
    province_code: str | None
    postcode: str | None


@dataclass(frozen=True)
class Country:
    """A country to live in.

    `phones` are templates for numbers reserved for fiction, as (dialling form, E.164 form): each
    `#` becomes one digit, the same in both.
    """

    code: str
    name: str
    locale: str
    utc_offset_minutes: int
    places: tuple[Place, ...]
    phones: tuple[tuple[str, str], ...] = ()


COUNTRIES = {
    country.code: country
    for country in (
        Country(
            "US",
            "United States",
            "en-US",
            -300,
            (
                Place("Albany", "New York", "NY", "12207"),
                Place("Madison", "Wisconsin", "WI", "53703-1101"),
                Place("Santa Fe", "New Mexico", "NM", "87501"),
            ),
            (
                ("(212) 555-01##", "+121255501##"),
                ("608-555-01##", "+160855501##"),
                ("505.555.01##", "+150555501##"),
                ("+1 415 555 01##", "+141555501##"),
            ),
        ),
        Country(
            "GB",
            "United Kingdom",
            "en-GB",
            0,
            (
                Place("Bath", "England", "ENG", "BA1 1AA"),
                Place("Stirling", "Scotland", "SCT", "FK8"),
            ),
            (("07700 900###", "+447700900###"), ("020 7946 0###", "+442079460###")),
        ),
        Country(
            "DE",
            "Germany",
            "de-DE",
            60,
            (Place("Münster", None, None, "48143"), Place("Görlitz", None, None, "02826")),
            (("030 23125###", "+493023125###"), ("0171 39200##", "+4917139200##")),
        ),
        Country(
            "FR",
            "France",
            "fr-FR",
            60,
            (Place("Besançon", None, None, "25000"), Place("Nîmes", None, None, "30900")),
            (("06 39 98 ## ##", "+3363998####"), ("01 99 00 ## ##", "+3319900####")),
        ),
        Country(
            "SE",
            "Sweden",
            "sv-SE",
            60,
            (Place("Umeå", None, None, "903 25"),),
            (("08-465 004 ##", "+468465004##"),),
        ),
        Country(
            "AU",
            "Australia",
            "en-AU",
            600,
            (Place("Ballarat", "Victoria", "VIC", "3350"),),
            (("(02) 5550 ####", "+6125550####"),),
        ),
        Country("JP", "Japan", "ja-JP", 540, (Place("札幌市", "Hokkaidō", "JP-01", "060-0001"),)),
        Country("BH", "Bahrain", "ar-BH", 180, (Place("Muharraq", None, None, None),)),
        Country("UY", "Uruguay", "es-UY", -180, (Place("Salto", "Salto", "UY-SA", "50000"),)),
    )
}


@dataclass(frozen=True)
class Person:
    """A shopper. `phone` is written as people write it; None or "" where nothing was given."""

    number: int
    first_name: str
    last_name: str
    email: str | None
    phone: str | None
    country: Country
    place: Place
    street: str
    ip: str
    user_agent: str
    ttclid: str | None
    ttp: str | None


def make_person(rng: Random, country: Country, number: int) -> Person:
    """A shopper of `country`; `number` keeps the e-mail address apart from everybody else's."""
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    return Person(
        number=number,
        first_name=first,
        last_name=last,
        email=_email(rng, number),
        phone=_phone(rng, country),
        country=country,
        place=rng.choice(country.places),
        street=f"{rng.randrange(1, 400)} {rng.choice(_STREETS)}",
        ip=_ip(rng),
        user_agent=rng.choice(_BROWSERS),
        ttclid=f"E.C.P.{_opaque(rng, 66)}" if rng.random() < 0.4 else None,
        ttp=f"01{_opaque(rng, 18)}" if rng.random() < 0.5 else None,
    )


def cart_token(rng: Random) -> str:
    """A cart token in one of the two forms that are in use: 32 hex digits, or base64."""
    if rng.random() < 0.7:
        return f"{rng.getrandbits(128):032x}"
    ulid = "".join(rng.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=26))
    return base64.b64encode(f"gcp-us-east1:{ulid}".encode()).decode()


def _email(rng: Random, number: int) -> str | None:
    draw = rng.random()
    if draw < 0.06:
        return None if draw < 0.04 else ""
    box = rng.choice(("shopper.{}", "Parcel.{}", "hello+{}", "mail_{}")).format(number)
    return f"{box}@{rng.choice(('example.com', 'example.org', 'Example.com'))}"


def _phone(rng: Random, country: Country) -> str | None:
    if not country.phones or rng.random() < 0.25:
        return None
    template = rng.choice(rng.choice(country.phones))
    return "".join(str(rng.randrange(10)) if char == "#" else char for char in template)


def _ip(rng: Random) -> str:
    draw = rng.random()
    if draw < 0.1:
        return f"2001:db8::{rng.randrange(1, 0xFFFF):x}"
    if draw < 0.2:
        return f"203.0.113.{rng.randrange(1, 255)}"
    # The documentation ranges alone would be too few, and are not public to a strict reader.
    return (
        f"{rng.randrange(24, 99)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    )


def _opaque(rng: Random, size_bytes: int) -> str:
    return base64.urlsafe_b64encode(rng.randbytes(size_bytes)).decode().rstrip("=")
