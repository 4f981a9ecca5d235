"""What each shop has: orders and products as webhooks tell of them, found as the Admin API does."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sandbox.shopify_admin.search import bounds_of, fits
from sandbox.shopify_admin.shapes import connection_of, gid, order_node, product_node, windowed
from sandbox.shopify_admin.shelf import Shelf

Json = dict[str, Any]

_ENGLISH: Final = {"locale": "en", "name": "English", "primary": True, "published": True}


class Store:
    """One shop."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._bodies: dict[str, dict[int, Json]] = {"Order": {}, "Product": {}}
        self.shelf: Shelf | None = None
        """The catalog, where one was made; it goes before products that webhooks told of."""

    def put(self, kind: str, bodies: Iterable[Json]) -> int:
        """Takes webhook bodies; of one resource the newest stays. How many were taken.

        Raises:
            ValueError: one lacks an id, a time, or what every order or product has.
        """
        taken = 0
        for body in bodies:
            if not str(body.get("id")).isdigit():
                raise ValueError(f"a {kind} needs a numeric id")
            try:
                self._shown(kind, body)
            except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
                raise ValueError(f"{kind} {body['id']} is not one that Shopify has") from error
            known = self._bodies[kind].get(body["id"])
            if known is None or _changed_at(known) <= _changed_at(body):
                self._bodies[kind][body["id"]] = body
                taken += 1
        return taken

    def root(self) -> Json:
        """What the root fields of a query resolve to."""
        return {
            "orders": self._search("Order"),
            "products": self._search("Product"),
            "order": lambda _info, id: self._node("Order", id),  # noqa: A006  # GraphQL's name
            "product": lambda _info, id: self._node("Product", id),  # noqa: A006
            "locations": windowed([]),
            "shopLocales": lambda _info, **_: [_ENGLISH],
            **(self.shelf.roots() if self.shelf else {}),
            "node": lambda _info, id: self._any(id),  # noqa: A006
            "nodes": lambda _info, ids: [self._any(one) for one in ids],
        }

    def all_of(self, root: str, arguments: Mapping[str, Any]) -> Sequence[Any] | None:
        """Everything that a root connection leads to; None for one that is not here.

        Raises:
            SearchError: by a search that this shop cannot answer.
        """
        found = self.shelf.all_of(root, arguments) if self.shelf else None
        kind = {"orders": "Order", "products": "Product"}.get(root, "")
        if found is not None or kind not in self._bodies:
            return found
        bounds = bounds_of(arguments.get("query") or "")
        bodies = sorted(self._bodies[kind].values(), key=lambda body: body["id"])
        return [self._shown(kind, one) for one in bodies if fits(_changed_at(one), bounds)]

    def counts(self) -> dict[str, int]:
        """How many of each kind there are."""
        return {kind: len(bodies) for kind, bodies in self._bodies.items()}

    def _any(self, global_id: str) -> object | None:
        found = self.shelf.node(global_id) if self.shelf else None
        if found is not None:
            return found
        return next((n for kind in self._bodies if (n := self._node(kind, global_id))), None)

    def _node(self, kind: str, global_id: str) -> Json | None:
        number = global_id.removeprefix(gid(kind, ""))
        body = self._bodies[kind].get(int(number)) if number.isdigit() else None
        return self._shown(kind, body) if body else None

    def _shown(self, kind: str, body: Json) -> Json:
        return order_node(body, self.domain) if kind == "Order" else product_node(body)

    def _search(self, kind: str) -> Any:
        def resolve(
            _info: object,
            first: int = 0,
            after: str | None = None,
            query: str | None = "",
            sortKey: str = "ID",  # noqa: N803  # GraphQL's name
            **_others: object,
        ) -> Json:
            bounds = bounds_of(query or "")
            found = [
                body for body in self._bodies[kind].values() if fits(_changed_at(body), bounds)
            ]
            found.sort(key=lambda body: _place(body, sortKey))
            if after:
                begin = base64.b64decode(after).decode()
                found = [body for body in found if _cursor(body, sortKey) > begin]
            page = found[:first]
            cursors = [base64.b64encode(_cursor(one, sortKey).encode()).decode() for one in page]
            nodes = [self._shown(kind, body) for body in page]
            return connection_of(nodes, cursors, more=len(found) > len(page))

        return resolve


def _changed_at(body: Json) -> float:
    """Unix time of a body's last change, to the second."""
    return float(int(datetime.fromisoformat(str(body.get("updated_at"))).timestamp()))


def _place(body: Json, sort_key: str) -> tuple[float, int]:
    return (_changed_at(body) if sort_key == "UPDATED_AT" else 0.0, body["id"])


def _cursor(body: Json, sort_key: str) -> str:
    """Sorts as text in the order of `_place`."""
    changed, number = _place(body, sort_key)
    return f"{int(changed):012d}:{number:020d}"
