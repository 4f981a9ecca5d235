"""Units in hand and their shares at pixels, and what a share amounts to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from libs.bus.consumer import Unit
from libs.errors import Kind, ServiceError, permanent
from libs.sinks import unit_of
from libs.telemetry import SpanRef
from services.events.domain.answers import Answered, Meaning
from services.events.domain.model import Conversion
from services.events.domain.settings import DialectName
from services.events.ports import Known, Pixel
from tidewire.commerce.v1 import fact_pb2, record_pb2
from tidewire.delivery.v1 import outcome_pb2

Sent = Answered | ServiceError
"""What became of one conversion."""

MAYBE_SENT: Final = "maybe_sent"
"""Why a unit is given up whose first request left too long ago: it may have been counted then, and
beyond TikTok's dedup window it would be counted again."""

HELD_BACK: Final = ServiceError(
    Kind.RETRYABLE, "gate_shut", "a run of dead letters has stopped the work", retry_after_s=10.0
)
"""Why a unit that would be given up is not."""

_KINDS: Final = {
    Meaning.DELIVERED: outcome_pb2.OUTCOME_KIND_DELIVERED,
    Meaning.UNCERTAIN: outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
}
_WORST_FIRST: Final = (
    outcome_pb2.OUTCOME_KIND_DEAD,
    outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
    outcome_pb2.OUTCOME_KIND_DELIVERED,
    outcome_pb2.OUTCOME_KIND_IGNORED,
)


@dataclass(slots=True)
class Share:
    """One unit at one pixel."""

    sink: str
    connection_id: str
    pixel: Pixel | None = None
    """None where this process does not know the connection (yet, or any more)."""
    known: Known | None = None
    """What is recorded of it already: that it was tried."""
    conversions: list[Conversion] = field(default_factory=list)
    skipped: list[outcome_pb2.EventOutcome] = field(default_factory=list)
    """Events of the unit that are not sent, where they have an id already."""
    ignored: str = ""
    settled: dict[tuple[str, str], Sent] = field(default_factory=dict)
    """What earlier tries came to for good, by an event's id and name."""
    sent: list[Sent] = field(default_factory=list)
    failed: ServiceError | None = None
    """Why nothing of it was sent."""
    class_: str = ""
    """Class of the reason for which it is given up, where it is not told by the error."""
    parked: str = ""
    """Why it waits with its connection; empty where it does not."""

    @property
    def is_to_send(self) -> bool:
        """Whether something of it is to leave now."""
        return bool(self.conversions) and not (self.ignored or self.parked or self.failed)

    @property
    def first_attempt_s(self) -> float | None:
        """Unix seconds at which a request with it first left; None where none may have arrived."""
        if self.known is None or not self.known.outcome.HasField("first_attempt_at"):
            return None
        return self.known.outcome.first_attempt_at.ToNanoseconds() / 1e9

    def unsettled(self) -> list[Conversion]:
        """The conversions that no earlier try has settled."""
        return [one for one in self.conversions if (one.event_id, one.name) not in self.settled]

    def take(self, results: Mapping[int, Sent]) -> None:
        """Takes in what became of the conversions: by `results`, each by its identity."""
        self.sent = [
            self.settled.get((one.event_id, one.name)) or results[id(one)]
            for one in self.conversions
        ]

    def give_up(self, error: ServiceError) -> None:
        """Ends what no try has settled with `error`."""
        self.take({id(one): error for one in self.conversions})

    def unended(self) -> ServiceError | None:
        """The error because of which it must be tried again; None where it has ended."""
        if self.failed is not None:
            return self.failed if self.failed.kind is not Kind.PERMANENT else None
        errors = [sent for sent in self.sent if isinstance(sent, ServiceError)]
        if not errors:
            return None
        return worst(error for error in errors if error.kind is not Kind.PERMANENT)

    def refusal(self) -> ServiceError | None:
        """The error for which it, or a part of it, is given up."""
        if self.failed is not None:
            return self.failed
        for sent in self.sent:
            if isinstance(sent, ServiceError) and sent.kind is Kind.PERMANENT:
                return sent
        return None

    def reason_class(self, reason: str) -> str:
        """What we could not map and what TikTok would not take are different people's work."""
        return self.class_ or ("mapping" if self.failed is not None else reason.partition("/")[0])


