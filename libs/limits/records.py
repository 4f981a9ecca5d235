"""The shared records of limits: their keys, what is known of them, reads and conditional writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from libs import metric_names
from libs.bus import subjects
from libs.bus.api import ApiError, refused
from libs.bus.commit_log import CommitLog, ConflictError, Entry, Stored
from libs.clock import Clock
from libs.errors import ServiceError
from libs.limits.gcra import Limit, LimitState, aligned, fresh_state
from libs.telemetry import Metrics

_KNOWN_MAX: Final = 20_000
_SMOOTHING: Final = 0.2
_DURATION_FIRST_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Known:
    """A record as it was last read or written here; sequence 0: there is none."""

    sequence: int
    state: LimitState
    is_new: bool = False
    """Whether the state is not in the record yet: it was missing, or could not be read."""


def subject_of(name: str) -> str:
    """The subject of a limit's record; the parts of its name are the tokens of the key."""
    key = ".".join(subjects.token(part) for part in name.split("."))
    return subjects.in_bucket(subjects.LIMITS, key)


def name_of(subject: str) -> str:
    """The limit whose record has this subject."""
    key = subject.removeprefix(subjects.in_bucket(subjects.LIMITS, ""))
    return ".".join(subjects.text_of(part) for part in key.split("."))


def state_in(stored: Stored) -> LimitState | None:
    """The state in a record; None if it cannot be read: then nothing is known of the limit."""
    try:
        return msgspec.msgpack.decode(stored.data, type=LimitState)
    except msgspec.DecodeError:
        return None


class Records:
    """What this process knows of the records, and its way to them.

    What is known may be behind, never ahead: each write names the sequence that it builds on, so a
    stale one is refused whole. After an own write everything is known without reading again.
    """

    def __init__(self, log: CommitLog, clock: Clock, metrics: Metrics) -> None:
        self._log = log
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._counters = {
            (operation, result): metrics.counter(
                metric_names.LIMITER_OPERATIONS, operation=operation, result=result
            )
            for operation in ("read", "write")
            for result in ("ok", "conflict", "failed")
        }
        self.write_s = _DURATION_FIRST_S
        """Seconds that a write takes, smoothed."""

    @property
    def operations(self) -> int:
        """Reads and writes so far, each counted once however many records it touched."""
        return sum(counter.value for counter in self._counters.values())

    def known(self, limits: Iterable[Limit]) -> dict[str, Known] | None:
        """What is known of all of `limits`; None where something is not."""
        found = {}
        for limit in limits:
            one = self._known.get(limit.name)
            if one is None:
                return None
            found[limit.name] = one
        return found

    def forget(self, names: Iterable[str]) -> None:
        """These are to be read before they are used again."""
        for name in names:
            self._known.pop(name, None)

    async def read(self, limits: Sequence[Limit], now_ns: int) -> dict[str, Known]:
        """The records as the bucket's leader has them; fresh states for those that are missing.

        Raises:
            ServiceError: RETRYABLE, where nothing answered.
        """
        try:
            stored = await self._log.read_fresh([subject_of(limit.name) for limit in limits])
        except ServiceError:
            self._counters["read", "failed"].add()
            raise
        self._counters["read", "ok"].add()
        found = {}
        for limit in limits:
            one = stored.get(subject_of(limit.name))
            state = state_in(one) if one else None
            found[limit.name] = Known(
                one.sequence if one else 0,
                fresh_state(limit, now_ns) if state is None else aligned(limit, state, now_ns),
                is_new=state is None,
            )
        self._remember(found)
        return found

    async def write(self, states: Mapping[str, LimitState], known: Mapping[str, Known]) -> None:
        """Writes all of `states` over what is `known`, or none of them.

        Raises:
            ConflictError: a record has moved meanwhile; nothing was written.
            ServiceError: RETRYABLE, where nothing answered: all or none may be written; or where
                the bucket takes nothing, as when it is full.
        """
        names = list(states)
        entries = [
            Entry(
                subject_of(name),
                msgspec.msgpack.encode(states[name]),
                expected=known[name].sequence,
            )
            for name in names
        ]
        began_s = self._clock.monotonic_s()
        try:
            last = await self._log.commit(entries)
        except ConflictError:
            self._counters["write", "conflict"].add()
            raise
        except ServiceError:
            self._counters["write", "failed"].add()
            raise
        except ApiError as error:
            self._counters["write", "failed"].add()
            raise refused(error) from error
        self._counters["write", "ok"].add()
        self.write_s += _SMOOTHING * (self._clock.monotonic_s() - began_s - self.write_s)
        first = last - len(names) + 1
        self._remember(
            {name: Known(first + place, states[name]) for place, name in enumerate(names)}
        )

    def _remember(self, found: Mapping[str, Known]) -> None:
        if len(self._known) + len(found) > _KNOWN_MAX:
            self._known.clear()
        self._known.update(found)
