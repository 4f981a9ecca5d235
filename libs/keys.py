"""Data keys of shops: made on first use, stored only wrapped by the key-encryption key (KEK)."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
)
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KeyValue

from libs.bus.api import UNREACHABLE, unavailable
from libs.bus.subjects import token
from libs.errors import Kind, ServiceError, permanent
from libs.sealing import KEY_BYTES, NONCE_BYTES, DataKey

BUCKET: Final = "keys"
_CURRENT: Final = "current"
# One token, so no shop's key can ever have this name.
_KEK_CHECK: Final = "kek"
_KEY_ID_BYTES: Final = 8
_WRAPPING: Final = b"\x01"
"""First byte of a wrapped key: the only format so far, nonce and then AES-256-GCM."""

RandomBytes = Callable[[int], bytes]


class KeySource(Protocol):
    """Where the data keys of shops come from. A key that was given stays the same for good."""

    async def current(self, shop: str) -> DataKey:
        """The key that seals what is stored of the shop from now on; made if there is none.

        Raises:
            ServiceError: RETRYABLE, `nats_unavailable`, where the store does not answer.
        """

    async def by_id(self, shop: str, key_id: str) -> DataKey:
        """The key that once sealed something of the shop.

        Raises:
            ServiceError: PERMANENT, `key_unknown`; RETRYABLE, as above.
        """

    def cached(self, shop: str) -> DataKey | None:
        """The current key, where it is in memory."""

    def cached_by_id(self, shop: str, key_id: str) -> DataKey | None:
        """The key of that id, where it is in memory."""


class MemoryKeySource:
    """Keys that end with the process, for tests and previews."""

    def __init__(self, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._cache = _KeyCache()
        self._random_bytes = random_bytes

    async def current(self, shop: str) -> DataKey:
        key = self._cache.current.get(shop)
        if key is None:
            key = DataKey(self._random_bytes(_KEY_ID_BYTES).hex(), self._random_bytes(KEY_BYTES))
            self._cache.keep(shop, key, current=True)
        return key

    async def by_id(self, shop: str, key_id: str) -> DataKey:
        key = self.cached_by_id(shop, key_id)
        if key is None:
            raise _unknown(shop, key_id)
        return key

    def cached(self, shop: str) -> DataKey | None:
        return self._cache.current.get(shop)

    def cached_by_id(self, shop: str, key_id: str) -> DataKey | None:
        return self._cache.by_id.get((shop, key_id))


class KvKeySource:
    """Keys in the JetStream bucket `keys`, wrapped by the KEK; kept in memory once read.

    `<shop>.<key id>` holds a wrapped key, `<shop>.current` the id of the one to seal with. The
    key is written first, and `current` is created only where absent: of several processes that
    create at once, one decides and the others take its key.
    """

    def __init__(
        self,
        kv: KeyValue,
        kek: bytes,
        *,
        timeout_s: float = 2.0,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._kv = kv
        self._kek = AESGCM(kek)
        self._timeout_s = timeout_s
        self._random_bytes = random_bytes
        self._cache = _KeyCache()
        # A lock a shop lives only while somebody waits at it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    async def open(
        cls,
        js: JetStreamContext,
        kek: bytes | None,
        *,
        replicas: int = 1,
        timeout_s: float = 2.0,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> KvKeySource:
        """The source, its bucket made if missing, its KEK found to be the one in use.

        None for a KEK says that there is none: the error then tells whether one was lost.

        Raises:
            ServiceError: PERMANENT, `kek_missing` or `kek_wrong`; RETRYABLE, `nats_unavailable`.
        """
        async with _answering(max(timeout_s, 5.0)):
            kv = await _bucket(js, replicas)
            await _check_kek(kv, kek)
        if kek is None:
            raise _kek_missing("create one (create_kek) and keep a copy of it somewhere safe")
        return cls(kv, kek, timeout_s=timeout_s, random_bytes=random_bytes)

    async def current(self, shop: str) -> DataKey:
        key = self._cache.current.get(shop)
        if key is not None:
            return key
        # The wait at the lock counts as well: behind a silent server it would add up.
        async with _answering(self._timeout_s), self._lock(shop):
            key = self._cache.current.get(shop)
            return key if key is not None else await self._find_or_make(shop)

    async def by_id(self, shop: str, key_id: str) -> DataKey:
        key = self.cached_by_id(shop, key_id)
        if key is not None:
            return key
        async with _answering(self._timeout_s), self._lock(shop):
            return self.cached_by_id(shop, key_id) or await self._read(shop, key_id)

    def cached(self, shop: str) -> DataKey | None:
        return self._cache.current.get(shop)

    def cached_by_id(self, shop: str, key_id: str) -> DataKey | None:
        return self._cache.by_id.get((shop, key_id))

    def _lock(self, shop: str) -> asyncio.Lock:
        lock = self._locks.get(shop)
        if lock is None:
            lock = self._locks[shop] = asyncio.Lock()
        return lock

    async def _find_or_make(self, shop: str) -> DataKey:
        key_id = await self._current_id(shop) or await self._make(shop)
        key = await self._read(shop, key_id)
        self._cache.keep(shop, key, current=True)
        return key

    async def _current_id(self, shop: str) -> str | None:
        value = await _value(self._kv, _name(shop, _CURRENT))
        return None if value is None else value.decode()

    async def _make(self, shop: str) -> str:
        """The id of the shop's key: of a new one, or of the one that another process just made."""
        key_id = self._random_bytes(_KEY_ID_BYTES).hex()
        wrapped = self._wrap(self._random_bytes(KEY_BYTES), _binding(shop, key_id))
        await self._kv.create(_name(shop, key_id), wrapped)
        try:
            await self._kv.create(_name(shop, _CURRENT), key_id.encode())
        except KeyWrongLastSequenceError:
            winner = await self._current_id(shop)
            if winner != key_id:
                # Nothing was ever sealed with ours. (It can be ours: an answer may get lost.)
                await self._kv.purge(_name(shop, key_id))
            return winner or key_id
        return key_id

    async def _read(self, shop: str, key_id: str) -> DataKey:
        wrapped = await _value(self._kv, _name(shop, key_id))
        if wrapped is None:
            raise _unknown(shop, key_id)
        key = DataKey(key_id, self._unwrap(wrapped, _binding(shop, key_id)))
        self._cache.keep(shop, key)
        return key

    def _wrap(self, secret: bytes, binding: bytes) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        return _WRAPPING + nonce + self._kek.encrypt(nonce, secret, binding)

    def _unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        start, end = len(_WRAPPING), len(_WRAPPING) + NONCE_BYTES
        if wrapped[:start] != _WRAPPING:
            raise permanent("key_unreadable", "a newer version wrote this data key; run that")
        try:
            return self._kek.decrypt(wrapped[start:end], wrapped[end:], binding)
        except (InvalidTag, ValueError):
            raise permanent(
                "key_unreadable", "the KEK does not open this data key: it was altered or moved"
            ) from None


