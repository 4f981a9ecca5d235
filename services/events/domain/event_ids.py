"""Event ids from documented templates, so that the browser leg can build the very same ones.

TikTok drops the second event of one pixel with the same name and id, so a template must give
different ids to different things and the same id to the same thing, on both legs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from string import Formatter

from libs.errors import ServiceError, permanent


class EventKind(StrEnum):
    PURCHASE = "purchase"
    INITIATE_CHECKOUT = "initiate_checkout"
    ADD_TO_CART = "add_to_cart"


# Those that are digits alone. All others may hold any character, so one template takes one of them.
_NUMBERS = frozenset(
    {"order_id", "checkout_id", "shop_id", "variant_id", "quantity_after", "occurred_at_s"}
)

PLACEHOLDERS: Mapping[EventKind, frozenset[str]] = {
    EventKind.PURCHASE: frozenset(
        {"order_id", "checkout_id", "checkout_token", "cart_token", "shop_id", "occurred_at_s"}
    ),
    EventKind.INITIATE_CHECKOUT: frozenset(
        {"checkout_token", "checkout_id", "cart_token", "shop_id", "occurred_at_s"}
    ),
    EventKind.ADD_TO_CART: frozenset({"cart_token", "variant_id", "quantity_after", "shop_id"}),
}
"""What a template of each kind may name."""

# Of each set a template must name at least one, or two different events would share an id.
_REQUIRED: Mapping[EventKind, tuple[frozenset[str], ...]] = {
    EventKind.PURCHASE: (frozenset({"order_id", "checkout_id", "checkout_token"}),),
    EventKind.INITIATE_CHECKOUT: (frozenset({"checkout_token", "checkout_id"}),),
    EventKind.ADD_TO_CART: (
        frozenset({"cart_token"}),
        frozenset({"variant_id"}),
        frozenset({"quantity_after"}),
    ),
}

DEFAULT_TEMPLATES: Mapping[EventKind, str] = {
    EventKind.PURCHASE: "purchase.{order_id}",
    EventKind.INITIATE_CHECKOUT: "checkout.{checkout_token}",
    EventKind.ADD_TO_CART: "atc.{cart_token}.{variant_id}.{quantity_after}",
}

_TEMPLATE_CHARACTERS_MAX = 200
# More than there are templates in a process: an entry a kind and connection that differs.
_TEMPLATES_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class EventIdTemplate:
    """A template that was found good: literals around placeholders."""

    text: str
    placeholders: tuple[str, ...]

    def fill(self, values: Mapping[str, str | None]) -> str | None:
        """The id, or None where the event lacks a value that the template names."""
        if not all(values.get(name) for name in self.placeholders):
            return None
        return self.text.format_map(values)


@lru_cache(maxsize=_TEMPLATES_KEPT)
def event_id_template(kind: EventKind, text: str) -> EventIdTemplate:
    """The template `text` for events of `kind`, e.g. `shp_{shop_id}_{order_id}`.

    Raises:
        ServiceError: PERMANENT, `event_id_template_invalid`; the message names the placeholder.
    """
    parts = _parts(kind, text)
    names = tuple(name for _, name in parts if name is not None)
    _check_names(kind, names)
    _check_separators(kind, parts)
    return EventIdTemplate(text, names)


def event_id(kind: EventKind, text: str, values: Mapping[str, str | None]) -> str:
    """The id of one event by the template `text`.

    An event that lacks what a custom template names (a draft order has no checkout token) gets its
    id by the default template of its kind.

    Raises:
        ServiceError: PERMANENT, `event_id_incomplete`, where that one cannot be filled either.
    """
    filled = event_id_template(kind, text).fill(values)
    if filled is None and text != DEFAULT_TEMPLATES[kind]:
        filled = event_id_template(kind, DEFAULT_TEMPLATES[kind]).fill(values)
    if filled is None:
        raise permanent("event_id_incomplete", f"the {kind} has no value for {text!r}")
    return filled


def cart_token(raw: str | None) -> str | None:
    """A cart's token as both legs know it: the cookie's form also carries `?key=…` behind it."""
    return (raw or "").partition("?")[0] or None


def _parts(kind: EventKind, text: str) -> list[tuple[str, str | None]]:
    """(literal, the placeholder behind it) from left to right."""
    if not 0 < len(text) <= _TEMPLATE_CHARACTERS_MAX:
        raise _invalid(kind, f"is empty or over {_TEMPLATE_CHARACTERS_MAX} characters")
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise _invalid(kind, f"has a brace without its partner: {error}") from error
    for _, name, form, conversion in parsed:
        if form or conversion:
            raise _invalid(kind, f"formats {{{name}}}; a placeholder is a bare name")
    return [(literal, name) for literal, name, _, _ in parsed]


def _check_names(kind: EventKind, names: tuple[str, ...]) -> None:
    allowed = ", ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS[kind]))
    for name in names:
        if name not in PLACEHOLDERS[kind]:
            raise _invalid(kind, f"names {{{name}}}; it may name {allowed}")
    for choice in _REQUIRED[kind]:
        if choice.isdisjoint(names):
            wanted = " or ".join(f"{{{name}}}" for name in sorted(choice))
            raise _invalid(kind, f"lacks {wanted}, so that different events would share an id")
    texts = [name for name in names if name not in _NUMBERS]
    if len(texts) > 1:
        raise _invalid(kind, f"names {{{texts[0]}}} and {{{texts[1]}}}; one of them is enough")


def _check_separators(kind: EventKind, parts: list[tuple[str, str | None]]) -> None:
    """Between two placeholders something that is no digit must start and end the literal."""
    for (literal, name), (_, before) in zip(parts[1:], parts, strict=False):
        if name and (not literal or literal[0].isdigit() or literal[-1].isdigit()):
            raise _invalid(kind, f"runs {{{before}}} and {{{name}}} together; put a '.' between")


def _invalid(kind: EventKind, why: str) -> ServiceError:
    return permanent("event_id_template_invalid", f"the template for {kind} {why}")
