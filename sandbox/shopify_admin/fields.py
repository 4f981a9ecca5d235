"""How each field of a catalog is read: one table for single reads and for exports."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from graphql import (
    GraphQLError,
    GraphQLResolveInfo,
    default_field_resolver,
    default_type_resolver,
    get_named_type,
)

from sandbox.shopify.catalog_model import (
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
    price_in,
    utc,
)
from sandbox.shopify_admin.shapes import gid, windowed

Json = dict[str, Any]
Getter = Callable[[Any, Mapping[str, Any]], Any]

_MEASUREMENT_KIND: Final = "InventoryItemMeasurement"


class UnmodelledError(GraphQLError):
    """A field that Shopify has and this shop does not."""


def type_name(found: object) -> str | None:
    """What GraphQL calls this; None for what this table does not hold."""
    if isinstance(found, Medium):
        return found.type_name
    return _NAMES.get(type(found))


def resolve_field(found: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    """What a field gives, by the table or as GraphQL does it without one."""
    name = type_name(found)
    if name is None:
        return default_field_resolver(found, info, **arguments)
    value = getter_of(name, info.field_name)(found, arguments)
    if get_named_type(info.return_type).name.endswith("Connection"):
        return windowed(value)(info, **arguments)
    return value


def resolve_type(found: Any, info: GraphQLResolveInfo[Any], abstract: Any) -> Any:
    """The type of what stands for an interface."""
    return type_name(found) or default_type_resolver(found, info, abstract)


def getter_of(type_name: str, field: str) -> Getter:
    """How a field is read.

    Raises:
        UnmodelledError: this shop does not have it.
    """
    if field == "__typename":
        return lambda _found, _arguments: type_name
    try:
        return FIELDS[type_name][field]
    except KeyError:
        text = f"this sandbox has no {type_name}.{field}"
        raise UnmodelledError(text) from None


def counted(number: int) -> Json:
    """A Count."""
    return {"count": number, "precision": "EXACT"}


def _translations(known: Mapping[str, str], locale: str) -> list[Json]:
    return [
        {"key": key, "value": value, "locale": locale, "outdated": False, "updatedAt": None}
        for key, value in known.items()
    ]


def _named(found: Option | OptionValue, arguments: Mapping[str, Any]) -> list[Json]:
    name = found.translations.get(arguments["locale"])
    return _translations({"name": name} if name is not None else {}, arguments["locale"])


def _metafield(found: Product | Variant, arguments: Mapping[str, Any]) -> Metafield | None:
    wanted = (arguments.get("namespace") or "custom", arguments["key"])
    return next((one for one in found.metafields if (one.namespace, one.key) == wanted), None)


def _metafields(found: Product | Variant, arguments: Mapping[str, Any]) -> list[Metafield]:
    space, keys = arguments.get("namespace"), arguments.get("keys")
    return [
        one
        for one in found.metafields
        if space in {None, one.namespace}
        and (keys is None or one.key in keys or f"{one.namespace}.{one.key}" in keys)
    ]


class Chosen(NamedTuple):
    """What a variant is of one option."""

    option: Option
    value: str


def _chosen(variant: Variant, _arguments: object) -> list[Chosen]:
    return list(map(Chosen, variant.product.options, variant.values))


def _chosen_value(found: Chosen, _arguments: object) -> OptionValue | None:
    return next((one for one in found.option.values if one.name == found.value), None)


def _contextual(variant: Variant, arguments: Mapping[str, Any]) -> Price:
    return price_in(variant, arguments["context"].get("country"))


def _money(amount: str | None, currency: str) -> Json | None:
    return None if amount is None else {"amount": amount, "currencyCode": currency}


def _cost(item: Item, _arguments: object) -> Json | None:
    return _money(item.cost, item.variant.product.shop.currency)


def _measurement(item: Item, _arguments: object) -> Json:
    weight = item.weight and {"value": item.weight, "unit": item.weight_unit}
    return {"id": gid(_MEASUREMENT_KIND, item.number), "weight": weight or None}


def _level_at(item: Item, arguments: Mapping[str, Any]) -> Level | None:
    return next(
        (
            one
            for one in item.levels
            if gid("Location", one.location.number) == arguments["locationId"]
        ),
        None,
    )


class Quantity(NamedTuple):
    """One of the numbers that a level has."""

    level: Level
    name: str


def _quantities(level: Level, arguments: Mapping[str, Any]) -> list[Quantity]:
    return [Quantity(level, name) for name in arguments["names"]]


def _quantity(found: Quantity, _arguments: object) -> int:
    return found.level.available if found.name in {"available", "on_hand"} else 0


def level_id(level: Level) -> str:
    """The global id of a level."""
    number, item = level.location.number, level.item.number
    return f"gid://shopify/InventoryLevel/{number}?inventory_item_id={item}"


def _image(medium: Medium, _arguments: object) -> Json | None:
    if medium.status != "READY":
        return None
    return {
        "id": gid("ImageSource", medium.number + 1),
        "url": medium.url,
        "width": medium.width,
        "height": medium.height,
        "altText": medium.alt,
    }


def _id_of(kind: str) -> Getter:
    head = gid(kind, "")
    return lambda found, _arguments: f"{head}{found.number}"


class Attribute:
    """Reads an attribute; an export reads it without this detour."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, found: Any, _arguments: Mapping[str, Any]) -> Any:
        return getattr(found, self.name)


