"""Bus in: one durable a lane, one active worker for each."""

from __future__ import annotations

from libs.bus import subjects
from libs.bus.consumer import ConsumerSpec, Handler
from libs.bus.pull import ConsumerSettings
from libs.retry import RetryPolicy
from libs.sinks import EVENTS_FACTS


def conversions(handler: Handler, lane: int, policy: RetryPolicy) -> ConsumerSpec:
    """Facts of one lane that TikTok is told of."""
    return ConsumerSpec(
        settings=ConsumerSettings(
            stream=subjects.COMMERCE,
            durable=subjects.events_durable(lane),
            filters=tuple(subjects.facts_in_lane(kind, lane) for kind in EVENTS_FACTS),
            ack_wait_s=15.0,
            max_ack_pending=1000,
            pinned=True,
        ),
        handler=handler,
        policy=policy,
        batch_max=1000,
        key=shop_of,
    )


def shop_of(subject: str) -> str:
    """The shop token of `commerce.fact.<kind>.<lane>.<shop>.<id>`: what is kept in order."""
    return subject.split(".", 5)[4]
