"""`tidewire dlq` against the service."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
import typer
from rich.console import Console

from cli import dead_letters as work
from tests.integration.delivery.rig import EMAIL, Desk
from tests.integration.ingest.harness import OTHER, SHOP
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb


def service_of(desk: Desk) -> work.Service:
    return work.Service(desk.stub)


def view(*, as_json: bool = False, ask: Callable[[str], bool] | None = None) -> work.View:
    return work.View(as_json=as_json, console=Console(file=StringIO(), width=200), ask=ask)


def printed(shown: work.View) -> str:
    assert isinstance(shown.console.file, StringIO)
    return shown.console.file.getvalue()


def all_of(shop: str = SHOP) -> pb.DeadLetterFilter:
    return work.wanted(shop, "", "", "", "", "")


async def test_letters_are_listed_over_all_pages_that_are_asked_for(desk: Desk) -> None:
    ids = await desk.letters(520)
    shown = view(as_json=True)

    code = await work.list_letters(service_of(desk), shown, all_of(), 510)

    listed = [one["letter"]["deadLetterId"] for one in json.loads(printed(shown))]
    assert code == 0
    assert listed == ids[:510]


async def test_a_replay_asks_with_the_number_of_letters_and_does_nothing_on_no(desk: Desk) -> None:
    await desk.letters(3)
    asked: list[str] = []

    def no(text: str) -> bool:
        asked.append(text)
        return False

    plan = work.Plan(selection=work.selection([], all_of()))
    shown = view(ask=no)

    code = await work.act(service_of(desk), shown, plan)

    assert (code, asked) == (1, ["replay 3?"])
    assert "would_replay" in printed(shown)
    assert await desk.replayed_facts() == []


async def test_a_replay_with_nobody_to_ask_needs_yes(desk: Desk) -> None:
    await desk.letters(3)
    selection = work.selection([], all_of())

    refused = await work.act(service_of(desk), view(as_json=True), work.Plan(selection=selection))
    before = await desk.replayed_facts()
    shown = view(as_json=True)
    done = await work.act(service_of(desk), shown, work.Plan(selection=selection, yes=True))

    assert (refused, before, done) == (1, [], 0)
    assert json.loads(printed(shown))["results"] == {"replayed": 3}
    assert len(await desk.replayed_facts()) == 3


async def test_a_dry_run_does_nothing_even_with_yes(desk: Desk) -> None:
    await desk.letters(2)
    plan = work.Plan(selection=work.selection([], all_of()), yes=True, dry_run=True)

    code = await work.act(service_of(desk), view(), plan)

    assert code == 0
    assert await desk.replayed_facts() == []


async def test_a_letter_that_cannot_be_replayed_is_told_by_the_exit_code(desk: Desk) -> None:
    plan = work.Plan(selection=work.selection(["events.C0.example.x"], all_of("")), yes=True)

    assert await work.act(service_of(desk), view(), plan) == 1


async def test_a_drop_keeps_why_and_by_whom(desk: Desk) -> None:
    letter = await desk.letter()
    plan = work.Plan(
        selection=work.selection([letter.dead_letter_id], all_of("")), yes=True, because="a test"
    )

    code = await work.act(service_of(desk), view(), plan)

    fate = await desk.fate(letter)
    assert (code, fate.reason, fate.decided_by) == (0, "a test", "operator")


async def test_a_letter_is_shown_with_its_original_masked(desk: Desk) -> None:
    letter = await desk.letter()
    shown = view()
    request = work.get_request(letter.dead_letter_id, original=True, reveal=False)

    code = await work.show_letter(service_of(desk), shown, request)

    found = json.loads(printed(shown))
    assert code == 0
    assert found["original"]["orderPaid"]["order"]["email"] == "***email"
    assert EMAIL not in printed(shown)


@pytest.mark.parametrize("ids", [[], ["events.C0.example.x"]])
def test_all_letters_at_once_or_ids_and_a_filter_are_refused(ids: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        work.selection(ids, all_of(OTHER if ids else ""))


@pytest.mark.parametrize("text", ["6 hours", "yesterday", "6w"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        work.wanted("", "", "", "", "", text)


def test_since_takes_a_span_and_a_time() -> None:
    span = work._instant("6h", 1_000_000 * 1_000_000_000)
    moment = work._instant("1970-01-02T00:00", 0)

    assert (span.seconds, moment.seconds) == (1_000_000 - 21_600, 86_400)
