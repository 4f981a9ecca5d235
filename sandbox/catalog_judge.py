"""Compares what TikTok has in a catalog with what a shop sells, item by item: the judge of syncs.

GET /_sandbox/catalogs/<id>/against?shop=<domain>&country=…&currency=…&language=…

It knows the simulated shop's truth and what was really taken, and shares no code with the services
that stand between. It judges what must not be wrong: that each item is there and no other, what it
costs, whether it can be had, what it is called and where it leads. Products with oddities (a shop
made with `odd`) are judged by these rules too. Those that a merchant has to mend are left out: what
has no SKU or shares one, and what has no picture at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
from aiohttp import web

from sandbox.shopify.catalog_model import CatalogShop, Product, Variant

_LISTED_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Whom a catalog is for."""

    country: str = ""
    currency: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be right of one item."""

    variant: str
    group: str
    title: str
    """What the title begins with."""
    price: Decimal
    sale_price: Decimal | None
    availability: str
    link_end: str


def expected_items(shop: CatalogShop, market: Market) -> dict[str, Expected]:
    """Every item that a catalog must have, by SKU."""
    skus = Counter(one.sku for one in shop.variants.values())
    found = {}
    for product in shop.products.values():
        if product.status != "ACTIVE" or product.published_at_s is None or not product.media:
            continue
        for variant in product.variants:
            price = _price(shop, variant, market)
            sku = (variant.sku or "").strip()
            if sku and skus[variant.sku] == 1 and price is not None:
                found[sku] = _expected(product, variant, market, *price)
    return found


def _expected(
    product: Product, variant: Variant, market: Market, price: Decimal, former: Decimal | None
) -> Expected:
    on_sale = former is not None and former > price
    translated = product.translations.get(market.language, {}).get("title")
    return Expected(
        variant=str(variant.number),
        group=str(product.number),
        title=translated or product.title,
        price=former if on_sale and former is not None else price,
        sale_price=price if on_sale else None,
        availability=_availability(variant),
        link_end=f"/products/{product.handle}?variant={variant.number}",
    )


def _price(
    shop: CatalogShop, variant: Variant, market: Market
) -> tuple[Decimal, Decimal | None] | None:
    """What buyers pay and paid; None where the catalog cannot have the item."""
    theirs = variant.prices.get(market.country)
    if theirs is not None and theirs.currency == (market.currency or theirs.currency):
        price, former = theirs.amount, theirs.compare_at
    elif market.currency in ("", shop.currency):
        price, former = variant.price, variant.compare_at_price
    else:
        return None
    paid = Decimal(price)
    return (paid, Decimal(former) if former else None) if paid > 0 else None


def _availability(variant: Variant) -> str:
    if not variant.item.tracked or variant.quantity > 0:
        return "IN_STOCK"
    return "AVAILABLE_FOR_ORDER" if variant.inventory_policy == "CONTINUE" else "OUT_OF_STOCK"


def differences(expected: Mapping[str, Expected], items: Mapping[str, bytes]) -> Iterator[str]:
    """What is wrong with a catalog that has `items`, as they were sent, one line for each."""
    for sku, wanted in expected.items():
        raw = items.get(sku)
        if raw is None:
            yield f"{sku}: missing"
            continue
        yield from (f"{sku}: {line}" for line in _wrong(wanted, msgspec.json.decode(raw)))


def extra(
    expected: Mapping[str, Expected], items: Mapping[str, bytes], shop: CatalogShop
) -> list[str]:
    """Items that the shop does not sell. What it sells without a SKU of its own is none."""
    judged = {one.variant for one in expected.values()}
    ids = {str(one) for one in shop.variants}
    found = []
    for sku, raw in items.items():
        if sku in expected:
            continue
        variant = _link(msgspec.json.decode(raw)).rpartition("variant=")[2]
        odd = variant in ids and variant not in judged and _is_sold(shop, int(variant))
        if not odd:
            found.append(sku)
    return found


def _is_sold(shop: CatalogShop, number: int) -> bool:
    product = shop.variants[number].product
    return product.status == "ACTIVE" and product.published_at_s is not None


def _wrong(wanted: Expected, item: dict[str, Any]) -> Iterator[str]:
    read = _batch if "item_id" in item else _upload
    for name, is_value, should in read(wanted, item):
        if is_value != should:
            yield f"{name} is {is_value!r}, should be {should!r}"
    if not str(item.get("title", "")).startswith(wanted.title[:200]):
        yield f"title is {item.get('title')!r}, should begin with {wanted.title!r}"
    if not _link(item).endswith(wanted.link_end):
        yield f"link is {_link(item)!r}, should end with {wanted.link_end!r}"


def _upload(wanted: Expected, item: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    prices = item.get("price_info", {})
    sale = prices.get("sale_price")
    yield "price", Decimal(str(prices.get("price"))), wanted.price
    yield "sale_price", None if sale is None else Decimal(str(sale)), wanted.sale_price
    yield "availability", item.get("availability"), wanted.availability
    yield "item_group_id", item.get("item_group_id"), wanted.group


def _batch(wanted: Expected, item: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    paid = wanted.price if wanted.sale_price is None else wanted.sale_price
    yield "price", Decimal(str(item.get("price"))), paid
    availability = wanted.availability.lower().replace("_", " ")
    yield "availability", item.get("availability"), availability


def _link(item: Mapping[str, Any]) -> str:
    found = item.get("link") or item.get("landing_page", {}).get("landing_page_url") or ""
    return str(found)


class CatalogJudge:
    """The comparison over HTTP, for a process that simulates both."""

    def __init__(
        self,
        shop_of: Callable[[str], CatalogShop | None],
        items_of: Callable[[str], Mapping[str, bytes] | None],
    ) -> None:
        self._shop_of = shop_of
        self._items_of = items_of

    def add_routes(self, app: web.Application) -> None:
        """Serves beside the simulators."""
        app.router.add_get("/_sandbox/catalogs/{id}/against", self._compare)

    async def _compare(self, request: web.Request) -> web.Response:
        shop = self._shop_of(request.query.get("shop", ""))
        items = self._items_of(request.match_info["id"])
        if shop is None:
            return _json({"error": "no such shop, or it has no catalog"}, 404)
        market = Market(
            **{name: request.query.get(name, "") for name in ("country", "currency", "language")}
        )
        return _json(compared(shop, items or {}, market))


def compared(shop: CatalogShop, items: Mapping[str, bytes], market: Market) -> dict[str, Any]:
    """The verdict as data: equal where nothing is missing, too many or wrong."""
    expected = expected_items(shop, market)
    wrong = list(differences(expected, items))
    too_many = extra(expected, items, shop)
    return {
        "expected": len(expected),
        "items": len(items),
        "equal": not wrong and not too_many,
        "wrong": len(wrong),
        "wrong_items": len({line.partition(": ")[0] for line in wrong}),
        "extra": len(too_many),
        "wrong_listed": wrong[:_LISTED_MAX],
        "extra_listed": too_many[:_LISTED_MAX],
    }


def _json(found: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(found), status=status, content_type="application/json"
    )
