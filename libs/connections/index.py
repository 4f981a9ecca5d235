"""Connections as they come and go, one at a time, kept so that each question is one look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from libs.connections.names import sinks_of, view_of
from libs.connections.ports import ShopView, WebhookSecret
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    Connection,
    ConnectionKind,
)


class ConnectionIndex:
    """`Connections`, and the webhook secrets of `Credentials`, from what it is told.

    A shop is known once its own connection is.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Connection] = {}
        self._ids_of: dict[str, set[str]] = {}
        self._shops: dict[str, ShopView] = {}
        self._by_kind: dict[tuple[str, ConnectionKind.ValueType], tuple[Connection, ...]] = {}
        self._sinks: dict[str, tuple[str, ...]] = {}
        self._secrets: dict[str, tuple[WebhookSecret, ...]] = {}
        self._distinct: tuple[WebhookSecret, ...] | None = None
        self._subscribers: dict[object, Callable[[], None]] = {}

    @property
    def by_id(self) -> Mapping[str, Connection]:
        """Every connection by its id."""
        return self._by_id

    def ids_of(self, shop: str) -> AbstractSet[str]:
        """Ids of a shop's connections."""
        return self._ids_of.get(shop, frozenset())

    def put(self, connection: Connection) -> bool:
        """Takes in a connection that is new or changed; whether that changes an answer."""
        if self._by_id.get(connection.connection_id) == connection:
            return False
        self._by_id[connection.connection_id] = connection
        self._ids_of.setdefault(connection.shop, set()).add(connection.connection_id)
        self._place(connection.shop, connection.kind)
        return True

    def remove(self, connection_id: str) -> bool:
        """Takes a connection out; whether it was there."""
        connection = self._by_id.pop(connection_id, None)
        if connection is None:
            return False
        self._ids_of[connection.shop].discard(connection_id)
        self._place(connection.shop, connection.kind)
        return True

    def put_secrets(self, shop: str, secrets: Sequence[WebhookSecret]) -> None:
        """Takes in all webhook secrets of a shop."""
        if secrets:
            self._secrets[shop] = tuple(secrets)
        else:
            self._secrets.pop(shop, None)
        self._distinct = None

    def keep_secrets_of(self, shops: AbstractSet[str]) -> None:
        """Takes out the webhook secrets of all other shops."""
        for shop in [one for one in self._secrets if one not in shops]:
            del self._secrets[shop]
        self._distinct = None

    def tell(self) -> None:
        """Tells subscribers that answers have changed."""
        for changed in tuple(self._subscribers.values()):
            changed()

    def shop(self, handle: str) -> ShopView | None:
        return self._shops.get(handle)

    def shops(self) -> Iterable[ShopView]:
        return self._shops.values()

    def connections(self, handle: str, kind: ConnectionKind.ValueType) -> Sequence[Connection]:
        return self._by_kind.get((handle, kind), ())

    async def told(self) -> None:
        """Returns at once: who fills it says when that is done."""

    def sinks(self, handle: str) -> Sequence[str]:
        return self._sinks.get(handle, ())

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        if handle is not None and handle in self._shops:
            return self._secrets.get(handle, ())
        if self._distinct is None:
            by_key = {one.key: one for own in self._secrets.values() for one in own}
            # Those that apps share come first: the likeliest to have signed for a stranger.
            self._distinct = tuple(
                sorted(by_key.values(), key=lambda one: not one.secret_id.startswith("_app."))
            )
        return self._distinct

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        place = object()
        self._subscribers[place] = changed

        def unsubscribe() -> None:
            self._subscribers.pop(place, None)

        return unsubscribe

    def _place(self, shop: str, kind: ConnectionKind.ValueType) -> None:
        """Works out again what is known of one kind of a shop's connections."""
        every = [self._by_id[one] for one in sorted(self._ids_of[shop])]
        self._by_kind[shop, kind] = tuple(one for one in every if one.kind == kind)
        self._sinks[shop] = tuple(sink for one in every for sink in sinks_of(one))
        own = self._by_kind.get((shop, CONNECTION_KIND_SHOPIFY), ())
        if own:
            self._shops[shop] = view_of(own[0])
        else:
            self._shops.pop(shop, None)
