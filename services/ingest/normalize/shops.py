"""Shops, bulk operations, and what privacy law asks of a shop."""

from __future__ import annotations

from hashlib import sha256

from libs.errors import permanent
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node, tail
from tidewire.commerce.v1 import shop_pb2

SHOP_ID = "shop"
"""The one resource id of every shop's own state."""


def shop(node: Node, updated_at: Fields, uninstalled_at: Fields | None) -> shop_pb2.Shop:
    """The Shop that a body tells."""
    own_shop(node, "myshopify_domain")
    country = node.text("country_code") or node.text("country")
    told: Fields = {
        "shop_id": node.required_id("id"),
        "myshopify_domain": node.text("myshopify_domain"),
        "primary_domain": node.text("domain"),
        "name": node.text("name"),
        "country": country.upper() if country and len(country) == 2 else None,
        "currency": node.text("currency"),
        "timezone": node.text("iana_timezone"),
        "primary_locale": node.text("primary_locale"),
        "email": node.text("email"),
        "updated_at": updated_at,
        "uninstalled_at": uninstalled_at,
    }
    return shop_pb2.Shop(**told)


def scopes(node: Node) -> shop_pb2.Shop:
    """A Shop of which only the granted scopes are known."""
    return shop_pb2.Shop(granted_scopes=sorted(set(node.texts("current"))))


def own_shop(node: Node, key: str) -> None:
    """Nothing, if the domain under `key` is absent or that of the shop that claims the delivery.

    The shop of a delivery is an unsigned header: without this, the signed body of one shop's
    deletion request, sent again under another's name, would erase the other.

    Raises:
        ServiceError: PERMANENT, `wrong_shop` with the path, if it is another shop's.
    """
    domain = node.text(key)
    if domain and domain.lower().partition(".")[0] != node.scope.shop.shop.lower():
        raise permanent("wrong_shop", "the body is of another shop", path=f"{node.path}.{key}")


def bulk_operation(node: Node) -> tuple[str, shop_pb2.BulkOperation]:
    """The id (digits of the global id) and the BulkOperation that a body tells."""
    gid = node.text("admin_graphql_api_id") or ""
    operation_id = tail(gid)
    if not operation_id:
        raise node.wrong_shape("admin_graphql_api_id", "a bulk operation's global id is needed")
    told: Fields = {
        "operation_id": gid,
        "status": (node.text("status") or "").lower(),
        "error_code": (node.text("error_code") or "").lower(),
        "type": (node.text("type") or "").lower(),
        "created_at": node.instant("created_at"),
        "completed_at": node.instant("completed_at"),
    }
    return operation_id, shop_pb2.BulkOperation(**told)


def redaction(node: Node) -> tuple[str, shop_pb2.Redaction]:
    """The id and the Redaction that a body tells; the body's own keys say which of the three it is.

    The id is that of the request, or a hash of what is asked: the same request is one resource.
    """
    own_shop(node, "shop_domain")
    kind, listed = _redaction_kind(node)
    person = node.child("customer")
    request = node.child("data_request")
    told: Fields = {
        "kind": kind,
        "request_id": request.identifier("id") if request else None,
        "customer_id": person.identifier("id") if person else None,
        "email": person.text("email") if person else None,
        "phone": person.text("phone") if person else None,
        "order_ids": _ids(node, listed),
    }
    read = shop_pb2.Redaction(**told)
    if kind != shop_pb2.REDACTION_KIND_SHOP_REDACT and not _names_someone(read):
        raise node.wrong_shape("customer", "a customer's request must name the customer")
    return read.request_id or _hashed(node, read), read


def _redaction_kind(node: Node) -> tuple[shop_pb2.RedactionKind.ValueType, str]:
    if "orders_to_redact" in node.raw:
        return shop_pb2.REDACTION_KIND_CUSTOMER_REDACT, "orders_to_redact"
    if "data_request" in node.raw or "orders_requested" in node.raw:
        return shop_pb2.REDACTION_KIND_CUSTOMER_DATA_REQUEST, "orders_requested"
    return shop_pb2.REDACTION_KIND_SHOP_REDACT, ""


def _names_someone(read: shop_pb2.Redaction) -> bool:
    return bool(read.customer_id or read.email or read.phone or read.order_ids)


def _ids(node: Node, key: str) -> list[str]:
    """Ids of a list of numbers or texts, in its order; what is neither is flagged."""
    listed = node.raw.get(key) or []
    if not isinstance(listed, list):
        node.flag(key, "not_a_list")
        return []
    found = [tail(str(each)) if isinstance(each, (int, str)) else "" for each in listed[:10_000]]
    if not all(found):
        node.flag(key, "id_unreadable")
    return [each for each in found if each]


def _hashed(node: Node, read: shop_pb2.Redaction) -> str:
    asked = (str(read.kind), node.scope.shop.shop, read.customer_id, read.email, *read.order_ids)
    return sha256("\n".join(asked).encode()).hexdigest()[:32]
