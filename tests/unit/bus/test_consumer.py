"""The consumer against a real nats-server: order, concurrency, and what each verdict does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import nats
import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from libs.bus.api import ApiError, js_api
from libs.bus.consumer import Consumer, ConsumerSpec, GivenUp, SetAside, Unit
from libs.bus.publisher import publish
from libs.bus.pull import ConsumerSettings, Puller, ensure_consumer
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.retry import RetryPolicy
from tests.fakes.nats_server import NatsServer

WITHIN_S: Final = 30.0
SOON: Final = RetryPolicy(attempts_max=3, base_s=0.05, cap_s=0.05, probe_s=0.05)
BUSY: Final = ServiceError(Kind.RETRYABLE, "upstream_timeout")
THROTTLED: Final = ServiceError(Kind.THROTTLED, "upstream_40100", retry_after_s=0.02)

Answer = Callable[[Unit], ServiceError | None]


def well(_: Unit) -> None:
    return None


def text(unit: Unit) -> str:
    return unit.data.decode()


def key_of(subject: str) -> str:
    return subject.split(".")[1]


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {WITHIN_S:.0f} s: {what}")
        await asyncio.sleep(0.01)


@dataclass
class Recorder:
    """A handler that answers as told, and keeps what it was given."""

    answer: Answer = well
    before: Callable[[Sequence[Unit]], Awaitable[None]] | None = None
    bury_with: Exception | None = None
    log: list[str] = field(default_factory=list)
    seen: list[Unit] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    buried: list[GivenUp] = field(default_factory=list)

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        self.seen += units
        self.batches.append([text(unit) for unit in units])
        if self.before is not None:
            await self.before(units)
        results = [self.answer(unit) for unit in units]
        self.log += [f"handled {text(unit)}" for unit in units]
        return results

    async def bury(self, given_up: GivenUp) -> None:
        if self.bury_with is not None:
            error, self.bury_with = self.bury_with, None
            raise error
        self.buried.append(given_up)
        self.log.append(f"buried {text(given_up.unit)}")

    @property
    def texts(self) -> list[str]:
        return [text(unit) for unit in self.seen]


@dataclass
class Bench:
    """A stream of its own, and consumers on it."""

    nats: Client
    url: str
    stream: str
    subject: str

    async def put(self, key: str, *texts: str) -> None:
        for one in texts:
            await publish(
                self.nats, f"{self.subject}.{key}", one.encode(), message_id=uuid.uuid4().hex
            )

    def settings(self, *, ack_wait_s: float = 10.0, pinned: bool = False) -> ConsumerSettings:
        return ConsumerSettings(
            stream=self.stream, durable="worker", ack_wait_s=ack_wait_s, pinned=pinned
        )

    def consumer(
        self,
        handler: Recorder,
        *,
        policy: RetryPolicy = SOON,
        ack_wait_s: float = 10.0,
        pinned: bool = False,
        batch_max: int = 1000,
        client: Client | None = None,
        allowance: Callable[[], int | None] = lambda: None,
        set_aside: SetAside | None = None,
        waiting_max: int = 300,
    ) -> Consumer:
        spec = ConsumerSpec(
            settings=self.settings(ack_wait_s=ack_wait_s, pinned=pinned),
            handler=handler,
            policy=policy,
            batch_max=batch_max,
            key=key_of,
            allowance=allowance,
            set_aside=set_aside,
            waiting_max=waiting_max,
        )
        return Consumer(client or self.nats, spec, SystemClock(), random=lambda: 0.5)

    async def info(self) -> dict[str, Any]:
        return await js_api(self.nats, f"CONSUMER.INFO.{self.stream}.worker")

    async def all_settled(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                with suppress(ApiError, ServiceError):
                    # Not `num_pending`: the server counts a new message there a moment later.
                    state = (await js_api(self.nats, f"STREAM.INFO.{self.stream}"))["state"]
                    if (await self.info())["ack_floor"]["stream_seq"] == state["last_seq"]:
                        return
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def another_client(self) -> AsyncIterator[Client]:
        client = await connected(self.url)
        try:
            yield client
        finally:
            await client.close()


async def connected(url: str) -> Client:
    async def quiet(_: Exception) -> None:
        pass

    return await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet
    )


@asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[asyncio.Task[None]]:
    ready = asyncio.Event()
    task = asyncio.create_task(consumer.run(ready.set))
    await asyncio.wait_for(ready.wait(), WITHIN_S)
    try:
        yield task
    finally:
        consumer.stop()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, WITHIN_S)


@pytest.fixture
async def bench(nats_server: NatsServer) -> AsyncIterator[Bench]:
    name = f"t{uuid.uuid4().hex[:8]}"
    client = await connected(nats_server.url)
    config = {"name": name, "subjects": [f"{name}.>"], "storage": "file"}
    await js_api(client, f"STREAM.CREATE.{name}", config)
    yield Bench(client, nats_server.url, name, name)
    await js_api(client, f"STREAM.DELETE.{name}")
    await client.close()


async def test_units_of_one_key_are_handled_in_order_however_batches_fall(bench: Bench) -> None:
    handler = Recorder(before=lambda _: asyncio.sleep(0.005))
    wanted = [str(number) for number in range(60)]

    async with running(bench.consumer(handler, batch_max=7)):
        await bench.put("a", *wanted)
        await until(lambda: len(handler.seen) >= 60, "60 units")

    assert handler.texts == wanted
    assert max(map(len, handler.batches)) <= 7


async def test_what_gathers_during_one_request_is_the_next_batch(bench: Bench) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def first_waits(_: Sequence[Unit]) -> None:
        if not entered.is_set():
            entered.set()
            await leave.wait()

    handler = Recorder(before=first_waits)
    consumer = bench.consumer(handler)
    async with running(consumer):
        await bench.put("a", "1")
        await asyncio.wait_for(entered.wait(), WITHIN_S)
        await bench.put("a", "2", "3", "4")
        await until(lambda: consumer.in_hand == 4, "four in hand")
        leave.set()
        await until(lambda: len(handler.seen) == 4, "all handled")

    assert handler.batches == [["1"], ["2", "3", "4"]]


async def test_a_key_that_blocks_holds_up_no_other(bench: Bench) -> None:
    leave = asyncio.Event()

    async def a_waits(units: Sequence[Unit]) -> None:
        if key_of(units[0].subject) == "a":
            await leave.wait()

    handler = Recorder(before=a_waits)
    async with running(bench.consumer(handler)):
        await bench.put("a", "a1", "a2")
        await bench.put("b", "b1", "b2")
        await until(lambda: "handled b2" in handler.log, "the other key")
        blocked = [line for line in handler.log if " a" in line]
        leave.set()
        await until(lambda: "handled a2" in handler.log, "the blocked key")

    assert blocked == []


async def test_a_key_with_too_many_in_hand_has_the_rest_set_aside_and_holds_up_no_other(
    bench: Bench,
) -> None:
    blocked = asyncio.Event()
    aside: list[str] = []

    async def before(units: Sequence[Unit]) -> None:
        if key_of(units[0].subject) == "busy":
            await blocked.wait()

    async def set_aside(units: Sequence[Unit]) -> None:
        aside.extend(text(unit) for unit in units)

    handler = Recorder(before=before)
    # A lane as full as it may be: without setting aside, `quiet` would never be delivered.
    await bench.put("busy", *[f"b{n}" for n in range(1_010)])
    await bench.put("quiet", "q")
    consumer = bench.consumer(handler, set_aside=set_aside, waiting_max=5)
    async with running(consumer):
        await until(lambda: "handled q" in handler.log, "the quiet key is served")
        blocked.set()
        await bench.all_settled()

    kept = [one for one in handler.texts if one.startswith("b")]
    assert len(aside) > 900
    assert sorted([*kept, *aside], key=number_of) == [f"b{n}" for n in range(1_010)]
    assert aside == sorted(aside, key=number_of)
    assert kept == sorted(kept, key=number_of)


def number_of(one: str) -> int:
    return int(one[1:])


async def test_what_cannot_be_set_aside_comes_again(bench: Bench) -> None:
    blocked = asyncio.Event()
    troubles = [ServiceError(Kind.RETRYABLE, "nats_unavailable", retry_after_s=0.05), ValueError()]

    async def before(_: Sequence[Unit]) -> None:
        await blocked.wait()

    async def set_aside(_: Sequence[Unit]) -> None:
        if troubles:
            raise troubles.pop()
        blocked.set()

    handler = Recorder(before=before)
    await bench.put("busy", "b0", "b1", "b2")
    consumer = bench.consumer(handler, set_aside=set_aside, waiting_max=1, policy=SOON)
    with capture_logs():
        async with running(consumer):
            await bench.all_settled()

    assert troubles == []
    assert handler.texts[:2] == ["b0", "b1"]


async def test_nothing_is_pulled_while_nothing_is_allowed(bench: Bench) -> None:
    allowed = 0
    handler = Recorder()
    consumer = bench.consumer(handler, allowance=lambda: allowed)
    async with running(consumer):
        await bench.put("a", "1", "2")
        pending = await bench.info()
        allowed = 1
        await bench.all_settled()

    assert (pending["num_ack_pending"], pending["num_pending"]) == (0, 2)
    assert handler.batches == [["1"], ["2"]]


async def test_a_unit_is_acknowledged_when_handled_and_not_before(bench: Bench) -> None:
    leave, entered = asyncio.Event(), asyncio.Event()

    async def waits(_: Sequence[Unit]) -> None:
        entered.set()
        await leave.wait()

    async with running(bench.consumer(Recorder(before=waits))):
        await bench.put("a", "1")
        await asyncio.wait_for(entered.wait(), WITHIN_S)
        while_handling = (await bench.info())["num_ack_pending"]
        leave.set()
        await bench.all_settled()

    assert while_handling == 1


async def test_a_unit_that_may_work_later_comes_back_and_counts_its_tries(bench: Bench) -> None:
    handler = Recorder(answer=lambda unit: BUSY if unit.attempts < 2 else None)

    async with running(bench.consumer(handler)):
        await bench.put("a", "1")
        await bench.all_settled()

    assert [(unit.attempts, unit.redelivered) for unit in handler.seen] == [
        (0, False),
        (1, True),
        (2, True),
    ]
    assert handler.buried == []


async def test_a_unit_that_waits_holds_up_none_behind_it(bench: Bench) -> None:
    slow = RetryPolicy(attempts_max=3, base_s=8.0, cap_s=8.0)
    handler = Recorder(answer=lambda unit: BUSY if text(unit) == "1" else None)

    async with running(bench.consumer(handler, policy=slow)):
        await bench.put("a", "1", "2", "3")
        await until(lambda: "handled 3" in handler.log, "those behind it")
        info = await bench.info()

    assert info["num_ack_pending"] == 1
    assert handler.texts.count("1") == 1


async def test_a_unit_that_never_works_is_buried_and_then_acknowledged(bench: Bench) -> None:
    def refused(unit: Unit) -> ServiceError | None:
        return permanent("upstream_40002") if text(unit) == "bad" else None

    handler = Recorder(answer=refused)

    async with running(bench.consumer(handler)):
        await bench.put("a", "good", "bad", "fine")
        await bench.all_settled()

    assert sorted(handler.texts) == ["bad", "fine", "good"]
    assert [(text(one.unit), one.reason) for one in handler.buried] == [
        ("bad", "permanent/upstream_40002")
    ]


async def test_a_unit_whose_tries_are_used_up_is_buried(bench: Bench) -> None:
    handler = Recorder(answer=lambda _: BUSY)

    async with running(bench.consumer(handler)):
        await bench.put("a", "1")
        await bench.all_settled()

    assert [unit.attempts for unit in handler.seen] == [0, 1, 2]
    assert [(one.reason, one.unit.attempts) for one in handler.buried] == [
        ("exhausted/upstream_timeout", 2)
    ]
    assert handler.log[-1] == "buried 1"


async def test_a_throttle_costs_no_try(bench: Bench) -> None:
    left = [THROTTLED] * 6

    handler = Recorder(answer=lambda _: left.pop() if left else None)

    async with running(bench.consumer(handler)):
        await bench.put("a", "1")
        await bench.all_settled()

    assert [unit.attempts for unit in handler.seen] == [0] * 7
    assert handler.buried == []


async def test_raising_counts_for_every_unit_of_the_batch(bench: Bench) -> None:
    async def bug_at_first(units: Sequence[Unit]) -> None:
        if not units[0].redelivered:
            raise KeyError("bug")

    handler = Recorder(before=bug_at_first)

    with capture_logs():
        async with running(bench.consumer(handler)):
            await bench.put("a", "1", "2")
            await bench.all_settled()

    assert sorted(handler.log) == ["handled 1", "handled 2"]
    assert {unit.attempts for unit in handler.seen if unit.redelivered} == {1}


class Forgetful(Recorder):
    """Loses a result at first."""

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        results = await super().handle(units)
        return results if units[0].redelivered else results[1:]


async def test_a_result_too_few_leaves_nothing_in_hand_for_ever(bench: Bench) -> None:
    consumer = bench.consumer(Forgetful())

    with capture_logs():
        async with running(consumer):
            await bench.put("a", "1", "2")
            await bench.all_settled()

    assert consumer.in_hand == 0


@pytest.mark.parametrize(
    "trouble", [KeyError("bug"), ServiceError(Kind.RETRYABLE, "nats_unavailable")]
)
async def test_a_burial_that_fails_comes_again_and_holds_up_none_behind_it(
    bench: Bench, trouble: Exception
) -> None:
    def refused(unit: Unit) -> ServiceError | None:
        return permanent("upstream_40002") if text(unit) == "bad" else None

    handler = Recorder(answer=refused, bury_with=trouble)
    consumer = bench.consumer(handler, ack_wait_s=1.0)

    with capture_logs():
        async with running(consumer):
            await bench.put("a", "bad", "1", "2")
            await bench.all_settled()

    assert [text(one.unit) for one in handler.buried] == ["bad"]
    assert consumer.in_hand == 0


async def test_a_slow_handler_is_not_given_its_unit_again(bench: Bench) -> None:
    handler = Recorder(before=lambda _: asyncio.sleep(2.5))

    async with running(bench.consumer(handler, ack_wait_s=0.8)):
        await bench.put("a", "1")
        await bench.all_settled()
        info = await bench.info()

    assert handler.texts == ["1"]
    assert info["delivered"]["consumer_seq"] == 1  # counts deliveries, acknowledged ones too


async def test_a_stop_finishes_what_is_in_hand_and_takes_nothing_new(bench: Bench) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def waits(_: Sequence[Unit]) -> None:
        entered.set()
        await leave.wait()

    handler = Recorder(before=waits)
    next_one = Recorder()
    consumer = bench.consumer(handler, ack_wait_s=60.0)
    async with running(consumer) as task:
        await bench.put("a", "1")
        await asyncio.wait_for(entered.wait(), WITHIN_S)
        consumer.stop()
        await bench.put("a", "2")
        leave.set()
        await asyncio.wait_for(task, WITHIN_S)
    async with running(bench.consumer(next_one, ack_wait_s=60.0)):
        await until(lambda: next_one.texts == ["2"], "what came after the stop")

    assert handler.log == ["handled 1"]


async def test_what_a_puller_has_at_hand_when_it_ends_is_given_back_at_once(bench: Bench) -> None:
    settings = bench.settings(ack_wait_s=60.0)
    await ensure_consumer(bench.nats, settings)
    await bench.put("a", "1", "2", "3")
    async with Puller(bench.nats, settings, capacity=10) as puller:
        first = await asyncio.wait_for(puller.take(), WITHIN_S)
        await first.ack()
        await until(lambda: puller.waiting == 2, "two at hand")

    async with Puller(bench.nats, settings, capacity=10) as next_one:
        again = [await asyncio.wait_for(next_one.take(), WITHIN_S) for _ in range(2)]

    assert {message.data for message in again} == {b"2", b"3"}


async def test_a_durable_that_the_server_has_lost_is_made_anew(bench: Bench) -> None:
    handler = Recorder()

    with capture_logs():
        async with running(bench.consumer(handler)):
            await bench.put("a", "1")
            await bench.all_settled()
            await js_api(bench.nats, f"CONSUMER.DELETE.{bench.stream}.worker")
            await bench.put("a", "2")
            await until(lambda: "2" in handler.texts, "what came after the loss")

    assert handler.texts[0] == "1"


async def test_of_two_pinned_consumers_one_works_and_the_other_takes_over(bench: Bench) -> None:
    first, second = Recorder(), Recorder()
    async with bench.another_client() as one, bench.another_client() as two:
        consumer = bench.consumer(first, pinned=True, client=one)
        standby = bench.consumer(second, pinned=True, client=two)
        async with running(consumer) as task:
            await bench.put("a", "0")
            await until(lambda: len(first.seen) == 1, "the first to be pinned")
            async with running(standby):
                await bench.put("a", *map(str, range(1, 30)))
                await until(lambda: len(first.seen) + len(second.seen) >= 30, "30 units")
                worked = (len(first.seen), len(second.seen))
                # It dies: no goodbye, no unsubscribing.
                task.cancel()
                await one.close()
                await bench.put("a", "after")
                await until(lambda: "after" in second.texts, "the other to take over")

    assert worked == (30, 0)
    assert second.texts == ["after"]


async def test_a_restart_of_nats_costs_time_and_nothing_else() -> None:
    with NatsServer() as server:
        client = await connected(server.url)
        config = {"name": "R", "subjects": ["R.>"], "storage": "file"}
        await js_api(client, "STREAM.CREATE.R", config)
        bench = Bench(client, server.url, "R", "R")
        handler = Recorder()
        async with running(bench.consumer(handler, ack_wait_s=2.0)):
            await bench.put("a", "1", "2")
            await bench.all_settled()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await until(lambda: client.is_connected, "the client to be back")
            await bench.put("a", "3", "4")
            await until(lambda: {"3", "4"} <= set(handler.texts), "units after the restart")
            await bench.all_settled()
        await client.close()

    assert sorted(set(handler.texts)) == ["1", "2", "3", "4"]
    assert handler.buried == []
