"""A shop with as many variants as are wanted, always the same for a plan. All of it is invented."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, TypeVar

from sandbox.shopify.catalog_model import (
    DEFAULT_OPTION,
    DEFAULT_VALUES,
    VIDEO,
    CatalogShop,
    Item,
    Level,
    Locale,
    Location,
    Medium,
    Metafield,
    Option,
    OptionValue,
    Price,
    Product,
    Variant,
)
from sandbox.shopify.catalog_plan import (
    COLOURS,
    LOCALE_NAMES,
    MATERIALS,
    MOODS,
    OPTION_NAMES,
    RATES,
    SIZES,
    THINGS,
    VENDORS,
    WORDS,
    CatalogPlan,
    Odd,
)

VARIANTS_MAX: Final = 2048
"""Of one product (contracts: shopify.md 2)."""

_LARGE: Final = (VARIANTS_MAX, 250, 250, 250)
_LARGE_FROM: Final = 10_000
"""A catalog of so many variants has the large products too."""

_FIRST_NUMBER: Final = 8_000_000_000_000
_FIRST_LOCATION: Final = 61_000_000_001
_PLACES: Final = ("Harbour Street", "Hill Store", "Mill", "Depot", "Quay")
_DAY_S: Final = 86_400
_DECIMALS: Final = {"JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3}
_Any = TypeVar("_Any")
_LANGUAGES: Final = {"fr": 1, "de": 2}
_SCRIPT: Final = "<script>alert('sale')</script><style>p{color:red}</style>"
_ENDLESS: Final = 12_000


def make_catalog(plan: CatalogPlan, now_s: int) -> CatalogShop:
    """The shop of a plan, as it is at `now_s` (Unix time)."""
    handle = plan.shop.removesuffix(".myshopify.com")
    shop = CatalogShop(
        domain=plan.shop,
        currency=plan.currency,
        country=plan.country,
        primary_domain=plan.primary_domain or f"www.{handle}.example.com",
        locations=[
            Location(
                _FIRST_LOCATION + place,
                _PLACES[place % len(_PLACES)],
                fulfills_online_orders=place == 0 or place < plan.locations - 1,
            )
            for place in range(plan.locations)
        ],
        locales=[
            Locale(code, LOCALE_NAMES.get(code, code), primary=code == "en")
            for code in ("en", *plan.locales)
        ],
        plan=plan,
        last_number=_FIRST_NUMBER,
    )
    maker = Maker(shop, Random(plan.seed), now_s)
    with _collector_at_rest():
        for size in maker.sizes():
            shop.add(maker.product(size))
    return shop


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Of two million objects none is garbage: to look for some again takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Maker:
    """Makes products for a shop; all its choices come from `rng`."""

    def __init__(self, shop: CatalogShop, rng: Random, now_s: int) -> None:
        assert shop.plan is not None
        self._shop = shop
        self._plan = shop.plan
        self._rng = rng
        self._random = rng.random
        self._now_s = now_s
        self._odd = frozenset(shop.plan.odd)
        self._skus: list[str] = []

    def sizes(self) -> Iterator[int]:
        """How many variants each product has."""
        left = self._plan.variants
        large = iter(_LARGE if left >= _LARGE_FROM else ())
        place = 0
        while left > 0:
            place += 1
            # The large ones come early, but not first: what is large is to be met in the middle.
            size = next(large, 0) if place % 7 == 0 else 0
            size = min(left, size or self._size())
            left -= size
            yield size

    def _size(self) -> int:
        draw = self._random()
        if draw < 0.3:
            return 1
        if draw < 0.7:
            return self._between(2, 9)
        return self._between(9, 31) if draw < 0.9 else self._between(31, 101)

    def _between(self, low: int, high: int) -> int:
        """A number below `high`; there are so many that `randrange` would take too long."""
        return low + int(self._random() * (high - low))

    def _one_of(self, found: Sequence[_Any]) -> _Any:
        return found[int(self._random() * len(found))]

    def number(self) -> int:
        """The next id, a little above the last."""
        self._shop.last_number += self._between(1, 98)
        return self._shop.last_number

    def _strikes(self, odd: Odd, share: float) -> bool:
        """Whether this one is to have that trouble."""
        return odd in self._odd and self._random() < share

    def product(self, size: int) -> Product:
        """A product with `size` variants."""
        rng = self._rng
        thing = self._one_of(THINGS)
        mood = self._one_of(MOODS)
        number = self.number()
        made_s = self._now_s - self._between(2 * _DAY_S, 400 * _DAY_S)
        changed_s = made_s + self._between(0, self._now_s - made_s - _DAY_S)
        product = Product(
            number=number,
            title=self.title(f"{mood} {thing[0]}"),
            body_html=self.body(),
            vendor="" if self._strikes("texts", 0.02) else self._one_of(VENDORS),
            product_type=thing[0],
            handle=f"{mood.lower()}-{thing[0].lower()}-{number}",
            status="ACTIVE",
            tags=sorted(rng.sample(("gift", "new", "sale", "handmade", "winter"), 2)),
            created_at_s=made_s,
            updated_at_s=changed_s,
            published_at_s=made_s,
            category=thing[3] if self._random() < 0.8 else None,
        )
        self._hide(product)
        self._translate(product, mood, thing)
        product.media = list(self._media(product))
        if self._random() < 0.3:
            value = self._one_of(MATERIALS).lower()
            product.metafields = [
                Metafield(self.number(), "custom", "material", value, updated_at_s=changed_s)
            ]
        product.options, grid = self._options(size)
        for place, values in enumerate(itertools.islice(grid, size), 1):
            product.variants.append(self.variant(product, values, place))
        return product

    def _hide(self, product: Product) -> None:
        if "statuses" not in self._odd:
            return
        draw = self._random()
        if draw < 0.09:
            product.status = ("DRAFT", "ARCHIVED", "UNLISTED")[int(draw / 0.03)]
        if product.status == "DRAFT" or 0.09 <= draw < 0.1:
            product.published_at_s = None

    def title(self, plain: str) -> str:
        """A title; at most the 255 characters that Shopify takes."""
        if self._strikes("texts", 0.02):
            odd = ("🌊🕯️✨", f"{plain} 🌊", (f"{plain} " * 30)[:255].strip(), f"{plain} <b>& Co</b>")
            return self._one_of(odd)
        return plain

    def body(self) -> str:
        """A description in HTML."""
        rng = self._rng
        one, two, three = rng.sample(WORDS, 3)
        text = f"<p>{one.capitalize()} &amp; <b>{two}</b>.</p><ul><li>{three}</li></ul>"
        if self._strikes("texts", 0.08):
            odd = (
                "",
                _SCRIPT + text,
                "<p>" + f"{one}, {two}. " * (_ENDLESS // (len(one) + len(two) + 4)),
                f"<div><p>{one}<p>{two}<b><li>{three}</div></i> 5 &lt; 6 &nbsp;&euro;&#8364; <",
                f'<table><tr><td>{one}</td><td>{two}</td></tr></table><img src="x.png">',
            )
            return self._one_of(odd)
        return text

    def _translate(self, product: Product, mood: str, thing: tuple[str, ...]) -> None:
        for code in self._plan.locales:
            if self._random() < 0.8:
                word = thing[_LANGUAGES.get(code, 0)]
                product.translations[code] = {"title": f"{word} {mood}"}
                if self._random() < 0.7:
                    text = f"<p>{word} {mood} ({code}), <b>№ {product.number}</b>.</p>"
                    product.translations[code]["body_html"] = text

    def _media(self, product: Product) -> Iterator[Medium]:
        if self._strikes("images", 0.02):
            return
        for place in range(self._between(1, 7)):
            number = self.number()
            scheme = "http" if self._strikes("images", 0.01) else "https"
            url = (
                f"{scheme}://cdn.example.com/files/{product.handle}-{place}.jpg?v={number % 10**9}"
            )
            medium = Medium(number, url, alt=None if place else product.title)
            if place and self._random() < 0.03:
                medium = Medium(number, url, content_type=VIDEO)
            elif self._strikes("images", 0.01):
                medium.status = "PROCESSING"
            elif self._strikes("images", 0.02):
                medium.width = medium.height = 90
            yield medium

    def _options(self, size: int) -> tuple[list[Option], Iterator[tuple[str, ...]]]:
        """The options of a product of `size` variants, and their values, combined."""
        if size == 1 and self._random() < 0.7:
            default = OptionValue(self.number(), DEFAULT_VALUES[0])
            return [Option(self.number(), DEFAULT_OPTION, [default])], iter([DEFAULT_VALUES])
        if size <= len(SIZES):
            names = [("Size", size)]
        elif size <= len(SIZES) * len(COLOURS):
            sizes = min(len(SIZES), math.isqrt(size - 1) + 1)
            names = [("Colour", math.ceil(size / sizes)), ("Size", sizes)]
        else:
            names = [("Colour", 16), ("Size", 16), ("Material", 8)]
        options = [
            self._option(name, count, position) for position, (name, count) in enumerate(names, 1)
        ]
        values = [[one.name for one in option.values] for option in options]
        return options, itertools.product(*values)

    def _option(self, name: str, count: int, position: int) -> Option:
        named = {code: text for code, text in OPTION_NAMES[name].items() if self._speaks(code)}
        values = []
        for place in range(count):
            number = self.number()
            if name == "Colour":
                english, french, german = COLOURS[place]
                known = {"fr": french, "de": german}
                told = {code: text for code, text in known.items() if self._speaks(code)}
                values.append(OptionValue(number, english, told))
            else:
                pool = SIZES if name == "Size" else MATERIALS
                values.append(OptionValue(number, pool[place]))
        return Option(self.number(), name, values, named, position)

    def _speaks(self, code: str) -> bool:
        return code in self._plan.locales

    def variant(self, product: Product, values: tuple[str, ...], place: int) -> Variant:
        """One variant, with its item, its stock and its prices."""
        variant = Variant(
            number=self.number(),
            product=product,
            values=values,
            price="0",
            compare_at_price=None,
            sku=self._sku(product, place),
            barcode=self._barcode(),
            inventory_policy="CONTINUE" if self._random() < 0.05 else "DENY",
            position=place,
            created_at_s=product.created_at_s,
            updated_at_s=product.updated_at_s,
        )
        self.price(variant)
        if product.media and self._random() < 0.8:
            medium = product.media[place % len(product.media)]
            variant.media = [medium] if medium.content_type != VIDEO else []
        if self._random() < 0.05:
            code = f"C{place:03d}"
            variant.metafields = [
                Metafield(self.number(), "custom", "shade", code, updated_at_s=self._now_s)
            ]
        variant.item = self._item(variant)
        return variant

    def _item(self, variant: Variant) -> Item:
        item = Item(self.number(), variant, updated_at_s=variant.updated_at_s)
        item.tracked = not self._strikes("stock", 0.03)
        if self._random() < 0.8:
            item.weight = self._between(5, 4000) / 100
            item.weight_unit = self._one_of(("KILOGRAMS", "GRAMS", "OUNCES", "POUNDS"))
        if self._random() < 0.5:
            item.cost = _amount(self._between(100, 2000), self._plan.currency)
        for location in self._shop.locations:
            stock = self._between(0, 40) if self._random() < 0.85 else 0
            if self._strikes("stock", 0.01):
                stock = -self._between(1, 5)
            item.levels.append(Level(item, location, stock, variant.updated_at_s))
        return item

    def price(self, variant: Variant) -> None:
        """Gives a variant new prices, in its market countries too."""
        currency = self._plan.currency
        scale = RATES.get(currency, 1.0) * 10.0 ** _DECIMALS.get(currency, 2)
        minor = int(scale * self._between(300, 20_000) / 100)
        compare = minor * self._between(110, 160) // 100 if self._random() < 0.3 else None
        if self._strikes("prices", 0.02):
            minor, compare = self._one_of(((0, None), (minor, minor), (minor, minor // 2)))
        variant.price = _amount(minor, currency)
        variant.compare_at_price = None if compare is None else _amount(compare, currency)
        variant.prices = {
            country: Price(
                self._converted(minor, theirs),
                None if compare is None else self._converted(compare, theirs),
                theirs,
            )
            for country, theirs in self._plan.markets.items()
        }

    def _converted(self, minor: int, currency: str) -> str:
        own = self._plan.currency
        plain = minor / 10.0 ** _DECIMALS.get(own, 2) / RATES.get(own, 1.0)
        theirs = plain * RATES.get(currency, 1.0) * 10.0 ** _DECIMALS.get(currency, 2)
        return _amount(round(theirs), currency)

    def _sku(self, product: Product, place: int) -> str | None:
        if self._skus and self._strikes("skus", 0.02):
            return self._one_of(self._skus)
        if self._strikes("skus", 0.04):
            return self._one_of(("", None, "  "))
        sku = f"TW-{product.number % 10**9}-{place:04d}"
        if place == 1:
            self._skus.append(sku)
        return sku

    def _barcode(self) -> str | None:
        if self._strikes("barcodes", 0.08):
            return self._one_of(("", "ABC-123", "2000000000000", "12345", "978020137962x"))
        if self._random() < 0.4:
            return None
        # 20… is kept for use within one shop and belongs to nobody's goods.
        digits = f"20{self._between(0, 10**10):010d}"
        total = sum(int(one) * (3 if place % 2 else 1) for place, one in enumerate(digits))
        return f"{digits}{-total % 10}"


def _amount(minor: int, currency: str) -> str:
    """As Shopify writes it, with the decimals that the currency has."""
    decimals = _DECIMALS.get(currency, 2)
    return f"{minor / 10**decimals:.{decimals}f}"
