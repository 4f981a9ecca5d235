"""Who buys: telephone numbers, addresses, customers, browsers, and what the storefront wrote."""

from __future__ import annotations

from libs.phones import RAW_LENGTH_MAX, e164
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node, same

_ADDRESS_TEXTS = (
    *same("first_name", "last_name", "company", "city", "zip"),
    *(("line1", "address1"), ("line2", "address2"), ("province", "province_code")),
)
_CUSTOMER_TEXTS = same("email", "first_name", "last_name")


def phone(node: Node, key: str, country: str | None) -> Fields | None:
    """A Phone: E.164 read by `country`, else by the shop's; else raw and flagged."""
    raw = node.text(key)
    if not raw or not raw.strip():
        return None
    read = e164(raw, country or node.scope.shop.country)
    if read is not None:
        return {"e164": read}
    node.flag(key, "phone_unreadable")
    return {"raw": raw[:RAW_LENGTH_MAX]}


def address(node: Node | None) -> Fields | None:
    """An Address, or None where there is none."""
    if node is None:
        return None
    at = country(node)
    told: Fields = {"country": at, "phone": phone(node, "phone", at)}
    node.fill(told, _ADDRESS_TEXTS)
    if "province" not in told:
        told["province"] = node.text("province")
    return told


def country(node: Node | None) -> str | None:
    """ISO 3166-1 alpha-2 of an address, upper case; None where only a name is given."""
    if node is None:
        return None
    code = node.text("country_code") or node.text("country")
    if code and len(code) == 2 and code.isascii() and code.isalpha():
        return code.upper()
    return None


def customer(node: Node | None) -> Fields | None:
    """A Customer, or None where there is none."""
    if node is None:
        return None
    home = node.child("default_address")
    told: Fields = {
        "customer_id": node.identifier("id"),
        "phone": phone(node, "phone", country(home)),
        "default_address": address(home),
        "updated_at": node.instant("updated_at"),
    }
    node.fill(told, _CUSTOMER_TEXTS)
    return told


def client(node: Node) -> Fields | None:
    """A ClientContext of an order or a checkout; None where Shopify recorded nothing."""
    details = node.child("client_details")
    ip = agent = accepted = None
    if details is not None:
        ip, agent = details.text("browser_ip"), details.text("user_agent")
        accepted = details.text("accept_language")
    found = {
        "ip": ip or node.text("browser_ip"),
        "user_agent": agent,
        "locale": node.text("customer_locale") or _first_language(accepted),
        "landing_site": node.text("landing_site"),
        "referring_site": node.text("referring_site"),
    }
    return found if any(found.values()) else None


def _first_language(accepted: str | None) -> str | None:
    """The language that an Accept-Language header puts first; None for `*`."""
    first = (accepted or "").partition(",")[0].partition(";")[0].strip()
    return first if first and first != "*" else None


def attributes(node: Node, key: str) -> list[Fields]:
    """Attributes from a list of names and values, or from an object; null and empty are none."""
    value = node.raw.get(key)
    if not value:
        return []
    if isinstance(value, dict):
        named = Node(value, node.scope, node, f".{key}")
        read = [_attribute(name, named.text(name)) for name in value]
    else:
        read = [_attribute(each.text("name"), each.text("value")) for each in node.children(key)]
    return [each for each in read if each is not None]


def _attribute(name: str | None, value: str | None) -> Fields | None:
    return {"name": name, "value": value} if name and value is not None else None
