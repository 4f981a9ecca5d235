"""Lines of a bulk operation, put on disk as they come and taken out product by product.

A line names its parent, and no order of lines is promised. Lines are appended, the index is made
once all are there, and products come out by number: so memory holds one portion, however long the
file is, and shuffled lines cost no more than sorted ones.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from services.catalog.domain.graphql_nodes import Node, VariantParts, kind_and_number, product_of
from services.catalog.domain.model import Product

_CACHE_KIB: Final = 8 * 1024
_VARIANT, _MEDIUM, _LEVEL = 1, 2, 3
_OF_PRODUCT: Final = {
    "ProductVariant": _VARIANT,
    "MediaImage": _MEDIUM,
}
_OF_VARIANT: Final = {"MediaImage": _MEDIUM, "InventoryLevel": _LEVEL}
_TABLES: Final = """
CREATE TABLE product (id INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE of_product (parent INTEGER NOT NULL, kind INTEGER NOT NULL, id INTEGER NOT NULL,
    line BLOB NOT NULL);
CREATE TABLE of_variant (parent INTEGER NOT NULL, kind INTEGER NOT NULL, line BLOB NOT NULL);
"""
_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS children ON of_product (parent);
CREATE INDEX IF NOT EXISTS grandchildren ON of_variant (parent);
"""
_CHILDREN: Final = "SELECT parent, kind, id, line FROM of_product ORDER BY parent, rowid"
_GRANDCHILDREN: Final = """
SELECT mid.parent, low.kind, mid.id, low.line FROM of_product AS mid
CROSS JOIN of_variant AS low ON low.parent = mid.id
WHERE mid.kind = 1 ORDER BY mid.parent, mid.rowid, low.rowid
"""
_Row = tuple[int, int, int, bytes]
"""Number of the product, kind, number that the line counts by, line."""


class _Head(msgspec.Struct):
    id: str = ""
    parent: str = msgspec.field(name="__parentId", default="")


_HEAD: Final = msgspec.json.Decoder(_Head)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NODE: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Portions:
    """How much is held in memory at once."""

    products: int = 100
    variants: int = 1000
    """Either ends a portion, with the product that reaches it."""
    line_bytes: int = 16 * 2**20
    """A longer line is no object of Shopify's: descriptions end at 512 KiB."""


_PORTIONS: Final = Portions()


class Spool:
    """One file's lines. For one thread at a time; blocks, so keep it off the event loop."""

    def __init__(self, folder: Path, *, after: int = 0, portions: Portions = _PORTIONS) -> None:
        """`folder` is where the lines lie; those of products up to number `after` are left out.

        Raises:
            OSError, sqlite3.Error: the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder, prefix="spool-"))
        try:
            self._db = sqlite3.connect(
                own / "lines.db", isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA page_size = 16384")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # Nothing here outlives the process, so there is nothing to keep safe.
            self._db.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                f" PRAGMA locking_mode = EXCLUSIVE; {_TABLES}"
            )
        finally:
            # It lives on without a name until it is closed: a killed process leaves nothing.
            shutil.rmtree(own)
        self._after = after
        self._most = portions
        self._rest = b""
        self._skipping = False
        self.oddities: Counter[str] = Counter()

    def restart(self) -> None:
        """Forgets all lines, because the file comes from its start again."""
        for table in ("product", "of_product", "of_variant"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  # from the line above
        self._rest, self._skipping = b"", False
        self.oddities.clear()

    def add(self, content: bytes) -> None:
        """Takes the next bytes of the file, wherever they end.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        content = self._rest + content
        end = content.rfind(b"\n") + 1
        self._rest = content[end:]
        lines = content[:end].split(b"\n")
        if self._skipping and end:
            self._skipping, lines[0] = False, b""
        if len(self._rest) > self._most.line_bytes:
            self.oddities["line_too_long"] += not self._skipping
            self._rest, self._skipping = b"", True
        elif self._skipping:
            self._rest = b""
        self._store(lines)

    def seal(self) -> None:
        """Takes the last line even without an end, and makes lines findable.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        self._store([self._rest])
        self._rest = b""
        self._db.executescript(_INDEXES)

    def close(self) -> None:
        """Gives the disk back; may be called again."""
        self._db.close()

    def _store(self, lines: Iterable[bytes]) -> None:
        products: list[tuple[int, bytes]] = []
        of_product: list[_Row] = []
        of_variant: list[tuple[int, int, bytes]] = []
        for line in lines:
            if not line or line.isspace():
                continue
            try:
                head = _HEAD.decode(line)
            except _UNREADABLE:
                self.oddities["line_unreadable"] += 1
                continue
            kind, number = kind_and_number(head.id)
            above, parent = kind_and_number(head.parent)
            if kind == "Product" and not head.parent:
                if number > self._after:
                    products.append((number, line))
            elif above == "Product" and kind in _OF_PRODUCT:
                if parent > self._after:
                    of_product.append((parent, _OF_PRODUCT[kind], number, line))
            elif above == "ProductVariant" and kind in _OF_VARIANT:
                of_variant.append((parent, _OF_VARIANT[kind], line))
            else:
                self.oddities["line_unknown" if kind else "line_unreadable"] += 1
        db = self._db
        db.execute("BEGIN")
        db.executemany("INSERT OR REPLACE INTO product VALUES (?, ?)", products)
        db.executemany("INSERT INTO of_product VALUES (?, ?, ?, ?)", of_product)
        db.executemany("INSERT INTO of_variant VALUES (?, ?, ?)", of_variant)
        db.execute("COMMIT")

    def portions(self, currency: str) -> Iterator[list[Product]]:
        """All products by their numbers, some at a time; once, after `seal`.

        Raises:
            sqlite3.Error: the disk refuses.
        """
        found: list[Product] = []
        variants = 0
        for product in self._products(currency):
            found.append(product)
            variants += len(product.variants)
            if len(found) >= self._most.products or variants >= self._most.variants:
                yield found
                found, variants = [], 0
        if found:
            yield found

    def _products(self, currency: str) -> Iterator[Product]:
        """Three cursors go through the tables in step: a query for each product costs more."""
        children = _Cursor(self._db.execute(_CHILDREN))
        grandchildren = _Cursor(self._db.execute(_GRANDCHILDREN))
        for number, line in self._db.execute("SELECT id, line FROM product ORDER BY id"):
            low = children.of(number)
            lower = grandchildren.of(number)
            node = self._node(line)
            if node is not None:
                yield self._product(node, low, lower, currency)
        if orphans := children.skipped + children.rest():
            self.oddities["orphan"] += orphans

    def _product(
        self, node: Node, low: Sequence[_Row], lower: Sequence[_Row], currency: str
    ) -> Product:
        below: dict[tuple[int, int], list[bytes]] = {}
        for _, kind, variant, line in lower:
            below.setdefault((kind, variant), []).append(line)
        # By id, because a line may come twice: the last one counts, at the place of the first.
        lines = {(kind, number): line for _, kind, number, line in low}
        media: list[Node] = []
        variants: list[VariantParts] = []
        for (kind, number), line in lines.items():
            told = self._node(line)
            if told is None:
                continue
            if kind == _MEDIUM:
                media.append(told)
                continue
            own = self._distinct(below.get((_MEDIUM, number), ()))
            levels = self._distinct(below.get((_LEVEL, number), ()))
            variants.append(VariantParts(told, own, levels))
        return product_of(node, media, variants, currency)

    def _distinct(self, lines: Sequence[bytes]) -> list[Node]:
        """Lines below one variant; the last one where an id comes more than once."""
        nodes = [node for line in lines if (node := self._node(line)) is not None]
        return nodes if len(nodes) <= 1 else list({node["id"]: node for node in nodes}.values())

    def _node(self, line: bytes) -> Node | None:
        """What a line tells; None where what it is could be read, and the rest cannot."""
        try:
            return _NODE.decode(line)
        except _UNREADABLE:
            self.oddities["line_unreadable"] += 1
            return None


class _Cursor:
    """Rows in the order of their products, taken product by product."""

    def __init__(self, rows: Iterator[_Row]) -> None:
        self._rows = rows
        self._next: _Row | None = next(rows, None)
        self.skipped = 0
        """Rows of products that nobody asked for."""

    def of(self, number: int) -> list[_Row]:
        """The rows of a product. Numbers only go up."""
        found: list[_Row] = []
        row = self._next
        while row is not None and row[0] <= number:
            if row[0] == number:
                found.append(row)
            else:
                self.skipped += 1
            row = next(self._rows, None)
        self._next = row
        return found

    def rest(self) -> int:
        """How many rows are left."""
        return sum(1 for _ in self._rows) + (self._next is not None)
