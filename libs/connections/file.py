"""The connections file as an adapter of both ports, read again whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from libs.connections.entries import ShopEntry, load_entries
from libs.connections.ports import ShopView, WebhookSecret
from libs.connections.snapshot import Snapshot, snapshot_of
from libs.connections.tree import ConnectionsError
from libs.errors import Kind, ServiceError, permanent
from libs.settings import Secret
from libs.telemetry.logs import get_logger
from tidewire.connections.v1.connection_pb2 import Connection, ConnectionKind

_log = get_logger(__name__)

Stamps: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""How files looked; what is not there is None."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was read, of which files, and how those looked just before."""

    snapshot: Snapshot
    watched: tuple[Path, ...]
    stamp: Stamps


class FileConnections:
    """Connections and credentials from the YAML file at `path`.

    A part of the process: while it runs it looks every `poll_s` seconds whether the file, or one
    that it names for a secret, has changed. A new file with faults changes nothing and is
    reported once as a warning.

    Raises:
        ConnectionsError: the file has faults now; names them all.
    """

    def __init__(self, path: Path, poll_s: float = 5.0) -> None:
        self._path = path
        self._poll_s = poll_s
        self._loaded = _load(path)
        self._now = self._loaded.snapshot
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._warned: tuple[str, ...] = ()
        self._stopping = asyncio.Event()

    def shop(self, handle: str) -> ShopView | None:
        return self._now.shops.get(handle)

    def shops(self) -> Iterable[ShopView]:
        return self._now.shops.values()

    def connections(self, handle: str, kind: ConnectionKind.ValueType) -> Sequence[Connection]:
        return self._now.connections.get((handle, kind), ())

    async def told(self) -> None:
        """Returns at once: the file has been read."""

    def sinks(self, handle: str) -> Sequence[str]:
        return self._now.sinks.get(handle, ())

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        now = self._now
        return now.secrets.get(handle, now.all_secrets)

    async def access_token(self, connection_id: str) -> Secret:
        if connection_id not in self._now.tokens:
            raise permanent("connection_unknown", f"{connection_id} is not in {self._path}")
        token = self._now.tokens[connection_id]
        if token is None:
            advice = f"give {connection_id} an access_token in {self._path}"
            raise ServiceError(Kind.AUTH, "access_token_missing", advice)
        return token

    async def refused(self, connection_id: str, token: Secret) -> None:  # noqa: ARG002  the port's
        _log.warning("access_token_refused", connection=connection_id, file=str(self._path))

    def entry(self, handle: str) -> ShopEntry | None:
        """All that the file says of a shop, also what no port shows yet."""
        return self._now.entries.get(handle)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        place = object()
        self._subscribers[place] = changed

        def unsubscribe() -> None:
            self._subscribers.pop(place, None)

        return unsubscribe

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the file until `stop`."""
        ready()
        while not self._stopping.is_set():
            await self.refresh()
            try:
                await asyncio.wait_for(self._stopping.wait(), self._poll_s)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run`; what was read stays."""
        self._stopping.set()

    async def refresh(self) -> bool:
        """Reads the file again if it has changed; true where that changed the answers."""
        try:
            # A file of ten thousand shops takes long enough to hold up every request.
            loaded = await asyncio.to_thread(self._load_if_changed)
        except ConnectionsError as error:
            self._warn(error)
            return False
        self._warned = ()
        if loaded is None:
            return False
        self._loaded, self._now = loaded, loaded.snapshot
        _log.info("connections_reloaded", shops=len(self._now.shops))
        for changed in tuple(self._subscribers.values()):
            changed()
        return True

    def _load_if_changed(self) -> _Loaded | None:
        # After a fault the stamp is still the good file's, so each look reads again: a missing
        # secret file may appear without the file that names it being touched.
        if stamps(self._loaded.watched) == self._loaded.stamp:
            return None
        return _load(self._path)

    def _warn(self, error: ConnectionsError) -> None:
        if error.faults != self._warned:
            self._warned = error.faults
            _log.warning("connections_not_reloaded", file=str(self._path), faults=error.message)


def _load(path: Path) -> _Loaded:
    # The stamp comes first: what is written while we read then looks changed at the next look.
    before = stamps((path,))
    entries, files = load_entries(path)
    return _Loaded(snapshot_of(entries), (path, *files), before + stamps(files))


def stamps(paths: Iterable[Path]) -> Stamps:
    """How files look now."""
    return tuple(map(_stamp_of, paths))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
