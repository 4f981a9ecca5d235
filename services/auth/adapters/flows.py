"""Attempts to connect in the bucket `flows`, and the secret that signs what browsers bring back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, ConflictError, Entry
from libs.errors import permanent
from libs.keys import KeySource
from libs.sealing import DataKey, seal, unseal
from services.auth.domain.flows import LIFETIME_S
from services.auth.domain.signing import encoded, hashed
from services.auth.ports import KeptFlow
from tidewire.auth.v1 import connection_service_pb2, record_pb2
from tidewire.common.v1 import sealed_pb2

SCOPE: Final = "_flows"
"""Whose data key seals what the bucket holds. One for all: an attempt lives for minutes, and a key
for good. No handle can be this."""

_TTL_S: Final = 2 * LIFETIME_S
"""Longer than an attempt may take, so that whoever waits can still read how it ended."""

_SIGNING: Final = subjects.in_bucket(subjects.FLOWS, "_signing")
_SECRET_BYTES: Final = 32


class FlowStore:
    """`Flows` on a commit log. An own app's secret is sealed for its attempt alone."""

    def __init__(self, log: CommitLog, keys: KeySource) -> None:
        self._log = log
        self._keys = keys

    async def create(self, flow_id: str, record: record_pb2.StoredFlow) -> None:
        await self._write(flow_id, record, expected=0)

    async def load(self, flow_id: str) -> KeptFlow | None:
        subject = _subject(flow_id)
        found = (await self._log.read_fresh([subject])).get(subject)
        if found is None:
            return None
        record = record_pb2.StoredFlow.FromString(found.data)
        if record.HasField("sealed_app"):
            data = await _opened(self._keys, record.sealed_app, _bound(flow_id))
            record.spec.app.CopyFrom(connection_service_pb2.OwnApp.FromString(data))
            record.ClearField("sealed_app")
        return KeptFlow(flow_id, found.sequence, record)

    async def replace(self, kept: KeptFlow, record: record_pb2.StoredFlow) -> KeptFlow:
        sequence = await self._write(kept.flow_id, record, expected=kept.sequence)
        return KeptFlow(kept.flow_id, sequence, record)

    async def _write(self, flow_id: str, record: record_pb2.StoredFlow, *, expected: int) -> int:
        stored = record_pb2.StoredFlow()
        stored.CopyFrom(record)
        if stored.spec.HasField("app"):
            key = await self._keys.current(SCOPE)
            data = stored.spec.app.SerializeToString()
            stored.sealed_app.CopyFrom(seal(data, key, associated=_bound(flow_id)))
            stored.spec.ClearField("app")
        data = stored.SerializeToString()
        return await self._log.commit([Entry(_subject(flow_id), data, expected, _TTL_S)])


async def signing_secret(
    log: CommitLog,
    keys: KeySource,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """The secret from which signing keys are derived: made once, sealed, shared by all replicas.

    Raises:
        ServiceError: RETRYABLE, where the store does not answer; PERMANENT, where it is sealed by
            a key that is no more.
    """
    stored = (await log.read_fresh([_SIGNING])).get(_SIGNING)
    if stored is None:
        payload = seal(
            random_bytes(_SECRET_BYTES), await keys.current(SCOPE), associated=b"signing"
        )
        # A conflict says that another replica was faster: its secret is the one.
        with suppress(ConflictError):
            await log.commit([Entry(_SIGNING, payload.SerializeToString(), expected=0)])
        stored = (await log.read_fresh([_SIGNING])).get(_SIGNING)
    if stored is None:
        raise permanent("signing_secret_lost", "the signing secret vanished as soon as written")
    return await _opened(keys, sealed_pb2.Payload.FromString(stored.data), b"signing")


async def _opened(keys: KeySource, payload: sealed_pb2.Payload, bound: bytes) -> bytes:
    key: DataKey = await keys.by_id(SCOPE, payload.key_id)
    return unseal(payload, {key.key_id: key}.get, associated=bound)


def _bound(flow_id: str) -> bytes:
    return f"flow.{flow_id}".encode()


def _subject(flow_id: str) -> str:
    """Where an attempt is. Not its id: that is the link, and whoever has it may connect."""
    name = subjects.token(encoded(hashed(flow_id)))
    return subjects.in_bucket(subjects.FLOWS, f"flow.{name}")
