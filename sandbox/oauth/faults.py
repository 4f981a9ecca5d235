"""Faults of the token endpoints, scripted over HTTP.

A script is a JSON list of faults, or one alone:

    [{"match": {"provider": "shopify", "endpoint": "refresh"}, "times": 1,
      "effect": {"kind": "accept_then_timeout"}}]

A request meets them in the order posted: latencies add up, and the first with an effect decides. A
fault with neither `times` nor `duration_s` stays until `DELETE`. `latency_ms` is spent after the
work was done and before the answer leaves; `before_ms` before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec


class _Kind(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """Every effect names itself in `kind`."""


class Hang(_Kind, tag="hang"):
    """No answer until the client goes away; nothing is done."""


class Reset(_Kind, tag="reset"):
    """The connection is torn down; nothing is done."""


class AcceptThenTimeout(_Kind, tag="accept_then_timeout"):
    """The work is done (tokens rotated), then no answer until the client goes away."""


class AcceptThenReset(_Kind, tag="accept_then_reset"):
    """The work is done, then the connection is torn down."""


class HttpStatus(_Kind, tag="http_status"):
    """An answer from before the platform's own layer: 5xx, 429, a proxy's page."""

    status: int
    retry_after_s: int | None = None
    accepted: bool = False
    """The work was done all the same."""


class Truncate(_Kind, tag="truncate"):
    """The honest answer, cut short under its full Content-Length; the work is done."""

    keep: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5


class Malformed(_Kind, tag="malformed"):
    """HTTP 200 with a body that is no JSON; the work is done if `accepted`."""

    accepted: bool = False


class AnswerWith(_Kind, tag="answer"):
    """This status and this JSON; nothing is done."""

    body: dict[str, Any]
    status: int = 200


Effect: TypeAlias = (
    Hang
    | Reset
    | AcceptThenTimeout
    | AcceptThenReset
    | HttpStatus
    | Truncate
    | Malformed
    | AnswerWith
)


class Match(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The requests that a fault strikes: those that fit every field given."""

    provider: str | None = None
    endpoint: str | None = None
    """`exchange`, `refresh`, `revoke`, `advertisers`, `shops`, `webhooks`."""

    app: str | None = None
    account: str | None = None
    """The shop's domain; at TikTok the account is known only later, and nothing fits."""


class Fault(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """One line of a script."""

    match: Match = Match()
    skip: int = 0
    """The first fitting requests that go free."""

    times: int | None = None
    duration_s: float | None = None
    latency_ms: float = 0.0
    before_ms: float = 0.0
    effect: Effect | None = None


class Sighting(NamedTuple):
    """What of a request a fault may look at."""

    provider: str
    endpoint: str
    app: str = ""
    account: str = ""


class Plan(NamedTuple):
    """What the faults do to one request."""

    before_ms: float = 0.0
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

    def strikes(self, sighting: Sighting, now_s: float) -> bool:
        match = self.fault.match
        wanted = (match.provider, match.endpoint, match.app, match.account)
        fits = all(want in {None, has} for want, has in zip(wanted, sighting, strict=True))
        if self.is_spent(now_s) or not fits:
            return False
        self.seen += 1
        if self.seen <= self.fault.skip:
            return False
        self.hits += 1
        return True


class OAuthFaults:
    """The faults in force."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def post(self, script: bytes, now_s: float) -> int:
        """Adds a JSON list of faults, or one alone; gives how many.

        Raises:
            msgspec.DecodeError: naming the field at fault; nothing is added then.
        """
        found = msgspec.json.decode(script, type=list[Fault] | Fault)
        faults = found if isinstance(found, list) else [found]
        self._armed += [_Armed(fault, now_s) for fault in faults]
        return len(faults)

    def clear(self) -> None:
        """Ends every fault."""
        self._armed.clear()

    def plan(self, sighting: Sighting, now_s: float) -> Plan:
        """What happens to one request, at the monotonic time `now_s`."""
        before_ms = latency_ms = 0.0
        for armed in self._armed:
            if not armed.strikes(sighting, now_s):
                continue
            before_ms += armed.fault.before_ms
            latency_ms += armed.fault.latency_ms
            if armed.fault.effect is not None:
                return Plan(before_ms, latency_ms, armed.fault.effect)
        return Plan(before_ms, latency_ms)

    def listing(self, now_s: float) -> list[dict[str, object]]:
        """Every fault posted, its hits and whether it is spent."""
        return [
            {"fault": one.fault, "hits": one.hits, "spent": one.is_spent(now_s)}
            for one in self._armed
        ]
