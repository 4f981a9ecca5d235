"""Data keys that end with the process."""

from __future__ import annotations

import secrets

from libs.keys.port import KEY_ID_BYTES, KeyCache, RandomBytes, key_unknown
from libs.sealing import KEY_BYTES, DataKey


class MemoryKeySource:
    """Keys that end with the process, for tests and previews."""

    def __init__(self, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._cache = KeyCache()
        self._random_bytes = random_bytes

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:  # noqa: ARG002 - all are
        return self.cached(scope) or await self.rotate(scope)

    async def by_id(self, scope: str, key_id: str) -> DataKey:
        key = self.cached_by_id(scope, key_id)
        if key is None:
            raise key_unknown(scope, key_id)
        return key

    def cached(self, scope: str) -> DataKey | None:
        return self._cache.current.get(scope)

    def cached_by_id(self, scope: str, key_id: str) -> DataKey | None:
        return self._cache.find(scope, key_id)

    async def existing(self, scope: str) -> DataKey | None:
        return self.cached(scope)

    async def rotate(self, scope: str) -> DataKey:
        key = DataKey(self._random_bytes(KEY_ID_BYTES).hex(), self._random_bytes(KEY_BYTES))
        self._cache.keep(scope, key, current=True)
        return key

    async def forget(self, scope: str) -> None:
        self._cache.forget(scope)
