from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.normalize import Normalized, StateView, apply, compare
from tests.unit.ingest.normalize.bodies_of import (
    Body,
    cart,
    checkout,
    level,
    line,
    normalized,
    order,
    product,
    refund,
    shop,
)
from tidewire.commerce.v1 import cart_pb2, order_pb2, record_pb2, shop_pb2

APPLIED = record_pb2.SEEN_RESULT_APPLIED
STALE = record_pb2.SEEN_RESULT_STALE
UNCHANGED = record_pb2.SEEN_RESULT_UNCHANGED
Told = list[tuple[str, str]]


def at(second: int) -> str:
    return f"2026-09-01T12:00:{second:02}Z"


def folded(*deliveries: Normalized) -> tuple[StateView | None, Told, list[int]]:
    """The state that deliveries lead to, the facts they told, and what became of each."""
    state: StateView | None = None
    told: Told = []
    results: list[int] = []
    for delivery in deliveries:
        applied = apply(state, delivery)
        state = applied.new_state or state
        told += [(fact.kind, fact.fact_id) for fact in applied.facts]
        assert all(fact.fact.WhichOneof("happened") == fact.kind for fact in applied.facts)
        results.append(applied.result)
    return state, told, results


def frozen(state: StateView | None) -> tuple[object, ...]:
    assert state is not None
    version = state.version.SerializeToString(deterministic=True)
    body = state.message.SerializeToString(deterministic=True) if state.message else None
    return version, body, state.deleted, state.redacted, state.tied


def paid_order(second: int = 1, **changes: object) -> Normalized:
    return normalized("orders/paid", order(updated_at=at(second), **changes))


def message_of(state: StateView | None) -> order_pb2.Order:
    assert state is not None
    assert isinstance(state.message, order_pb2.Order)
    return state.message


VERSIONS = st.builds(
    lambda updated, triggered, rank, body: record_pb2.Version(
        updated_at=Timestamp(seconds=updated),
        triggered_at=None if triggered is None else Timestamp(seconds=triggered),
        lifecycle_rank=rank,
        body_hash=body,
    ),
    st.integers(1, 2),
    st.none() | st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 2),
)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_totally_ordered(
    a: record_pb2.Version, b: record_pb2.Version, c: record_pb2.Version
) -> None:
    assert compare(a, b) == -compare(b, a)
    assert (compare(a, b) == 0) == (a == b)
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


@given(VERSIONS, VERSIONS)
def test_rank_decides_a_second_in_which_neither_was_timed(
    a: record_pb2.Version, b: record_pb2.Version
) -> None:
    b.updated_at.CopyFrom(a.updated_at)
    a.ClearField("triggered_at")
    b.ClearField("triggered_at")
    a.lifecycle_rank = b.lifecycle_rank + 1

    assert compare(a, b) > 0


def test_a_time_zone_does_not_make_a_delivery_newer() -> None:
    later = normalized("orders/updated", order(updated_at="2026-09-01T08:00:06-04:00"))
    earlier = normalized("orders/updated", order(updated_at="2026-09-01T12:00:05Z"))

    assert compare(later.version, earlier.version) > 0


def test_an_older_update_does_not_overwrite_a_newer_order() -> None:
    state, _, results = folded(paid_order(2, name="new"), paid_order(1, name="old"))

    assert message_of(state).name == "new"
    assert results == [APPLIED, STALE]


def test_the_same_delivery_twice_changes_nothing_the_second_time() -> None:
    _, told, results = folded(paid_order(), paid_order())

    assert results == [APPLIED, UNCHANGED]
    assert told == [("order_paid", "1001")]


def test_an_older_paid_that_comes_after_a_newer_update_pays_the_order_once() -> None:
    update = normalized(
        "orders/updated", order(updated_at=at(5), financial_status="pending", name="newer")
    )

    state, told, results = folded(update, paid_order(1), paid_order(1))

    assert message_of(state).paid
    assert message_of(state).name == "newer"
    assert told == [("order_paid", "1001")]
    assert results == [APPLIED, APPLIED, STALE]


