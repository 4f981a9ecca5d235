"""Faults, scripted over HTTP: which requests they strike, and when they wear off.

A script is a JSON list of faults:

    [{"match": {"path": "/open_api/v1.3/event/", "pixel": "C1", "event_id": "pur.*"},
      "times": 3, "latency_ms": [20, 80], "effect": {"kind": "http_status", "status": 503}}]

A request meets them in the order posted: latencies add up, and the first with an effect decides.
A fault with neither `times` nor `duration_s` stays until `DELETE`. Effects are in `effects.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import NamedTuple

import msgspec

from sandbox.tiktok.effects import Effect

HIDDEN = "***"


class Match(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The requests that a fault strikes: those that fit every field given."""

    path: str = ""
    """How the path begins."""

    pixel: str | None = None
    """The pixel code or event source id in the body."""

    token: str | None = None
    event_id: str | None = None
    """A shell pattern (`*`, `?`, `[…]`); one event of the batch that fits is enough."""

    catalog_id: str | None = None
    """The catalog that a catalog's endpoint is asked about."""

    sku: str | None = None
    """A shell pattern; one item of a catalog's write that fits is enough. Not with `event_id`."""

    probability: float = 1.0
    """The share of fitting requests that is struck, by a seeded generator."""


class Fault(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """One line of a script."""

    match: Match = Match()
    skip: int = 0
    """The first fitting requests that go free."""

    times: int | None = None
    """Requests that are struck before the fault wears off."""

    duration_s: float | None = None
    """Seconds of the sandbox's clock, from the post on, after which it wears off."""

    seed: int | None = None
    """Of this fault's own generator; by default the sandbox's, and the fault's place."""

    latency_ms: float | tuple[float, float] = 0.0
    """Fixed, or drawn evenly from [least, most]."""

    effect: Effect | None = None
    """What happens to the answer; None for latency alone."""


class Sighting(NamedTuple):
    """What of a request a fault may look at."""

    path: str
    pixel: str
    token: str
    event_ids: Sequence[str]
    catalog_id: str = ""
    skus: Sequence[str] = ()


class Plan(NamedTuple):
    """What the faults do to one request."""

    latency_ms: float = 0.0
    effect: Effect | None = None
    struck: frozenset[int] = frozenset()
    """Indexes of the events or items that the deciding fault's pattern fits."""


@dataclass(slots=True)
class _Armed:
    fault: Fault
    posted_s: float
    random: random.Random
    pattern: re.Pattern[str] | None
    seen: int = 0
    hits: int = 0

    def strikes(self, sighting: Sighting, now_s: float) -> bool:
        fault = self.fault
        if self.spent(now_s) or not self._fits(sighting):
            return False
        self.seen += 1
        if self.seen <= fault.skip or self.random.random() >= fault.match.probability:
            return False
        self.hits += 1
        return True

    def spent(self, now_s: float) -> bool:
        fault = self.fault
        if fault.times is not None and self.hits >= fault.times:
            return True
        return fault.duration_s is not None and now_s >= self.posted_s + fault.duration_s

    def _fits(self, sighting: Sighting) -> bool:
        match = self.fault.match
        return (
            sighting.path.startswith(match.path)
            and match.pixel in {None, sighting.pixel}
            and match.token in {None, sighting.token}
            and match.catalog_id in {None, sighting.catalog_id}
            and (self.pattern is None or bool(self.events_struck(sighting)))
        )

    def events_struck(self, sighting: Sighting) -> frozenset[int]:
        if self.pattern is None:
            return frozenset()
        fits = self.pattern.fullmatch
        names = sighting.event_ids if self.fault.match.sku is None else sighting.skus
        return frozenset(i for i, name in enumerate(names) if fits(name))

    def latency_ms(self) -> float:
        latency_ms = self.fault.latency_ms
        if isinstance(latency_ms, tuple):
            return self.random.uniform(*latency_ms)
        return latency_ms


class FaultBook:
    """The faults in force."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._posted = 0
        self._armed: list[_Armed] = []

    def post(self, script: bytes, now_s: float) -> int:
        """Adds a JSON list of faults, or one alone; gives how many.

        `now_s` is monotonic. Nothing is added when one of them cannot be read.

        Raises:
            msgspec.DecodeError: naming the field at fault (ValidationError is one).
        """
        faults = msgspec.json.decode(script, type=list[Fault] | Fault)
        faults = faults if isinstance(faults, list) else [faults]
        self._armed += [self._arm(fault, now_s) for fault in faults]
        return len(faults)

    def _arm(self, fault: Fault, now_s: float) -> _Armed:
        self._posted += 1
        seed = fault.seed if fault.seed is not None else self._seed + self._posted
        names = fault.match.sku if fault.match.sku is not None else fault.match.event_id
        pattern = re.compile(translate(names)) if names is not None else None
        return _Armed(fault, now_s, random.Random(seed), pattern)

    def clear(self) -> None:
        """Ends every fault."""
        self._armed.clear()

    def plan(self, sighting: Sighting, now_s: float) -> Plan:
        """What happens to a request seen at the monotonic time `now_s`."""
        latency_ms = 0.0
        for armed in self._armed:
            if not armed.strikes(sighting, now_s):
                continue
            latency_ms += armed.latency_ms()
            if armed.fault.effect is not None:
                return Plan(latency_ms, armed.fault.effect, armed.events_struck(sighting))
        return Plan(latency_ms)

    def listing(self, now_s: float) -> list[dict[str, object]]:
        """Every fault posted, its hits and whether it is spent; tokens are masked."""
        return [_line(armed, now_s) for armed in self._armed]


def _line(armed: _Armed, now_s: float) -> dict[str, object]:
    fault = armed.fault
    if fault.match.token is not None:
        match = msgspec.structs.replace(fault.match, token=HIDDEN)
        fault = msgspec.structs.replace(fault, match=match)
    return {"fault": fault, "hits": armed.hits, "spent": armed.spent(now_s)}
