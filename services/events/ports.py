"""What the events service needs of the world, each as narrow as its use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.events.domain.answers import Answered
from services.events.domain.dialect import HttpRequest
from services.events.domain.settings import EventSettings
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

Pair = tuple[str, str]
"""A sink and a unit."""


@dataclass(frozen=True, slots=True)
class Pixel:
    """One pixel to send to."""

    connection_id: str
    sink: str
    settings: EventSettings


class Pixels(Protocol):
    """The pixels of a shop."""

    def of_shop(self, shop: str) -> Sequence[Pixel]:
        """Those that can be sent to."""

    def is_connected(self, shop: str, sink: str) -> bool:
        """Whether there is such a connection, usable or not."""


class EventsApi(Protocol):
    """TikTok."""

    async def send(
        self, request: HttpRequest, connection_id: str, headers: Mapping[str, str]
    ) -> Answered:
        """What TikTok made of the request's events; raises ServiceError where it took none."""


class Opener(Protocol):
    """Opens what was sealed for a shop."""

    async def open_bytes(self, payload: sealed_pb2.Payload, shop: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What is recorded of a unit, and the sequence it stands at."""

    outcome: outcome_pb2.Outcome
    sequence: int

    @property
    def ended(self) -> bool:
        """Whether this is the end, not only a try."""
        return self.outcome.kind != outcome_pb2.OUTCOME_KIND_ATTEMPTED


class Outcomes(Protocol):
    """Where it is recorded which units were tried, and how they ended."""

    async def known(self, shop: str, pairs: Sequence[Pair]) -> dict[Pair, Known]:
        """What is recorded of the (sink, unit) pairs; nothing for those never tried."""

    async def attempt(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        """Records tries, durable on return; what has ended meanwhile is missing in the answer."""

    async def record(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known] | None = None
    ) -> None:
        """Returns when each is durable; the first terminal outcome of a unit stays."""


class OutcomeReader(Protocol):
    """What can be asked about outcomes."""

    async def of_event(self, shop: str, event_id: str) -> list[outcome_pb2.Outcome]:
        """The outcomes of the units that an event id belongs to, one a pixel."""

    def after(self, sequence: int) -> AsyncIterator[tuple[int, outcome_pb2.Outcome]]:
        """Outcomes stored behind a sequence, in order, to the end of what there is."""

    async def sequence_at(self, instant_ns: int) -> int:
        """The sequence behind which everything stored since then stands."""


class DeadLetters(Protocol):
    """Where what was given up is kept, whole."""

    async def store(self, letter: outcome_pb2.DeadLetter) -> None: ...


class Parking(Protocol):
    """Where references to facts wait for their connection, one queue each."""

    def is_behind(self, connection_id: str) -> bool:
        """Whether something waits there already, so that what comes now belongs behind it."""

    async def park(self, units: Sequence[gate_pb2.ParkedUnit]) -> None:
        """Stores references in order; returns when they are durable.

        Raises:
            ServiceError: RETRYABLE; storing them again is harmless.
        """


class Marks(Protocol):
    """Tells one set of credentials from another without showing them."""

    async def mark(self, connection_id: str) -> str:
        """A fingerprint of the connection's token; empty where it has none."""
