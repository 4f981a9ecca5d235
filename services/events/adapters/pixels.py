"""The pixels of each shop, from its connections; built once a change, not once a fact."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from libs.connections import Connections
from libs.errors import ServiceError
from services.events.adapters.connections import event_settings
from services.events.ports import Pixel
from tidewire.connections.v1 import connection_pb2

_log = structlog.stdlib.get_logger()


class ConnectedPixels:
    """Pixels by shop. A connection whose settings do not fit is left out and named in the log."""

    def __init__(self, connections: Connections, *, api_version: str) -> None:
        self._connections = connections
        self._api_version = api_version
        self._known: dict[str, tuple[Pixel, ...]] = {}
        connections.subscribe(self._known.clear)

    def of_shop(self, shop: str) -> Sequence[Pixel]:
        """The pixels to which events of `shop` go."""
        known = self._known.get(shop)
        if known is None:
            known = self._known[shop] = tuple(self._read(shop))
        return known

    def is_connected(self, shop: str, sink: str) -> bool:
        """Whether there is such a connection, usable or not."""
        return sink in self._connections.sinks(shop)

    def _read(self, shop: str) -> list[Pixel]:
        view = self._connections.shop(shop)
        if view is None:
            return []
        found = []
        kind = connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS
        for connection in self._connections.connections(shop, kind):
            try:
                settings = event_settings(connection, view, api_version=self._api_version)
            except ServiceError as error:
                _log.error(
                    "connection_unusable",
                    connection=connection.connection_id,
                    reason=error.code,
                    field=error.path,
                )
                continue
            found.append(Pixel(connection.connection_id, f"events.{settings.pixel_code}", settings))
        return found
