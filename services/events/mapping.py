"""From a fact to the conversions that one pixel gets of it, or the reason for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from libs.errors import Kind, ServiceError
from services.events import facts
from services.events.domain.conversions import decide_cart, decide_checkout, decide_purchase
from services.events.domain.model import Conversion, Ignored
from services.events.domain.settings import EventSettings
from services.events.domain.tracked import decide_tracked
from services.events.shares import Share, Task, as_attempted, attempted_dialect
from tidewire.commerce.v1 import fact_pb2
from tidewire.delivery.v1 import outcome_pb2

_log = structlog.stdlib.get_logger()


def map_share(
    task: Task, share: Share, earlier: outcome_pb2.Outcome | None, as_of_s: float
) -> None:
    """Fills in what `share` is to send, why it sends nothing, or why it cannot be mapped.

    `earlier` is an attempt at the same unit, or at the one that it is a replay of: its dialect,
    names and ids are kept, for they are TikTok's dedup key. Ages are taken at `as_of_s`.
    """
    if share.pixel is None or task.fact is None:
        return
    dialect = attempted_dialect(earlier) if earlier is not None else None
    if dialect is not None and dialect is not share.pixel.settings.dialect:
        settings = replace(share.pixel.settings, dialect=dialect)
        share.pixel = replace(share.pixel, settings=settings)
    try:
        decided = _decided(task.fact, share.pixel.settings, as_of_s)
    except ServiceError as error:
        share.failed = error
        return
    except Exception as error:  # noqa: BLE001  # a bug met by one fact is not its neighbours'
        _log.exception("mapping_failed", fact=task.fact.WhichOneof("happened"))
        share.failed = ServiceError(Kind.RETRYABLE, "unforeseen", type(error).__name__)
        return
    _take(task, share, decided, earlier)


def _take(
    task: Task,
    share: Share,
    decided: Sequence[Conversion | Ignored],
    earlier: outcome_pb2.Outcome | None,
) -> None:
    conversions = [one for one in decided if isinstance(one, Conversion)]
    reasons = [one.reason.value for one in decided if isinstance(one, Ignored)]
    if earlier is not None:
        conversions = as_attempted(conversions, earlier)
    share.skipped = _skipped(task.fact, decided)
    only = set(task.record.only_event_ids)
    if only and conversions:
        conversions = [one for one in conversions if one.event_id in only]
        if not conversions:
            share.ignored = "replay_fits_no_event"
            return
    share.conversions = conversions
    if not conversions:
        share.ignored = reasons[0] if reasons else "nothing_to_send"
    elif share.pixel is not None and share.pixel.settings.shadow:
        share.ignored = "shadow"


def _decided(
    fact: fact_pb2.Fact, settings: EventSettings, now_s: float
) -> Sequence[Conversion | Ignored]:
    match fact.WhichOneof("happened"):
        case "order_paid":
            return [decide_purchase(facts.paid_order(fact.order_paid), settings, now_s)]
        case "checkout_started":
            started = facts.started_checkout(fact.checkout_started)
            return [decide_checkout(started, settings, now_s)]
        case "cart_lines_added":
            added = decide_cart(facts.cart_lines_added(fact.cart_lines_added), settings, now_s)
            return [added] if isinstance(added, Ignored) else added
        case "events_tracked":
            events = map(facts.tracked_event, fact.events_tracked.events)
            return [decide_tracked(event, settings, now_s) for event in events]
        case _:
            return []


def _skipped(
    fact: fact_pb2.Fact | None, decided: Sequence[Conversion | Ignored]
) -> list[outcome_pb2.EventOutcome]:
    """Who handed in events asks for each by its id, for those too that are not sent."""
    events = fact.events_tracked.events if fact is not None else ()
    return [
        outcome_pb2.EventOutcome(
            event_id=event.event_id,
            event=event.event,
            kind=outcome_pb2.OUTCOME_KIND_IGNORED,
            reason=one.reason.value,
        )
        for event, one in zip(events, decided, strict=False)
        if isinstance(one, Ignored)
    ]
