"""Messages at rest: sealed where their schema marks personal data, else in clear."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from google.protobuf.message import Message

from libs.keys import KeySource
from libs.pii import has_pii
from libs.sealing import DataKey, pack, seal, unseal
from tidewire.common.v1 import sealed_pb2


class Vault:
    """Seals and opens with the data key of a scope, which is bound into what is sealed.

    A scope is a shop's handle, or a connection's `connection_scope` (libs/keys).
    """

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._prepared: dict[str, DataKey] = {}

    async def prepare(self, scopes: Iterable[str]) -> None:
        """Has the current key of each scope at hand, as `seal` needs it.

        Raises:
            ServiceError: the key source did not answer.
        """
        missing = []
        for scope in scopes:
            key = self._keys.cached(scope)
            if key is None:
                missing.append(scope)
            else:
                self._prepared[scope] = key
        keys = await asyncio.gather(*(self._keys.current(scope) for scope in missing))
        self._prepared.update(zip(missing, keys, strict=True))

    def seal(self, message: Message, scope: str) -> sealed_pb2.Payload:
        """`message` as a payload. The scope's key must have been prepared."""
        data = message.SerializeToString()
        if not has_pii(message.DESCRIPTOR):  # type: ignore[arg-type]  # upb class, same duck
            return pack(data)
        return self.seal_bytes(data, scope)

    def seal_bytes(self, data: bytes, scope: str) -> sealed_pb2.Payload:
        """`data` sealed, whatever it is."""
        # One that was replaced since it was prepared is as good: what it seals stays readable.
        key = self._keys.cached(scope) or self._prepared.get(scope)
        if key is None:
            raise AssertionError(f"the key of {scope} was not prepared")
        return seal(data, key, associated=scope.encode())

    async def open_bytes(self, payload: sealed_pb2.Payload, scope: str) -> bytes:
        """What was sealed for `scope`.

        Raises:
            ServiceError: PERMANENT where it was tampered with or is another scope's; else the key
                source's own.
        """
        key: DataKey | None = None
        if payload.key_id:
            cached = self._keys.cached_by_id(scope, payload.key_id)
            key = cached or await self._keys.by_id(scope, payload.key_id)
        return unseal(payload, lambda _: key, associated=scope.encode())