def load_kek(path: Path) -> bytes:
    """The key-encryption key: 32 bytes, which the file holds raw, as hex or as base64.

    Raises:
        ServiceError: PERMANENT, `kek_missing` or `kek_malformed`.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _kek_missing(
            f"{path} does not exist. Restore it from your backup: what is stored cannot be read"
            " without it. A new installation creates one (create_kek)"
        ) from None
    except OSError as error:
        raise _kek_missing(f"{path} cannot be read ({error.strerror})") from None
    kek = _kek_of(raw)
    if kek is None:
        raise permanent("kek_malformed", f"{path} should hold 32 bytes, raw, as hex or as base64")
    return kek


def create_kek(path: Path, random_bytes: RandomBytes = secrets.token_bytes) -> bytes:
    """A new key-encryption key, written to `path` as hex, readable by its owner only.

    Raises:
        ServiceError: PERMANENT, `kek_exists`: a KEK is never overwritten.
    """
    kek = random_bytes(KEY_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise permanent("kek_exists", f"{path} exists; load it instead") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(kek.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return kek


class _KeyCache:
    """Keys in memory."""

    def __init__(self) -> None:
        self.current: dict[str, DataKey] = {}
        self.by_id: dict[tuple[str, str], DataKey] = {}

    def keep(self, shop: str, key: DataKey, *, current: bool = False) -> None:
        self.by_id[shop, key.key_id] = key
        if current:
            self.current[shop] = key


def _kek_of(raw: bytes) -> bytes | None:
    if len(raw) == KEY_BYTES:
        return raw
    text = raw.strip()
    for decode in (bytes.fromhex, _from_base64):
        try:
            found = decode(text.decode("ascii"))
        except ValueError:
            continue
        if len(found) == KEY_BYTES:
            return found
    return None


def _from_base64(text: str) -> bytes:
    # Both alphabets: what tools print differs.
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


def _name(shop: str, last: str) -> str:
    return f"{token(shop)}.{token(last)}"


def _binding(shop: str, key_id: str) -> bytes:
    """What a wrapped key is bound to, so that it opens in its own place only."""
    return f"{token(shop)}.{token(key_id)}".encode()


async def _bucket(js: JetStreamContext, replicas: int) -> KeyValue:
    try:
        return await js.key_value(BUCKET)
    except BucketNotFoundError:
        # Read from the leader (`direct` off): a follower may not know yet who created `current`.
        config = KeyValueConfig(BUCKET, storage=StorageType.FILE, replicas=replicas, direct=False)
        return await js.create_key_value(config)


async def _check_kek(kv: KeyValue, kek: bytes | None) -> None:
    """Compares with the mark of the KEK in use, or leaves one."""
    mark = None if kek is None else sha256(b"tidewire kek\x00" + kek).hexdigest()[:16].encode()
    found = await _value(kv, _KEK_CHECK)
    if found is None and mark is not None:
        try:
            await kv.create(_KEK_CHECK, mark)
        except KeyWrongLastSequenceError:
            found = await _value(kv, _KEK_CHECK)
    if found is None or found == mark:
        return
    restore = "restore that file from your backup: what is stored cannot be read without it"
    if mark is None:
        raise _kek_missing(f"data keys exist that were wrapped by one; {restore}")
    raise permanent("kek_wrong", f"data keys exist that were wrapped by another KEK; {restore}")


async def _value(kv: KeyValue, name: str) -> bytes | None:
    try:
        return (await kv.get(name)).value
    except KeyNotFoundError:
        return None


@asynccontextmanager
async def _answering(timeout_s: float) -> AsyncIterator[None]:
    """What goes wrong with NATS inside becomes a RETRYABLE error, after `timeout_s` at the latest.

    A write that was given up may still happen; creating only where absent makes that harmless.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except APIError as error:
        raise ServiceError(
            Kind.RETRYABLE, "nats_refused", f"bucket {BUCKET}: {error.description}"
        ) from error
    except (*UNREACHABLE, JetStreamError) as error:
        raise unavailable(f"bucket {BUCKET}", error) from error


def _unknown(shop: str, key_id: str) -> ServiceError:
    return permanent("key_unknown", f"shop {shop} has no data key {key_id}; was it forgotten?")


def _kek_missing(advice: str) -> ServiceError:
    return permanent("kek_missing", f"there is no key-encryption key: {advice}")
