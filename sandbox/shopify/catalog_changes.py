"""What happens to a catalog while it is sold from, and what Shopify tells of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal, TypeAlias, get_args

from sandbox.shopify.catalog_bodies import (
    inventory_item_body,
    inventory_level_body,
    product_body,
    product_removal_body,
)
from sandbox.shopify.catalog_model import CatalogShop, OptionValue, Product, Variant
from sandbox.shopify.catalog_shop import VARIANTS_MAX, Maker
from sandbox.shopify.model import JsonObject
from sandbox.shopify.wire import Told, random_uuid

Kind: TypeAlias = Literal[
    "price", "stock", "text", "status", "delete", "add_product", "add_variant", "item", "image"
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_OFTEN: Final[tuple[Kind, ...]] = ("stock",) * 10 + ("price",) * 5 + ("text",) * 2
_STATUSES: Final = ("ACTIVE", "ACTIVE", "DRAFT", "ARCHIVED", "UNLISTED")
_NEW_SIZES: Final = (1, 1, 2, 3, 5, 8)


class Changes:
    """Changes a shop, one thing at a time; all choices come from `rng`.

    Every change makes its product newer by a second at least, even when several fall in one: the
    truth is then never in doubt, and a product that changes often may be a little ahead of time.
    """

    def __init__(self, shop: CatalogShop, rng: Random) -> None:
        self._shop = shop
        self._rng = rng
        self._numbers = list(shop.products)
        self._kinds: dict[Kind, Callable[[int], list[Told]]] = {
            "price": self.change_price,
            "stock": self.change_stock,
            "text": self.edit_text,
            "status": self.set_status,
            "delete": self.delete_product,
            "add_product": self.add_product,
            "add_variant": self.add_variant,
            "item": self.change_item,
            "image": self.change_image,
        }

    def mixed(self) -> Kind:
        """A kind of change, the frequent ones more often."""
        return self._rng.choice((*_OFTEN, *KINDS))

    def one(self, kind: Kind, now_s: int) -> list[Told]:
        """Makes one change; the webhooks that Shopify sends of it.

        Raises:
            LookupError: the shop has nothing (left) that could change so.
        """
        return self._kinds[kind](now_s)

    def change_price(self, now_s: int) -> list[Told]:
        """Another price of one variant, in its market countries too."""
        variant = self._variant()
        before = variant.price
        maker = self._maker(now_s)
        while variant.price == before:
            maker.price(variant)
        return self._updated(self._touched(variant, now_s), now_s, "price")

    def change_stock(self, now_s: int) -> list[Told]:
        """Another number at one location: sold, sold out, or restocked."""
        variant = self._variant()
        level = self._rng.choice(variant.item.levels)
        before = level.available
        draw = self._rng.random()
        wanted = 0 if draw < 0.3 else before - 1 if draw < 0.7 else before + 20
        level.available = wanted if wanted != before else before + 5
        product = self._touched(variant, now_s)
        level.updated_at_s = product.updated_at_s
        event_id = random_uuid(self._rng)
        body = inventory_level_body(level)
        told = self._told("inventory_levels/update", body, now_s, "stock", event_id)
        return [told, *self._updated(product, now_s, "stock", event_id)]

    def edit_text(self, now_s: int) -> list[Told]:
        """Another title or description."""
        product = self._product()
        maker = self._maker(now_s)
        if self._rng.random() < 0.5:
            product.title = maker.title(f"{product.title[:200]} No. {self._rng.randrange(100)}")
        else:
            product.body_html = f"{maker.body()}<p>Edition {self._rng.randrange(10**6)}</p>"
        return self._updated(self._touched(product, now_s), now_s, "text")

    def set_status(self, now_s: int) -> list[Told]:
        """Another status; what is drafted goes off the shop."""
        product = self._product()
        others = [one for one in _STATUSES if one != product.status]
        product.status = self._rng.choice(others)
        product.published_at_s = None if product.status == "DRAFT" else now_s
        return self._updated(self._touched(product, now_s), now_s, "status")

    def delete_product(self, now_s: int) -> list[Told]:
        """A product goes, with all its variants."""
        product = self._product()
        self._shop.remove(product.number)
        body = product_removal_body(product.number)
        return [self._told("products/delete", body, now_s, "delete")]

    def add_product(self, now_s: int) -> list[Told]:
        """A new product of a few variants."""
        product = self._maker(now_s).product(self._rng.choice(_NEW_SIZES))
        self._shop.add(product)
        self._numbers.append(product.number)
        for variant in product.variants:
            variant.created_at_s = now_s
            self._touched(variant, now_s)
        product.created_at_s = product.updated_at_s = now_s
        return [self._told("products/create", product_body(product), now_s, "add_product")]

    def add_variant(self, now_s: int) -> list[Told]:
        """A product comes in one more value of its first option."""
        product = self._product(
            lambda one: not one.has_only_default_variant and len(one.variants) < VARIANTS_MAX
        )
        maker = self._maker(now_s)
        number = maker.number()
        name = f"Edition {number % 10**6}"
        product.options[0].values.append(OptionValue(number, name))
        values = (name, *product.variants[0].values[1:])
        variant = maker.variant(product, values, len(product.variants) + 1)
        variant.created_at_s = now_s
        product.variants.append(variant)
        self._shop.add_variant(variant)
        return self._updated(self._touched(variant, now_s), now_s, "add_variant")

    def change_item(self, now_s: int) -> list[Told]:
        """Another weight, and now and then another SKU."""
        variant = self._variant()
        item = variant.item
        item.weight = (item.weight or 0.0) + 0.25
        if self._rng.random() < 0.3:
            variant.sku = f"TW-R{self._maker(now_s).number() % 10**9}"
        product = self._touched(variant, now_s)
        item.updated_at_s = product.updated_at_s
        event_id = random_uuid(self._rng)
        body = inventory_item_body(item)
        told = self._told("inventory_items/update", body, now_s, "item", event_id)
        return [told, *self._updated(product, now_s, "item", event_id)]

    def change_image(self, now_s: int) -> list[Told]:
        """Another picture at the same place."""
        product = self._product(lambda one: bool(one.media))
        medium = self._rng.choice(product.media)
        medium.url = f"{medium.url.partition('?')[0]}?v={self._maker(now_s).number() % 10**9}"
        return self._updated(self._touched(product, now_s), now_s, "image")

    def _product(self, fits: Callable[[Product], bool] = lambda _product: True) -> Product:
        products = self._shop.products
        for _ in range(200):
            if not self._numbers:
                break
            place = self._rng.randrange(len(self._numbers))
            found = products.get(self._numbers[place])
            if found is None:
                self._numbers[place] = self._numbers[-1]
                self._numbers.pop()
            elif fits(found):
                return found
        raise LookupError("the shop has nothing that could change so")

    def _variant(self) -> Variant:
        return self._rng.choice(self._product().variants)

    def _touched(self, changed: Product | Variant, now_s: int) -> Product:
        product = changed if isinstance(changed, Product) else changed.product
        product.updated_at_s = max(now_s, product.updated_at_s + 1)
        if isinstance(changed, Variant):
            changed.updated_at_s = product.updated_at_s
        return product

    def _updated(self, product: Product, now_s: int, kind: str, event_id: str = "") -> list[Told]:
        return [self._told("products/update", product_body(product), now_s, kind, event_id)]

    def _told(
        self, topic: str, body: JsonObject, now_s: int, kind: str, event_id: str = ""
    ) -> Told:
        at = datetime.fromtimestamp(now_s, UTC)
        return Told(topic, body, at, event_id or random_uuid(self._rng), f"catalog:{kind}")

    def _maker(self, now_s: int) -> Maker:
        return Maker(self._shop, self._rng, now_s)
