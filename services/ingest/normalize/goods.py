"""What is sold and where it lies: products, inventory items and levels, fulfilments."""

from __future__ import annotations

from services.ingest.normalize.amounts import money
from services.ingest.normalize.lines import lines
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node
from tidewire.commerce.v1 import fulfillment_pb2, inventory_pb2, product_pb2

_PIXELS_MAX = 2**31 - 1


def product(node: Node, product_id: str, updated_at: Fields) -> product_pb2.Product:
    """The Product that a body tells, with the variants that came whole (at most 100)."""
    variants = [_variant(each) for each in node.children("variants")]
    known = node.raw.get("variant_gids")
    told: Fields = {
        "product_id": product_id,
        "title": node.text("title"),
        "body_html": node.text("body_html"),
        "vendor": node.text("vendor"),
        "product_type": node.text("product_type"),
        "handle": node.text("handle"),
        "status": node.text("status"),
        "tags": node.texts("tags"),
        "option_names": [name for each in node.children("options") if (name := each.text("name"))],
        "variants": variants,
        "variants_truncated": isinstance(known, list) and len(known) > len(variants),
        "images": [_image(each) for each in node.children("images")],
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
        "published_at": node.instant("published_at"),
        "flags": node.scope.flags,
    }
    return product_pb2.Product(**told)


def _variant(node: Node) -> Fields:
    own = node.scope.shop.currency
    options = [node.text(key) for key in ("option1", "option2", "option3")]
    return {
        "variant_id": node.identifier("id"),
        "sku": node.text("sku"),
        "barcode": node.text("barcode"),
        "title": node.text("title"),
        "option_values": [option for option in options if option],
        "price": money(node, "price", own),
        "compare_at_price": money(node, "compare_at_price", own),
        "inventory_quantity": node.integer("inventory_quantity"),
        "inventory_policy": node.text("inventory_policy"),
        "inventory_item_id": node.identifier("inventory_item_id"),
        "image_id": node.identifier("image_id"),
        "updated_at": node.instant("updated_at"),
    }


def _image(node: Node) -> Fields:
    url = node.text("src")
    return {
        "image_id": node.identifier("id"),
        "url": f"https:{url}" if url and url.startswith("//") else url,
        "alt": node.text("alt"),
        "width_px": _pixels(node, "width"),
        "height_px": _pixels(node, "height"),
    }


def _pixels(node: Node, key: str) -> int | None:
    found = node.count(key)
    if found is not None and found > _PIXELS_MAX:
        node.flag(key, "number_unreadable")
        return None
    return found


def item(node: Node, item_id: str, updated_at: Fields) -> inventory_pb2.InventoryItem:
    """The InventoryItem that a body tells; its cost is in the shop's currency."""
    told: Fields = {
        "inventory_item_id": item_id,
        "sku": node.text("sku"),
        "tracked": node.boolean("tracked"),
        "cost": money(node, "cost", node.scope.shop.currency),
        "country_of_origin": node.text("country_code_of_origin"),
        "requires_shipping": node.boolean("requires_shipping"),
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
    }
    return inventory_pb2.InventoryItem(**told)


def level(
    node: Node, item_id: str, location_id: str, updated_at: Fields
) -> inventory_pb2.InventoryLevel:
    """The InventoryLevel that a body tells.

    A disconnect is known by its body, not by its topic: two ids, and neither stock nor a time.
    """
    told: Fields = {
        "inventory_item_id": item_id,
        "location_id": location_id,
        "available": node.integer("available"),
        "updated_at": updated_at,
        "connected": "available" in node.raw or "updated_at" in node.raw,
    }
    return inventory_pb2.InventoryLevel(**told)


def fulfillment(node: Node, fulfillment_id: str, updated_at: Fields) -> fulfillment_pb2.Fulfillment:
    """The Fulfillment that a body tells; tracking comes as lists, or as one number and one page."""
    numbers, urls = node.texts("tracking_numbers"), node.texts("tracking_urls")
    number, url = node.text("tracking_number"), node.text("tracking_url")
    told: Fields = {
        "fulfillment_id": fulfillment_id,
        "order_id": node.identifier("order_id"),
        "status": node.text("status"),
        "shipment_status": node.text("shipment_status"),
        "tracking_company": node.text("tracking_company"),
        "tracking_numbers": numbers or ([number] if number else []),
        "tracking_urls": urls or ([url] if url else []),
        "line_items": lines(node, node.scope.shop.currency),
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
    }
    return fulfillment_pb2.Fulfillment(**told)