@dataclass(slots=True)
class Task:
    """One unit in hand."""

    unit: Unit
    record: record_pb2.FactRecord
    fact: fact_pb2.Fact | None
    """None where it cannot be opened."""
    trouble: ServiceError | None
    """Why it cannot be opened."""
    span: SpanRef
    started_ns: int
    shares: list[Share] = field(default_factory=list)
    name: str = field(init=False)
    """The unit's name in outcomes and ledgers."""

    def __post_init__(self) -> None:
        self.name = unit_of(self.record.kind, self.record.fact_id)

    def result(self) -> ServiceError | None:
        """None where every share has ended or waits elsewhere, so that the unit is done here."""
        return worst(
            error for share in self.shares if not share.parked and (error := share.unended())
        )


Piece = tuple[Task, Share, Conversion]
"""One event on its way, with the unit that it is of."""


def is_settled(sent: Sent) -> bool:
    """Whether no other try can change it."""
    return isinstance(sent, Answered) or sent.kind is Kind.PERMANENT


def pixel_of(share: Share) -> Pixel:
    """The pixel of a share that is to be sent."""
    if share.pixel is None:
        raise permanent("unforeseen", "a share without a pixel is never sent")
    return share.pixel


def worst(errors: Iterable[ServiceError]) -> ServiceError | None:
    """The error that decides for all: one that waits for a person before one that waits."""
    found = list(errors)
    return next((error for error in found if error.kind is Kind.AUTH), found[0] if found else None)


def as_attempted(
    conversions: Sequence[Conversion], attempt: outcome_pb2.Outcome
) -> list[Conversion]:
    """The conversions under the names and ids of an earlier request: they are TikTok's dedup key.

    Settings may have changed since; under another name or id the events would count twice.
    """
    if len(conversions) != len(attempt.events):
        # A part of a replay's events, or events that were skipped: the id tells which is which.
        names = {event.event_id: event.event for event in attempt.events}
        return [replace(one, name=names.get(one.event_id, one.name)) for one in conversions]
    return [
        replace(one, name=event.event, event_id=event.event_id)
        for one, event in zip(conversions, attempt.events, strict=True)
    ]


def attempted_dialect(attempt: outcome_pb2.Outcome) -> DialectName | None:
    """The wire shape of an earlier request; None where none is recorded."""
    return DialectName(attempt.dialect) if attempt.dialect in set(DialectName) else None


def kind_of(
    share: Share, events: Sequence[outcome_pb2.EventOutcome]
) -> outcome_pb2.OutcomeKind.ValueType:
    """How a share ended: as the worst of its events did."""
    if share.failed is not None:
        return outcome_pb2.OUTCOME_KIND_DEAD
    if share.ignored:
        return outcome_pb2.OUTCOME_KIND_IGNORED
    kinds = {event.kind for event in events}
    return next(kind for kind in _WORST_FIRST if kind in kinds)


def event_outcomes(share: Share) -> list[outcome_pb2.EventOutcome]:
    """What became of each event of a share that has ended."""
    if share.ignored:
        return [
            outcome_pb2.EventOutcome(
                event_id=conversion.event_id,
                event=conversion.name,
                kind=outcome_pb2.OUTCOME_KIND_IGNORED,
                reason=share.ignored,
            )
            for conversion in share.conversions
        ] + share.skipped
    if share.failed is not None:
        return share.skipped
    return [
        event_outcome(conversion, sent)
        for conversion, sent in zip(share.conversions, share.sent, strict=True)
    ] + share.skipped


def event_outcome(conversion: Conversion, sent: Sent) -> outcome_pb2.EventOutcome:
    """What became of one event."""
    outcome = outcome_pb2.EventOutcome(event_id=conversion.event_id, event=conversion.name)
    if isinstance(sent, Answered):
        outcome.kind = _KINDS[sent.meaning]
        outcome.upstream_code = sent.code
        outcome.upstream_request_id = sent.request_id
    else:
        outcome.kind = outcome_pb2.OUTCOME_KIND_DEAD
        outcome.reason = sent.code
        outcome.upstream_code = getattr(sent, "upstream_code", 0)
        outcome.upstream_request_id = getattr(sent, "request_id", "")
    return outcome
