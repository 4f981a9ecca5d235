"""Products as Shopify's GraphQL tells them, read into ours. Pure.

Nothing here fails for a field: what is absent, denied or odd comes out as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from libs.errors import ServiceError
from libs.money import minor
from services.catalog.domain.graphql_documents import country_of, language_of, metafield_of
from services.catalog.domain.model import Image, Level, MarketPrice, Money, Product, Text, Variant

Node = Mapping[str, Any]
_Aliases = tuple[tuple[str, str], ...]

_GID: Final = "gid://shopify/"
_NUMBER_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 19
_PIXELS_MAX: Final = 2**31 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WEIGHT_UNITS: Final = {"GRAMS": "g", "KILOGRAMS": "kg", "OUNCES": "oz", "POUNDS": "lb"}
_PRODUCT_TEXTS: Final = ("title", "descriptionHtml", "vendor", "productType", "handle", "status")
_VARIANT_TEXTS: Final = ("sku", "barcode", "title", "inventoryPolicy")
_NOTHING: Final[Node] = {}


class VariantParts(NamedTuple):
    """A variant's node with those below it."""

    node: Node
    media: Sequence[Node]
    """At least their ids."""
    levels: Sequence[Node]


@lru_cache(maxsize=4096)
def kind_and_number(gid: str) -> tuple[str, int]:
    """Type and number of a global id; an empty type and 0 where it is none.

    `gid://shopify/InventoryLevel/5?inventory_item_id=7` is 5. Remembered, because lines of an
    export name the parents of lines nearby.
    """
    kind, _, tail = gid[14:].partition("/")
    if not tail.isdecimal():
        tail = tail.partition("?")[0]
    if gid[:14] != _GID or not tail.isdecimal() or len(tail) > _DIGITS_MAX:
        return "", 0
    number = int(tail)
    return (kind, number) if 0 < number <= _NUMBER_MAX else ("", 0)


def number_of(gid: object) -> str:
    """The number of a global id as text; empty where it has none."""
    if gid.__class__ is not str:
        return ""
    number = kind_and_number(gid)[1]
    return str(number) if number else ""


def instant_ns(text: object) -> int:
    """Nanoseconds since 1970 of a time as Shopify writes it; 0 where it cannot be read."""
    return _instant_ns(text) if text.__class__ is str else 0


@lru_cache(maxsize=8192)
def _instant_ns(text: str) -> int:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return 0
    since = (read if read.tzinfo else read.replace(tzinfo=UTC)) - _EPOCH
    nanos = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return max(0, nanos)


def money(amount: object, currency: object) -> Money | None:
    """An amount in a currency; None where one of the two cannot be read."""
    if amount.__class__ is str and currency.__class__ is str:
        return _money(amount, currency)
    return None


@lru_cache(maxsize=8192)
def _money(amount: str, currency: str) -> Money | None:
    try:
        return Money(minor(amount, currency), currency)
    except ServiceError:
        return None


def product_of(
    node: Node, media: Sequence[Node], variants: Iterable[VariantParts], currency: str
) -> Product:
    """The product that a node tells, with those below it.

    `currency` is the shop's own, which plain prices are in. Where nodes come in disorder, variants
    are put in the merchant's order, and of the images the main one comes first.
    """
    first = number_of(_object(node, "featuredMedia").get("id"))
    known = [one for one in map(image_of, media) if one is not None]
    images = {one.image_id: one for one in sorted(known, key=lambda one: one.image_id != first)}
    variants = sorted(variants, key=_position)
    options = _Options(node)
    title, body_html, vendor, product_type, handle, status = _texts_at(node, _PRODUCT_TEXTS)
    return Product(
        product_id=number_of(node.get("id")),
        title=title,
        body_html=body_html,
        vendor=vendor,
        product_type=product_type,
        handle=handle,
        status=status.lower(),
        published=node.get("publishedAt", "") is not None,
        tags=tuple(tag for tag in _items(node, "tags") if isinstance(tag, str)),
        option_names=options.names,
        category=_text(_object(node, "category"), "fullName"),
        images=tuple(images.values()),
        variants=tuple(_variant(one, images, options, currency) for one in variants),
        texts=_texts(node, options),
        metafields=_metafields(node, _aliases(tuple(node))[2]),
        updated_ns=instant_ns(node.get("updatedAt")),
    )