def test_paid_and_cancelled_never_revert() -> None:
    cancelled = paid_order(1, cancelled_at=at(1))
    reverted = normalized("orders/updated", order(updated_at=at(9), financial_status="pending"))

    state, told, _ = folded(cancelled, reverted)

    assert message_of(state).paid
    assert message_of(state).HasField("cancelled_at")
    assert told == [("order_paid", "1001"), ("order_cancelled", "1001")]


def test_the_earliest_cancellation_and_closing_are_kept() -> None:
    late = paid_order(9, cancelled_at=at(8), closed_at=at(9))
    early = paid_order(5, cancelled_at=at(3), closed_at=at(4))

    state, _, _ = folded(late, early)

    assert message_of(state).cancelled_at.ToJsonString() == at(3)
    assert message_of(state).closed_at.ToJsonString() == at(4)


def test_an_order_first_seen_refunded_is_no_purchase_until_a_payment_is_seen() -> None:
    refunded = paid_order(5, financial_status="refunded")

    assert folded(refunded)[1] == []
    assert folded(refunded, paid_order(1))[1] == [("order_paid", "1001")]


def test_paid_at_is_the_processing_time_else_the_last_change() -> None:
    told = [apply(None, paid_order(5, processed_at=p)).facts[0].fact for p in (at(1), None)]

    assert [fact.order_paid.paid_at.ToJsonString() for fact in told] == [at(1), at(5)]


def test_lines_that_change_after_payment_are_an_edit_and_other_changes_are_not() -> None:
    edited = paid_order(2, line_items=[line(), line(13, 1)])
    renamed = paid_order(3, line_items=[line(), line(13, 1)], name="other")

    _, told, _ = folded(paid_order(1), edited, renamed)

    assert [kind for kind, _ in told] == ["order_paid", "order_edited"]


def test_lines_that_change_before_payment_are_no_edit() -> None:
    pending = paid_order(1, financial_status="pending")

    _, told, _ = folded(pending, paid_order(2, line_items=[line()]))

    assert [kind for kind, _ in told] == ["order_paid"]


DELIVERIES = st.builds(
    lambda updated, triggered, status, cancelled, closed, name: normalized(
        "orders/updated",
        order(
            updated_at=at(updated),
            financial_status=status,
            cancelled_at=cancelled and at(cancelled),
            closed_at=closed and at(closed),
            name=name,
        ),
        triggered_s=triggered,
    ),
    st.integers(1, 3),
    st.none() | st.integers(1, 3),
    st.sampled_from(["pending", "paid", "refunded", "partially_refunded", None]),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 3),
    st.sampled_from(["a", "b"]),
)
DELETIONS = st.integers(1, 4).map(
    lambda second: normalized("orders/delete", {"id": 1001}, triggered_s=1_788_264_000 + second)
)


@given(st.lists(DELIVERIES | DELETIONS, min_size=1, max_size=5), st.data())
def test_any_order_and_repetition_leads_to_one_state_and_one_set_of_purchases(
    deliveries: list[Normalized], data: st.DataObject
) -> None:
    state, told, _ = folded(*deliveries)
    shuffled = data.draw(st.permutations(deliveries + deliveries[:2]))

    again, told_again, _ = folded(*shuffled)

    assert frozen(again) == frozen(state)
    for kind in ("order_paid", "order_cancelled"):
        facts = [fact for fact in told_again if fact[0] == kind]
        assert facts == [fact for fact in told if fact[0] == kind]
        assert len(facts) <= 1


@pytest.mark.parametrize("make", ["product", "level", "refund"])
def test_other_resources_converge_too_ties_included(make: str) -> None:
    made = {
        "product": [
            *(normalized("products/update", product(title=t, updated_at=at(2))) for t in "ab"),
            normalized("products/update", product(updated_at=at(1))),
        ],
        "level": [
            *(normalized("inventory_levels/update", level(available=n)) for n in (4, 5)),
            normalized(
                "inventory_levels/disconnect",
                {"inventory_item_id": 301, "location_id": 401},
                triggered_s=1_700_000_000,
            ),
        ],
        "refund": [normalized("refunds/create", refund(note=n)) for n in ("a", "b")],
    }[make]

    ends = {frozen(folded(*chosen, chosen[0])[0]) for chosen in permutations(made)}

    assert len(ends) == 1
    assert ends.pop()[-1] is (make != "refund")


