"""A fault that struck nothing is no fault that holds."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandbox.shopify.oracle import Expected
from tests.faults.scene import Scene, untried

_HANG = {"fault": {"effect": {"kind": "hang"}}, "hits": 0}
_SLOW = {"fault": {"latency_ms": 400.0}, "hits": 0}


class QuietNats:
    """A server on which these consumers have a message each in hand."""

    def __init__(self, *consumers: str) -> None:
        self._consumers = consumers

    async def request(self, subject: str, *_: Any, **__: Any) -> Any:
        listed = [{"name": one, "num_pending": 0, "num_ack_pending": 1} for one in self._consumers]
        return SimpleNamespace(data=json.dumps({"consumers": listed, "state": {}}).encode())


def scene(nats: QuietNats) -> Scene:
    site = SimpleNamespace(stack=None, nats=nats)
    storm = SimpleNamespace(expected=Expected(), deliveries=())
    return Scene(cast("Any", site), cast("Any", storm), 0.0)


@pytest.mark.parametrize(
    ("line", "named"), [(_HANG, "hang"), (_SLOW, "latency")], ids=["an answer", "its latency"]
)
def test_what_no_request_met_is_told(line: dict[str, Any], named: str) -> None:
    [complaint] = untried([line, {**line, "hits": 1}])

    assert named in complaint


async def test_a_process_that_is_idle_is_no_process_with_work_in_hand() -> None:
    idle = scene(QuietNats("normalizer"))

    await idle.has_work_for("ingest-normalizer", within_s=0.05)
    assert idle.complaints == []
    await idle.has_work_for("events", within_s=0.05)

    assert idle.complaints == ["events had no work in hand: nothing was tried"]


async def test_a_process_with_a_message_of_one_lane_has_work_in_hand() -> None:
    busy = scene(QuietNats("events-7"))

    await busy.has_work_for("events", within_s=5.0)

    assert busy.complaints == []
