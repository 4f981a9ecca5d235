"""From the bytes of a call to the bytes of its answer: judged, paid for, executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

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

from sandbox.shopify_admin.access import SCOPE_OF_FIELD, SCOPE_OF_ROOT, Caller, permitted, required
from sandbox.shopify_admin.cost import PAGE_MAX, SINGLE_COST_MAX, Bucket, Costing
from sandbox.shopify_admin.faults import Denied, Throttled
from sandbox.shopify_admin.fields import resolve_field, resolve_type
from sandbox.shopify_admin.store import Store

Json = dict[str, Any]

DENIED: Final = "ACCESS_DENIED"
_QUERY_BYTES_MAX: Final = 65_535
_ANYBODY: Final = Caller()


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


@dataclass(frozen=True, slots=True)
class _Charge:
    """A valid operation, and what it is executed on."""

    costing: Costing
    document: DocumentNode
    asked: Asked
    schema: GraphQLSchema
    root: Json
    caller: Caller


def answer(  # what a call meets, each once
    data: bytes,
    *,
    schema: GraphQLSchema,
    store: Store,
    bucket: Bucket,
    now_s: float,
    effect: object,
    caller: Caller = _ANYBODY,
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
    asks_more = costing.is_mutation and set(costing.roots().values()) - set(caller.mutations)
    if errors or asks_more:
        return _invalid(costing.name, errors or (GraphQLError("this shop is for reading"),))
    root = caller.mutations if costing.is_mutation else store.root() | dict(caller.roots)
    charge = _Charge(costing, document, asked, schema, permitted(root, caller), caller)
    return _charged(charge, bucket, now_s, effect)


def _charged(charge: _Charge, bucket: Bucket, now_s: float, effect: object) -> Answered:
    costing = charge.costing
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
    variables = charge.asked.variables or {}
    found = execute_sync(
        charge.schema,
        charge.document,
        charge.root,
        variable_values=variables,
        field_resolver=resolve_field,
        type_resolver=resolve_type,
    )
    assert isinstance(found, ExecutionResult)
    body, outcome = _shown(found, [*_lacking(charge), *_scripted(effect)])
    actual = min(requested, costing.points(body.get("data") or {}))
    bucket.refund(requested - actual)
    body["extensions"] = {"cost": _cost(requested, actual, bucket)}
    return Answered(body, costing.name, outcome, requested, actual)


class _Denial(NamedTuple):
    """What is taken away: one root field, or a field of each node; None for all roots."""

    scope: str
    root: str | None = None
    field: str | None = None


def _scripted(effect: object) -> list[_Denial]:
    return [_Denial(effect.scope, None, effect.field)] if isinstance(effect, Denied) else []


def _lacking(charge: _Charge) -> Iterable[_Denial]:
    """What the caller asked for without the scope for it."""
    for key, name in charge.costing.roots().items():
        scopes = SCOPE_OF_ROOT.get(name, ())
        if scopes and charge.caller.lacks(*scopes):
            yield _Denial(required(scopes), key)
            continue
        for field, needed in SCOPE_OF_FIELD.items():
            if charge.caller.lacks(*needed):
                yield _Denial(required(needed), key, field)


def _shown(found: ExecutionResult, denials: Iterable[_Denial]) -> tuple[Json, str]:
    data = found.data
    errors: list[Json] = [dict(error.formatted) for error in found.errors or ()]
    codes = {(error.get("extensions") or {}).get("code") for error in errors}
    outcome = "ok" if not errors else "denied" if codes == {DENIED} else "failed"
    for denial in denials:
        paths = _deny(data or {}, denial)
        errors += [_denial(path, denial.scope) for path in paths]
        outcome = "denied" if paths else outcome
    body: Json = {"data": data}
    if errors:
        body["errors"] = errors
    return body, outcome


def _deny(data: Json, denial: _Denial) -> list[list[str | int]]:
    """Takes away a root field, or a field of each node; gives the paths that are null now."""
    field = denial.field
    paths: list[list[str | int]] = []
    for root, value in data.items():
        if denial.root not in {None, root}:
            continue
        if field is None:
            data[root] = None
            paths.append([root])
            continue
        for above, node in _nodes_in(root, value):
            if field in node:
                node[field] = None
                paths.append([*above, field])
    return paths


def _nodes_in(root: str, value: Any) -> Iterable[tuple[list[str | int], Json]]:
    """Every object that a root field gave, with its path: itself, of a list, of a connection."""
    if isinstance(value, list):
        for at, one in enumerate(value):
            if isinstance(one, dict):
                yield [root, at], one
    elif isinstance(value, dict):
        yield [root], value
        for at, one in enumerate(value.get("nodes") or ()):
            if isinstance(one, dict):
                yield [root, "nodes", at], one
        for at, edge in enumerate(value.get("edges") or ()):
            if isinstance(edge, dict) and isinstance(edge.get("node"), dict):
                yield [root, "edges", at, "node"], edge["node"]


def _denial(path: list[str | int], scope: str) -> Json:
    return {
        "message": f"Access denied for {path[-1]} field. Required access: {scope}",
        "path": path,
        "extensions": {"code": DENIED, "requiredAccess": scope},
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
