"""The report shows what failed, and its page does not change from one equal run to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.judge import Costs
from tests.faults.report import as_dict, details, page
from tests.faults.scene import Scene, Try
from tests.faults.trial import Fault, Result


async def nothing(_: Scene) -> None:
    """Is never inflicted here."""


HELD = Result(
    fault=Fault(name="nats.kill", what="it is killed", expected="it comes back", inflict=nothing),
    service_s=3.2,
    seconds=12.0,
)


@pytest.mark.parametrize(
    "change",
    [
        {"costs": Costs(lost=("one",))},
        {"costs": Costs(falsely_done=("one",))},
        {"costs": Costs(duplicates=("one",))},
        {"service_s": None},
        {"service_s": 30.1},
        {"complaints": ("late",)},
    ],
)
def test_one_thing_that_does_not_hold_fails_a_fault(change: dict[str, object]) -> None:
    failed = replace(HELD, **change)  # type: ignore[arg-type]  # fields by name

    assert HELD.passed
    assert not failed.passed
    assert "| fails" in page([failed], "a machine")
    assert as_dict([HELD, failed], "a machine")["passed"] is False


def test_the_page_tells_a_fault_in_one_row() -> None:
    text = page([HELD], "a machine")

    assert "Machine: a machine." in text
    assert text.endswith(
        "| `nats.kill` | it is killed | it comes back | 0 | 0 | 0 | ≤ 5 s | holds |\n"
    )


def test_runs_that_differ_by_moments_write_the_same_page() -> None:
    again = replace(HELD, service_s=4.9, seconds=17.0)

    assert page([again], "a machine") == page([HELD], "a machine")


def test_details_name_what_was_lost_and_how_much_more() -> None:
    lost = tuple(f"event {number}" for number in range(9))

    text = details(replace(HELD, costs=Costs(lost=lost), tails="the log"))

    assert "lost: event 0" in text
    assert "lost: 4 more" in text
    assert "the log" in text


@pytest.mark.parametrize(
    ("status", "latency_s", "retry_after", "is_fine"),
    [
        (200, 0.1, None, True),
        (503, 2.5, "1", True),
        (503, 0.1, None, False),
        (503, 3.1, "1", False),
        (200, 3.1, None, False),
        (500, 0.1, None, False),
        (None, 5.0, None, False),
    ],
)
def test_a_door_answers_in_time_with_200_or_503(
    status: int | None, latency_s: float, retry_after: str | None, *, is_fine: bool
) -> None:
    assert (Try(status, latency_s, retry_after).complaint() == "") is is_fine