def test_a_tie_is_marked_until_a_newer_second_settles_it() -> None:
    tie = [normalized("inventory_levels/update", level(available=n)) for n in (4, 5)]
    newer = normalized("inventory_levels/update", level(available=6, updated_at=at(9)))

    tied, _, results = folded(*tie)
    settled, _, _ = folded(*tie, newer)

    assert tied is not None
    assert settled is not None
    assert (tied.tied, settled.tied) == (True, False)
    assert results == [APPLIED, APPLIED]


def test_a_deletion_is_final_also_for_a_newer_update() -> None:
    gone = normalized("products/delete", {"id": 201}, triggered_s=1_700_000_000)
    update = normalized("products/update", product())

    state, told, results = folded(update, gone, update)

    assert state is not None
    assert state.deleted
    assert state.message is None
    assert results == [APPLIED, APPLIED, STALE]
    assert [kind for kind, _ in told] == ["product_changed", "product_deleted"]


def test_an_order_paid_before_it_was_deleted_is_not_paid_again_after() -> None:
    gone = normalized("orders/delete", {"id": 1001}, triggered_s=1_800_000_000)

    state, told, _ = folded(paid_order(), gone, paid_order(9), gone)

    assert told == [("order_paid", "1001")]
    assert message_of(state) == order_pb2.Order(order_id="1001", paid=True)


def test_a_redacted_state_is_never_written_again() -> None:
    stored, _, _ = folded(paid_order())
    assert stored is not None
    redacted = replace(stored, redacted=True, deleted=True, message=None)

    for delivery in (paid_order(9), normalized("orders/delete", {"id": 1001})):
        applied = apply(redacted, delivery)
        assert (applied.new_state, applied.facts, applied.result) == (None, (), STALE)


def cart_at(second: int, *lines: Body) -> Normalized:
    return normalized("carts/update", cart(*lines, updated_at=at(second)))


def test_only_lines_that_appeared_or_grew_are_added_to_a_cart() -> None:
    cup, pot = line(101, 1), line(102, 3, variant_id=102)
    state, _, _ = folded(cart_at(1, cup, pot))

    applied = apply(state, cart_at(2, line(101, 4), pot, line(103, 2, variant_id=103)))

    grown = applied.facts[0].fact.cart_lines_added.lines
    assert [(g.line.variant_id, g.quantity_before, g.quantity_after) for g in grown] == [
        ("101", 1, 4),
        ("103", 0, 2),
    ]


def test_one_variant_in_two_lines_is_counted_together() -> None:
    state, _, _ = folded(cart_at(1, line(101, 1)))

    applied = apply(state, cart_at(2, line(101, 1), line(101, 1, properties={"engraving": "A"})))

    grown = applied.facts[0].fact.cart_lines_added.lines
    assert [(g.quantity_before, g.quantity_after) for g in grown] == [(1, 2)]


def test_a_cart_that_shrank_or_came_late_adds_nothing() -> None:
    _, told, results = folded(
        cart_at(2, line(101, 2)), cart_at(3, line(101, 1)), cart_at(1, line(101, 9))
    )

    assert len(told) == 1
    assert results == [APPLIED, APPLIED, STALE]


def test_the_same_cart_delivery_always_tells_the_same_fact_id() -> None:
    one, again = (apply(None, cart_at(1, line(101, 2))).facts[0] for _ in range(2))
    other = apply(None, cart_at(2, line(101, 2))).facts[0]

    assert one.fact_id == again.fact_id != other.fact_id
    assert isinstance(one.fact.cart_lines_added.cart, cart_pb2.Cart)


def test_a_checkout_starts_once_in_whatever_state_it_is_first_seen() -> None:
    begun = normalized("checkouts/create", checkout())
    done = normalized("checkouts/update", checkout(updated_at=at(9), completed_at=at(9)))

    assert folded(begun, done)[1] == [("checkout_started", "c0ffee")]
    assert folded(done, begun)[1] == [("checkout_started", "c0ffee")]


