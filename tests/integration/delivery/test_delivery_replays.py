"""Letters of deliveries that could not be normalised, replayed through the real normalizer."""

from __future__ import annotations

import gzip
import json
from typing import Any

from libs.errors import permanent
from services.ingest.batch import BatchProcessor
from tests.integration.delivery.rig import Desk, results
from tests.integration.ingest.harness import SHOP, Suite, eventually, order_body, running
from tests.unit.ingest.normalize.bodies_of import order
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

TRIGGERED_AT = "2026-09-01T12:00:07.123456789Z"


class Mistaken(BatchProcessor):
    """A processor whose mapping has a bug: it understands no order."""

    def _understood(self, *_: Any) -> Any:
        raise permanent("wrong_shape", "expected a number", path="$.total_price")


async def normalised(suite: Suite, processor: BatchProcessor | None = None) -> None:
    async with running(suite.normalizer(processor)):
        await eventually(suite.all_acknowledged, "every segment is acknowledged")


async def buried(suite: Suite, **changes: Any) -> outcome_pb2.DeadLetter:
    """The letter of an order `w1` that the mapping did not understand."""
    delivery = await suite.delivery("w1", changes.pop("body", order_body(id=7)))
    delivery.triggered_at.FromJsonString(TRIGGERED_AT)
    delivery.MergeFrom(delivery_pb2.Delivery(**changes))
    await suite.store([delivery])
    await normalised(suite, suite.processor(kind=Mistaken))
    (letter,) = await suite.dead_letters()
    return letter


async def test_a_delivery_is_normalised_once_the_mapping_is_right(suite: Suite, desk: Desk) -> None:
    letter = await buried(suite)

    answer = await desk.replay(letter.dead_letter_id)
    await normalised(suite)

    name = f"replay.ingest.{SHOP}.w1"
    seen = await suite.seen()
    facts = await suite.stored("COMMERCE", "commerce.fact.order_paid.>")
    fact = record_pb2.FactRecord.FromString(facts[0].data)
    state = await suite.state("order", "7")
    assert [action.replayed_as for action in answer.actions] == [name]
    assert seen["w1"].result == record_pb2.SEEN_RESULT_DEAD
    assert seen[name].result == record_pb2.SEEN_RESULT_APPLIED
    assert (len(facts), fact.delivery_id) == (1, name)
    assert fact.received_at == letter.received_at
    assert state.version.triggered_at.ToJsonString() == TRIGGERED_AT


async def test_a_delivery_that_is_replayed_twice_is_normalised_once(
    suite: Suite, desk: Desk
) -> None:
    letter = await buried(suite)

    await desk.replay(letter.dead_letter_id)
    again = await desk.replay(letter.dead_letter_id)
    await normalised(suite)

    assert results(again) == ["already_replayed"]
    assert len(await suite.received()) == 2
    assert len(await suite.facts()) == 1


async def test_a_compressed_delivery_is_replayed_as_it_came(suite: Suite, desk: Desk) -> None:
    letter = await buried(suite, body=gzip.compress(order_body(id=7)), content_encoding="gzip")

    await desk.replay(letter.dead_letter_id)
    await normalised(suite)

    assert letter.content_encoding == "gzip"
    assert len(await suite.facts()) == 1


async def test_a_replay_that_fails_again_is_a_letter_that_names_the_first(
    suite: Suite, desk: Desk
) -> None:
    first = await buried(suite)

    await desk.replay(first.dead_letter_id)
    await normalised(suite, suite.processor(kind=Mistaken))

    _, second = await suite.dead_letters()
    assert second.replay_of == first.dead_letter_id
    assert second.dead_letter_id == f"ingest.{SHOP}.replay.ingest.{SHOP}.w1"
    assert await desk.ids() == [second.dead_letter_id]


async def test_a_real_order_is_shown_masked(suite: Suite, desk: Desk) -> None:
    body = order(
        id=7,
        email="jo@example.com",
        phone="+12025550143",
        note="leave it with Jo Smith, 1 Main Street",
        browser_ip="203.0.113.7",
    )
    letter = await buried(suite, body=json.dumps(body).encode())

    answer = await desk.get(letter.dead_letter_id, include_original=True)

    shown = json.loads(answer.original_json)
    assert (shown["id"], shown["total_price"], shown["currency"]) == (7, "18.00", "USD")
    assert shown["email"] == "***email"
    assert shown["phone"] == "***phone"
    assert shown["note"] == "***text"
    assert "Jo" not in answer.original_json
    assert "203.0.113.7" not in answer.original_json


async def test_a_body_that_is_no_json_is_told_of_by_its_size_alone(
    suite: Suite, desk: Desk
) -> None:
    letter = await buried(suite, body=b"<html>jo@example.com</html>")

    answer = await desk.get(letter.dead_letter_id, include_original=True)

    assert json.loads(answer.original_json) == {"unreadable": "not_json", "bytes": 27}
