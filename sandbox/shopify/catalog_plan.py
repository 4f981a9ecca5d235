"""What a generated catalog is to be like, and the invented words that it is made of."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Odd: TypeAlias = Literal["skus", "barcodes", "images", "statuses", "prices", "texts", "stock"]
ODDITIES: Final[tuple[Odd, ...]] = (
    "skus", "barcodes", "images", "statuses", "prices", "texts", "stock",
)  # fmt: skip


class CatalogPlan(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A catalog to be made; the same plan makes the same catalog."""

    shop: str
    """The domain."""

    seed: int = 1
    variants: int = 10_000
    """Exactly so many, of all products together."""

    currency: str = "USD"
    country: str = "US"
    primary_domain: str = ""
    """Where shoppers go; made up from `shop` if not said."""

    locales: tuple[str, ...] = ("fr", "de")
    """Beside English."""

    markets: dict[str, str] = msgspec.field(default_factory=lambda: {"FR": "EUR", "JP": "JPY"})
    """Countries with prices of their own, and their currencies."""

    locations: int = 3
    """The last of several does not sell online."""

    odd: tuple[Odd, ...] = ODDITIES
    """Kinds of trouble to mix in; with none, every item is as a catalog wants it:

    skus: empty and repeated ones; barcodes: wrong check digits and letters; images: none, http,
    unfinished; statuses: draft, archived, unlisted, unpublished; prices: nothing, and compare-at
    prices that are no bargain; texts: empty, endless, with scripts and broken tags, emoji titles,
    no vendor; stock: oversold and untracked.
    """


RATES: Final = {
    "USD": 1.0, "EUR": 0.92, "GBP": 0.79, "JPY": 149.0, "CAD": 1.36, "AUD": 1.52, "CHF": 0.88,
    "SEK": 10.4, "BHD": 0.376, "KRW": 1350.0, "VND": 25_400.0, "KWD": 0.307,
}  # fmt: skip
"""What a dollar is worth in this sandbox."""

LOCALE_NAMES: Final = {"en": "English", "fr": "French", "de": "German", "es": "Spanish"}

MOODS: Final = (
    "Harbour", "Juniper", "Driftwood", "Ember", "Meadow", "Basalt", "Saffron", "Tidal", "Heather",
    "Larkspur", "Cobble", "Marram", "Sorrel", "Quarry", "Fernsby", "Saltmarsh",
)  # fmt: skip
THINGS: Final = (
    ("Candle", "Bougie", "Kerze", "Home & Garden > Decor > Home Fragrances > Candles"),
    ("Teapot", "Théière", "Teekanne", "Home & Garden > Kitchen & Dining > Tableware > Teapots"),
    ("Rucksack", "Sac à dos", "Rucksack", "Luggage & Bags > Backpacks"),
    ("Blanket", "Couverture", "Decke", "Home & Garden > Linens & Bedding > Bedding > Blankets"),
    ("Lantern", "Lanterne", "Laterne", "Home & Garden > Lighting > Lanterns"),
    ("Apron", "Tablier", "Schürze", "Home & Garden > Kitchen & Dining > Kitchen Tools > Aprons"),
    ("Vase", "Vase", "Vase", "Home & Garden > Decor > Vases"),
    ("Jumper", "Pull", "Pullover", "Apparel & Accessories > Clothing > Clothing Tops > Sweaters"),
)  # fmt: skip
"""A thing in English, French and German, and its category."""

COLOURS: Final = (
    ("Navy", "Marine", "Marine"), ("Moss", "Mousse", "Moos"), ("Sand", "Sable", "Sand"),
    ("Coral", "Corail", "Koralle"), ("Slate", "Ardoise", "Schiefer"), ("Plum", "Prune", "Pflaume"),
    ("Rust", "Rouille", "Rost"), ("Ivory", "Ivoire", "Elfenbein"), ("Teal", "Sarcelle", "Petrol"),
    ("Ochre", "Ocre", "Ocker"), ("Lilac", "Lilas", "Flieder"), ("Charcoal", "Anthracite", "Kohle"),
    ("Navy/White", "Marine/Blanc", "Marine/Weiß"), ("Amber", "Ambre", "Bernstein"),
    ("Sky", "Ciel", "Himmel"), ("Rose", "Rose", "Rosa"), ("Olive", "Olive", "Olive"),
    ("Copper", "Cuivre", "Kupfer"), ("Pearl", "Perle", "Perle"), ("Ink", "Encre", "Tinte"),
    ("Clay", "Argile", "Ton"), ("Mint", "Menthe", "Minze"), ("Honey", "Miel", "Honig"),
    ("Fog", "Brume", "Nebel"), ("Berry", "Baie", "Beere"), ("Stone", "Pierre", "Stein"),
)  # fmt: skip
SIZES: Final = (
    "XXS", "XS", "S", "M", "L", "XL", "XXL", '12" round', "Größe 44", "One & a half", "36", "38",
    "40", "42", "46", "48",
)  # fmt: skip
MATERIALS: Final = ("Wool", "Linen", "Oak", "Glass", "Steel", "Cotton", "Hemp", "Felt")
VENDORS: Final = ("Tidal Works", "Fernsby & Daughters", "Atelier Morvane", "Nordkai", "O'Tarrant")
WORDS: Final = (
    "made by hand", "packed with care", "for long evenings", "light as a feather", "softly lit",
    "washed twice", "from one piece", "tested in the rain", "with a brass hook", "kept simple",
    "dyed in small batches", "good for gifts",
)  # fmt: skip
OPTION_NAMES: Final = {
    "Colour": {"fr": "Couleur", "de": "Farbe"},
    "Size": {"fr": "Taille", "de": "Größe"},
    "Material": {"fr": "Matière", "de": "Material"},
}
