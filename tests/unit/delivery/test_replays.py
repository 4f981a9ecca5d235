"""What replays are made of."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.telemetry import SpanRef
from services.delivery.replays import DeliveryReplay, grouped, packed, replay_of
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2

SPAN = SpanRef(1, 2, sampled=True)


def delivery_letter(number: int, size_bytes: int = 10) -> outcome_pb2.DeadLetter:
    return outcome_pb2.DeadLetter(
        dead_letter_id=f"ingest.example.w{number}",
        service="ingest",
        shop="example",
        original=sealed_pb2.Payload(data=bytes(size_bytes)),
    )


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60), st.integers(1, 5))
def test_groups_keep_the_order_and_both_bounds(
    sizes: list[int], bytes_max: int, items_max: int
) -> None:
    groups = list(grouped(sizes, int, bytes_max=bytes_max, items_max=items_max))

    assert [size for group in groups for size in group] == sizes
    assert all(len(group) <= items_max for group in groups)
    assert all(sum(group) <= bytes_max or len(group) == 1 for group in groups)
    # No group could have taken the first of the next one.
    assert all(
        len(one) == items_max or sum(one) + other[0] > bytes_max for one, other in pairwise(groups)
    )


def test_deliveries_are_packed_into_few_segments_that_are_named_by_what_they_hold() -> None:
    replays = [replay_of(delivery_letter(number, 300_000)) for number in range(5)]
    deliveries = [one.delivery(SPAN, 7) for one in replays if isinstance(one, DeliveryReplay)]

    segments = list(packed(deliveries, 7))
    again = list(packed(deliveries, 8))

    assert [len(segment.deliveries) for segment in segments] == [2, 2, 1]
    assert len({segment.segment_id for segment in segments}) == 3
    assert [one.segment_id for one in again] == [one.segment_id for one in segments]
