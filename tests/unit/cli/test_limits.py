"""What `tidewire limits` shows."""

from __future__ import annotations

import io
import json

from rich.console import Console

from cli.limits import limits_json, limits_table
from tidewire.limiter.v1 import limiter_service_pb2 as pb

NOW_NS = 1_790_000_000_000_000_000


def _status() -> pb.LimitStatus:
    status = pb.LimitStatus(
        name="tiktok.events.app/second", limit=1000.0, pace=0.7, used=0.85, waiters=12, granted=4321
    )
    status.last_throttle.FromNanoseconds(NOW_NS - 42_000_000_000)
    status.last_throttle_code = "40100 [red]"
    return status


def _shown(limits: list[pb.LimitStatus], note: str = "") -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(limits_table(limits, NOW_NS, note))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_tells_use_pace_waiters_and_the_last_throttle() -> None:
    shown = _shown([_status()])

    for part in ("tiktok.events.app/second", "1,000", "85%", "70%", "12", "4,321", "42 s ago"):
        assert part in shown


def test_what_an_upstream_said_is_shown_as_it_is() -> None:
    assert "40100 [red]" in _shown([_status()])


def test_a_screen_that_is_old_says_so_and_an_empty_one_too() -> None:
    shown = _shown([], "no answer: rpc_unavailable")

    assert "none was used yet" in shown
    assert "no answer: rpc_unavailable" in shown


def test_json_names_every_field_also_where_it_is_nothing() -> None:
    [found] = json.loads(limits_json([_status()]))

    assert found["waiters"] == 12
    assert found["last_throttle_code"] == "40100 [red]"
    assert json.loads(limits_json([pb.LimitStatus()]))[0]["used"] == 0
