"""The schemas by which operations are judged: Shopify's own where they are at hand, else a part."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from graphql import GraphQLSchema, build_client_schema, build_schema

SUPPORTED: Final = ("2026-01", "2026-04", "2026-07", "2026-10")
"""Versions that are served, the oldest first: an older one that is asked for falls forward."""

_FROM_2026: Final = ("bulkOperation", "bulkOperations")
_OWN: Final = Path(__file__).with_name("own_schema.graphql")


def served_version(asked: str) -> str | None:
    """The version that serves `asked`; None for one that does not exist (yet)."""
    if asked in SUPPORTED:
        return asked
    return SUPPORTED[0] if asked < SUPPORTED[0] else None


def schema_of(version: str, folder: Path | None) -> GraphQLSchema:
    """Shopify's schema of a version from `folder`, which holds its introspection, gzipped.

    Without such a file it is the part that our own operations use, written by hand.
    """
    file = folder / f"admin_{version}.introspection.json.gz" if folder else None
    is_old = version < SUPPORTED[0]
    return _schema(file if file and file.is_file() else None, is_old=is_old)


@cache
def _schema(file: Path | None, *, is_old: bool) -> GraphQLSchema:
    if file is None:
        own = build_schema(_OWN.read_text(encoding="utf-8"))
        for name in _FROM_2026 if is_old else ():
            assert own.query_type
            del own.query_type.fields[name]
        return own
    told = msgspec.json.decode(gzip.decompress(file.read_bytes()))
    # Shopify deprecates fields of types whose interface has them undeprecated: that is theirs.
    return build_client_schema(told["data"], assume_valid=True)
