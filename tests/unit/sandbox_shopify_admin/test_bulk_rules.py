"""What a bulk query is refused for, in Shopify's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.shopify_admin.bulk_rules import BYTES_MAX, judged
from sandbox.shopify_admin.schema import schema_of

RECORDED = (
    "bulk-operation-run-query-validators.json",
    "bulk-operation-run-query-user-error-codes.json",
)
OWN = schema_of("2026-10", None)


def errors(query: str) -> list[str]:
    return judged(query, OWN).errors


def test_recorded_refusals_are_answered_word_for_word(corpus_dir: Path) -> None:
    data = corpus_dir / "data"
    folder = data / "graphql/airhorns/harry-test-heelo/2026-04/bulk-operations"
    if not folder.is_dir():
        pytest.skip(f"no recorded calls under {folder}")
    schema = schema_of("2026-04", data / "schema" / "admin")
    cases: dict[str, Any] = {}
    for name in RECORDED:
        cases |= json.loads((folder / name).read_text(encoding="utf-8"))["validations"]
    assert len(cases) == 10

    for name, case in cases.items():
        payload = case["response"]["data"]["bulkOperationRunQuery"]
        expected = [one["message"] for one in payload["userErrors"]]
        assert judged(case["variables"]["query"], schema).errors == expected, name


def test_the_export_of_a_whole_catalog_is_taken() -> None:
    query = """{ products { edges { node { id media { edges { node { id } } }
      variants { edges { node { id media { edges { node { id } } }
        inventoryItem { inventoryLevels { edges { node { id } } } } } } } } } } }"""

    found = judged(query, OWN)

    assert found.errors == []
    assert found.connections == ("products", "media", "variants", "media", "inventoryLevels")


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("{ shop { id } }", "at least one connection"),
        ("{ products { nodes { id } } }", "Selecting via 'nodes' is not supported"),
        ("{ products { pageInfo { hasNextPage } } }", "Invalid connection fields: 'products'"),
        ("mutation { bulkOperationCancel(id: 1) { bulkOperation { id } } }", "Invalid operation"),
        ("{ products { edges { node { nothing } } } }", "Cannot query field 'nothing'"),
        ("{ products { edges { node {", "syntax error, unexpected end of file"),
        (
            "{ products { edges { node { x: id variants { edges { node { id } } } } } } }",
            "without 'id': products.",
        ),
        (
            """fragment F on Product { variants { edges { node { id } } } }
            query { products { edges { node { title ...F } } } }""",
            "without 'id': products.",
        ),
        (
            """{ products { edges { node { id a: media { edges { node { id } } }
            b: media { edges { node { id } } } c: media { edges { node { id } } }
            d: media { edges { node { id } } } e: media { edges { node { id } } } } } } }""",
            "more than 5 connections",
        ),
        (
            """{ products { edges { node { id variants { edges { node { id product { variants {
            edges { node { id metafields { edges { node { id } } } } } } } } } } } } } }""",
            "nesting depth greater than 2",
        ),
        ("#" * (BYTES_MAX + 1), "Query is too large (65536 bytes; maximum is 65535 bytes)"),
    ],
    ids=[
        "no connection",
        "nodes",
        "nothing of a connection",
        "a mutation",
        "an unknown field",
        "half a query",
        "a parent without an unaliased id",
        "a connection in a fragment",
        "six connections",
        "too deep",
        "too long",
    ],
)
def test_what_cannot_run_is_refused(query: str, part: str) -> None:
    found = errors(query)

    assert len(found) == 1
    assert part in found[0]
