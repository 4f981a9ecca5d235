"""After a request was refused whole: which item is isolated, and in how many requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from services.catalog.domain.isolation import parts_after_refusal

SKUS = [f"SHIRT-{number:04}" for number in range(5000)]


@pytest.mark.parametrize(
    ("message", "alone"),
    [
        ("products.17.title: Longer than maximum 500.", [17]),
        ("products[17].title is too long", [17]),
        ("Items.17.price: not a number", [17]),
        ("sku_ids.17: Invalid value", [17]),
        ("product SHIRT-0017 has no brand", [17]),
        ("invalid sku_id 'SHIRT-0017'", [17]),
        ("products.3.brand: missing; products.9.brand: missing", [3, 9]),
    ],
)
def test_what_a_message_names_goes_alone(message: str, alone: list[int]) -> None:
    others, *singles = parts_after_refusal(SKUS, SKUS, message)

    assert [list(one) for one in singles] == [[SKUS[at]] for at in alone]
    assert others == [sku for at, sku in enumerate(SKUS) if at not in alone]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Parameter error",
        "products.9999.title: no such place",
        "products: Longer than maximum 5000.",
        "SHIRT-001 is unknown",
        "XSHIRT-0017 is unknown",
    ],
)
def test_a_message_that_names_nobody_halves(message: str) -> None:
    assert parts_after_refusal(SKUS, SKUS, message) == [SKUS[:2500], SKUS[2500:]]


@pytest.mark.parametrize(
    ("sku", "message", "is_named"),
    [
        ("5000", "at most 5000 products", False),
        ("5000", "bad sku_id: 5000", True),
        ("description", "description is empty", False),
        ("a.b+c/1", "a.b+c/1 is bad", True),
    ],
)
def test_a_name_that_may_be_another_word_counts_only_where_it_is_called_one(
    sku: str, message: str, *, is_named: bool
) -> None:
    skus = ["one-1", sku, "two-2", "tri-3"]

    parts = parts_after_refusal(skus, skus, message)

    assert ([sku] in parts) is is_named


def test_many_names_go_together() -> None:
    message = " ".join(f"products.{at}.brand" for at in range(20))

    assert parts_after_refusal(SKUS, SKUS, message) == [SKUS[20:], SKUS[:20]]


def test_where_all_are_named_they_are_halved() -> None:
    message = "products.0.brand products.1.brand"

    assert parts_after_refusal(SKUS[:2], SKUS[:2], message) == [[SKUS[0]], [SKUS[1]]]


@pytest.mark.parametrize("items", [[], ["a"]])
def test_what_cannot_be_divided_is_not(items: list[str]) -> None:
    assert parts_after_refusal(items, items, "products.0.title: bad") == []


def isolated(
    bad: frozenset[str], says: Callable[[Sequence[str]], str]
) -> tuple[list[str], set[str], int]:
    """What is found bad, what is taken, and in how many requests."""
    waiting: list[Sequence[str]] = [SKUS]
    found: list[str] = []
    taken: set[str] = set()
    requests = 0
    while waiting:
        part = waiting.pop(0)
        requests += 1
        if bad.isdisjoint(part):
            taken.update(part)
        elif len(part) == 1:
            found.extend(part)
        else:
            waiting = [*parts_after_refusal(part, part, says(part)), *waiting]
    return found, taken, requests


@pytest.mark.parametrize("at", [0, 1, 2500, 4999])
@pytest.mark.parametrize("is_told", [True, False])
def test_one_bad_item_of_5000_is_found_and_the_others_are_taken(at: int, *, is_told: bool) -> None:
    bad = SKUS[at]

    def says(part: Sequence[str]) -> str:
        return f"products.{part.index(bad)}.title: too long" if is_told else "bad"

    found, taken, requests = isolated(frozenset({bad}), says)

    assert found == [bad]
    assert len(taken) == 4999
    assert requests <= (3 if is_told else 2 * 13 + 1)
