"""Bus in: one durable a lane, one active worker for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.bus import subjects
from libs.bus.consumer import ConsumerSpec
from libs.bus.pull import ConsumerSettings
from libs.retry import RetryPolicy
from libs.sinks import EVENTS_FACTS
from services.events.handlers import Handlers

_IN_HAND_MAX: Final = 3000
"""Of one lane. A quiet shop's fact is let past a busy one's as soon as it is within these."""

_ROOM_FOR_ALL: Final = 2000
"""Of one lane; with more in hand, shops that have more than their share wait in PARKED, which costs
a write and a read more and leaves room for the shops behind them."""


def conversions(
    handlers: Handlers, lane: int, policy: RetryPolicy, allowance: Callable[[], int | None]
) -> ConsumerSpec:
    """Facts of one lane that TikTok is told of."""
    return ConsumerSpec(
        settings=ConsumerSettings(
            stream=subjects.COMMERCE,
            durable=subjects.events_durable(lane),
            filters=tuple(subjects.facts_in_lane(kind, lane) for kind in EVENTS_FACTS),
            ack_wait_s=15.0,
            max_ack_pending=_IN_HAND_MAX,
            pinned=True,
        ),
        handler=handlers,
        policy=policy,
        batch_max=1000,
        key=queue_of,
        allowance=allowance,
        set_aside=handlers.set_aside,
        waiting_max=_ROOM_FOR_ALL,
    )


def queue_of(subject: str) -> str:
    """The shop token of `commerce.fact.<kind>.<lane>.<shop>.<id>`: what is kept in order.

    What is tried again after it was given up has a queue of its own: it gives way to live facts.
    """
    shop = subject.split(".", 5)[4]
    return f"{shop} replay" if subjects.is_replay(subject) else shop
