"""The commit protocol against a model: any interleaving, any crash, any repetition."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.bus import subjects
from libs.bus.commit_log import Entry, MemoryLog, Stored
from libs.errors import Kind, ServiceError
from libs.keys import MemoryKeySource
from libs.telemetry import Metrics, SpanRef
from libs.vault import Vault
from services.ingest.commit import CommitProtocol
from services.ingest.commit_plan import Plan, Prepared
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    StateView,
    apply,
    normalize,
)
from services.ingest.state_codec import view_of
from tidewire.commerce.v1 import record_pb2
from tidewire.ingest.v1 import delivery_pb2

_SHOP = "example"
_SINK = "events.C1"
_RECEIVED = Timestamp(seconds=1_790_000_000)


def _delivery(number: int) -> Prepared:
    """One of a fixed set of deliveries about three orders; every third second is a tie."""
    order = 1 + number % 3
    status = ("pending", "authorized", "paid", "refunded")[number % 4]
    body = json.dumps(
        {
            "id": order,
            "updated_at": f"2026-11-22T10:00:{number // 3:02d}Z",
            "created_at": "2026-11-22T09:00:00Z",
            "financial_status": status,
            "currency": "USD",
            "total_price": f"{10 + number}.00",
            "cancelled_at": "2026-11-22T10:00:30Z" if number % 11 == 0 else None,
            "line_items": [],
        }
    ).encode()
    meta = DeliveryMeta(body_hash=number + 1, received_at=_RECEIVED)
    said = normalize("orders/updated", body, ShopContext(_SHOP, "US", "USD"), meta)
    assert isinstance(said, Normalized)
    delivery_id = f"d{number}"
    return Prepared(
        delivery=delivery_pb2.Delivery(delivery_id=delivery_id, shop=_SHOP, received_at=_RECEIVED),
        meta=meta,
        said=said,
        span=SpanRef(1, 1, sampled=False),
        segment_sequence=1,
        segment_index=number,
        seen_subject=subjects.seen(_SHOP, delivery_id),
        state_subject=subjects.state("order", _SHOP, said.resource_id),
    )


_DELIVERIES = [_delivery(number) for number in range(24)]
_BATCHES = st.lists(st.sampled_from(_DELIVERIES), min_size=1, max_size=8)


@dataclass
class UnreliableLog(MemoryLog):
    """A log in which others write between our read and our write, and answers get lost."""

    intruders: list[Sequence[Prepared]] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.protocol = _protocol(self)

    async def commit(self, entries: Sequence[Entry]) -> int:
        if self.intruders:
            await self.protocol.commit(self.intruders.pop())
        fate = self.fates.pop() if self.fates else "heard"
        if fate == "lost":
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        sequence = await super().commit(entries)
        if fate == "unheard":
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        return sequence


_KEYS = MemoryKeySource()
_VAULT = Vault(_KEYS)


def _protocol(log: MemoryLog) -> CommitProtocol:
    async def nothing(_: Plan) -> None:
        return None

    return CommitProtocol(
        log, _VAULT, sinks_of=lambda _: [_SINK], before_commit=nothing, metrics=Metrics()
    )


class CommitProtocolMachine(RuleBasedStateMachine):
    """Commits batches as workers do, then looks at what is stored."""

    def __init__(self) -> None:
        super().__init__()
        asyncio.run(_VAULT.prepare([_SHOP]))
        self.log = UnreliableLog()
        self.told: dict[str, Prepared] = {}

    @rule(batch=_BATCHES, intruders=st.lists(_BATCHES, max_size=2), fate=st.sampled_from(
        ["heard", "heard", "unheard", "lost"]))  # fmt: skip
    def commit(self, batch: list[Prepared], intruders: list[list[Prepared]], fate: str) -> None:
        self.log.intruders = list(intruders)
        self.log.fates = [fate]
        try:
            asyncio.run(self.log.protocol.commit(batch))
        except ServiceError:
            # The worker dies or waits; its deliveries come again.
            self.log.intruders, self.log.fates = [], []
            asyncio.run(self.log.protocol.commit(batch))
        for one in [*batch, *(each for intruder in intruders for each in intruder)]:
            if one.seen_subject in self.log.newest:
                self.told[one.seen_subject] = one
        for one in batch:
            assert one.seen_subject in self.log.newest

    @invariant()
    def every_marker_and_fact_is_written_once(self) -> None:
        written = Counter(
            stored.subject
            for stored in self.log.history
            if stored.subject.startswith(("commerce.seen.", "commerce.fact."))
        )

        assert [subject for subject, times in written.items() if times > 1] == []

    @invariant()
    def each_order_stands_where_its_deliveries_put_it_in_whatever_order(self) -> None:
        for subject in {one.state_subject for one in self.told.values()}:
            assert subject is not None
            expected = _folded([o for o in self.told.values() if o.state_subject == subject])
            found = _stored_view(self.log.newest[subject])
            assert found.message == expected.message
            assert found.version == expected.version

    @invariant()
    def a_purchase_is_published_exactly_when_an_order_was_ever_paid(self) -> None:
        paid = {
            one.said.resource_id
            for one in self.told.values()
            if isinstance(one.said, Normalized) and one.said.message.paid  # type: ignore[union-attr]
        }
        published = {
            subject.rsplit(".", 1)[1]
            for subject in self.log.newest
            if subject.startswith("commerce.fact.order_paid.")
        }

        assert published == paid

    @invariant()
    def each_sink_has_a_fact_that_exists_or_a_reason(self) -> None:
        for subject in self.told:
            record = record_pb2.SeenRecord.FromString(self.log.newest[subject].data)
            assert [share.sink for share in record.shares] == [_SINK]
            share = record.shares[0]
            if share.fact_id:
                kind, _, fact_id = share.fact_id.partition(".")
                assert subjects.fact(kind, _SHOP, fact_id) in self.log.newest
            else:
                assert share.ignored

    @invariant()
    def the_fact_of_a_delivery_stands_between_its_marker_and_the_one_before(self) -> None:
        # What the ledger tells waiting facts from acknowledged ones by (ADR 14).
        before = 0
        for stored in self.log.history:
            if not stored.subject.startswith("commerce.seen."):
                continue
            for share in record_pb2.SeenRecord.FromString(stored.data).shares:
                if share.fact_id:
                    kind, _, fact_id = share.fact_id.partition(".")
                    fact = self.log.newest[subjects.fact(kind, _SHOP, fact_id)]
                    assert before < fact.sequence < stored.sequence
            before = stored.sequence


def _folded(deliveries: Sequence[Prepared]) -> StateView:
    """What the deliveries come to, one after another in the order of their numbers."""
    view: StateView | None = None
    for one in sorted(deliveries, key=lambda each: each.segment_index):
        assert isinstance(one.said, Normalized)
        view = apply(view, one.said).new_state or view
    assert view is not None
    return view


def _stored_view(stored: Stored) -> StateView:
    record = record_pb2.StateRecord.FromString(stored.data)
    return view_of(record, asyncio.run(_VAULT.open_bytes(record.payload, _SHOP)))


TestCommitProtocol = CommitProtocolMachine.TestCase
TestCommitProtocol.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestCommitProtocol = pytest.mark.filterwarnings("ignore::ResourceWarning")(TestCommitProtocol)
