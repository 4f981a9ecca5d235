"""One refresh for each connection at a time, among all replicas, whoever is killed or paused.

The record of a grant is its own lock: who refreshes first writes an intent over the record that it
has read, and only then calls the provider; what comes back is written over that very intent. So a
process that was paused while another took over finds its place taken, and drops its answer unused:
to use it would kill what the other one got. Evidence: experiment C16 of the design.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final

import structlog

from libs import metric_names
from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.connections import DOMAIN_SUFFIX
from libs.errors import Kind, ServiceError, permanent
from libs.ids import Random, system_random
from libs.telemetry import Metrics
from services.auth import grant_counts
from services.auth.domain.grants import Family, Grant
from services.auth.domain.timing import backoff_s, rested_s, seconds
from services.auth.ports import APP_REFUSED, Grants, KeptGrant, Liveness, Providers
from services.auth.schedule import Schedule
from tidewire.auth.v1 import record_pb2

_log = structlog.stdlib.get_logger()

NEEDS_REAUTHORIZATION: Final = "needs_reauthorization"
CONNECTION_UNKNOWN: Final = "connection_unknown"
REFRESH_FAILED: Final = "refresh_failed"
GRANT_EXPIRED: Final = "grant_expired"
"""It has expired, and nothing came with it that could refresh it."""

_LOST: Final = frozenset({"key_unknown", "unsealing_failed"})
"""What opens no grant a second time either. A data key that a newer version wrote is not among
them: the next deploy may read it."""

_LOOK_S: Final = 0.1
"""Between looks at an intent of somebody else, while a caller waits."""
_GONE_FOR_S: Final = 1.0
"""So long a holder must be missing before another takes over: NATS may just be back."""
_INTENT_MOST_S: Final = 60.0
"""An intent that stands longer is taken over although its holder lives: a call is given up long
before."""
_WRITE_AGAIN_S: Final = 0.25
_MISCONFIGURED_S: Final = 60.0
"""Between tries while our own app is refused: until somebody corrects the settings."""
_AT_ONCE: Final = 32
"""Refreshes under way in one process, in the background, of one family: a provider that hangs
keeps nobody else's from being made."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An intent of somebody else, and since when this process has looked at it."""

    sequence: int
    since_s: float
    gone_since_s: float | None = None


