"""What the events service needs of the world, each as narrow as its use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.events.domain.answers import Answered
from services.events.domain.dialect import HttpRequest
from services.events.domain.settings import EventSettings
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2


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


class Outcomes(Protocol):
    """Where it is recorded how units ended."""

    async def ended(self, shop: str, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the (sink, unit) pairs that have ended."""

    async def record(self, outcomes: Sequence[outcome_pb2.Outcome]) -> None:
        """Returns when each is durable; the first outcome of a unit stays."""


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