def image_of(node: Node) -> Image | None:
    """The image of a medium; None where it is no image, or not ready."""
    image = _object(node, "image")
    url = _text(image, "url")
    if not url:
        return None
    return Image(
        url=f"https:{url}" if url.startswith("//") else url,
        image_id=number_of(node.get("id")),
        width_px=_pixels(image, "width"),
        height_px=_pixels(image, "height"),
    )


def level_of(node: Node) -> Level | None:
    """The stock that a level tells; None where it does not tell where that is."""
    location_id = number_of(_object(node, "location").get("id"))
    if not location_id:
        return None
    available = None
    for one in _items(node, "quantities"):
        if one.__class__ is dict and one.get("name") == "available":
            available = _integer(one, "quantity")
    return Level(location_id, available, instant_ns(node.get("updatedAt")))


def _variant(
    parts: VariantParts, images: Mapping[str, Image], options: _Options, currency: str
) -> Variant:
    node = parts.node
    sku, barcode, title, policy = _texts_at(node, _VARIANT_TEXTS)
    item = _object(node, "inventoryItem")
    weight = _object(_object(item, "measurement"), "weight")
    values = options.values_of(node)
    own = _own_image(parts.media, images)
    tracked = item.get("tracked")
    _, prices, metafields = _aliases(tuple(node))
    return Variant(
        variant_id=number_of(node.get("id")),
        sku=sku,
        barcode=barcode,
        title=title,
        option_values=values,
        price=money(node.get("price"), currency),
        compare_at=money(node.get("compareAtPrice"), currency),
        policy=policy.lower(),
        inventory_item_id=number_of(item.get("id")),
        tracked=tracked if isinstance(tracked, bool) else None,
        quantity=_integer(node, "inventoryQuantity"),
        levels=_levels(parts.levels),
        image_id=own.image_id if own else "",
        image_url=own.url if own else "",
        weight=_decimal(weight.get("value")) if weight else "",
        weight_unit=_WEIGHT_UNITS.get(_text(weight, "unit"), "") if weight else "",
        prices=_prices(node, prices) if prices else {},
        option_texts=options.texts_of(values),
        metafields=_metafields(node, metafields) if metafields else {},
        updated_ns=instant_ns(node.get("updatedAt")),
    )


def _position(parts: VariantParts) -> int:
    return _integer(parts.node, "position") or 0


def _levels(nodes: Sequence[Node]) -> tuple[Level, ...]:
    """In one order whatever the order of the telling, so that equal stock compares equal."""
    told = [level for node in nodes if (level := level_of(node)) is not None]
    if len(told) <= 1:
        return tuple(told)
    levels = {level.location_id: level for level in told}
    return tuple(levels[key] for key in sorted(levels))


def _own_image(media: Sequence[Node], images: Mapping[str, Image]) -> Image | None:
    for medium in media:
        if own := images.get(number_of(medium.get("id"))) or image_of(medium):
            return own
    return None


