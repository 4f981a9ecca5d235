"""The simulator of the Admin API: what it refuses, charges and finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import NoDeprecatedCustomRule, find_breaking_changes, parse, validate

from sandbox.shopify_admin.cost import Bucket
from sandbox.shopify_admin.engine import Answered, answer, operation_of
from sandbox.shopify_admin.faults import Denied, FaultBook, HttpStatus, Throttled
from sandbox.shopify_admin.ledger import Call, Ledger
from sandbox.shopify_admin.schema import SUPPORTED, schema_of, served_version
from sandbox.shopify_admin.store import Store
from services.ingest.adapters.shopify import (
    LIST_PAGE,
    NODES_AT_ONCE,
    ORDERS,
    PRODUCTS,
    operations,
    rest_of_lines,
)
from tests.unit.ingest.normalize.bodies_of import order, product

OWN = operations(ORDERS, "2026-10") + operations(PRODUCTS, "2026-10") + (rest_of_lines(),)


def asked(
    query: str,
    variables: dict[str, Any] | None = None,
    *,
    store: Store | None = None,
    bucket: Bucket | None = None,
    effect: object = None,
    now_s: float = 0.0,
) -> Answered:
    return answer(
        json.dumps({"query": query, "variables": variables}).encode(),
        schema=schema_of("2026-10", None),
        store=store or Store("example.myshopify.com"),
        bucket=bucket or Bucket(2000, 100),
        now_s=now_s,
        effect=effect,
    )


def changed(store: Store, query: str, first: int, after: str | None = None) -> dict[str, Any]:
    listing, _ = operations(ORDERS, "2026-10")
    variables = {"query": query, "first": first, "after": after}
    found = asked(listing.document, variables, store=store)
    assert found.outcome == "ok", found.body
    connection: dict[str, Any] = found.body["data"]["orders"]
    return connection


def numbers(connection: dict[str, Any]) -> list[int]:
    return [int(node["id"].rpartition("/")[2]) for node in connection["nodes"]]


def store_of(*seconds: int) -> Store:
    """Orders numbered from 1, each changed at a second of one minute."""
    store = Store("example.myshopify.com")
    for number, second in enumerate(seconds, 1):
        store.put("Order", [order(id=number, updated_at=f"2026-09-01T12:00:{second:02}Z")])
    return store


# -- schema --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def schemas(corpus_dir: Path) -> Path:
    folder = corpus_dir / "data" / "schema" / "admin"
    if not (folder / "admin_2026-10.introspection.json.gz").is_file():
        pytest.skip(f"no Admin schema of Shopify's under {folder}")
    return folder


@pytest.mark.parametrize("version", SUPPORTED)
def test_our_operations_are_valid_by_shopifys_own_schema_and_use_nothing_deprecated(
    schemas: Path, version: str
) -> None:
    schema = schema_of(version, schemas)
    own = operations(ORDERS, version) + operations(PRODUCTS, version) + (rest_of_lines(),)

    for operation in own:
        document = parse(operation.document)
        assert validate(schema, document) == []
        assert validate(schema, document, [NoDeprecatedCustomRule]) == []


def test_the_schema_written_here_is_a_part_of_shopifys_own(schemas: Path) -> None:
    written, real = schema_of("2026-10", None), schema_of("2026-10", schemas)

    told = {each.description for each in find_breaking_changes(written, real)}

    assert told <= {
        # A scalar here: to list every country would say nothing more of the judged.
        "CountryCode changed from a Scalar type to an Enum type.",
        "DIRECTIVE_DEFINITION was removed from @deprecated.",
    }


@pytest.mark.parametrize("version", SUPPORTED)
def test_shopifys_own_schema_and_the_written_one_answer_alike(schemas: Path, version: str) -> None:
    store = Store("example.myshopify.com")
    store.put("Order", [order()])
    store.put("Product", [product()])
    for kind, number in ((ORDERS, 1001), (PRODUCTS, 201)):
        _, reading = operations(kind, version)
        variables = {"ids": [f"gid://shopify/{kind.type}/{number}"]}
        body = json.dumps({"query": reading.document, "variables": variables}).encode()

        real, own = (
            answer(
                body,
                schema=schema_of(version, folder),
                store=store,
                bucket=Bucket(2000, 100),
                now_s=0.0,
                effect=None,
            )
            for folder in (schemas, None)
        )

        assert real.outcome == "ok", real.body
        assert real == own


@pytest.mark.parametrize("operation", OWN, ids=lambda operation: operation.name)
def test_our_operations_are_valid_by_the_schema_that_is_written_here(operation: Any) -> None:
    assert validate(schema_of("2026-10", None), parse(operation.document)) == []


@pytest.mark.parametrize(
    "query",
    [
        "query A { nothing }",
        "query A { orders(first: 1) { nodes { nothing } } }",
        "query A($n: String!) { orders(first: $n) { nodes { id } } }",
        "query A {",
        "",
        "fragment A on Order { id }",
        "mutation A { orderDelete(id: 1) { id } }",
    ],
)
def test_what_the_schema_does_not_know_is_refused_without_data(query: str) -> None:
    found = asked(query)

    assert found.outcome == "invalid"
    assert found.body["errors"]
    assert "data" not in found.body


def test_a_version_that_is_too_old_falls_forward_and_one_to_come_is_not_there() -> None:
    assert served_version("2024-04") == SUPPORTED[0]
    assert served_version("2026-10") == "2026-10"
    assert served_version("2099-01") is None


# -- cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("query A($id: ID!) { order(id: $id) { id closedAt } }", 1),
        ("query A { orders(first: 1) { nodes { id } } }", 3),
        (
            "query A { orders(first: 50) { nodes { id } pageInfo { hasNextPage endCursor } } }",
            10,
        ),
        (
            "query A($id: ID!) { order(id: $id) { totalPriceSet { shopMoney { amount } } } }",
            1,
        ),
    ],
    ids=["one object", "a connection of one", "a connection of fifty", "money is free"],
)
def test_an_operation_costs_about_what_recorded_answers_say(query: str, points: int) -> None:
    assert asked(query, {"id": "gid://shopify/Order/1"}).requested == points


def test_what_was_asked_for_is_taken_first_and_the_rest_given_back() -> None:
    bucket = Bucket(2000, 100)
    _, reading = operations(ORDERS, "2026-10")
    store = store_of(1)

    found = asked(reading.document, {"ids": ["gid://shopify/Order/1"]}, store=store, bucket=bucket)

    assert 0 < found.actual < found.requested
    cost = found.body["extensions"]["cost"]
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (found.requested, found.actual)
    assert cost["throttleStatus"] == {
        "maximumAvailable": 2000,
        "currentlyAvailable": 2000 - found.actual,
        "restoreRate": 100,
    }


def test_a_bucket_that_holds_too_little_throttles_and_fills_with_time() -> None:
    bucket = Bucket(20, 10)
    query = "query A { orders(first: 250) { nodes { id } } }"

    first, second, later = (asked(query, bucket=bucket, now_s=now_s) for now_s in (0.0, 0.0, 10.0))

    assert first.outcome == "ok"
    bucket.available = 3.0
    throttled = asked(query, bucket=bucket, now_s=10.0)
    assert throttled.outcome == "throttled"
    assert throttled.body["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert throttled.body["extensions"]["cost"]["actualQueryCost"] is None
    assert "data" not in throttled.body
    assert asked(query, bucket=bucket, now_s=20.0).outcome == "ok"
    assert (second.outcome, later.outcome) == ("ok", "ok")


def test_what_we_read_at_once_is_within_the_bound_of_one_query() -> None:
    for kind in (ORDERS, PRODUCTS):
        listing, reading = operations(kind, "2026-10")
        ids = [f"gid://shopify/{kind.type}/{number}" for number in range(NODES_AT_ONCE)]

        assert asked(listing.document, {"query": "", "first": LIST_PAGE}).outcome == "ok"
        assert asked(reading.document, {"ids": ids}).outcome == "ok"
        assert asked(reading.document, {"ids": ids * 4}).outcome == "max_cost_exceeded"


def test_more_than_a_page_may_hold_is_refused() -> None:
    assert asked("query A { orders(first: 251) { nodes { id } } }").outcome == "invalid"


# -- search --------------------------------------------------------------------------------------


def test_orders_are_found_by_their_change_and_listed_oldest_first() -> None:
    store = store_of(5, 3, 9, 3)

    found = changed(store, "updated_at:>='2026-09-01T12:00:03Z'", 10)
    later = changed(store, "updated_at:>2026-09-01T12:00:03Z", 10)

    assert numbers(found) == [2, 4, 1, 3]
    assert numbers(later) == [1, 3]


def test_pages_show_each_order_once() -> None:
    store = store_of(*[7] * 5)

    first = changed(store, "", 2)
    second = changed(store, "", 2, first["pageInfo"]["endCursor"])
    third = changed(store, "", 2, second["pageInfo"]["endCursor"])

    assert [numbers(page) for page in (first, second, third)] == [[1, 2], [3, 4], [5]]
    more = [page["pageInfo"]["hasNextPage"] for page in (first, second, third)]
    assert more == [True, True, False]


def test_a_search_that_is_not_modelled_is_an_error() -> None:
    listing, _ = operations(ORDERS, "2026-10")

    found = asked(listing.document, {"query": "status:open", "first": 1})

    assert found.outcome == "failed"
    assert found.body["errors"]


def test_the_newest_body_of_a_resource_stays() -> None:
    store = Store("example.myshopify.com")
    for second, name in ((5, "#new"), (3, "#old")):
        store.put("Order", [order(id=1, name=name, updated_at=f"2026-09-01T12:00:{second:02}Z")])
    _, reading = operations(ORDERS, "2026-10")

    found = asked(reading.document, {"ids": ["gid://shopify/Order/1"]}, store=store)

    assert found.body["data"]["nodes"][0]["name"] == "#new"


@pytest.mark.parametrize(
    "body", [{}, {"id": "x"}, {**order(), "customer": 7}, order(updated_at="x")]
)
def test_what_no_shop_has_is_not_taken(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Store("example.myshopify.com").put("Order", [body])


# -- faults and ledger ---------------------------------------------------------------------------


def test_a_field_that_is_denied_comes_as_null_and_a_root_that_is_denied_as_nothing() -> None:
    query = "query A { orders(first: 1) { nodes { id email } } }"

    field = asked(query, store=store_of(1), effect=Denied(field="email"))
    root = asked(query, store=store_of(1), effect=Denied(scope="`read_orders`"))

    assert field.body["data"]["orders"]["nodes"] == [{"id": "gid://shopify/Order/1", "email": None}]
    assert field.body["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert root.body["data"] == {"orders": None}
    assert root.body["errors"][0]["extensions"]["requiredAccess"] == "`read_orders`"


def test_faults_strike_what_fits_and_wear_off() -> None:
    book = FaultBook()
    script = [
        {"match": {"shop": "a"}, "skip": 1, "times": 1, "effect": {"kind": "throttled"}},
        {"match": {"operation": "B"}, "latency_ms": 5, "duration_s": 10},
        {"match": {"shop": "c"}, "effect": {"kind": "http_status", "status": 503}},
    ]
    assert book.post(msgspec.json.encode(script), 0.0) == 3

    effects = [book.plan("a", "A", 0.0).effect for _ in range(3)]

    assert [type(effect) for effect in effects] == [type(None), Throttled, type(None)]
    assert [book.plan("b", "B", now_s).latency_ms for now_s in (9.0, 10.0)] == [5.0, 0.0]
    assert book.plan("c", "A", 0.0).effect == HttpStatus(503)
    assert [line["spent"] for line in book.listing(10.0)] == [True, True, False]


def test_a_script_that_cannot_be_read_adds_nothing() -> None:
    book = FaultBook()

    with pytest.raises(msgspec.DecodeError):
        book.post(b'[{"effect": {"kind": "hang"}}, {"effect": {"kind": "flood"}}]', 0.0)

    assert book.listing(0.0) == []


def test_the_ledger_counts_by_shop_operation_and_outcome() -> None:
    ledger = Ledger()
    for shop, outcome in (("a", "ok"), ("a", "throttled"), ("b", "ok")):
        ledger.record(Call(shop, "Op", "2026-10", outcome, 3, 2, 0.0))

    assert (ledger.count(shop="a"), ledger.count(outcome="ok"), ledger.count()) == (2, 2, 3)
    assert ledger.summary()["outcomes"] == {"ok": 2, "throttled": 1}


def test_the_name_of_an_operation_is_read_without_judging_it() -> None:
    assert operation_of(b'{"query": "query Name { nothing }"}') == "Name"
    assert operation_of(b"<html>") == ""
