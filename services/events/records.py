"""What is written down of a share: that it was tried, how it ended, where it waits. Pure."""

from __future__ import annotations

from libs.bus.dead_letters import unit_letter_id
from libs.errors import Kind, ServiceError, permanent
from libs.http.classify import may_have_arrived
from services.events.domain.answers import Answered, Meaning, RefusedError
from services.events.shares import (
    HELD_BACK,
    Sent,
    Share,
    Task,
    event_outcome,
    event_outcomes,
    is_settled,
    kind_of,
    pixel_of,
)
from tidewire.delivery.v1 import gate_pb2, outcome_pb2


def attempt_of(task: Task, share: Share, *, now_ns: int) -> outcome_pb2.Outcome:
    """That a request with the share leaves now; stays until the terminal outcome replaces it."""
    outcome = _outcome(task, share)
    outcome.kind = outcome_pb2.OUTCOME_KIND_ATTEMPTED
    outcome.attempts = task.unit.attempts
    outcome.dialect = pixel_of(share).settings.dialect.value
    outcome.events.extend(
        event_outcome(one, settled)
        if (settled := share.settled.get((one.event_id, one.name)))
        else outcome_pb2.EventOutcome(event_id=one.event_id, event=one.name)
        for one in share.conversions
    )
    outcome.first_attempt_at.FromNanoseconds(now_ns)
    return outcome


def corrected_note(
    task: Task, share: Share, noted: outcome_pb2.Outcome
) -> outcome_pb2.Outcome | None:
    """What to write in place of `noted` now that the try is over; None where that may stand."""
    if share.unended() is None or not share.sent or not noted.HasField("first_attempt_at"):
        return None
    outcome = outcome_pb2.Outcome()
    outcome.CopyFrom(noted)
    # What is held back was refused, and may fare better once the fault is mended.
    is_held_back = share.failed is HELD_BACK
    if not is_held_back:
        _note_results(share, outcome)
    # Else an earlier try of it may have arrived.
    if share.first_attempt_s is None and _did_not_arrive(share):
        outcome.ClearField("first_attempt_at")
        # To be held back costs no attempt.
        outcome.attempts = task.unit.attempts + (not is_held_back)
        if is_held_back or not settled_in(outcome):
            outcome.ClearField("dialect")
            del outcome.events[:]
    return None if outcome == noted else outcome


def _did_not_arrive(share: Share) -> bool:
    """Whether no request of this try can have been acted upon."""
    return all(isinstance(one, ServiceError) and not may_have_arrived(one) for one in share.sent)


def _note_results(share: Share, outcome: outcome_pb2.Outcome) -> None:
    places = {(event.event_id, event.event): event for event in outcome.events if event.event_id}
    for one, sent in zip(share.conversions, share.sent, strict=True):
        place = places.get((one.event_id, one.name))
        if place is not None and is_settled(sent):
            place.CopyFrom(event_outcome(one, sent))


def settled_in(noted: outcome_pb2.Outcome) -> dict[tuple[str, str], Sent]:
    """What earlier tries of a unit came to, by id and name of its events."""
    return {
        (event.event_id, event.event): _sent(event)
        for event in noted.events
        if event.event_id and event.kind != outcome_pb2.OUTCOME_KIND_UNSPECIFIED
    }


def _sent(event: outcome_pb2.EventOutcome) -> Sent:
    code, request_id = event.upstream_code, event.upstream_request_id
    match event.kind:
        case outcome_pb2.OUTCOME_KIND_DELIVERED:
            return Answered(Meaning.DELIVERED, code, request_id)
        case outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN:
            return Answered(Meaning.UNCERTAIN, code, request_id)
        case _ if code:
            return RefusedError(Kind.PERMANENT, code, request_id, None, "")
        case _:
            return permanent(event.reason, "it was refused at an earlier try")


def outcome_of(
    task: Task, share: Share, attempt: outcome_pb2.Outcome | None, *, now_ns: int
) -> outcome_pb2.Outcome:
    """How the share ended; `attempt` is what was recorded when its request left."""
    events = event_outcomes(share)
    error = share.refusal()
    outcome = _outcome(task, share)
    outcome.kind = kind_of(share, events)
    outcome.reason = share.ignored or (reason_of(share, error) if error else "")
    outcome.attempts = task.unit.attempts + 1 if share.sent else 0
    outcome.events.extend(events)
    if share.sent and share.pixel is not None:
        outcome.dialect = share.pixel.settings.dialect.value
    if attempt is not None and attempt.HasField("first_attempt_at"):
        outcome.first_attempt_at.CopyFrom(attempt.first_attempt_at)
    outcome.ended_at.FromNanoseconds(now_ns)
    return outcome


def letter_of(
    task: Task, share: Share, error: ServiceError, reason: str, *, now_ns: int
) -> outcome_pb2.DeadLetter:
    """What is kept of a share that is given up. Its id is the share's own: given up once."""
    record = task.record
    letter = outcome_pb2.DeadLetter(
        dead_letter_id=unit_letter_id(share.sink, record.shop, task.name),
        service="events",
        reason_class=share.reason_class(reason),
        code=error.code,
        message=error.message,
        path=error.path or "",
        shop=record.shop,
        delivery_id=record.delivery_id,
        unit=task.name,
        sink=share.sink,
        upstream_code=getattr(error, "upstream_code", 0),
        upstream_request_id=getattr(error, "request_id", ""),
        attempts=task.unit.attempts + 1,
        traceparent=record.traceparent,
        original=record.payload if record.HasField("payload") else None,
        received_at=record.received_at,
        event_ids=_given_up_ids(share),
        fact_kind=record.kind,
        replay_of=record.replay_of,
    )
    letter.died_at.FromNanoseconds(now_ns)
    return letter


def reference_of(task: Task, share: Share, *, now_ns: int) -> gate_pb2.ParkedUnit:
    """Where the share's fact stands, for the queue of its connection."""
    reference = gate_pb2.ParkedUnit(
        subject=task.unit.subject,
        sequence=task.unit.sequence,
        sink=share.sink,
        connection_id=share.connection_id,
        unit=task.name,
        shop=task.record.shop,
        reason=share.parked,
    )
    reference.parked_at.FromNanoseconds(now_ns)
    return reference


def reason_of(share: Share, error: ServiceError) -> str:
    """Class and code, as outcomes name it."""
    return share.class_ or f"permanent/{error.code}"


def _outcome(task: Task, share: Share) -> outcome_pb2.Outcome:
    return outcome_pb2.Outcome(
        unit=task.name,
        sink=share.sink,
        shop=task.record.shop,
        received_at=task.record.received_at,
        delivery_id=task.record.delivery_id,
        trace_id=task.span.trace_hex,
        replay_of=task.record.replay_of,
    )


def _given_up_ids(share: Share) -> list[str]:
    """Ids of the events that were given up; none where all of the unit's were."""
    if share.failed is not None:
        return []
    return [
        conversion.event_id
        for conversion, sent in zip(share.conversions, share.sent, strict=True)
        if isinstance(sent, ServiceError) and conversion.event_id
    ]