class _Options:
    """A product's options, with the words for them in other languages."""

    __slots__ = ("_names_in", "_values_in", "names")

    def __init__(self, node: Node) -> None:
        options = [one for one in _objects(node, "options") if _text(one, "name")]
        self.names = tuple(one["name"] for one in options)
        self._names_in: dict[str, dict[str, str]] = {}
        self._values_in: dict[str, list[dict[str, str]]] = {}
        for place, option in enumerate(options):
            for language, name in _translated(option):
                self._names_in.setdefault(language, {})[option["name"]] = name
            for value in _objects(option, "optionValues"):
                for language, name in _translated(value):
                    known = self._values_in.setdefault(language, [{} for _ in options])
                    known[place][_text(value, "name")] = name

    def values_of(self, variant: Node) -> tuple[str, ...]:
        """What a variant chose, in the order of the options."""
        told = _items(variant, "selectedOptions")
        try:
            chosen = {one["name"]: one["value"] for one in told}
        except (KeyError, TypeError):
            return ()
        try:
            values = tuple([chosen[name] for name in self.names])
        except KeyError:
            values = tuple(chosen.values())
        return values if all(one.__class__ is str for one in values) else ()

    def names_in(self, language: str) -> Mapping[str, str]:
        return self._names_in.get(language, {})

    def languages(self) -> Iterable[str]:
        return self._names_in

    def texts_of(self, values: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Words for values, by language; empty for a value that a language has none for."""
        if not self._values_in or len(values) != len(self.names):
            return {}
        found = {
            language: tuple(
                words.get(value, "") for words, value in zip(known, values, strict=True)
            )
            for language, known in self._values_in.items()
        }
        return {language: words for language, words in found.items() if any(words)}


@lru_cache(maxsize=4096)
def _aliases(
    keys: tuple[str, ...],
) -> tuple[_Aliases, _Aliases, _Aliases]:
    """The aliases among the keys of a node, each with what it stands for.

    Languages, countries and metafields. All nodes of a kind have the same keys.
    """
    return tuple(
        tuple((key, meaning) for key in keys if (meaning := meaning_of(key)))
        for meaning_of in (language_of, country_of, metafield_of)
    )  # type: ignore[return-value]


def _texts(node: Node, options: _Options) -> Mapping[str, Text]:
    words = {language: _by_key(node[alias]) for alias, language in _aliases(tuple(node))[0]}
    found = {
        language: Text(
            title=words.get(language, {}).get("title", ""),
            body_html=words.get(language, {}).get("body_html", ""),
            option_names=options.names_in(language),
        )
        for language in {**words, **dict.fromkeys(options.languages())}
    }
    return {language: text for language, text in found.items() if text != Text()}


def _translated(node: Node) -> Iterable[tuple[str, str]]:
    """Languages that an option, or a value of one, has a name in, with the name."""
    for alias, language in _aliases(tuple(node))[0]:
        if name := _by_key(node[alias]).get("name"):
            yield language, name


def _by_key(told: object) -> dict[str, str]:
    if not isinstance(told, list):
        return {}
    return {_text(one, "key"): _text(one, "value") for one in told if isinstance(one, dict)}


def _prices(node: Node, aliases: _Aliases) -> Mapping[str, MarketPrice]:
    found = {}
    for alias, country in aliases:
        told = _object(node, alias)
        if price := _money_v2(told, "price"):
            found[country] = MarketPrice(price, _money_v2(told, "compareAtPrice"))
    return found


def _money_v2(node: Node, key: str) -> Money | None:
    told = _object(node, key)
    return money(told.get("amount"), told.get("currencyCode"))


def _metafields(node: Node, aliases: _Aliases) -> Mapping[str, str]:
    found = ((name, _text(_object(node, alias), "value")) for alias, name in aliases)
    return {name: value for name, value in found if value}


def _texts_at(node: Node, keys: tuple[str, ...]) -> list[str]:
    """As `_text` for each, at a third of the cost."""
    return [value if value.__class__ is str else "" for value in map(node.get, keys)]


def _text(node: Node, key: str) -> str:
    value = node.get(key)
    return value if value.__class__ is str else ""


def _object(node: Node, key: str) -> Node:
    value = node.get(key)
    return value if value.__class__ is dict else _NOTHING


def _items(node: Node, key: str) -> Sequence[Any]:
    value = node.get(key)
    return value if value.__class__ is list else ()


def _objects(node: Node, key: str) -> Sequence[Node]:
    return [one for one in _items(node, key) if one.__class__ is dict]


def _integer(node: Node, key: str) -> int | None:
    value = node.get(key)
    fits = value.__class__ is int and -_NUMBER_MAX <= value <= _NUMBER_MAX
    return value if fits else None


def _pixels(node: Node, key: str) -> int:
    return min(max(0, _integer(node, key) or 0), _PIXELS_MAX)


def _decimal(value: object) -> str:
    """A number as plain digits, as short as can be; empty where it is none."""
    return _digits(float(value)) if value.__class__ in {int, float} else ""


@lru_cache(maxsize=4096)
def _digits(value: float) -> str:
    number = Decimal(repr(value))
    return format(number.normalize(), "f") if number.is_finite() else ""
