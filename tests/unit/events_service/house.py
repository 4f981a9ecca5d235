"""The handlers and everything around them, for tests of what they do with facts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.bus.consumer import GivenUp, Unit
from libs.clock import FakeClock
from libs.errors import ServiceError
from libs.telemetry import Telemetry
from services.events.gatekeeper import Gatekeeper
from services.events.handlers import Handlers
from services.events.ports import Known, Pair, Pixel
from services.events.surroundings import Surroundings
from tests.unit.events_service.fakes import (
    AT_S,
    TIMEOUT,
    ClearOpener,
    FakeTikTok,
    FixedMarks,
    FixedPixels,
    ListedDeadLetters,
    ListedParking,
    RecordingLimiter,
    burials_of,
    gates_of,
    pixel,
    sender_of,
)
from tidewire.delivery.v1 import outcome_pb2


@dataclass
class FirstStays:
    """Outcomes in memory; the first terminal one of a unit stays, as in the stream."""

    log: list[str]
    kept: dict[Pair, outcome_pb2.Outcome] = field(default_factory=dict)
    tried: dict[Pair, outcome_pb2.Outcome] = field(default_factory=dict)
    trouble: ServiceError | None = None
    tries: list[outcome_pb2.Outcome] = field(default_factory=list)
    """All that was ever noted of tries."""
    note_trouble: ServiceError | None = None
    """Met by what corrects a note."""

    async def known(self, shop: str, pairs: Sequence[Pair]) -> dict[Pair, Known]:
        stored = {**self.tried, **self.kept}
        return {pair: Known(stored[pair], 1) for pair in pairs if pair in stored}

    async def attempt(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        if self.note_trouble is not None and any((o.sink, o.unit) in self.tried for o in outcomes):
            raise self.note_trouble
        await asyncio.sleep(0)
        self.tries += outcomes
        open_ones = {(o.sink, o.unit): o for o in outcomes if (o.sink, o.unit) not in self.kept}
        self.tried |= open_ones
        return {pair: Known(one, 1) for pair, one in open_ones.items()}

    async def record(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known] | None = None
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        for one in outcomes:
            self.log.append(f"outcome {one.sink} {one.unit}")
            self.kept.setdefault((one.sink, one.unit), one)


class House:
    """The handlers and everything around them."""

    def __init__(self, *pixels: Pixel) -> None:
        self.log: list[str] = []
        self.tiktok = FakeTikTok()
        self.opener = ClearOpener()
        self.pixels = FixedPixels(pixels or (pixel(),))
        self.outcomes = FirstStays(self.log)
        self.letters = ListedDeadLetters(self.log)
        self.telemetry = Telemetry.recording()
        self.clock = FakeClock(AT_S + 60)
        self.gates = gates_of(self.clock)
        self.marks = FixedMarks()
        self.limiter = RecordingLimiter()
        self.parking = ListedParking(self.log)
        self.burials = burials_of(self.clock, units_max=3)
        gatekeeper = self.gatekeeper = Gatekeeper(self.gates, self.marks, self.clock)
        self.handlers = Handlers(
            Surroundings(
                opener=self.opener,
                pixels=self.pixels,
                sender=sender_of(
                    self.tiktok,
                    self.telemetry,
                    limiter=self.limiter,
                    gatekeeper=gatekeeper,
                    clock=self.clock,
                ),
                gatekeeper=gatekeeper,
                outcomes=self.outcomes,
                dead_letters=self.letters,
                parking=self.parking,
                burials=self.burials,
                tracer=self.telemetry.tracer,
                metrics=self.telemetry.metrics,
                clock=self.clock,
            )
        )

    async def handle(self, *units: Unit) -> list[ServiceError | None]:
        return list(await self.handlers.handle(units))

    async def bury(self, one: Unit, error: ServiceError = TIMEOUT) -> None:
        await self.handlers.bury(GivenUp(one, f"exhausted/{error.code}", error))

    def outcome(
        self, sink: str = "events.C1", name: str = "order_paid.98765"
    ) -> outcome_pb2.Outcome:
        return self.outcomes.kept[(sink, name)]
