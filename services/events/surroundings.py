"""What the handlers of facts work with."""

from __future__ import annotations

from dataclasses import dataclass

from libs.bus.burial import BurialWatch
from libs.clock import Clock
from libs.telemetry import Metrics, Tracer
from services.events.gatekeeper import Gatekeeper
from services.events.ports import DeadLetters, Opener, Outcomes, Parking, Pixels
from services.events.sender import Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the handlers work with."""

    opener: Opener
    pixels: Pixels
    sender: Sender
    gatekeeper: Gatekeeper
    outcomes: Outcomes
    dead_letters: DeadLetters
    parking: Parking
    burials: BurialWatch
    tracer: Tracer
    metrics: Metrics
    clock: Clock
