"""Our table of TikTok's return codes, held against the contract and against itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from libs.errors import Kind
from libs.tiktok import Action, Scope, Source, return_code
from libs.tiktok.return_codes import TABLE


@pytest.fixture(scope="module")
def contract(corpus_dir: Path) -> list[dict[str, Any]]:
    """The contract's rows that are about a code; the others are about an HTTP status."""
    text = (corpus_dir / "contracts" / "tiktok-return-codes.json").read_text()
    rows: list[dict[str, Any]] = json.loads(text)
    return [row for row in rows if row["code"] is not None]


def test_every_code_of_the_contract_has_a_row_of_its_own(contract: list[dict[str, Any]]) -> None:
    assert {row["code"] for row in contract} - TABLE.keys() == set()
    assert len(contract) >= 73


def test_every_code_that_the_events_contract_names_has_a_row_of_its_own(corpus_dir: Path) -> None:
    text = (corpus_dir / "contracts" / "tiktok-events.md").read_text()
    section = text.partition("\n## 9. Response\n")[2].partition("\n## 10.")[0]
    table = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    # Two dots are a range, of which the ends are no codes that anybody has seen.
    cells = [re.sub(r"51000\.\.51099|40200\.\.40202", "", cell) for cell in table]
    named = {int(code) for cell in cells for code in re.findall(r"\b\d{5}\b", cell)}

    assert named - TABLE.keys() == set()
    assert len(named) >= 25


def test_where_we_decide_otherwise_than_the_contract_a_reason_stands(
    contract: list[dict[str, Any]],
) -> None:
    otherwise = {
        row["code"]
        for row in contract
        if TABLE[row["code"]].action.is_worth_retrying is not row["retryable"]
    }

    assert {code for code, row in TABLE.items() if row.because} == otherwise


def test_no_code_stands_twice_and_each_says_what_it_means() -> None:
    text = Path(return_code.__code__.co_filename).read_text()
    written = re.findall(r"^    _Row\((\d+),", text, re.MULTILINE)

    assert sorted(map(int, written)) == sorted(TABLE)
    assert all(row.meaning for row in TABLE.values())


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((0, 20001, 40050), None),
        ((40000, 40002, 40007, 40010, 40011, 40051, 40061, 40062, 40063), Kind.PERMANENT),
        ((40001, 40101, 40102, 40104, 40105, 40106, 40113, 40118, 40124, 40125), Kind.AUTH),
        ((40103, 40107, 40110, 40115, 40116, 40119, 40300, 41000, 41001), Kind.AUTH),
        ((40016, 40100, 40132, 40133, 61000), Kind.THROTTLED),
        ((40200, 40201, 40202, 60001), Kind.RETRYABLE),
        ((50000, 50002, 51010, 51012, 51305), Kind.RETRYABLE),
    ],
)
def test_every_code_has_its_kind(codes: tuple[int, ...], kind: Kind | None) -> None:
    assert {code: TABLE[code].action.kind for code in codes} == dict.fromkeys(codes, kind)


@pytest.mark.parametrize(
    ("codes", "scope"),
    [
        ((40016, 40100, 40113, 40124, 61000), Scope.APP),
        ((41000, 41001, 50000, 50002, 51010, 51305, 60001), Scope.UPSTREAM),
        ((40001, 40102, 40105, 40132, 40133, 51012), Scope.CONNECTION),
        ((40002, 40062), Scope.ITEM),
        ((40010, 40051, 40063), Scope.ENVELOPE),
    ],
)
def test_every_code_has_its_scope(codes: tuple[int, ...], scope: Scope) -> None:
    assert {code: TABLE[code].scope for code in codes} == dict.fromkeys(codes, scope)
    assert scope.is_shared is (scope in (Scope.APP, Scope.UPSTREAM))


def test_no_trouble_of_one_connection_and_no_bad_event_is_everybodys() -> None:
    condemned = [row for row in TABLE.values() if row.action.kind is Kind.PERMANENT]

    assert [row.code for row in condemned if row.scope.is_shared] == []


def test_only_what_an_item_may_have_caused_is_looked_for_in_smaller_requests() -> None:
    whole = {code for code, row in TABLE.items() if row.action is Action.PERMANENT_WHOLE}

    assert [code for code in whole if TABLE[code].scope is Scope.ITEM] == []
    assert {40007, 40010, 40051, 40063} <= whole
    assert not {40000, 40002, 40011, 40061, 40062} & whole


@pytest.mark.parametrize(
    ("code", "action", "scope"),
    [
        (51000, Action.RETRY, Scope.UPSTREAM),
        (51099, Action.RETRY, Scope.UPSTREAM),
        (52001, Action.RETRY, Scope.UPSTREAM),
        (53001, Action.RETRY, Scope.UPSTREAM),
        (99999, Action.RETRY, Scope.UPSTREAM),
        (40199, Action.CREDENTIALS, Scope.CONNECTION),
        (20002, Action.RETRY, Scope.ENVELOPE),
        (40999, Action.PERMANENT, Scope.ITEM),
        (30000, Action.PERMANENT, Scope.ITEM),
        (200, Action.PERMANENT, Scope.ITEM),
        (1, Action.PERMANENT, Scope.ITEM),
        (-1, Action.PERMANENT, Scope.ITEM),
    ],
)
def test_a_code_that_nobody_has_described_is_judged_by_its_range(
    code: int, action: Action, scope: Scope
) -> None:
    row = return_code(code)

    assert (row.code, row.action, row.scope, row.source) == (code, action, scope, Source.RANGE)


@pytest.mark.parametrize(
    ("code", "message", "action"),
    [
        (40000, "Requests made too frequently", Action.THROTTLED),
        (40000, "too frequent", Action.THROTTLED),
        (40000, "Too many requests", Action.THROTTLED),
        (40000, "Too many contents", Action.PERMANENT),
        (40000, "Invalid Price Field", Action.PERMANENT),
        (40700, "redis: connection refused", Action.RETRY),
        (40700, "inner timeout", Action.RETRY),
        (40700, "rpc validation", Action.PERMANENT),
        (40002, "too frequent", Action.PERMANENT),
    ],
)
def test_where_a_code_is_ambiguous_its_words_tell(code: int, message: str, action: Action) -> None:
    row = return_code(code, message)

    assert row.action is action
    assert row.scope.is_shared is row.action.is_worth_retrying