class Refresher:
    """Refreshes grants before they expire, and at once when asked; a part of a process."""

    def __init__(
        self,
        grants: Grants,
        providers: Providers,
        liveness: Liveness,
        clock: Clock,
        metrics: Metrics,
        *,
        random: Random = system_random,
        ended: Callable[[KeptGrant], None] = lambda _: None,
    ) -> None:
        """`ended` is told of each grant that this process found to need a person."""
        self._grants = grants
        self._providers = providers
        self._liveness = liveness
        self._clock = clock
        self._random = random
        self._ended = ended
        self._under_way: dict[str, asyncio.Task[KeptGrant]] = {}
        self._stopping = asyncio.Event()
        self._schedule = Schedule(clock, random)
        self._room: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_AT_ONCE)
        )
        """By family."""
        self._metrics = metrics
        grant_counts.show(grants, clock, metrics)
        grants.subscribe(self._changed)

    async def refreshed(
        self, connection_id: str, *, newer_than: int, rest_s: float = 0.0
    ) -> KeptGrant:
        """The grant with a token newer than that revision; refreshed where nobody has yet.

        However many ask at once, this process refreshes once. The new token is not refreshed again
        for `rest_s`, unless it is due sooner.

        Raises:
            ServiceError: PERMANENT, CONNECTION_UNKNOWN; AUTH, NEEDS_REAUTHORIZATION; RETRYABLE,
                REFRESH_FAILED, with the wait; RETRYABLE, where NATS does not answer.
        """
        while True:
            task = self._under_way.get(connection_id)
            # One that is done may not have been taken away yet: to await it again gives nobody a
            # turn who could.
            if task is None or task.done():
                task = asyncio.create_task(self._refresh(connection_id, newer_than, rest_s))
                self._under_way[connection_id] = task
                task.add_done_callback(partial(self._over, connection_id))
            # Shielded: a caller that hangs up must not break off what has reached the provider.
            kept = await asyncio.shield(task)
            if kept.record.token_revision > newer_than:
                return kept

    async def run(self, ready: Callable[[], None]) -> None:
        """Refreshes in the background until `stop`, then finishes what is under way."""
        for kept in self._grants.all():
            self._schedule.plan(kept)
        ready()
        tasks: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            for connection_id in self._schedule.due():
                task = asyncio.create_task(self._in_background(connection_id))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await self._schedule.wait(self._stopping)
        if tasks:
            await asyncio.wait(tasks)
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()))

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()
        self._schedule.wake()

    @property
    def is_awake(self) -> bool:
        """Whether this process has heard of the others just now: it was not stopped, NATS is there.

        Else what it has in memory may have been replaced long ago.
        """
        return self._liveness.is_alive

    @property
    def is_busy(self) -> bool:
        """Whether a refresh is under way."""
        return bool(self._under_way)

    async def condemn(self, connection_id: str, revision: int, code: str) -> KeptGrant:
        """Marks a grant that nothing can refresh as needing a person, if that is still its token.

        Raises:
            ServiceError: PERMANENT, CONNECTION_UNKNOWN; RETRYABLE, where NATS does not answer.
        """
        while True:
            kept = await self._existing(connection_id)
            record = kept.record
            if record.token_revision != revision or record.needs_reauthorization:
                return kept
            new = _copy(record)
            new.needs_reauthorization = True
            new.error_code = code
            new.error_message = ""
            with suppress(ConflictError):
                kept = await self._grants.write(connection_id, new, expected=kept.sequence)
                self._count("revoked")
                self._ended(kept)
                return kept

    async def unopened(self, kept: KeptGrant, error: ServiceError) -> ServiceError:
        """The error of a grant that `error` keeps from being opened; stored, if that is for good.

        Raises:
            ServiceError: as `condemn`.
        """
        if error.code in _LOST:
            kept = await self.condemn(kept.connection_id, kept.record.token_revision, error.code)
            # Else somebody has connected it anew meanwhile.
            return needs_person(kept) if kept.record.needs_reauthorization else _failed(kept, 0.0)
        if error.kind is Kind.PERMANENT:
            return ServiceError(Kind.AUTH, error.code, f"{kept.connection_id}: {error.message}")
        return error

    async def _existing(self, connection_id: str) -> KeptGrant:
        kept = await self._grants.fresh(connection_id)
        if kept is None:
            raise unknown(connection_id)
        if not kept.record.HasField("grant"):
            raise needs_person(kept)
        return kept

    def _over(self, connection_id: str, task: asyncio.Task[KeptGrant]) -> None:
        if self._under_way.get(connection_id) is task:
            del self._under_way[connection_id]
        if not task.cancelled():
            # Heard here too: every caller may have hung up.
            task.exception()

    def _changed(self, connection_id: str) -> None:
        kept = self._grants.known(connection_id)
        if kept is not None:
            self._schedule.plan(kept)

    async def _in_background(self, connection_id: str) -> None:
        try:
            await self._refresh_due(connection_id)
        except ServiceError as error:
            _log.info("refresh_put_off", connection=connection_id, reason=error.code)
        finally:
            kept = self._grants.known(connection_id)
            if kept is not None:
                self._schedule.plan(kept, again=True)

    async def _refresh_due(self, connection_id: str) -> None:
        known = self._grants.known(connection_id)
        if known is None:
            return
        async with self._room[known.record.family]:
            # It was due when it was planned; somebody may have been quicker.
            kept = self._grants.known(connection_id)
            is_due = self._schedule.is_due(connection_id) and not self._stopping.is_set()
            if kept is not None and is_due and not await self._in_good_hands(kept):
                await self.refreshed(connection_id, newer_than=kept.record.token_revision)

    async def _in_good_hands(self, kept: KeptGrant) -> bool:
        """Whether somebody else is at it and lives."""
        intent = kept.record.intent
        if intent.holder in {"", self._liveness.owner}:
            return False
        stands_s = self._clock.now_ns() / 1e9 - seconds(intent.begun_at.ToNanoseconds())
        return stands_s < _INTENT_MOST_S and await self._liveness.lives(intent.holder)

    async def _refresh(self, connection_id: str, newer_than: int, rest_s: float) -> KeptGrant:
        waiting: Waiting | None = None
        while True:
            kept = await self._existing(connection_id)
            if kept.record.token_revision > newer_than:
                return kept
            if not kept.record.can_refresh and not kept.record.needs_reauthorization:
                kept = await self.condemn(connection_id, newer_than, GRANT_EXPIRED)
            self._refuse_hopeless(kept)
            waiting = await self._wait_for(kept, waiting)
            if waiting is not None:
                await self._clock.sleep(_LOOK_S)
                continue
            try:
                return await self._take_turn(kept, rest_s)
            except ConflictError:
                self._count("lost")

    def _refuse_hopeless(self, kept: KeptGrant) -> None:
        record = kept.record
        if record.needs_reauthorization or not record.can_refresh:
            raise needs_person(kept)
        wait_s = record.retry_at.ToNanoseconds() / 1e9 - self._clock.now_ns() / 1e9
        if wait_s > 0:
            raise _failed(kept, wait_s)

    async def _wait_for(self, kept: KeptGrant, waiting: Waiting | None) -> Waiting | None:
        """How long somebody else's intent has stood; None once it is ours to refresh."""
        holder = kept.record.intent.holder
        if not holder or holder == self._liveness.owner:
            return None
        now_s = self._clock.monotonic_s()
        if waiting is None or waiting.sequence != kept.sequence:
            waiting = Waiting(kept.sequence, now_s)
        if now_s - waiting.since_s > _INTENT_MOST_S:
            return None
        if await self._liveness.lives(holder):
            return Waiting(waiting.sequence, waiting.since_s)
        gone_s = now_s if waiting.gone_since_s is None else waiting.gone_since_s
        if now_s - gone_s >= _GONE_FOR_S:
            return None
        return Waiting(waiting.sequence, waiting.since_s, gone_s)

    async def _take_turn(self, kept: KeptGrant, rest_s: float) -> KeptGrant:
        """Refreshes as the holder of the intent.

        Raises:
            ConflictError: somebody else was quicker, or took over; what came back was dropped.
            ServiceError: what became of it, once that is stored.
        """
        try:
            old = await self._grants.open(kept)
        except ServiceError as error:
            raise await self._note_unopened(kept, error) from error
        mine = await self._grants.write(
            kept.connection_id, self._intended(kept, old), expected=kept.sequence
        )
        try:
            new = await self._called(kept, old)
        except ServiceError as error:
            raise await self._note_failure(mine, error) from error
        return await self._note_success(mine, new, rest_s)

    def _intended(self, kept: KeptGrant, old: Grant) -> record_pb2.StoredGrant:
        record = _copy(kept.record)
        used = old.refresh_token or old.access_token
        digest = sha256(used.reveal().encode()).digest()
        again = record.intent.refresh_token_hash == digest
        record.intent.attempt = record.intent.attempt + 1 if again else 1
        record.intent.refresh_token_hash = digest
        record.intent.holder = self._liveness.owner
        record.intent.begun_at.FromNanoseconds(self._clock.now_ns())
        return record

    async def _called(self, kept: KeptGrant, old: Grant) -> Grant:
        family = Family(kept.record.family)
        app = old.app or self._providers.app(family)
        if app is None:
            raise permanent(APP_REFUSED, f"the settings name no app for {family}")
        if not self._liveness.is_alive:
            # Others take us for dead and may have called already: an old token must not come late.
            raise ServiceError(Kind.RETRYABLE, "not_alive", "the lease of this process ran out")
        return await self._providers.of(family).refresh(app, domain_of(kept.connection_id), old)

    async def _note_success(self, mine: KeptGrant, new: Grant, rest_s: float) -> KeptGrant:
        record = granted(mine.record, self._clock.now_ns())
        await self._sealed(mine.connection_id, new, record)
        if rest_s:
            self._let_rest(record, rest_s)
        kept = await self._stored(mine, record)
        self._count("refreshed")
        _log.info(
            "grant_refreshed",
            connection=kept.connection_id,
            revision=kept.record.token_revision,
        )
        return kept

    def _let_rest(self, record: record_pb2.StoredGrant, rest_s: float) -> None:
        granted_s, expires_s = seconds(record.granted_at.ToNanoseconds()), None
        if record.HasField("expires_at"):
            expires_s = seconds(record.expires_at.ToNanoseconds())
        until_s = rested_s(granted_s, expires_s, rest_s)
        record.retry_at.FromNanoseconds(int(until_s * 1e9))

    async def _note_unopened(self, kept: KeptGrant, error: ServiceError) -> ServiceError:
        """As `_note_failure`, before there is an intent of ours: else it is tried without end."""
        if error.code in _LOST:
            return await self.unopened(kept, error)
        record = self._put_off(kept.record, error)
        try:
            kept = await self._grants.write(kept.connection_id, record, expected=kept.sequence)
        except ServiceError:
            # The store is away: that is what keeps its key from being had.
            return error
        return self._counted_failure(kept, error)

    async def _note_failure(self, mine: KeptGrant, error: ServiceError) -> ServiceError:
        record = self._put_off(mine.record, error)
        # The number of the try and the hash stay: whoever is next goes on from there.
        record.intent.holder = ""
        if error.kind is Kind.AUTH:
            record.needs_reauthorization = True
            record.ClearField("retry_at")
        kept = await self._stored(mine, record)
        if error.kind is Kind.AUTH:
            self._count("revoked")
            self._ended(kept)
            return needs_person(kept)
        return self._counted_failure(kept, error)

    def _put_off(self, old: record_pb2.StoredGrant, error: ServiceError) -> record_pb2.StoredGrant:
        record = _copy(old)
        record.failures += 1
        record.error_code = error.code
        record.error_message = error.message
        wait_s = self._wait_s(record.failures, error)
        record.retry_at.FromNanoseconds(self._clock.now_ns() + int(wait_s * 1e9))
        return record

    def _counted_failure(self, kept: KeptGrant, error: ServiceError) -> ServiceError:
        self._count("misconfigured" if error.kind is Kind.PERMANENT else "failed")
        return _failed(kept, (kept.record.retry_at.ToNanoseconds() - self._clock.now_ns()) / 1e9)

    def _wait_s(self, failures: int, error: ServiceError) -> float:
        if error.kind is Kind.PERMANENT:
            return _MISCONFIGURED_S
        wait_s = backoff_s(failures, draw=self._random())
        return max(wait_s, error.retry_after_s or 0.0)

    async def _sealed(self, connection_id: str, new: Grant, into: record_pb2.StoredGrant) -> None:
        """Seals what the provider gave, which there is no second time, once its key can be had."""
        while True:
            try:
                return await self._grants.seal(connection_id, new, into)
            except ServiceError as error:
                if error.kind is not Kind.RETRYABLE:
                    raise
                _log.warning("grant_not_sealed_yet", connection=connection_id, reason=error.code)
                await self._clock.sleep(_WRITE_AGAIN_S)

    async def _stored(self, mine: KeptGrant, record: record_pb2.StoredGrant) -> KeptGrant:
        """What was written over our intent, asked again until somebody knows.

        Raises:
            ConflictError: somebody took over.
        """
        while True:
            try:
                return await self._grants.write(mine.connection_id, record, expected=mine.sequence)
            except ServiceError as error:
                _log.warning(
                    "grant_not_stored_yet", connection=mine.connection_id, reason=error.code
                )
                await self._clock.sleep(_WRITE_AGAIN_S)
            except ConflictError:
                # Ours, perhaps: an answer may get lost on its way.
                kept = await self._read_again(mine.connection_id)
                if kept is not None and kept.record == record:
                    return kept
                raise

    async def _read_again(self, connection_id: str) -> KeptGrant | None:
        while True:
            try:
                return await self._grants.fresh(connection_id)
            except ServiceError:
                await self._clock.sleep(_WRITE_AGAIN_S)

    def _count(self, result: str) -> None:
        self._metrics.counter(metric_names.GRANT_REFRESHES, result=result).value += 1


