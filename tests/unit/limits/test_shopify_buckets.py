"""What Shopify tells of its limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.limits.port import BucketSeen
from libs.limits.shopify import graphql_bucket, rest_bucket


def _answer(maximum: Any, available: Any, restore: Any) -> dict[str, Any]:
    status = {"maximumAvailable": maximum, "currentlyAvailable": available, "restoreRate": restore}
    return {"data": {}, "extensions": {"cost": {"throttleStatus": status}}}


def test_the_throttle_status_of_a_graphql_answer_is_the_bucket() -> None:
    assert graphql_bucket(_answer(2000.0, 1908, 100.0)) == BucketSeen(2000.0, 1908.0, 100.0)


def test_the_call_limit_header_is_the_bucket_and_its_capacity_tells_the_rate() -> None:
    assert rest_bucket({"x-shopify-shop-api-call-limit": "32/40"}) == BucketSeen(40.0, 8.0, 2.0)
    assert rest_bucket({"X-Shopify-Shop-Api-Call-Limit": "1/400"}) == BucketSeen(400.0, 399.0, 20.0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"extensions": None},
        {"extensions": {"cost": []}},
        _answer(None, 1, 1),
        _answer("2000", 1, 1),
        _answer(0, 0, 100),
        _answer(10**400, 1, 1),
        _answer(maximum=True, available=1, restore=1),
        _answer(float("nan"), 1, 1),
    ],
)
def test_an_answer_without_a_usable_status_says_nothing(body: dict[str, Any]) -> None:
    assert graphql_bucket(body) is None


@pytest.mark.parametrize("text", ["", "40", "a/40", "1/0", "1/", "-1/40", "1/40/2", "9" * 20])
def test_a_header_that_cannot_be_read_says_nothing(text: str) -> None:
    assert rest_bucket({"X-Shopify-Shop-Api-Call-Limit": text}) is None


@settings(deadline=None)
@given(body=st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["extensions", "cost", "throttleStatus", "maximumAvailable",
                     "currentlyAvailable", "restoreRate"]), inner)))  # fmt: skip
def test_whatever_comes_a_bucket_is_sane_or_there_is_none(body: Any) -> None:
    found = graphql_bucket(body) if isinstance(body, dict) else None

    assert found is None or (
        found.capacity > 0 and 0 <= found.available <= found.capacity and found.restore_per_s > 0
    )
