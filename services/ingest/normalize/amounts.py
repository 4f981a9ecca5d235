"""Money of a body: `*_set` objects with both currencies, or plain amounts with one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from libs.errors import ServiceError
from libs.money import is_currency, minor_of
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node

SIDES = (("shop", "shop_money"), ("presentment", "presentment_money"))


def currency(node: Node, key: str, fallback: str) -> str:
    """The ISO 4217 code under `key`, upper case; `fallback` where there is none to read."""
    value = node.raw.get(key)
    if value is None:
        return fallback
    if isinstance(value, str) and is_currency(value.strip().upper()):
        return value.strip().upper()
    node.flag(key, "currency_unreadable")
    return fallback


def pair(node: Node, plain: str, both: str, money_currency: str) -> Fields | None:
    """A MoneyPair from the set under `both`, else from the amount under `plain`.

    A plain amount is in `money_currency`, the shop's. None where neither can be read.
    """
    raw = node.raw.get(both)
    if raw.__class__ is dict:
        found = _set(node, both, raw)
        if found is not None:
            return found
    elif raw is not None:
        node.flag(both, "not_an_object")
    amount = money(node, plain, money_currency)
    return None if amount is None else {"shop": amount}


def money(node: Node, key: str, money_currency: str) -> Fields | None:
    """A Money from the plain amount under `key`."""
    amount = node.raw.get(key)
    if amount is None:
        return None
    return _read(node, key, amount, money_currency)


def _set(node: Node, key: str, raw: dict[str, Any]) -> Fields | None:
    """Both sides of a set. The first way is the usual one; the second finds out what is odd."""
    try:
        shop, presentment = raw["shop_money"], raw["presentment_money"]
        one, rounded = _money(shop["amount"], shop["currency_code"])
        other, rounded_too = _money(presentment["amount"], presentment["currency_code"])
    except (KeyError, TypeError, ServiceError):
        return _odd_set(node, key)
    if rounded or rounded_too:
        node.flag(key, "money_rounded")
    return {"shop": one, "presentment": other}


def _odd_set(node: Node, key: str) -> Fields | None:
    """What can be read of a set, side by side."""
    found: Fields = {}
    both = node.child(key)
    for field, name in SIDES:
        side = both.child(name) if both else None
        amount = side.raw.get("amount") if side else None
        if side is not None and amount is not None:
            found[field] = _read(side, "amount", amount, side.raw.get("currency_code"))
    found = {field: amount for field, amount in found.items() if amount is not None}
    if "shop" not in found:
        node.flag(key, "money_unreadable")
    return found if "shop" in found else None


def _read(node: Node, key: str, amount: object, code: object) -> Fields | None:
    try:
        read, rounded = _money(amount, code)
    except (TypeError, ServiceError):
        node.flag(key, "money_unreadable")
        return None
    if rounded:
        node.flag(key, "money_rounded")
    return read


def _money(amount: Any, code: Any) -> tuple[Fields, bool]:
    if amount.__class__ is str and len(amount) < 20:
        return _remembered(amount, code)
    return _fresh(amount, code)


def _fresh(amount: Any, code: Any) -> tuple[Fields, bool]:
    amount_minor, rounded = minor_of(amount, code)
    return {"currency": code, "amount_minor": amount_minor}, rounded


# Each amount of an order comes twice (shop and presentment), and `0.00` a dozen times.
_remembered = lru_cache(maxsize=16_384)(_fresh)


def total(pairs: Iterable[Fields]) -> Fields | None:
    """The sum of pairs, side by side; a side that is missing or mixes currencies is left out."""
    found = list(pairs)
    sides = {field: _sum([each.get(field) for each in found]) for field, _ in SIDES}
    kept = {field: amount for field, amount in sides.items() if amount is not None}
    return kept or None


def _sum(amounts: list[Fields | None]) -> Fields | None:
    present = [amount for amount in amounts if amount is not None]
    if not present or len(present) < len(amounts):
        return None
    if len({amount["currency"] for amount in present}) > 1:
        return None
    amount_minor = sum(amount["amount_minor"] for amount in present)
    if abs(amount_minor) >= 2**63:
        return None
    return {"currency": present[0]["currency"], "amount_minor": amount_minor}
