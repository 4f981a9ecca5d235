"""The bucket `keys`: how its entries are named, read and marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from nats.aio.client import Client
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
from libs.bus.subjects import bucket_stream, in_bucket, text_of, token
from libs.errors import Kind, ServiceError, permanent
from libs.keys.kek import KekRing, kek_missing

BUCKET: Final = "keys"
CURRENT: Final = "current"
# One token, so no scope's key can ever have this name.
_MARK: Final = "kek"
_TRIES: Final = 20
_RESTORE: Final = "restore it from your backup: what is stored cannot be read without it"


class Entry(NamedTuple):
    """A value, and the revision that a compare-and-set names."""

    value: bytes
    revision: int


class Place(NamedTuple):
    """Where a wrapped key is."""

    scope: str
    key_id: str


def entry_name(scope: str, last: str) -> str:
    """The name of an entry of a scope: of a key by its id, or `CURRENT`."""
    return f"{token(scope)}.{token(last)}"


def binding(name: str) -> bytes:
    """What the key at `name` is bound to, so that it opens in its own place only."""
    return name.encode()


def place_of(name: str) -> Place | None:
    """The place of the wrapped key at `name`; None for what is no key."""
    scope, dot, key_id = name.rpartition(".")
    return Place(text_of(scope), text_of(key_id)) if dot and key_id != CURRENT else None


def subjects_of(scope: str) -> str:
    """All entries of a scope."""
    return in_bucket(BUCKET, f"{token(scope)}.*")


def client_of(js: JetStreamContext) -> Client:
    """The connection under it; nats-py has no other way to it."""
    client: Client = js._nc  # noqa: SLF001
    return client


async def bucket(js: JetStreamContext, replicas: int) -> KeyValue:
    """The bucket, made if missing."""
    try:
        return await js.key_value(BUCKET)
    except BucketNotFoundError:
        # Read from the leader (`direct` off): a follower may not know yet who created `current`.
        config = KeyValueConfig(BUCKET, storage=StorageType.FILE, replicas=replicas, direct=False)
        return await js.create_key_value(config)


async def find(kv: KeyValue, name: str) -> Entry | None:
    """The entry, if there is one that is not deleted."""
    try:
        found = await kv.get(name)
    except KeyNotFoundError:
        return None
    return Entry(found.value or b"", found.revision or 0)


async def key_names(js: JetStreamContext, subject: str = in_bucket(BUCKET, "*.*")) -> list[str]:
    """The names of all wrapped keys below `subject`, deleted ones too."""
    info = await js.stream_info(bucket_stream(BUCKET), subjects_filter=subject)
    prefix = in_bucket(BUCKET, "")
    names = (found.removeprefix(prefix) for found in info.state.subjects or {})
    return sorted(name for name in names if place_of(name) is not None)


async def check_ring(kv: KeyValue, ring: KekRing | None) -> None:
    """Compares the ring with the KEKs that are in use, and notes its primary as one of them.

    Raises:
        ServiceError: PERMANENT, `kek_missing`, or `kek_wrong`, which names those it lacks.
    """
    found = await find(kv, _MARK)
    used = _ids(found)
    if ring is None:
        if used:
            raise kek_missing(f"data keys exist that were wrapped by one; {_RESTORE}")
        return
    lacking = {kek_id for kek_id in used if not ring.opens(kek_id)}
    if lacking:
        raise permanent(
            "kek_wrong",
            f"data keys exist that were wrapped by {', '.join(sorted(lacking))}; configured are"
            f" {', '.join(sorted(ring.kek_ids))}. Add what is lacking to those that only open"
            f" (TIDEWIRE_KEK_PREVIOUS_…), or {_RESTORE}",
        )
    await note(kv, ring.primary_id)


async def used_keks(kv: KeyValue) -> frozenset[str]:
    """The ids of the KEKs that may have wrapped something that is stored."""
    return _ids(await find(kv, _MARK))


async def note(kv: KeyValue, kek_id: str) -> None:
    """Has `kek_id` among the KEKs in use."""
    await _change(kv, frozenset({kek_id}), frozenset())


async def retire(kv: KeyValue, kek_ids: frozenset[str]) -> None:
    """Has `kek_ids` no longer among them. Who calls it looks afterwards whether that was right."""
    await _change(kv, frozenset(), kek_ids)


async def _change(kv: KeyValue, more: frozenset[str], fewer: frozenset[str]) -> None:
    for _ in range(_TRIES):
        found = await find(kv, _MARK)
        wanted = (_ids(found) | more) - fewer
        if wanted == _ids(found):
            return
        text = "\n".join(sorted(wanted)).encode()
        try:
            if found is None:
                await kv.create(_MARK, text)
            else:
                await kv.update(_MARK, text, last=found.revision)
        except KeyWrongLastSequenceError:
            continue
        return
    raise ServiceError(
        Kind.RETRYABLE, "kek_contended", "the list of KEKs in use is being changed by many"
    )


def _ids(mark: Entry | None) -> frozenset[str]:
    return frozenset() if mark is None else frozenset(mark.value.decode().split())


@asynccontextmanager
async def answering(timeout_s: float) -> AsyncIterator[None]:
    """What goes wrong with NATS inside becomes a RETRYABLE error, after `timeout_s` at the latest.

    A write that was given up may still happen; compare-and-set makes that harmless.
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
