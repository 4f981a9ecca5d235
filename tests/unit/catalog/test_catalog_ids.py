"""What items are called: the SKU, as in events; never two alike; and always the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.ids import assign_ids
from services.catalog.domain.model import Product
from services.catalog.domain.texts import has_refused
from tests.unit.catalog.goods import CATALOG, product, variant


def two(first: str, second: str) -> Product:
    return product(variant(variant_id="101", sku=first), variant(variant_id="102", sku=second))


def nobody(_: str) -> None:
    return None


def test_an_item_is_called_by_its_trimmed_sku() -> None:
    ids, notes = assign_ids(two(" A-1 ", "A-2"), CATALOG, {}, nobody)

    assert (ids, notes) == ({"101": "A-1", "102": "A-2"}, ())


def test_without_a_sku_it_is_called_by_its_number() -> None:
    ids, notes = assign_ids(two("", " \t"), CATALOG, {}, nobody)

    assert ids == {"101": "101", "102": "102"}
    assert [(one.code, one.field) for one in notes] == [("sku_missing", "variants.sku")] * 2


def test_a_catalog_may_call_all_items_by_their_numbers() -> None:
    ids, notes = assign_ids(two("A", "B"), replace(CATALOG, item_id="variant_id"), {}, nobody)

    assert (ids, notes) == ({"101": "101", "102": "102"}, ())


def test_of_two_with_one_sku_the_first_has_it_and_the_other_its_number_too() -> None:
    ids, notes = assign_ids(two("A", "A"), CATALOG, {}, nobody)

    assert ids == {"101": "A", "102": "A-102"}
    assert [(one.variant_id, one.code) for one in notes] == [("102", "sku_repeated")]


def test_a_sku_of_another_product_is_not_taken_from_it() -> None:
    owners = {"A": "77"}

    ids, notes = assign_ids(two("A", "B"), CATALOG, {}, owners.get)

    assert ids == {"101": "A-101", "102": "B"}
    assert [one.code for one in notes] == ["sku_repeated"]


def test_an_id_that_this_product_has_is_its_own() -> None:
    owners = {"A": "1"}

    assert assign_ids(two("A", "B"), CATALOG, {}, owners.get)[0]["101"] == "A"


def test_an_id_stays_while_its_sku_does_whatever_becomes_of_the_others() -> None:
    before = {"102": "A", "101": "A-101"}

    ids, _ = assign_ids(two("A", "A"), CATALOG, before, nobody)
    alone, notes = assign_ids(product(variant(variant_id="101", sku="A")), CATALOG, before, nobody)

    assert ids == before
    assert alone == {"101": "A-101"}
    assert [one.message.partition(",")[0] for one in notes] == [
        "Another variant has or had the SKU 'A' too"
    ]


def test_a_changed_sku_changes_the_id() -> None:
    before = {"101": "A", "102": "B"}

    assert assign_ids(two("C", "B"), CATALOG, before, nobody)[0] == {"101": "C", "102": "B"}


def test_two_that_swap_their_skus_swap_their_ids() -> None:
    before = {"101": "A", "102": "B"}

    assert assign_ids(two("B", "A"), CATALOG, before, nobody)[0] == {"101": "B", "102": "A"}


def test_an_id_from_before_that_another_product_has_by_now_is_given_up() -> None:
    owners = {"A": "77"}

    assert assign_ids(two("A", "B"), CATALOG, {"101": "A"}, owners.get)[0]["101"] == "A-101"


def test_emoji_and_control_characters_are_no_part_of_an_id() -> None:
    ids, notes = assign_ids(two("A\x00🔥1", "🔥"), CATALOG, {}, nobody)

    assert ids == {"101": "A1", "102": "102"}
    assert [one.code for one in notes] == ["sku_cleaned", "sku_unusable"]


def test_spaces_within_a_sku_stay_as_events_have_them_and_line_breaks_become_spaces() -> None:
    ids, notes = assign_ids(two("A  1", "B\t\n2"), CATALOG, {}, nobody)

    assert ids == {"101": "A  1", "102": "B  2"}
    assert [one.code for one in notes] == ["sku_cleaned"]


def test_a_sku_that_is_too_long_is_not_cut_but_replaced_by_the_number() -> None:
    ids, notes = assign_ids(two("x" * 100, "y" * 101), CATALOG, {}, nobody)

    assert ids == {"101": "x" * 100, "102": "102"}
    assert [one.code for one in notes] == ["sku_unusable"]


def test_a_repeated_sku_of_100_characters_leaves_room_for_the_number() -> None:
    ids, _ = assign_ids(two("x" * 100, "x" * 100), CATALOG, {}, nobody)

    assert ids["102"] == "x" * 96 + "-102"


def test_a_sku_that_reads_like_another_variants_number_does_not_take_it_away() -> None:
    ids, _ = assign_ids(two("102", ""), CATALOG, {}, nobody)

    assert ids == {"101": "102", "102": "102-2"}


SKUS = st.lists(st.one_of(st.sampled_from(["A", "a", "", "1", "2", "A-1"]), st.text(max_size=120)))


@given(SKUS, st.sets(st.sampled_from(["A", "1", "2", "A-1", "A-2"])), st.sampled_from(["1", "77"]))
def test_ids_are_all_different_within_limits_and_the_same_again(
    skus: list[str], taken: set[str], owner: str
) -> None:
    variants = (variant(variant_id=str(place), sku=sku) for place, sku in enumerate(skus))
    made = product(variants=tuple(variants))

    def owner_of(sku_id: str) -> str | None:
        return owner if sku_id in taken else None

    ids, _ = assign_ids(made, CATALOG, {}, owner_of)
    again, _ = assign_ids(made, CATALOG, ids, owner_of)

    assert set(ids) == {str(place) for place in range(len(skus))}
    assert len(set(ids.values())) == len(ids)
    assert all(0 < len(one) <= 100 and not has_refused(one) for one in ids.values())
    assert again == ids
    if owner != made.product_id:
        assert not taken & set(ids.values())
