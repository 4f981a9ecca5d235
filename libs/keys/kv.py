"""Data keys in a JetStream bucket, stored only wrapped by a key-encryption key (KEK)."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final
from weakref import WeakValueDictionary

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from libs.bus.subjects import bucket_stream, in_bucket, text_of
from libs.errors import Kind, ServiceError
from libs.keys import bucket
from libs.keys.bucket import BUCKET, CURRENT, Entry, answering, binding, entry_name, find
from libs.keys.file import LocalKek
from libs.keys.kek import KekRing, kek_missing
from libs.keys.port import KEY_ID_BYTES, KeyCache, RandomBytes, key_unknown
from libs.sealing import KEY_BYTES, DataKey

_OPEN_S: Final = 5.0
_TRIES: Final = 5
_STORED_WITHIN_S: Final = 5.0
_NEWS_MAX: Final = 1024


class KvKeySource:
    """Keys in the JetStream bucket `keys`, wrapped by a KEK; kept in memory once read.

    `<scope>.<key id>` holds a wrapped key, `<scope>.current` the id of the one to seal with. The
    key is written first, and `current` is compared and set: of several processes that create or
    rotate at once, one decides and the others take its key.

    A process hears of a key that was rotated or forgotten elsewhere as soon as NATS tells it,
    within milliseconds; after its connection was lost and came back, it asks for each scope again.
    """

    def __init__(
        self,
        js: JetStreamContext,
        kv: KeyValue,
        ring: KekRing,
        *,
        timeout_s: float = 2.0,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._js = js
        self._kv = kv
        self._ring = ring
        self._timeout_s = timeout_s + ring.answers_within_s
        self._random_bytes = random_bytes
        self._cache = KeyCache()
        self._news = _News()
        self._stats = bucket.client_of(js).stats
        self._reconnects = self._stats["reconnects"]
        # A lock a scope lives only while somebody waits at it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    async def open(
        cls,
        js: JetStreamContext,
        kek: KekRing | bytes | None,
        *,
        replicas: int = 1,
        timeout_s: float = 2.0,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> KvKeySource:
        """The source, its bucket made if missing, its KEKs found to be all that are in use.

        None for a KEK says that there is none: the error then tells whether one was lost.

        Raises:
            ServiceError: PERMANENT, `kek_missing` or `kek_wrong`; RETRYABLE, `nats_unavailable`.
        """
        ring = KekRing(LocalKek(kek, random_bytes)) if isinstance(kek, bytes) else kek
        async with answering(max(timeout_s, _OPEN_S)):
            kv = await bucket.bucket(js, replicas)
            await bucket.check_ring(kv, ring)
        if ring is None:
            raise kek_missing(
                "create one (tidewire keys create-kek) and keep a copy of it somewhere safe"
            )
        source = cls(js, kv, ring, timeout_s=timeout_s, random_bytes=random_bytes)
        async with answering(max(timeout_s, _OPEN_S)):
            await source._listen()
        return source

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:
        key = None if fresh else self.cached(scope)
        if key is not None:
            return key
        # The wait at the lock counts as well: behind a silent server it would add up.
        async with answering(self._timeout_s), self._lock(scope):
            key = None if fresh else self.cached(scope)
            return key if key is not None else await self._find_or_make(scope)

    async def by_id(self, scope: str, key_id: str) -> DataKey:
        key = self.cached_by_id(scope, key_id)
        if key is not None:
            return key
        async with answering(self._timeout_s), self._lock(scope):
            key = self.cached_by_id(scope, key_id) or await self._read(scope, key_id)
        if key is None:
            raise key_unknown(scope, key_id)
        return key

    def cached(self, scope: str) -> DataKey | None:
        if self._stats["reconnects"] != self._reconnects:
            # Nobody knows what was said while there was no connection.
            self._reconnects = self._stats["reconnects"]
            self._cache.current.clear()
        return self._cache.current.get(scope)

    def cached_by_id(self, scope: str, key_id: str) -> DataKey | None:
        return self._cache.find(scope, key_id)

    async def existing(self, scope: str) -> DataKey | None:
        key = self.cached(scope)
        if key is not None:
            return key
        async with answering(self._timeout_s), self._lock(scope):
            return self.cached(scope) or await self._find(scope, await self._current_entry(scope))

    async def rotate(self, scope: str) -> DataKey:
        async with answering(self._timeout_s), self._lock(scope):
            key = await self._replace(scope, await self._current_entry(scope))
            if key is None:
                key = await self._find_or_make(scope)
            return key

    async def forget(self, scope: str) -> None:
        async with answering(self._timeout_s), self._lock(scope):
            self._cache.forget(scope)
            # All keys at once, and no trace of them stays in the stream. It is silent, so the
            # others are told by what follows: in this order none goes on with a key that is gone.
            await self._js.purge_stream(bucket_stream(BUCKET), subject=bucket.subjects_of(scope))
            await self._kv.purge(entry_name(scope, CURRENT))

    async def _listen(self) -> None:
        client = bucket.client_of(self._js)
        await client.subscribe(in_bucket(BUCKET, f"*.{CURRENT}"), cb=self._on_current)

    async def _on_current(self, message: Msg) -> None:
        """Somebody, maybe this process, is writing the `current` of a scope, or deletes it."""
        scope = text_of(message.subject.split(".")[2])
        is_gone = bool(message.headers and "KV-Operation" in message.headers)
        key_id = None if is_gone else message.data.decode(errors="replace")
        if is_gone:
            self._cache.forget(scope)
        known = self._cache.current.get(scope)
        if known is not None and known.key_id == key_id:
            return
        self._cache.current.pop(scope, None)
        self._news.tell(scope, key_id)

    def _lock(self, scope: str) -> asyncio.Lock:
        lock = self._locks.get(scope)
        if lock is None:
            lock = self._locks[scope] = asyncio.Lock()
        return lock

    async def _find_or_make(self, scope: str) -> DataKey:
        """The key that `current` names, or a new one where it names none that is there.

        It names one that is gone where a scope was forgotten while another process made its key.
        """
        for _ in range(_TRIES):
            found = await self._current_entry(scope)
            key = await self._find(scope, found) or await self._replace(scope, found)
            if key is not None:
                return key
        raise ServiceError(
            Kind.RETRYABLE, "key_contended", f"the current key of {scope} is being changed by many"
        )

    async def _find(self, scope: str, current: Entry | None) -> DataKey | None:
        key = await self._read(scope, current.value.decode()) if current is not None else None
        if key is not None:
            self._keep_current(scope, key)
        return key

    async def _current_entry(self, scope: str) -> Entry | None:
        return await find(self._kv, entry_name(scope, CURRENT))

    async def _replace(self, scope: str, found: Entry | None) -> DataKey | None:
        """A new current key in place of `found`; None where another was quicker."""
        key_id, secret = self._random_bytes(KEY_ID_BYTES).hex(), self._random_bytes(KEY_BYTES)
        name = entry_name(scope, key_id)
        await self._kv.create(name, await self._ring.wrap(secret, binding(name)))
        # Noted again after it was written: whoever retires a KEK looks for its keys after that, so
        # that either they see this key or this sees that it was retired.
        await bucket.note(self._kv, self._ring.primary_id)
        current = entry_name(scope, CURRENT)
        try:
            if found is None:
                await self._kv.create(current, key_id.encode())
            else:
                await self._kv.update(current, key_id.encode(), last=found.revision)
        except KeyWrongLastSequenceError:
            winner = await self._current_entry(scope)
            if winner is None or winner.value != key_id.encode():
                # Nothing was ever sealed with ours. (It can be ours: an answer may get lost.)
                await self._kv.purge(name)
                return None
        key = DataKey(key_id, secret)
        self._keep_current(scope, key)
        return key

    async def _read(self, scope: str, key_id: str) -> DataKey | None:
        name = entry_name(scope, key_id)
        found = await find(self._kv, name)
        if found is None:
            return None
        key = DataKey(key_id, await self._ring.unwrap(found.value, binding(name)))
        if not self._news.is_forgotten(scope):
            self._cache.keep(scope, key)
        return key

    def _keep_current(self, scope: str, key: DataKey) -> None:
        if self._news.agrees(scope, key.key_id):
            self._cache.keep(scope, key, current=True)


class _News:
    """What was last told of a scope's `current`, as long as the bucket may not show it yet.

    NATS passes a message on before the stream behind the bucket has stored it (or refused it), so
    a read just after it may still find what was. That must not be kept in memory as the newest.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, str | None]] = {}

    def tell(self, scope: str, key_id: str | None) -> None:
        """`current` is to be `key_id`; None: deleted."""
        now_s = asyncio.get_running_loop().time()
        if len(self._told) >= _NEWS_MAX:
            self._told = {name: told for name, told in self._told.items() if told[0] > now_s}
        self._told[scope] = (now_s + _STORED_WITHIN_S, key_id)

    def agrees(self, scope: str, key_id: str) -> bool:
        """Whether nothing else than `key_id` was told of the scope a moment ago."""
        told = self._recent(scope)
        return told is None or told[1] == key_id

    def is_forgotten(self, scope: str) -> bool:
        """Whether its deletion was told a moment ago."""
        told = self._recent(scope)
        return told is not None and told[1] is None

    def _recent(self, scope: str) -> tuple[float, str | None] | None:
        told = self._told.get(scope)
        if told is not None and told[0] <= asyncio.get_running_loop().time():
            del self._told[scope]
            return None
        return told