_at: Final = Attribute


def _instant(name: str) -> Getter:
    return lambda found, _arguments: utc(getattr(found, name))


_MEDIUM: Final[dict[str, Getter]] = {
    "alt": _at("alt"),
    "status": _at("status"),
    "mediaContentType": _at("content_type"),
}

FIELDS: Final[Mapping[str, Mapping[str, Getter]]] = {
    "Product": {
        "id": _id_of("Product"),
        "legacyResourceId": lambda found, _: str(found.number),
        "title": _at("title"),
        "descriptionHtml": _at("body_html"),
        "vendor": _at("vendor"),
        "productType": _at("product_type"),
        "handle": _at("handle"),
        "status": _at("status"),
        "tags": _at("tags"),
        "createdAt": _instant("created_at_s"),
        "updatedAt": _instant("updated_at_s"),
        "publishedAt": lambda found, _: (
            None if found.published_at_s is None else utc(found.published_at_s)
        ),
        "onlineStoreUrl": _at("online_store_url"),
        "category": lambda found, _: found.category and _category(found.category),
        "options": lambda found, given: found.options[: given.get("first")],
        "variants": _at("variants"),
        "variantsCount": lambda found, _: counted(len(found.variants)),
        "hasOnlyDefaultVariant": lambda found, _: found.has_only_default_variant,
        "totalInventory": lambda found, _: sum(one.quantity for one in found.variants),
        "media": _at("media"),
        "featuredMedia": lambda found, _: found.media[0] if found.media else None,
        "metafield": _metafield,
        "metafields": _metafields,
        "translations": lambda found, given: _translations(
            found.translations.get(given["locale"], {}), given["locale"]
        ),
    },
    "ProductVariant": {
        "id": _id_of("ProductVariant"),
        "legacyResourceId": lambda found, _: str(found.number),
        "sku": _at("sku"),
        "barcode": _at("barcode"),
        "title": _at("title"),
        "displayName": lambda found, _: f"{found.product.title} - {found.title or 'Default Title'}",
        "price": _at("price"),
        "compareAtPrice": _at("compare_at_price"),
        "position": _at("position"),
        "inventoryQuantity": _at("quantity"),
        "inventoryPolicy": _at("inventory_policy"),
        "availableForSale": _at("is_for_sale"),
        "taxable": lambda _found, _: True,
        "createdAt": _instant("created_at_s"),
        "updatedAt": _instant("updated_at_s"),
        "inventoryItem": _at("item"),
        "product": _at("product"),
        "selectedOptions": _chosen,
        "media": _at("media"),
        "metafield": _metafield,
        "metafields": _metafields,
        "translations": lambda _found, _: [],
        "contextualPricing": _contextual,
    },
    "SelectedOption": {
        "name": lambda found, _: found.option.name,
        "value": _at("value"),
        "optionValue": _chosen_value,
    },
    "ProductVariantContextualPricing": {
        "price": lambda found, _: _money(found.amount, found.currency),
        "compareAtPrice": lambda found, _: _money(found.compare_at, found.currency),
    },
    "InventoryItem": {
        "id": _id_of("InventoryItem"),
        "legacyResourceId": lambda found, _: str(found.number),
        "sku": lambda found, _: found.variant.sku,
        "tracked": _at("tracked"),
        "requiresShipping": lambda _found, _: True,
        "createdAt": lambda found, _: utc(found.variant.created_at_s),
        "updatedAt": _instant("updated_at_s"),
        "unitCost": _cost,
        "measurement": _measurement,
        "inventoryLevels": _at("levels"),
        "inventoryLevel": _level_at,
        "variant": _at("variant"),
        "variants": lambda found, _: [found.variant],
    },
    "InventoryLevel": {
        "id": lambda found, _: level_id(found),
        "isActive": lambda _found, _: True,
        "createdAt": lambda found, _: utc(found.item.variant.created_at_s),
        "updatedAt": _instant("updated_at_s"),
        "item": _at("item"),
        "location": _at("location"),
        "quantities": _quantities,
    },
    "InventoryQuantity": {
        "id": lambda found, _: f"{level_id(found.level)}&name={found.name}",
        "name": _at("name"),
        "quantity": _quantity,
        "updatedAt": lambda found, _: utc(found.level.updated_at_s),
    },
    "Location": {
        "id": _id_of("Location"),
        "legacyResourceId": lambda found, _: str(found.number),
        "name": _at("name"),
        "isActive": _at("is_active"),
        "fulfillsOnlineOrders": _at("fulfills_online_orders"),
        "shipsInventory": _at("fulfills_online_orders"),
    },
    "MediaImage": {"id": _id_of("MediaImage"), "image": _image, **_MEDIUM},
    "Video": {"id": _id_of("Video"), **_MEDIUM},
    "Metafield": {
        "id": _id_of("Metafield"),
        "namespace": _at("namespace"),
        "key": _at("key"),
        "type": _at("type"),
        "value": _at("value"),
        "updatedAt": _instant("updated_at_s"),
    },
    "ProductOption": {
        "id": _id_of("ProductOption"),
        "name": _at("name"),
        "position": _at("position"),
        "values": lambda found, _: [one.name for one in found.values],
        "optionValues": _at("values"),
        "translations": _named,
    },
    "ProductOptionValue": {
        "id": _id_of("ProductOptionValue"),
        "name": _at("name"),
        "hasVariants": lambda _found, _: True,
        "translations": _named,
    },
    "ShopLocale": {
        "locale": _at("code"),
        "name": _at("name"),
        "primary": _at("primary"),
        "published": _at("published"),
    },
}
"""How each field is read; what is not here the shop does not have."""


def _category(full_name: str) -> Json:
    return {
        "id": gid("TaxonomyCategory", f"sb-{zlib.crc32(full_name.encode())}"),
        "name": full_name.rpartition(" > ")[2],
        "fullName": full_name,
    }


_NAMES: Final[Mapping[type, str]] = {
    Product: "Product",
    Variant: "ProductVariant",
    Chosen: "SelectedOption",
    Price: "ProductVariantContextualPricing",
    Item: "InventoryItem",
    Level: "InventoryLevel",
    Quantity: "InventoryQuantity",
    Location: "Location",
    Metafield: "Metafield",
    Option: "ProductOption",
    OptionValue: "ProductOptionValue",
    Locale: "ShopLocale",
}