def granted(record: record_pb2.StoredGrant, now_ns: int) -> record_pb2.StoredGrant:
    """A record for a new grant over an old one: its revision is higher, all trouble is over."""
    new = record_pb2.StoredGrant(
        connection_id=record.connection_id,
        family=record.family,
        token_revision=record.token_revision + 1,
    )
    new.granted_at.FromNanoseconds(now_ns)
    return new


def unknown(connection_id: str) -> ServiceError:
    """The error for a connection of which there is no grant."""
    return permanent(CONNECTION_UNKNOWN, f"there is no grant of {connection_id}")


def needs_person(kept: KeptGrant) -> ServiceError:
    """The error of a grant that only a person can renew."""
    why = f" ({kept.record.error_code})" if kept.record.error_code else ""
    return ServiceError(
        Kind.AUTH,
        NEEDS_REAUTHORIZATION,
        f"{kept.connection_id} must be connected again{why}: `tidewire connect` does it",
    )


def _failed(kept: KeptGrant, wait_s: float) -> ServiceError:
    why = kept.record.error_code or "it was refreshed or connected a moment ago"
    return ServiceError(
        Kind.RETRYABLE,
        REFRESH_FAILED,
        f"{kept.connection_id}: {why}; tried again by itself",
        retry_after_s=max(0.0, wait_s),
    )


def domain_of(connection_id: str) -> str:
    """The myshopify domain of a connection's shop: its id begins with the handle."""
    return connection_id.partition(".")[0] + DOMAIN_SUFFIX


def _copy(record: record_pb2.StoredGrant) -> record_pb2.StoredGrant:
    copy = record_pb2.StoredGrant()
    copy.CopyFrom(record)
    return copy
