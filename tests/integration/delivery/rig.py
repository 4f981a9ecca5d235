"""The dead-letter service over real gRPC, on the streams of a suite of ingest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.sdk.trace import ReadableSpan

from libs.bus import subjects
from libs.bus.dead_letters import DeadLetterStore, unit_letter_id
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.lifecycle import Readiness
from libs.rpc.client import call
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from libs.telemetry import Sampler, Tracer
from services.delivery.adapters.letters import LetterStore
from services.delivery.adapters.segments import SegmentStore
from services.delivery.dead_letters import DeadLetterServer
from tests.fakes import callers
from tests.integration.ingest.harness import SHOP, WITHIN_S, Suite, running
from tidewire.commerce.v1 import fact_pb2, order_pb2, record_pb2
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc, outcome_pb2

CLOCK: Final = SystemClock()
SINK: Final = "events.C0"
EMAIL: Final = "jo@example.com"

PAGE_BYTES_MAX: Final = 1_000_000
"""Less than in service, so that a test reaches it; letters of an order take a thousandth."""

T = TypeVar("T")


@dataclass
class Desk:
    """The service's client, and what it stands on."""

    suite: Suite
    opened: grpc.aio.Channel
    spans: list[ReadableSpan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stub: Any = dead_letter_service_pb2_grpc.DeadLetterServiceStub(self.opened)
        self.store = DeadLetterStore(self.suite.nats)

    # -- letters ---------------------------------------------------------------------------------

    async def letter(self, number: int = 1, **changes: Any) -> outcome_pb2.DeadLetter:
        """A letter of the events service as that stores it; stored."""
        made = await self.made(number, **changes)
        await self.store.store(made)
        return made

    async def letters(self, count: int, **changes: Any) -> list[str]:
        """Ids of so many letters, in the order in which they were stored."""
        made = [await self.made(number, **changes) for number in range(count)]
        for start in range(0, count, 100):
            await asyncio.gather(*map(self.store.store, made[start : start + 100]))
        stored = await self.suite.dead_letters()
        return [letter.dead_letter_id for letter in stored]

    async def made(self, number: int, **changes: Any) -> outcome_pb2.DeadLetter:
        shop = changes.get("shop", SHOP)
        await self.suite.vault.prepare([shop])
        fact = fact_pb2.Fact(
            order_paid=fact_pb2.OrderPaid(
                order=order_pb2.Order(order_id=str(number), email=EMAIL, tags=["vip"])
            )
        )
        unit = f"order_paid.{number}"
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=unit_letter_id(SINK, shop, unit),
            service="events",
            reason_class="permanent",
            code="upstream_40002",
            shop=SHOP,
            delivery_id=f"w{number}",
            unit=unit,
            sink=SINK,
            fact_kind="order_paid",
            traceparent=self.suite.tracer.start_trace().traceparent(),
            original=self.suite.vault.seal(fact, shop),
        )
        letter.died_at.GetCurrentTime()
        letter.received_at.GetCurrentTime()
        letter.MergeFrom(outcome_pb2.DeadLetter(**changes))
        return letter

    # -- calls -----------------------------------------------------------------------------------

    async def listed(
        self, *, page_size: int = 0, page_token: str = "", **wanted: Any
    ) -> pb.DeadLetterServiceListResponse:
        request = pb.DeadLetterServiceListRequest(
            filter=pb.DeadLetterFilter(**wanted), page_size=page_size, page_token=page_token
        )
        return await _answer(self.stub.List, request, pb.DeadLetterServiceListResponse)

    async def ids(self, **wanted: Any) -> list[str]:
        """Ids on the first page of a listing."""
        return [one.letter.dead_letter_id for one in (await self.listed(**wanted)).letters]

    async def get(self, letter_id: str, **how: Any) -> pb.DeadLetterServiceGetResponse:
        request = pb.DeadLetterServiceGetRequest(dead_letter_id=letter_id, **how)
        return await _answer(self.stub.Get, request, pb.DeadLetterServiceGetResponse)

    async def replay(self, *ids: str, **how: Any) -> pb.ReplayResponse:
        request = pb.ReplayRequest(selection=by_ids(ids), **how)
        return await _answer(self.stub.Replay, request, pb.ReplayResponse)

    async def replay_all(self, wanted: pb.DeadLetterFilter, **how: Any) -> pb.ReplayResponse:
        request = pb.ReplayRequest(selection=pb.DeadLetterSelection(filter=wanted), **how)
        return await _answer(self.stub.Replay, request, pb.ReplayResponse)

    async def drop(self, *ids: str, **how: Any) -> pb.DropResponse:
        request = pb.DropRequest(**{"selection": by_ids(ids), "reason": "not needed", **how})
        return await _answer(self.stub.Drop, request, pb.DropResponse)

    # -- what is stored --------------------------------------------------------------------------

    async def replayed_facts(self) -> list[record_pb2.FactRecord]:
        """Facts that are replays."""
        stored = await self.suite.stored(subjects.COMMERCE, "commerce.fact.>")
        return [
            record_pb2.FactRecord.FromString(one.data)
            for one in stored
            if subjects.is_replay(one.subject)
        ]

    async def fate(self, letter: outcome_pb2.DeadLetter) -> pb.DeadLetterFate:
        name = subjects.letter_fate(letter.shop, letter.dead_letter_id)
        (stored,) = await self.suite.stored(subjects.OUTCOMES, name)
        return pb.DeadLetterFate.FromString(stored.data)


async def _answer(method: Any, request: Any, answer: type[T]) -> T:
    found = await call(method, request, timeout_s=WITHIN_S)
    assert isinstance(found, answer)
    return found


def by_ids(ids: Sequence[str]) -> pb.DeadLetterSelection:
    return pb.DeadLetterSelection(ids=pb.DeadLetterIds(ids=ids))


def results(answer: pb.ReplayResponse | pb.DropResponse) -> list[str]:
    return [action.result for action in answer.actions]


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


@asynccontextmanager
async def desk_at(suite: Suite, *, policy: Path | None = None) -> AsyncIterator[Desk]:
    """The service, serving; called by the operator."""
    spans: list[ReadableSpan] = []
    outcomes = JetStreamLog(suite.nats, subjects.OUTCOMES, suite.ids)
    servicer = DeadLetterServer(
        letters=LetterStore(suite.nats, outcomes, page_bytes_max=PAGE_BYTES_MAX),
        commerce=suite.log,
        store_segment=SegmentStore(suite.nats).store,
        vault=suite.vault,
        tracer=Tracer(Sampler(CLOCK), spans.append, strict=True),
        clock=CLOCK,
    )
    add = dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server
    server = RpcServer(
        address=Address("127.0.0.1", 0),
        services=[RpcService("tidewire.delivery.v1.DeadLetterService", partial(add, servicer))],
        guard=callers.guard(policy),
        readiness=Readiness(),
        clock=CLOCK,
    )
    async with running(server), callers.channel_to(server.port) as opened:
        yield Desk(suite, opened, spans)
