"""The documents that Shopify is asked with, held against its own schemas and its rules."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_client_schema,
    parse,
    validate,
)

from libs.errors import Kind, ServiceError
from services.catalog.adapters.shopify import EVERY_OPERATION, bulk_operations
from services.catalog.domain.graphql_documents import (
    BULK_BYTES_MAX,
    Selection,
    bulk_query,
    country_of,
    language_of,
    levels_query,
    metafield_of,
    product_query,
    variants_query,
)

VERSIONS = ("2026-01", "2026-04", "2026-07", "2026-10")
EVERYTHING = Selection(
    languages=("fr", "pt-BR", "zh-Hant"),
    countries=("FR", "GB", "JP"),
    metafields=("custom.material", "$app:x.is-new", 'odd".key'),
)
SELECTIONS = (EVERYTHING, Selection(), Selection(levels=False))


def documents_of(version: str) -> list[str]:
    """All that is asked in a version of the API."""
    operations = [*EVERY_OPERATION, *bulk_operations(version)]
    built = [
        each(one) for each in (bulk_query, product_query, variants_query) for one in SELECTIONS
    ]
    return [levels_query(), *built, *(one.document for one in operations)]


def schema(corpus: Path, version: str, documents: Sequence[str]) -> GraphQLSchema:
    """The part of Shopify's schema that documents may touch; the whole takes seconds to build.

    Nothing is lost that could make a document valid or not: fields and types that it names stay.
    """
    path = corpus / "data" / "schema" / "admin" / f"admin_{version}.introspection.json.gz"
    if not path.is_file():
        pytest.skip(f"no schema of {version} in the corpus")
    with gzip.open(path) as packed:
        read = msgspec.json.decode(packed.read())
    told = read.get("data", read)["__schema"]
    named = set(re.findall(r"\w+", " ".join(documents)))
    types = {one["name"]: one for one in told["types"]}
    kept: dict[str, Any] = {}
    open_names = ["QueryRoot", "Mutation", "String", "Boolean"]
    while open_names:
        name = open_names.pop()
        if name in kept:
            continue
        one = kept[name] = types[name]
        one["fields"] = [each for each in one["fields"] or () if each["name"] in named]
        some = [each for each in one["possibleTypes"] or () if each["name"] in named]
        one["possibleTypes"] = some
        told_types = [each["type"] for each in [*one["fields"], *(one["inputFields"] or ())]]
        told_types += [each["type"] for field in one["fields"] for each in field["args"]]
        for each in [*told_types, *some]:
            inner = each
            while inner.get("ofType"):
                inner = inner["ofType"]
            open_names.append(inner["name"])
    for one in kept.values():
        one["interfaces"] = [each for each in one["interfaces"] or () if each["name"] in kept]
    told.update(types=list(kept.values()), directives=[], subscriptionType=None)
    return build_client_schema({"__schema": told}, assume_valid=True)


def faults(corpus: Path, version: str, documents: Sequence[str]) -> dict[str, list[str]]:
    """What Shopify's schema says against documents, by the document."""
    known = schema(corpus, version, documents)
    found = {each: validate(known, parse(each)) for each in documents}
    return {each: [one.message for one in errors] for each, errors in found.items() if errors}


@pytest.mark.parametrize("version", VERSIONS)
def test_shopify_s_schema_of_each_version_has_all_that_is_asked_for(
    corpus_dir: Path, version: str
) -> None:
    wrong = bulk_query(EVERYTHING).replace("barcode", "barCode")

    found = faults(corpus_dir, version, [*documents_of(version), wrong])

    assert list(found) == [wrong]  # and so a field that Shopify does not have is noticed


def test_before_2026_01_bulk_operations_are_asked_for_as_that_version_knows(
    corpus_dir: Path,
) -> None:
    before = [one.document for one in bulk_operations("2025-10")]
    since = [one.document for one in bulk_operations("2026-01")]

    assert set(faults(corpus_dir, "2025-10", [*before, *since])) == set(since)


def connections(document: DocumentNode) -> Iterator[tuple[int, FieldNode, FieldNode | None]]:
    """Each connection of a bulk query with its depth and the connection that it stands below."""

    def walk(
        selected: SelectionSetNode | None, depth: int, above: FieldNode | None
    ) -> Iterator[tuple[int, FieldNode, FieldNode | None]]:
        for one in selected.selections if selected else ():
            if isinstance(one, InlineFragmentNode):
                yield from walk(one.selection_set, depth, above)
            if not isinstance(one, FieldNode):
                continue
            inner = {each.name.value for each in fields(one)}
            if "edges" in inner or "nodes" in inner:
                yield depth, one, above
                yield from walk(one.selection_set, depth + 1, one)
            else:
                yield from walk(one.selection_set, depth, above)

    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    yield from walk(operation.selection_set, 0, None)


def fields(node: FieldNode) -> list[FieldNode]:
    selected = node.selection_set.selections if node.selection_set else ()
    return [one for one in selected if isinstance(one, FieldNode)]


def node_of(connection: FieldNode) -> FieldNode:
    (edges,) = fields(connection)
    (node,) = fields(edges)
    assert (edges.name.value, node.name.value) == ("edges", "node")
    return node


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_export_keeps_the_rules_of_bulk_queries(selection: Selection) -> None:
    found = list(connections(parse(bulk_query(selection))))

    assert len(found) <= 5
    assert max(depth for depth, _, _ in found) <= 2
    for _, connection, _ in found:
        assert "id" in [one.name.value for one in fields(node_of(connection)) if not one.alias]
    assert len(bulk_query(selection).encode()) <= BULK_BYTES_MAX


def test_what_is_not_wanted_is_not_asked_for() -> None:
    plain = bulk_query(Selection())

    assert not any(word in plain for word in ("translations", "contextualPricing", "metafield"))
    assert "inventoryLevels" in plain
    assert "inventoryLevels" not in bulk_query(Selection(levels=False))


def test_an_export_that_is_too_long_for_shopify_is_refused_before_it_is_sent() -> None:
    many = Selection(metafields=tuple(f"custom.field_{number}" for number in range(400)))

    with pytest.raises(ServiceError) as raised:
        bulk_query(many)

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "bulk_query_too_long")


@pytest.mark.parametrize(
    "odd", [{"languages": ('fr") { x',)}, {"countries": ("fr",)}, {"metafields": ("material",)}]
)
def test_words_that_would_change_the_query_are_refused(odd: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ServiceError, match="selection_unusable"):
        Selection(**odd)  # type: ignore[arg-type]


def test_an_alias_says_what_was_asked_for() -> None:
    query = bulk_query(EVERYTHING)
    aliases = {
        one.alias.value
        for _, connection, _ in connections(parse(query))
        for one in fields(node_of(connection))
        if one.alias
    }

    assert {language_of(alias) for alias in aliases} - {""} == set(EVERYTHING.languages)
    assert {country_of(alias) for alias in aliases} - {""} == set(EVERYTHING.countries)
    assert {metafield_of(alias) for alias in aliases} - {""} == set(EVERYTHING.metafields)
