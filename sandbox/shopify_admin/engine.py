"""From the bytes of a call to the bytes of its answer: judged, paid for, executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    execute_sync,
    parse,
    validate,
)

from sandbox.shopify_admin.cost import PAGE_MAX, SINGLE_COST_MAX, Bucket, Costing
from sandbox.shopify_admin.faults import Denied, Throttled
from sandbox.shopify_admin.store import Store

Json = dict[str, Any]

DENIED: Final = "ACCESS_DENIED"
_QUERY_BYTES_MAX: Final = 65_535


class Asked(msgspec.Struct):
    """The body of a call."""

    query: str
    variables: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The body of an answer, and what the ledger notes of it."""

    body: Json
    operation: str
    outcome: str
    requested: int = 0
    actual: int = 0


def operation_of(data: bytes) -> str:
    """The name of a call's operation; empty where there is none to read."""
    try:
        asked = msgspec.json.decode(data, type=Asked)
        return Costing(GraphQLSchema(), _parsed(asked.query), {}).name
    except (msgspec.DecodeError, GraphQLError, StopIteration):
        return ""


def answer(  # what a call meets, each once
    data: bytes,
    *,
    schema: GraphQLSchema,
    store: Store,
    bucket: Bucket,
    now_s: float,
    effect: object,
) -> Answered:
    """What the Admin API answers under HTTP 200."""
    try:
        asked = msgspec.json.decode(data, type=Asked)
    except msgspec.DecodeError as error:
        return _invalid("", [GraphQLError(f"the body is no GraphQL request: {error}")])
    if len(asked.query.encode()) > _QUERY_BYTES_MAX:
        return _invalid("", [GraphQLError("the query is longer than 65,535 bytes")])
    try:
        document = _parsed(asked.query)
        costing = Costing(schema, document, asked.variables or {})
    except (GraphQLError, StopIteration) as error:
        wrong = error if isinstance(error, GraphQLError) else GraphQLError("no operation")
        return _invalid("", [wrong])
    errors = _judged(schema, asked.query)
    if errors or costing.is_mutation:
        return _invalid(costing.name, errors or (GraphQLError("this shop is for reading"),))
    return _charged(costing, document, asked, schema, store, bucket, now_s, effect)


def _charged(  # as above
    costing: Costing,
    document: DocumentNode,
    asked: Asked,
    schema: GraphQLSchema,
    store: Store,
    bucket: Bucket,
    now_s: float,
    effect: object,
) -> Answered:
    requested = costing.points()
    if costing.largest_page > PAGE_MAX:
        text = f"{costing.largest_page} is more than the {PAGE_MAX} that may be asked for at once"
        return _invalid(costing.name, [GraphQLError(text)])
    if requested > SINGLE_COST_MAX:
        text = (
            f"Query cost is {requested}, which exceeds the single query max cost limit"
            f" ({SINGLE_COST_MAX})."
        )
        body = _refused(text, "MAX_COST_EXCEEDED", requested, bucket)
        return Answered(body, costing.name, "max_cost_exceeded", requested)
    if isinstance(effect, Throttled) or not bucket.take(requested, now_s):
        body = _refused("Throttled", "THROTTLED", requested, bucket)
        return Answered(body, costing.name, "throttled", requested)
    variables = asked.variables or {}
    found = execute_sync(schema, document, store.root(), variable_values=variables)
    assert isinstance(found, ExecutionResult)
    body, outcome = _shown(found, effect)
    actual = min(requested, costing.points(body.get("data") or {}))
    bucket.refund(requested - actual)
    body["extensions"] = {"cost": _cost(requested, actual, bucket)}
    return Answered(body, costing.name, outcome, requested, actual)


def _shown(found: ExecutionResult, effect: object) -> tuple[Json, str]:
    data = found.data
    errors: list[Json] = [dict(error.formatted) for error in found.errors or ()]
    outcome = "ok" if not errors else "failed"
    if isinstance(effect, Denied) and data is not None:
        outcome = "denied"
        paths = _deny(data, effect.field)
        errors += [_denial(path, effect) for path in paths]
    body: Json = {"data": data}
    if errors:
        body["errors"] = errors
    return body, outcome


def _deny(data: Json, field: str | None) -> list[list[str | int]]:
    """Takes away a root field, or a field of each node; gives the paths that are null now."""
    paths: list[list[str | int]] = []
    for root, value in data.items():
        if field is None:
            data[root] = None
            paths.append([root])
            continue
        above: list[str | int] = [root] if isinstance(value, list) else [root, "nodes"]
        nodes = value if isinstance(value, list) else (value or {}).get("nodes", [])
        for place, node in enumerate(nodes):
            if isinstance(node, dict) and field in node:
                node[field] = None
                paths.append([*above, place, field])
    return paths


def _denial(path: list[str | int], effect: Denied) -> Json:
    return {
        "message": f"Access denied for {path[-1]} field. Required access: {effect.scope}",
        "path": path,
        "extensions": {"code": DENIED, "requiredAccess": effect.scope},
    }


def _refused(text: str, code: str, requested: int, bucket: Bucket) -> Json:
    return {
        "errors": [{"message": text, "extensions": {"code": code}}],
        "extensions": {"cost": _cost(requested, None, bucket)},
    }


def _cost(requested: int, actual: int | None, bucket: Bucket) -> Mapping[str, object]:
    return {
        "requestedQueryCost": requested,
        "actualQueryCost": actual,
        "throttleStatus": bucket.status(),
    }


def _invalid(operation: str, errors: list[GraphQLError] | tuple[GraphQLError, ...]) -> Answered:
    return Answered({"errors": [error.formatted for error in errors]}, operation, "invalid")


@lru_cache(maxsize=256)
def _parsed(query: str) -> DocumentNode:
    return parse(query)


_JUDGED: dict[tuple[int, str], tuple[GraphQLError, ...]] = {}
_JUDGED_MAX: Final = 1000


def _judged(schema: GraphQLSchema, query: str) -> tuple[GraphQLError, ...]:
    """What is wrong with a query; remembered, since judging by 3,500 types takes a while."""
    key = (id(schema), query)
    if key not in _JUDGED:
        if len(_JUDGED) >= _JUDGED_MAX:
            _JUDGED.clear()
        _JUDGED[key] = tuple(validate(schema, _parsed(query)))
    return _JUDGED[key]