def test_stock_that_goes_there_and_back_within_a_second_tells_each_change() -> None:
    there_and_back = [
        normalized("inventory_levels/update", level(available=n), triggered_s=s)
        for n, s in ((5, 1), (4, 2), (5, 3))
    ]

    _, told, _ = folded(*there_and_back)

    assert [kind for kind, _ in told] == ["stock_changed"] * 3
    assert len(set(told)) == 3


def test_a_change_of_stock_says_what_there_was_before_if_that_is_known() -> None:
    unknown = normalized("inventory_levels/connect", level(available=None, updated_at=at(0)))
    first, second = (
        normalized("inventory_levels/update", level(available=n, updated_at=at(n))) for n in (4, 5)
    )
    untouched = normalized("inventory_levels/update", level(available=5, updated_at=at(9)))
    state, _, _ = folded(unknown)

    after_unknown = apply(state, first).facts[0].fact.stock_changed
    after_known = apply(apply(state, first).new_state, second).facts[0].fact.stock_changed

    assert not after_unknown.HasField("available_before")
    assert after_known.available_before == 4
    assert [kind for kind, _ in folded(second, untouched)[1]] == ["stock_changed"]


@pytest.mark.parametrize("scopes_second", [1, 3])
def test_scopes_and_uninstall_meet_in_one_shop(scopes_second: int) -> None:
    scopes = normalized(
        "app/scopes_update",
        {"previous": [], "current": ["read_orders"], "updated_at": at(scopes_second)},
    )
    changed = normalized("shop/update", shop(updated_at=at(2)))
    gone = normalized("app/uninstalled", shop(), triggered_s=1_800_000_000)
    back = normalized("shop/update", shop(updated_at="2030-01-01T00:00:00Z"))

    for deliveries in permutations([scopes, changed]):
        state, told, _ = folded(*deliveries, gone)
        assert state is not None
        assert isinstance(state.message, shop_pb2.Shop)
        assert list(state.message.granted_scopes) == ["read_orders"]
        assert state.message.name == "Example"
        assert state.message.HasField("uninstalled_at")
        assert [kind for kind, _ in told] == ["shop_changed"] * 3

    state, _, _ = folded(scopes, gone, back)
    assert state is not None
    assert isinstance(state.message, shop_pb2.Shop)
    assert not state.message.HasField("uninstalled_at")


@pytest.mark.parametrize(
    ("topic", "body", "kind", "once"),
    [
        ("refunds/create", refund(), "refund_created", True),
        (
            "fulfillments/create",
            {"id": 6, "order_id": 1, "tracking_company": "UPS", "updated_at": at(1)},
            "fulfillment_changed",
            False,
        ),
        (
            "inventory_items/update",
            {"id": 6, "tracked": True, "updated_at": at(1)},
            "inventory_item_changed",
            False,
        ),
        (
            "bulk_operations/finish",
            {"admin_graphql_api_id": "gid://shopify/BulkOperation/6", "status": "completed"}
            | {"completed_at": at(1)},
            "bulk_operation_finished",
            True,
        ),
        (
            "shop/redact",
            {"shop_id": 9, "shop_domain": "example.myshopify.com"},
            "redaction_requested",
            True,
        ),
    ],
)
def test_each_other_resource_tells_its_fact(
    topic: str,
    body: Body,
    kind: str,
    once: bool,  # noqa: FBT001  # a column of the table
) -> None:
    changed = body | {"updated_at": at(5), "note": "x", "status": "success", "sku": "new"}
    if topic == "shop/redact":
        changed = body

    _, told, _ = folded(normalized(topic, body), normalized(topic, changed))

    assert [told_kind for told_kind, _ in told] == [kind] * (1 if once else 2)


def test_a_deleted_inventory_item_is_told_as_deleted() -> None:
    fact = apply(None, normalized("inventory_items/delete", {"id": 6})).facts[0].fact

    assert fact.inventory_item_changed.deleted
    assert fact.inventory_item_changed.item.inventory_item_id == "6"


# -- orders that were read back ------------------------------------------------------------------


