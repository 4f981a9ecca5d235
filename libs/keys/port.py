"""Where data keys come from, as everybody else sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from libs.errors import ServiceError, permanent
from libs.sealing import DataKey

KEY_ID_BYTES: Final = 8
_CONNECTION: Final = "connection."

RandomBytes = Callable[[int], bytes]


class KeySource(Protocol):
    """Where the data keys of scopes come from. A key that was given stays the same for good.

    A scope is what is forgotten together: a shop, named by its handle, or a connection, named by
    `connection_scope`. A handle holds letters, digits and hyphens only (`shop_handle`), and such a
    name has a dot, so the two can never be equal.
    """

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:
        """The key that seals what is stored of the scope from now on; made if there is none.

        One in memory is given at once. It may have been rotated or forgotten elsewhere within the
        last moments; who must not seal with such a key asks for a `fresh` one, which costs a read.

        Raises:
            ServiceError: RETRYABLE, `nats_unavailable`, `kek_unavailable` or `kek_unknown`, where
                the store or the KEK does not answer, or this process lacks the KEK;
                PERMANENT, `key_unreadable`.
        """

    async def by_id(self, scope: str, key_id: str) -> DataKey:
        """The key that once sealed something of the scope.

        Raises:
            ServiceError: PERMANENT, `key_unknown`; else as above.
        """

    def cached(self, scope: str) -> DataKey | None:
        """The current key, where it is in memory and not known to be replaced."""

    def cached_by_id(self, scope: str, key_id: str) -> DataKey | None:
        """The key of that id, where it is in memory."""


class KeyKeeper(KeySource, Protocol):
    """A source that owns its keys: it can also replace them and throw them away."""

    async def existing(self, scope: str) -> DataKey | None:
        """The key that `current` gives; None, and none is made, where there is none.

        Raises:
            ServiceError: as above.
        """

    async def rotate(self, scope: str) -> DataKey:
        """A new current key; what older ones sealed stays readable.

        Of several who rotate at once, one key becomes the current one, and all are given it.

        Raises:
            ServiceError: as above.
        """

    async def forget(self, scope: str) -> None:
        """Deletes every key of the scope: nothing that they sealed can be read again.

        A later `current` makes a new key, so a scope may be used again.

        Raises:
            ServiceError: RETRYABLE, `nats_unavailable`: it may have happened or not; do it again.
        """


def connection_scope(connection_id: str) -> str:
    """The scope of what is stored of one connection, such as its tokens."""
    return f"{_CONNECTION}{connection_id}"


class KeyCache:
    """Keys in memory."""

    def __init__(self) -> None:
        self.current: dict[str, DataKey] = {}
        self.by_id: dict[str, dict[str, DataKey]] = {}

    def keep(self, scope: str, key: DataKey, *, current: bool = False) -> None:
        self.by_id.setdefault(scope, {})[key.key_id] = key
        if current:
            self.current[scope] = key

    def find(self, scope: str, key_id: str) -> DataKey | None:
        keys = self.by_id.get(scope)
        return None if keys is None else keys.get(key_id)

    def forget(self, scope: str) -> None:
        self.by_id.pop(scope, None)
        self.current.pop(scope, None)


def key_unknown(scope: str, key_id: str) -> ServiceError:
    """The error for a key that is not there."""
    return permanent("key_unknown", f"{scope} has no data key {key_id}; was it forgotten?")
