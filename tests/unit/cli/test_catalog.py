"""What `tidewire catalog sync` draws, and the words for figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.__main__ import app
from cli.catalog_sync import drawing
from cli.catalog_words import counts, line, plain, shortened, span
from tidewire.catalog.v1 import catalog_service_pb2 as pb

NOW_NS = 1_795_000_000_000_000_000
S_NS = 1_000_000_000


def drawn(seen: pb.WatchSyncResponse, note: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(drawing("acme", seen, NOW_NS, note))
    assert isinstance(console.file, io.StringIO)
    return [row.rstrip() for row in console.file.getvalue().splitlines()]


def seen(phase: pb.SyncPhase.ValueType, *catalogs: pb.CatalogStatus) -> pb.WatchSyncResponse:
    progress = pb.SyncProgress(
        kind=pb.SYNC_KIND_FULL, phase=phase, products_total=2_000, products_done=500,
        items=1_200, items_changed=40, items_deleted=10,
    )  # fmt: skip
    progress.started_at.FromNanoseconds(NOW_NS - 90 * S_NS)
    return pb.WatchSyncResponse(progress=progress, catalogs=catalogs)


def waiting(waiting: int, next_in_s: float | None = None, held_by: str = "") -> pb.CatalogStatus:
    found = pb.CatalogStatus(
        connection_id="acme.catalog.70", country="US", currency="USD", language="en",
        waiting=waiting, held_by=held_by, held_note="connect it again" if held_by else "",
    )  # fmt: skip
    if next_in_s is not None:
        found.next_submit_at.FromNanoseconds(NOW_NS + int(next_in_s * S_NS))
    return found


def test_a_sync_is_drawn_with_phases_products_and_items() -> None:
    rows = drawn(seen(pb.SYNC_PHASE_COMPARING))

    assert rows[0] == "acme: full sync, 90 s so far"
    assert rows[1] == "queued > exporting > comparing > sending > done"
    assert rows[2].startswith("compared ━━━━━━━╸ ")
    assert rows[2].endswith("500 of 2,000 products")
    assert rows[3].endswith("50 of 50 items")
    assert rows[4] == "1,200 items, 40 changed, 10 gone"
    assert len(rows) == 5


def test_the_wait_for_tiktoks_spacing_is_shown() -> None:
    rows = drawn(seen(pb.SYNC_PHASE_SENDING, waiting(30, 41.2)))

    assert rows[3].endswith("20 of 50 items")
    assert rows[5] == "acme.catalog.70 (US USD en): 30 waiting, next submit in 42 s"


def test_a_wait_that_is_over_is_not_counted_below_nothing() -> None:
    assert drawn(seen(pb.SYNC_PHASE_SENDING, waiting(30, -3)))[5].endswith("next submit now")


def test_what_holds_a_catalog_stands_in_place_of_the_wait() -> None:
    rows = drawn(seen(pb.SYNC_PHASE_SENDING, waiting(30, 41.2, "credentials")))

    assert rows[5:] == [
        "acme.catalog.70 (US USD en): 30 waiting; held by credentials: connect it again"
    ]


def test_more_waiting_than_the_sync_has_changed_makes_no_bar_below_nothing() -> None:
    assert drawn(seen(pb.SYNC_PHASE_SENDING, waiting(80)))[3].endswith("0 of 80 items")


def test_a_sync_that_was_given_up_and_news_that_are_old_say_so() -> None:
    rows = drawn(seen(pb.SYNC_PHASE_FAILED), "no answer (x); asking again")

    assert rows[1].endswith("done  failed")
    assert rows[-1] == "no answer (x); asking again"


def test_a_sync_of_nothing_yet_is_drawn_too() -> None:
    rows = drawn(pb.WatchSyncResponse())

    assert rows[2].endswith("no products yet")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.2, "1 s"), (119.5, "120 s"), (121, "3 min"), (7_200, "2 h"), (7_201, "3 h")],
)
def test_spans_are_rounded_up(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_counts_name_the_states_that_there_are_items_in() -> None:
    found = pb.CatalogStatus(items={pb.ITEM_STATE_IN_REVIEW: 1_200, pb.ITEM_STATE_LIVE: 0})

    assert counts(found) == "in review 1,200"
    assert counts(pb.CatalogStatus()) == "no items"


def test_data_names_a_state_of_a_newer_service_by_its_number() -> None:
    found = plain(pb.ItemStatus(state=99))  # type: ignore[arg-type]

    assert found["state"] == "99"
    assert found["accepted_at"] is None


def test_long_texts_are_cut_and_control_characters_shown_as_such() -> None:
    assert line("a\nb\t\x1b[2J") == "a b \ufffd[2J"
    assert shortened("x" * 160) == "x" * 160
    assert shortened("x" * 161) == "x" * 160 + "… (161 characters)"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["sync", "not a shop"], "give a handle"),
        (["sync", "acme", "--kind", "some"], "full"),
        (["explain", "SKU-1"], "--shop"),
        (["bind", "acme.catalog.70", "--pixel", "C1"], "--advertiser"),
    ],
)
def test_what_is_typed_wrong_is_told(words: list[str], hint: str) -> None:
    result = CliRunner().invoke(app, ["catalog", *words])

    assert result.exit_code == 2
    assert hint in result.output