def read_back(second: int = 1, **changes: object) -> Normalized:
    """An order as the Admin API tells it: without the browser."""
    lacking: Body = {"client_details": None, "browser_ip": None, "landing_site": None}
    tokens: Body = {"contact_email": None, "checkout_token": None, "cart_token": None}
    body = order(updated_at=at(second), **(lacking | tokens | {"customer_locale": None} | changes))
    return replace(normalized("orders/updated", body), read_back=True)


@pytest.mark.parametrize("second", [1, 2], ids=["same second", "later"])
def test_an_order_that_is_read_back_takes_nothing_away_that_it_cannot_tell(second: int) -> None:
    webhook = normalized("orders/paid", order(updated_at=at(1)), triggered_s=instant_of(1))

    state, _, _ = folded(webhook, read_back(second, name="#renamed"))

    rich = webhook.message
    assert isinstance(rich, order_pb2.Order)
    found = message_of(state)
    assert found.client == rich.client
    assert (found.contact_email, found.cart_token) == ("ada@example.com", "cafe")
    assert (found.name == "#renamed") == (second == 2)


def test_a_purchase_that_is_read_back_is_told_with_the_browser_of_the_webhook_before() -> None:
    pending = normalized("orders/create", order(updated_at=at(1), financial_status="pending"))
    state = apply(None, pending).new_state

    applied = apply(state, read_back(1))

    (paid,) = applied.facts
    assert paid.kind == "order_paid"
    assert paid.fact.order_paid.order.client.user_agent == "Mozilla/5.0"


def test_a_webhook_after_an_order_was_read_back_adds_the_browser_and_pays_nothing_again() -> None:
    state, told, _ = folded(read_back(3), paid_order(1))

    assert told == [("order_paid", "1001")]
    assert message_of(state).client.user_agent == "Mozilla/5.0"
    assert message_of(state).updated_at.seconds == instant_of(3)


def instant_of(second: int) -> int:
    read = Timestamp()
    read.FromJsonString(at(second))
    return read.seconds


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 3), st.sampled_from(["pending", "paid"])),
        min_size=2,
        max_size=4,
    )
)
def test_orders_read_back_and_told_end_the_same_in_any_order(
    chosen: list[tuple[bool, int, str]],
) -> None:
    deliveries = [
        read_back(second, financial_status=status)
        if sparse
        else normalized(
            "orders/updated",
            order(updated_at=at(second), financial_status=status, browser_ip=f"192.0.2.{place}"),
            triggered_s=instant_of(second) if place % 2 else None,
        )
        for place, (sparse, second, status) in enumerate(chosen)
    ]

    ends = {
        (*frozen(state), state.told and state.told.SerializeToString(), frozenset(told))
        for state, told, _ in (folded(*some) for some in permutations(deliveries))
        if state is not None
    }

    assert len(ends) == 1


# -- ties that were read back --------------------------------------------------------------------


def told_product(title: str, second: int, triggered: int, *, read: bool = False) -> Normalized:
    # The bytes of a node are never those of a webhook.
    body = product(
        updated_at=at(second), title=title, **({"__typename": "Product"} if read else {})
    )
    told = normalized("products/update", body, triggered_s=instant_of(triggered))
    return replace(told, read_back=read)


def test_a_tied_product_that_is_read_back_is_tied_no_more_and_has_what_was_read() -> None:
    tied, _, _ = folded(told_product("One", 1, 1), told_product("Other", 1, 2))
    assert tied is not None
    assert tied.tied

    settled = apply(tied, told_product("True", 1, 4, read=True)).new_state

    assert settled is not None
    assert not settled.tied
    assert settled.message is not None
    assert getattr(settled.message, "title", None) == "True"


@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(1, 2), st.integers(1, 4), st.booleans()),
        min_size=2,
        max_size=4,
    )
)
def test_products_read_back_and_told_end_the_same_in_any_order(
    chosen: list[tuple[str, int, int, bool]],
) -> None:
    deliveries = [told_product(*each[:3], read=each[3]) for each in chosen]

    ends = {frozen(folded(*some)[0]) for some in permutations(deliveries)}

    assert len(ends) == 1
