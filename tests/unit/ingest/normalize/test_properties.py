from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.errors import ServiceError
from services.ingest.normalize import TOPICS, Normalized, TopicNotUsed, apply
from tests.unit.ingest.normalize.bodies_of import (
    Body,
    cart,
    checkout,
    level,
    normalized,
    order,
    outcome,
    product,
    refund,
    shop,
)

Path = tuple[str | int, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """The path of every value inside `value`, objects and lists included."""
    steps: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        steps = enumerate(value)
    for step, inner in steps:
        yield (*at, step)
        yield from paths(inner, (*at, step))


def changed(body: Body, path: Path, junk: object) -> Body:
    copied = copy.deepcopy(body)
    holder: Any = copied
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = junk
    return copied


SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**53 + 1, 2**63, 2**64, -(2**70), 10**40, 1.5, 1e30, 1e-30])
    | st.sampled_from(["", " ", "x", "-1", "1e9", "9" * 60, "\x00", "gid://shopify/X/5?y=1"])
    | st.text(max_size=8)
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
) | st.sampled_from([[], {}, [[]], [{}], [None], {"shop_money": []}, {"amount": {}}])
ORDER = order()
ORDER_PATHS = [path for path in paths(ORDER) if path != ("id",)]
BODIES: list[Body] = [order(), refund(), cart(), checkout(), product(), level(), shop()]


@given(st.sampled_from(ORDER_PATHS), JUNK)
@settings(max_examples=200)
def test_no_single_odd_field_loses_an_order(path: Path, junk: object) -> None:
    found = normalized("orders/updated", changed(ORDER, path, junk))

    assert found.resource_id == "1001"
    assert found.message is not None
    assert found.message.SerializeToString()


@given(st.sampled_from(ORDER_PATHS), JUNK)
def test_what_is_odd_says_where(path: Path, junk: object) -> None:
    found = normalized("orders/updated", changed(ORDER, path, junk))

    top = str(path[0])
    assert all(
        flag.path.startswith(f"$.{top}") or flag.reason == "updated_at_missing"
        for flag in found.flags
    )


@given(st.sampled_from(sorted(TOPICS)), st.sampled_from(BODIES), st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_body_under_any_topic_gives_a_resource_or_a_reason(
    topic: str, body: Body, data: st.DataObject
) -> None:
    junk = changed(body, data.draw(st.sampled_from(list(paths(body)))), data.draw(JUNK))

    found = outcome_or_refusal(topic, junk)
    if isinstance(found, ServiceError):
        assert found.code in {"wrong_shape", "wrong_shop"}
        assert (found.path or "").startswith("$.")
    if isinstance(found, Normalized):
        assert apply(None, found).new_state is not None


@given(st.sampled_from(sorted(TOPICS)), st.dictionaries(st.text(max_size=5), JUNK))
def test_any_object_under_any_topic_gives_a_reason(topic: str, body: Body) -> None:
    found = outcome_or_refusal(topic, json.dumps(body).encode())

    refused = isinstance(found, ServiceError) and found.code in {"wrong_shape", "wrong_shop"}
    assert refused or "id" in body or "order_edit" in body


def outcome_or_refusal(topic: str, body: Body | bytes) -> Normalized | TopicNotUsed | ServiceError:
    """What comes of a body; anything raised that is not a ServiceError fails the test."""
    try:
        return outcome(topic, body)
    except ServiceError as refused:
        return refused
