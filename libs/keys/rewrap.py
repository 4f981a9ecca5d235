"""All data keys wrapped anew by the ring's primary KEK, while everybody goes on reading them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import BucketNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from libs.errors import Kind, ServiceError
from libs.keys import bucket
from libs.keys.bucket import BUCKET, answering, binding, find
from libs.keys.kek import KekRing

_AT_ONCE: Final = 16
"""Keys in hand at a time: with KMS each is three calls, in six to eight threads."""

_CHUNK: Final = 256
_STEP_S: Final = 10.0
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """What wraps what. `by_kek` counts data keys by the id of the KEK that wrapped them."""

    primary: str
    """The KEK that wraps."""
    configured: tuple[str, ...]
    """All KEKs of the ring."""
    in_use: tuple[str, ...]
    """Those that a process must have to start."""
    by_kek: Mapping[str, int]
    unreadable: tuple[str, ...] = ()
    """Entries that are no wrapped key."""

    @property
    def old(self) -> int:
        """Data keys that another KEK than the primary wrapped."""
        return sum(count for kek_id, count in self.by_kek.items() if kek_id != self.primary)

    @property
    def is_settled(self) -> bool:
        """Whether nothing needs any KEK but the primary."""
        return not self.old and not self.unreadable and set(self.in_use) <= {self.primary}


@dataclass(slots=True)
class Rewrapped:
    """What one run did."""

    wrapped: int = 0
    """Wrapped anew by this run."""
    already: int = 0
    """Found wrapped by the primary: before, or by another run meanwhile."""
    gone: int = 0
    """Deleted meanwhile."""
    failed: dict[str, str] = field(default_factory=dict)
    """Entries that could not be opened, with the error's code; they are as they were."""


class Rewrapper:
    """Looks at every data key, and wraps it anew. Its own work may end at any moment and be redone.

    Each key is replaced by compare-and-set, after what was made of it has been opened again: a
    reader sees the one or the other, and the ring opens both.
    """

    def __init__(self, js: JetStreamContext, ring: KekRing) -> None:
        self._js = js
        self._ring = ring

    async def status(self) -> KeysStatus:
        """How many data keys each KEK wrapped, read from the bucket itself.

        Raises:
            ServiceError: RETRYABLE, `nats_unavailable`, `kek_unavailable`.
        """
        kv = await self._bucket()
        counts: Counter[str] = Counter()
        unreadable: list[str] = []

        async def look(opened: KeyValue, name: str) -> None:
            async with answering(_STEP_S):
                found = await find(opened, name)
                if found is None:
                    return
                try:
                    counts[await self._ring.wrapped_by(found.value, binding(name))] += 1
                except ServiceError as error:
                    if error.kind is not Kind.PERMANENT:
                        raise
                    unreadable.append(name)

        if kv is not None:
            await _each(await self._names(), partial(look, kv))
        return KeysStatus(
            primary=self._ring.primary_id,
            configured=tuple(sorted(self._ring.kek_ids)),
            in_use=() if kv is None else await self._in_use(kv),
            by_kek=dict(sorted(counts.items())),
            unreadable=tuple(sorted(unreadable)),
        )

    async def rewrap(self, progress: Callable[[Rewrapped], None] | None = None) -> Rewrapped:
        """Wraps all anew that the primary did not wrap; then drops the others from those in use.

        A KEK stays in use where a key of it remains: one that could not be opened, or one that a
        process made whose primary it still is.

        Raises:
            ServiceError: RETRYABLE, as above, or `kek_unknown`: run it again; PERMANENT,
                `kek_wrong`: the ring lacks a KEK in use.
        """
        done = Rewrapped()
        kv = await self._bucket()
        if kv is None:
            return done
        async with answering(_STEP_S):
            await bucket.check_ring(kv, self._ring)
        names = iter(await self._names())
        while chunk := list(islice(names, _CHUNK)):
            await _each(chunk, partial(self._one, kv, done))
            async with answering(_STEP_S):
                # As whoever makes a key does: another run may retire this very KEK meanwhile.
                await bucket.note(kv, self._ring.primary_id)
            if progress is not None:
                progress(done)
        await self._retire(kv)
        return done

    async def _one(self, kv: KeyValue, done: Rewrapped, name: str) -> None:
        for _ in range(_TRIES):
            async with answering(_STEP_S + 3 * self._ring.answers_within_s):
                found = await find(kv, name)
                if found is None:
                    done.gone += 1
                    return
                if self._ring.is_by_primary(found.value):
                    done.already += 1
                    return
                try:
                    wrapped = await self._anew(found.value, binding(name))
                except ServiceError as error:
                    if error.kind is not Kind.PERMANENT:
                        raise
                    done.failed[name] = error.code
                    return
                try:
                    await kv.update(name, wrapped, last=found.revision)
                except KeyWrongLastSequenceError:
                    continue
                done.wrapped += 1
                return
        raise ServiceError(Kind.RETRYABLE, "key_contended", f"{name} is being changed by many")

    async def _anew(self, wrapped: bytes, bound: bytes) -> bytes:
        plain = await self._ring.unwrap(wrapped, bound)
        anew = await self._ring.wrap(plain, bound)
        # A KEK that wraps and may not open (a right that is missing at KMS) must replace nothing.
        if await self._ring.unwrap(anew, bound) != plain:
            raise AssertionError("a KEK opened something else than it had wrapped")
        return anew

    async def _retire(self, kv: KeyValue) -> None:
        status = await self.status()
        old = frozenset(status.in_use) - {status.primary}
        if not old or status.old or status.unreadable:
            return
        async with answering(_STEP_S):
            await bucket.retire(kv, old)
        # Looked at again after it: a key may have been made meanwhile by a process whose primary
        # is one of those.
        for kek_id in (await self.status()).by_kek.keys() & old:
            async with answering(_STEP_S):
                await bucket.note(kv, kek_id)

    async def _bucket(self) -> KeyValue | None:
        async with answering(_STEP_S):
            try:
                return await self._js.key_value(BUCKET)
            except BucketNotFoundError:
                return None

    async def _names(self) -> list[str]:
        async with answering(_STEP_S):
            return await bucket.key_names(self._js)

    async def _in_use(self, kv: KeyValue) -> tuple[str, ...]:
        async with answering(_STEP_S):
            return tuple(sorted(await bucket.used_keks(kv)))


async def _each(names: Sequence[str], act: Callable[[str], Awaitable[None]]) -> None:
    """`act` on every name, some at a time; the first error ends it."""
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await act(name)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(names))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        # One is enough to tell: the others mostly say the same.
        raise errors.exceptions[0] from None
