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
_NEW_S: Final = 5.0
"""How long after it was told a change may not be stored yet."""
_TRIES: Final = 3


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
        self._swept_s = 0.0
        self._told: dict[str, tuple[float, str]] = {}
        """By scope: when its current key was told of, and which one; empty: it has none now."""
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
        # What was asked for before may have been replaced before anybody listened.
        self._cache.current.clear()
        ready()
        await self._stopping.wait()
        with suppress(Exception):
            await subscription.unsubscribe()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def _replaced(self, message: Msg) -> None:
        scope = subjects.text_of(message.subject.split(".")[-2])
        key_id = message.data.decode(errors="replace")
        now_s = asyncio.get_running_loop().time()
        if now_s - self._swept_s > _NEW_S:
            self._swept_s = now_s
            known = self._told.items()
            self._told = {name: told for name, told in known if told[0] > now_s - _NEW_S}
        self._told[scope] = (now_s, key_id)
        if not key_id:
            self._cache.forget(scope)
            return
        key = self._cache.current.get(scope)
        if key is None or key.key_id != key_id:
            self._cache.current.pop(scope, None)

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
        for _ in range(_TRIES):
            before = self._told.get(scope)
            answer = await call(self._stub.GetDataKey, request, timeout_s=_TIMEOUT_S)
            key = DataKey(answer.key_id, answer.key)
            told = self._told.get(scope)
            if told is None or told is before or told[1] == key.key_id:
                self._keep(scope, key, current=not key_id)
                return key
        # Something is told all the time; this key is good, and asked for again the next time.
        return key

    def _keep(self, scope: str, key: DataKey, *, current: bool) -> None:
        told_s, told_id = self._told.get(scope, (0.0, ""))
        is_new = asyncio.get_running_loop().time() - told_s < _NEW_S
        # What is told is stored a moment later, and the answer may be from before.
        agrees = not (is_new and told_id) or told_id == key.key_id
        self._cache.keep(scope, key, current=current and agrees)
