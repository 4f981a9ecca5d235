"""Lines of a bulk result, joined on disk."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.catalog.adapters.bulk_spool import Portions, Spool
from services.catalog.domain.model import Product
from tests.unit.catalog.shopify_lines import (
    Json,
    gid,
    jsonl,
    level,
    medium,
    own_medium,
    product,
    variant,
)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path)
    yield made
    made.close()


def read(spool: Spool) -> list[Product]:
    spool.seal()
    return [one for portion in spool.portions("USD") for one in portion]


def shop(products: int, variants: int = 2) -> list[Json]:
    lines: list[Json] = []
    for number in range(1, products + 1):
        lines += [product(number), medium(10_000 + number, number)]
        for each in range(variants):
            own = number * 1000 + each
            lines += [variant(own, number, position=each + 1), own_medium(10_000 + number, own)]
            lines += [level(1, own, own), level(2, 5, own)]
    return lines


def test_a_line_is_joined_to_its_parent_whatever_the_order(tmp_path: Path) -> None:
    lines = shop(30)
    shuffled = random.Random(7).sample(lines, len(lines))
    found = []
    for one in (lines, shuffled):
        spool = Spool(tmp_path)
        spool.add(jsonl(one))
        found.append(read(spool))
        spool.close()

    sorted_one, shuffled_one = found
    assert [one.product_id for one in sorted_one] == [str(number) for number in range(1, 31)]
    assert shuffled_one == sorted_one
    assert sorted_one[4].variants[1].levels[0].available == 5001
    assert sorted_one[4].variants[1].image_url == "https://cdn.example.com/10005.jpg"


def test_products_come_by_number_not_as_text(spool: Spool) -> None:
    spool.add(jsonl([product(10), product(9), product(100)]))

    assert [one.product_id for one in read(spool)] == ["9", "10", "100"]


def test_bytes_may_end_anywhere(spool: Spool) -> None:
    content = jsonl(shop(3))
    for begin in range(0, len(content), 11):
        spool.add(content[begin : begin + 11])

    assert [len(one.variants) for one in read(spool)] == [2, 2, 2]
    assert not +spool.oddities


def test_one_medium_under_a_product_and_under_a_variant_is_two_lines(spool: Spool) -> None:
    lines = [product(1), medium(5, 1), medium(6, 1), variant(11, 1), own_medium(6, 11)]
    spool.add(jsonl(lines))

    (found,) = read(spool)

    assert [one.image_id for one in found.images] == ["5", "6"]
    assert found.variants[0].image_id == "6"


def test_equal_numbers_of_a_product_and_a_variant_are_not_confused(spool: Spool) -> None:
    spool.add(jsonl([product(1), variant(1, 1), level(1, 3, 1), own_medium(1, 1), medium(1, 1)]))

    (found,) = read(spool)

    assert [one.available for one in found.variants[0].levels] == [3]
    assert len(found.images) == 1


def test_of_a_line_that_comes_twice_the_last_counts_where_the_first_stood(spool: Spool) -> None:
    twice = [variant(11, 1, sku="old"), variant(12, 1), variant(11, 1, sku="new")]
    spool.add(jsonl([product(1), *twice, level(1, 1, 11), level(1, 9, 11)]))

    (found,) = read(spool)

    assert [one.sku for one in found.variants] == ["new", "SKU-12"]
    assert [one.available for one in found.variants[0].levels] == [9]


def test_lines_that_cannot_be_used_are_left_out_and_counted(spool: Spool) -> None:
    spool.add(jsonl([product(1), variant(11, 1)]))
    spool.add(b'{"id": "gid:\\/\\/shopify\\/Product\\/2", "title": \n[1]\n{"id": 3}\n\n \n')
    spool.add(jsonl([product(3, id="gid://shopify/Product/x"), {"id": gid("Video", 3)}]))
    spool.add(jsonl([{"id": gid("Metafield", 1), "__parentId": gid("Product", 1)}]))
    spool.add(jsonl([variant(12, 404)]))
    # Its head can be read, and what it says cannot.
    spool.add(b'{"id": "gid://shopify/Product/4", "title": "\xff\xfe"}\n')

    assert [(one.product_id, len(one.variants)) for one in read(spool)] == [("1", 1)]
    assert spool.oddities == {"line_unreadable": 5, "line_unknown": 2, "orphan": 1}


def test_a_line_without_end_takes_no_more_memory_than_a_long_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, portions=Portions(line_bytes=1000))
    spool.add(b'{"id": "')
    for _ in range(50):
        spool.add(b"x" * 200)
        assert len(spool._rest) <= 1200
    spool.add(b'"}\n' + jsonl([product(1)]))

    assert [one.product_id for one in read(spool)] == ["1"]
    assert spool.oddities["line_too_long"] == 1
    spool.close()


def test_products_up_to_the_one_that_was_last_are_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, after=2)
    spool.add(jsonl(shop(4)))

    found = read(spool)
    spool.close()

    assert [(one.product_id, len(one.variants[0].levels)) for one in found] == [("3", 2), ("4", 2)]
    assert not spool.oddities["orphan"]


def test_a_file_that_begins_anew_leaves_nothing_of_what_came_before(spool: Spool) -> None:
    spool.add(jsonl([product(1), product(2, title="old")]) + b'{"id": "half')
    spool.restart()
    spool.add(jsonl([product(2)]))

    assert [one.title for one in read(spool)] == ["Product 2"]
    assert not +spool.oddities


def test_a_portion_ends_by_products_or_by_variants(tmp_path: Path) -> None:
    sizes = []
    for products, variants in ((25, 0), (5, 6)):
        spool = Spool(tmp_path, portions=Portions(products=10, variants=10))
        spool.add(jsonl(shop(products, variants)))
        spool.seal()
        sizes.append([len(portion) for portion in spool.portions("USD")])
        spool.close()

    assert sizes == [[10, 10, 5], [2, 2, 1]]


def test_nothing_lies_on_disk_under_a_name_while_lines_are_held(
    tmp_path: Path, spool: Spool
) -> None:
    spool.add(jsonl(shop(200)))
    spool.seal()

    assert list(tmp_path.iterdir()) == []
    assert sum(len(portion) for portion in spool.portions("USD")) == 200


def test_memory_holds_a_portion_and_not_the_file(spool: Spool) -> None:
    words = "<p>" + "word " * 8000 + "</p>"
    tracemalloc.start()
    for number in range(1, 601):
        spool.add(jsonl([product(number, descriptionHtml=words)]))
    spool.seal()
    length = sum(len(one.body_html) for portion in spool.portions("USD") for one in portion)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert length == 600 * len(words)
    assert peak < length / 2
