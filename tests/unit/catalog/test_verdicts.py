"""What becomes of items by the log of their submit: each shape that is known or feared."""

from __future__ import annotations

from itertools import permutations

import pytest

from services.catalog.domain.feed_log import FeedLog, Issue, Submitted
from services.catalog.domain.verdicts import Fate, Reason, SubmitKind, judge, judge_answer
from tests.unit.catalog.log_shapes import FATES, SHAPES, Shape

_BY_NAME = {shape.name: shape for shape in SHAPES}
_TAKEN = (Fate.ACCEPTED, Fate.WARNED)

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


@every_shape
def test_each_item_gets_the_verdict_that_its_log_allows(shape: Shape) -> None:
    found = shape.judged()

    wanted = dict(zip(shape.sent, (FATES[one] for one in shape.fates), strict=True))
    assert {sku: one.fate for sku, one in found.verdicts.items()} == wanted
    reasons = {one.reason for one in found.verdicts.values() if one.fate is Fate.AGAIN}
    assert reasons == ({shape.reason} if shape.reason else set())
    assert (found.spacing_s, bool(found.advice)) == (shape.spacing_s, shape.advised)


@every_shape
def test_no_success_and_no_failure_is_claimed_that_is_none(shape: Shape) -> None:
    verdicts = shape.judged().verdicts

    truth = dict(zip(shape.sent, shape.truth, strict=True))
    false_successes = [s for s, one in verdicts.items() if one.fate in _TAKEN and truth[s] == "n"]
    false_failures = [
        s for s, one in verdicts.items() if one.fate is Fate.REFUSED and truth[s] == "y"
    ]
    assert (false_successes, false_failures) == ([], [])


def test_there_are_shapes_enough() -> None:
    assert len(SHAPES) == len(_BY_NAME) >= 50


@every_shape
def test_the_order_of_rows_changes_no_verdict(shape: Shape) -> None:
    log = shape.read()

    found = {
        tuple((sku, one.fate) for sku, one in judge(shape.kind, shape.sent, again).verdicts.items())
        for again in (
            FeedLog(
                ended=log.ended,
                failed=log.failed,
                added=log.added,
                updated=log.updated,
                deleted=log.deleted,
                errors=log.errors,
                warnings=log.warnings,
                issues=tuple(order),
                complete=log.complete,
            )
            for order in list(permutations(log.issues))[:6]
        )
    }

    assert len(found) == 1


def test_a_refused_item_keeps_all_that_was_said_of_it_errors_first() -> None:
    verdict = _BY_NAME["error_and_warning_for_one"].judged().verdicts["S-1"]

    assert [(one.is_error, one.text) for one in verdict.issues] == [
        (True, "Title is too long"),
        (False, "Invalid value: gender"),
    ]


def test_a_duplicated_row_is_told_once() -> None:
    shown = Issue("a", is_error=True, field="title", text="too long", fix="Cut it", place=0)
    in_file = Issue("A", is_error=True, field="title", text="too long", fix="")

    found = judge(SubmitKind.UPLOAD, ["a"], FeedLog(ended=True, issues=(shown, in_file)))

    assert found.verdicts["a"].issues == (shown,)


def test_the_hurry_of_a_submit_is_not_told_as_a_fault_of_its_items() -> None:
    verdicts = _BY_NAME["once_a_minute"].judged().verdicts.values()

    assert all(one.issues == () for one in verdicts)


def test_a_stranger_in_our_place_is_not_held_against_us() -> None:
    error = Issue("OTHER-9", is_error=True, field="", text="Bad", fix="", place=0)

    found = judge(
        SubmitKind.UPLOAD, ["a", "b"], FeedLog(ended=True, added=2, errors=1, issues=(error,))
    )

    assert [one.fate for one in found.verdicts.values()] == [Fate.ACCEPTED, Fate.ACCEPTED]


def test_two_items_that_differ_in_case_only_are_not_mixed_up() -> None:
    error = Issue("Ab", is_error=True, field="", text="Bad", fix="")

    found = judge(
        SubmitKind.UPLOAD, ["ab", "AB"], FeedLog(ended=True, added=1, errors=1, issues=(error,))
    )

    assert {one.reason for one in found.verdicts.values()} == {Reason.ERRORS_UNNAMED}


def test_no_items_have_no_verdicts() -> None:
    found = judge(SubmitKind.UPLOAD, [], FeedLog(ended=True))

    assert (found.verdicts, found.advice) == ({}, "")


_BAD = Issue("b", is_error=True, field="title", text="too long", fix="")


@pytest.mark.parametrize(
    ("kind", "answer", "fates"),
    [
        (SubmitKind.UPLOAD, Submitted(""), "AA"),
        (SubmitKind.DELETE, Submitted(""), "AA"),
        (SubmitKind.UPLOAD, Submitted("", issues=(_BAD,)), "AR"),
        (SubmitKind.UPLOAD, Submitted("", complete=False), "GG"),
        (SubmitKind.UPLOAD, Submitted("", issues=(_BAD,), complete=False), "GR"),
    ],
)
def test_an_answer_without_a_log_is_judged_by_what_it_says(
    kind: SubmitKind, answer: Submitted, fates: str
) -> None:
    found = judge_answer(kind, ["a", "b"], answer)

    assert [one.fate for one in found.verdicts.values()] == [FATES[one] for one in fates]
