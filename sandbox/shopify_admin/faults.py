"""Faults of the Admin API, scripted over HTTP: which calls they strike, and how.

A script is a JSON list of faults:

    [{"match": {"shop": "quiet.myshopify.com", "operation": "ChangedOrders"}, "times": 2,
      "latency_ms": 50, "effect": {"kind": "http_status", "status": 503}}]

A call meets them in the order posted: latencies add up, and the first with an effect decides. A
fault with neither `times` nor `duration_s` stays until `DELETE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec


class _Kind(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """Every effect names itself in `kind`."""


class Hang(_Kind, tag="hang"):
    """No answer until the client goes away."""


class HttpStatus(_Kind, tag="http_status"):
    """An answer from before GraphQL: 5xx, 429, 402, a proxy's page."""

    status: int
    retry_after_s: float | None = None


class Throttled(_Kind, tag="throttled"):
    """The bucket is taken to be empty: THROTTLED under HTTP 200."""

    as_429: bool = False


class ExpiredToken(_Kind, tag="expired_token"):
    """401, as for a token that was revoked."""


class Denied(_Kind, tag="denied"):
    """ACCESS_DENIED: of a root field, or of a field of each node (`field`), which comes as null."""

    scope: str = "`read_orders` access scope."
    field: str | None = None


Effect: TypeAlias = Hang | HttpStatus | Throttled | ExpiredToken | Denied


class Match(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The calls that a fault strikes: those that fit every field given."""

    shop: str | None = None
    """The domain."""

    operation: str | None = None
    """The name of the operation."""


class Fault(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """One line of a script."""

    match: Match = Match()
    skip: int = 0
    """The first fitting calls that go free."""

    times: int | None = None
    """Calls that are struck before the fault wears off."""

    duration_s: float | None = None
    """Seconds from the post on, after which it wears off."""

    latency_ms: float = 0.0
    effect: Effect | None = None


class Plan(NamedTuple):
    """What the faults do to one call."""

    latency_ms: float = 0.0
    effect: Effect | None = None


@dataclass(slots=True)
class _Armed:
    fault: Fault
    posted_s: float
    seen: int = 0
    hits: int = 0

    def is_spent(self, now_s: float) -> bool:
        fault = self.fault
        worn = fault.times is not None and self.hits >= fault.times
        return worn or (fault.duration_s is not None and now_s >= self.posted_s + fault.duration_s)

    def strikes(self, shop: str, operation: str, now_s: float) -> bool:
        match = self.fault.match
        fits = match.shop in {None, shop} and match.operation in {None, operation}
        if self.is_spent(now_s) or not fits:
            return False
        self.seen += 1
        if self.seen <= self.fault.skip:
            return False
        self.hits += 1
        return True


class FaultBook:
    """The faults in force."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def post(self, script: bytes, now_s: float) -> int:
        """Adds a JSON list of faults, or one alone; gives how many.

        Raises:
            msgspec.DecodeError: naming the field at fault.
        """
        found = msgspec.json.decode(script, type=list[Fault] | Fault)
        faults = found if isinstance(found, list) else [found]
        self._armed += [_Armed(fault, now_s) for fault in faults]
        return len(faults)

    def clear(self) -> None:
        """Ends every fault."""
        self._armed.clear()

    def plan(self, shop: str, operation: str, now_s: float) -> Plan:
        """What happens to one call."""
        latency_ms = 0.0
        for armed in self._armed:
            if not armed.strikes(shop, operation, now_s):
                continue
            latency_ms += armed.fault.latency_ms
            if armed.fault.effect is not None:
                return Plan(latency_ms, armed.fault.effect)
        return Plan(latency_ms)

    def listing(self, now_s: float) -> list[dict[str, object]]:
        """Every fault posted, its hits and whether it is spent."""
        return [
            {"fault": one.fault, "hits": one.hits, "spent": one.is_spent(now_s)}
            for one in self._armed
        ]
