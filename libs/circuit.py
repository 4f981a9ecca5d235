"""Tells an upstream that is down from one connection that is, and both from one bad unit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_CONTENTS_MAX: Final = 16
"""Distinct contents and connections that are remembered; more would change no verdict."""


class Trip(StrEnum):
    """What no longer works."""

    CONNECTION = "connection"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """How much must fail in a row, with no success in between."""

    upstream_failures: int = 5
    """Requests, of at least two connections where the failure does not say that it is the upstream
    as a whole."""

    connection_failures: int = 3
    """Requests of one connection while nothing says that the upstream is down."""

    contents: int = 2
    """Distinct contents among them: a single unit that always fails is the unit's own trouble, and
    would shut its connection for everything behind it."""

    reach_s: float = 120.0
    """A failure longer ago says nothing about now."""


@dataclass(slots=True)
class _Streak:
    failures: int = 0
    last_s: float = 0.0
    contents: set[str] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)

    def add(self, connection: str, content: str, now_s: float, reach_s: float) -> None:
        if now_s - self.last_s > reach_s:
            self.clear()
        self.failures += 1
        self.last_s = now_s
        if len(self.contents) < _CONTENTS_MAX:
            self.contents.add(content)
        if len(self.connections) < _CONTENTS_MAX:
            self.connections.add(connection)

    def clear(self) -> None:
        self.failures = 0
        self.contents.clear()
        self.connections.clear()


class Circuit:
    """One process's evidence about one upstream. Told of each request's end, it says what trips."""

    def __init__(self, policy: CircuitPolicy | None = None) -> None:
        self._policy = policy or CircuitPolicy()
        self._whole = _Streak()
        self._connections: dict[str, _Streak] = {}
        self._unasked: dict[str, _Streak] = {}

    def succeeded(self, connection: str) -> None:
        """A request got through: neither the upstream nor this connection is down."""
        self._whole.clear()
        self._connections.pop(connection, None)
        self._unasked.pop(connection, None)

    def failed(
        self, connection: str, content: str, now_s: float, *, of_upstream: bool
    ) -> Trip | None:
        """What trips by this failure, if anything does.

        `content` tells requests with the same events from others, where they may be what is wrong;
        else it is another one each time. `of_upstream` says that the
        failure cannot be the connection's: no connection to the host came about, or it answered
        for itself. `now_s` is monotonic.
        """
        policy = self._policy
        whole = self._whole
        whole.add(connection, content, now_s, policy.reach_s)
        own = self._connections.setdefault(connection, _Streak())
        own.add(connection, content, now_s, policy.reach_s)
        is_whole = of_upstream or len(whole.connections) >= 2
        if is_whole and whole.failures >= policy.upstream_failures:
            # Where no connection comes about, nothing was read, so no content can be at fault.
            if of_upstream or len(whole.contents) >= policy.contents:
                self.reset()
                return Trip.UPSTREAM
            return None
        enough = own.failures >= policy.connection_failures
        if enough and not of_upstream and len(own.contents) >= policy.contents:
            del self._connections[connection]
            return Trip.CONNECTION
        return None

    def failed_alone(self, connection: str, now_s: float) -> bool:
        """Whether the connection trips by a failure before its upstream was asked.

        So nothing can be at fault that a request holds, and the upstream is not judged.
        """
        own = self._unasked.setdefault(connection, _Streak())
        own.add(connection, "", now_s, self._policy.reach_s)
        if own.failures < self._policy.connection_failures:
            return False
        del self._unasked[connection]
        return True

    def reset(self) -> None:
        """Forgets everything, as after a gate was shut: what comes later is new evidence."""
        self._whole.clear()
        self._connections.clear()
        self._unasked.clear()
