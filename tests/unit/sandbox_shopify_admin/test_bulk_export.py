"""The order in which an export writes, and how much of it is held at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

from graphql import parse

from sandbox.shopify_admin.bulk_export import prepared, shuffled
from sandbox.shopify_admin.schema import schema_of
from sandbox.shopify_admin.shelf import Shelf
from sandbox.shopify_admin.store import Store
from tests.unit.sandbox_shopify_admin.shelves import SHOP, small_shop

LINES = 1000
WINDOW = 50


def numbered() -> Iterator[list[bytes]]:
    for begin in range(0, LINES, 10):
        yield [b"%d" % number for number in range(begin, begin + 10)]


def test_disorder_is_everywhere_and_loses_nothing() -> None:
    found = [int(line) for piece in shuffled(numbered(), Random(1), WINDOW) for line in piece]

    assert sorted(found) == list(range(LINES))
    for begin in range(0, LINES - 100, 100):
        hundred = found[begin : begin + 100]
        steps_back = sum(one > other for one, other in pairwise(hundred))
        assert steps_back > 20


def test_disorder_holds_no_more_than_its_window() -> None:
    taken = given = 0

    def counted() -> Iterator[list[bytes]]:
        nonlocal taken
        for piece in numbered():
            taken += len(piece)
            yield piece

    for piece in shuffled(counted(), Random(1), WINDOW):
        given += len(piece)
        assert taken - given <= WINDOW


def test_an_export_holds_a_batch_of_products_and_counts_as_it_goes() -> None:
    shop = small_shop()
    mat = shop.products[12]
    shop.products = dict.fromkeys(range(100), mat)
    store = Store(SHOP)
    store.shelf = Shelf(shop)
    query = parse("{ products { edges { node { id variants { edges { node { id } } } } } } }")

    export = prepared(query, schema_of("2026-10", None), store, grouped=False)
    pieces = export.lines()
    first = next(pieces)

    assert (len(first), export.roots, export.objects) == (40, 20, 40)
    assert sum(map(len, pieces)) == 160
    assert (export.roots, export.objects) == (100, 200)
