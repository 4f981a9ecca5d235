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
    """Seals and opens with the data key of a shop; the shop is bound into what is sealed."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys

    async def prepare(self, shops: Iterable[str]) -> None:
        """Has the current key of each shop at hand, as `seal` needs it.

        Raises:
            ServiceError: the key source did not answer.
        """
        missing = [shop for shop in shops if self._keys.cached(shop) is None]
        await asyncio.gather(*(self._keys.current(shop) for shop in missing))

    def seal(self, message: Message, shop: str) -> sealed_pb2.Payload:
        """`message` as a payload. The shop's key must have been prepared."""
        data = message.SerializeToString()
        if not has_pii(message.DESCRIPTOR):  # type: ignore[arg-type]  # upb class, same duck
            return pack(data)
        return self.seal_bytes(data, shop)

    def seal_bytes(self, data: bytes, shop: str) -> sealed_pb2.Payload:
        """`data` sealed, whatever it is."""
        key = self._keys.cached(shop)
        if key is None:
            raise AssertionError(f"the key of {shop} was not prepared")
        return seal(data, key, associated=shop.encode())

    async def open_bytes(self, payload: sealed_pb2.Payload, shop: str) -> bytes:
        """What was sealed for `shop`.

        Raises:
            ServiceError: PERMANENT where it was tampered with or is another shop's; else the key
                source's own.
        """
        key: DataKey | None = None
        if payload.key_id:
            cached = self._keys.cached_by_id(shop, payload.key_id)
            key = cached or await self._keys.by_id(shop, payload.key_id)
        return unseal(payload, lambda _: key, associated=shop.encode())
