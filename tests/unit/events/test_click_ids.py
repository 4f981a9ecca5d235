from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.domain.click_ids import ClickIds, click_ids

ATTRIBUTE = st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=20))


@pytest.mark.parametrize("name", ["ttclid", "_ttclid", "TTCLID", "tt_click_id", "__Tt-Click-Id"])
def test_a_click_id_is_found_under_any_of_its_names(name: str) -> None:
    assert click_ids({name: "E.C.P.abc"}) == ClickIds(ttclid="E.C.P.abc")


@pytest.mark.parametrize("name", ["_ttp", "ttp", "TTP"])
def test_a_browser_id_is_found_under_any_of_its_names(name: str) -> None:
    assert click_ids(cart_attributes={name: "2abc"}) == ClickIds(ttp="2abc")


def test_note_attributes_win_over_the_cart_and_the_cart_over_addresses() -> None:
    notes, cart = {"ttclid": "note"}, {"ttclid": "cart"}
    landing, referring = "/?ttclid=landing", "https://x.example/?ttclid=referring"

    assert click_ids(notes, cart, landing, referring).ttclid == "note"
    assert click_ids({}, cart, landing, referring).ttclid == "cart"
    assert click_ids(None, None, landing, referring).ttclid == "landing"
    assert click_ids(None, None, "/", referring).ttclid == "referring"


def test_a_click_id_of_a_thousand_characters_is_whole_and_a_longer_one_is_dropped() -> None:
    assert click_ids({"ttclid": "x" * 1_000}).ttclid == "x" * 1_000
    assert click_ids({"ttclid": "x" * 1_001}).ttclid is None


def test_an_unusable_value_does_not_hide_a_good_one_further_on() -> None:
    found = click_ids({"ttclid": " "}, {"ttclid": "x" * 2_000}, "/p?TTCLID=E.C.P.good&_ttp=2ab")

    assert found == ClickIds(ttclid="E.C.P.good", ttp="2ab")


@pytest.mark.parametrize("landing", ["https://[broken/?ttclid=a", "?", "/wallets/checkouts.json"])
def test_an_address_without_a_click_id_gives_none(landing: str) -> None:
    assert click_ids(landing_site=landing).ttclid is None


@pytest.mark.parametrize("value", [5, None, ["E.C.P.abc"], {"id": "E.C.P.abc"}])
def test_a_value_that_is_no_text_is_no_click_id(value: object) -> None:
    assert click_ids({"ttclid": value}, {"_ttclid": "E.C.P.good"}).ttclid == "E.C.P.good"


def test_ids_stay_out_of_the_repr() -> None:
    assert "E.C.P" not in repr(click_ids({"ttclid": "E.C.P.abc"}))


@given(ATTRIBUTE, ATTRIBUTE, st.none() | st.text(), st.none() | st.text())
def test_nothing_that_a_shop_may_hold_raises(
    notes: dict[str, object], cart: dict[str, object], landing: str | None, referring: str | None
) -> None:
    found = click_ids(notes, cart, landing, referring)

    assert found.ttclid != ""
    assert found.ttp != ""
