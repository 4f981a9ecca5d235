"""Data keys of shops from the token service, which alone can unwrap them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import grpc
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus import subjects
from libs.keys import KeyCache
from libs.keys.bucket import BUCKET, CURRENT
from libs.rpc.client import call
from libs.sealing import DataKey
from tidewire.auth.v1 import token_service_pb2, token_service_pb2_grpc

_TIMEOUT_S: Final = 2.0
"""A webhook is answered within 2.5 s: better with 503 than not at all."""


class RemoteKeySource:
    """`KeySource` by TokenService; what was given stays in memory.

    That a key was replaced or thrown away is heard on NATS, where it is written; after a break of
    that connection every current key is asked for again. A part of a process.
    """

    def __init__(self, channel: grpc.aio.Channel, nats: Client) -> None:
        self._stub = token_service_pb2_grpc.TokenServiceStub(channel)
        self._nats = nats
        self._cache = KeyCache()
        self._under_way: dict[tuple[str, str], asyncio.Task[DataKey]] = {}
        self._reconnects = 0
        self._stopping = asyncio.Event()

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:
        key = None if fresh else self.cached(scope)
        return key if key is not None else await self._asked(scope, "")

    async def by_id(self, scope: str, key_id: str) -> DataKey:
        key = self._cache.find(scope, key_id)
        return key if key is not None else await self._asked(scope, key_id)

    def cached(self, scope: str) -> DataKey | None:
        reconnects = self._nats.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects = reconnects
            self._cache.current.clear()
        return self._cache.current.get(scope)

    def cached_by_id(self, scope: str, key_id: str) -> DataKey | None:
        return self._cache.find(scope, key_id)

    async def run(self, ready: Callable[[], None]) -> None:
        """Listens until `stop`."""
        subscription = await self._nats.subscribe(
            subjects.in_bucket(BUCKET, f"*.{CURRENT}"), cb=self._replaced
        )
        ready()
        await self._stopping.wait()
        with suppress(Exception):
            await subscription.unsubscribe()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def _replaced(self, message: Msg) -> None:
        scope = subjects.text_of(message.subject.split(".")[-2])
        if message.data:
            key = self._cache.current.get(scope)
            if key is None or key.key_id.encode() != message.data:
                self._cache.current.pop(scope, None)
        else:
            self._cache.forget(scope)

    async def _asked(self, scope: str, key_id: str) -> DataKey:
        place = (scope, key_id)
        task = self._under_way.get(place)
        if task is None:
            task = self._under_way[place] = asyncio.create_task(self._fetch(scope, key_id))
            task.add_done_callback(lambda done: self._over(place, done))
        return await asyncio.shield(task)

    def _over(self, place: tuple[str, str], task: asyncio.Task[DataKey]) -> None:
        self._under_way.pop(place, None)
        if not task.cancelled():
            task.exception()

    async def _fetch(self, scope: str, key_id: str) -> DataKey:
        request = token_service_pb2.GetDataKeyRequest(shop=scope, key_id=key_id)
        answer = await call(self._stub.GetDataKey, request, timeout_s=_TIMEOUT_S)
        key = DataKey(answer.key_id, answer.key)
        self._cache.keep(scope, key, current=not key_id)
        return key
