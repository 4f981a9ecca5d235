"""Group commit against a NATS that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.ids import SequentialIds
from libs.telemetry import Metrics
from services.ingest.committer import SEGMENT_BYTES_MAX, GroupCommitter
from tests.integration.ingest.harness import running
from tidewire.common.v1 import sealed_pb2
from tidewire.ingest.v1 import delivery_pb2

# A write that nobody answers would otherwise hold a failing test up for long.
pytestmark = pytest.mark.timeout(30)


class HeldNats:
    """Takes writes, and answers each when the test says how."""

    is_connected = True

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.sizes: list[int] = []
        self._held: list[asyncio.Future[Msg]] = []

    async def request(
        self,
        subject: str,
        payload: bytes,
        timeout: float,  # noqa: ASYNC109  # the client's own word
        headers: Mapping[str, str],
    ) -> Msg:
        segment = delivery_pb2.DeliverySegment.FromString(payload)
        self.written.append([one.delivery_id for one in segment.deliveries])
        self.sizes.append(len(payload))
        held: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._held.append(held)
        return await held

    def store(self, place: int) -> None:
        """The write of this place succeeds."""
        answer = Msg(_client=None, data=b'{"stream": "WEBHOOKS", "seq": 1}')  # type: ignore[arg-type]
        self._held[place].set_result(answer)

    def lose(self, place: int) -> None:
        """Nobody ever answers the write of this place."""
        self._held[place].set_exception(NatsTimeoutError())

    def refuse(self, place: int) -> None:
        """The stream is full."""
        data = b'{"error": {"err_code": 10077, "description": "maximum bytes exceeded"}}'
        self._held[place].set_result(Msg(_client=None, data=data))  # type: ignore[arg-type]


@pytest.fixture
def nats() -> HeldNats:
    return HeldNats()


@pytest.fixture
async def committer(nats: HeldNats) -> AsyncIterator[GroupCommitter]:
    made = GroupCommitter(
        nats,  # type: ignore[arg-type]  # the part of a client that it uses
        FakeClock(),
        SequentialIds(),
        Metrics(),
        pending_bytes_max=32 * 2**20,
    )
    async with running(made):
        yield made


def _storing(committer: GroupCommitter, name: str, size: int = 100) -> asyncio.Task[None]:
    body = sealed_pb2.Payload(data=b"x" * size)
    return asyncio.create_task(committer.store(delivery_pb2.Delivery(delivery_id=name, body=body)))


async def _turns() -> None:
    """Lets everything run that needs no time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _code_of(task: asyncio.Task[None]) -> str:
    with pytest.raises(ServiceError) as raised:
        await task
    assert raised.value.kind is Kind.RETRYABLE
    assert raised.value.retry_after_s
    return raised.value.code


async def test_a_lone_delivery_is_written_without_waiting_for_company(
    nats: HeldNats, committer: GroupCommitter
) -> None:
    lone = _storing(committer, "lone")
    await _turns()

    assert nats.written == [["lone"]]
    assert not lone.done()
    nats.store(0)
    await lone


async def test_what_comes_during_a_write_is_written_together_by_the_next(
    nats: HeldNats, committer: GroupCommitter
) -> None:
    first = _storing(committer, "a")
    await _turns()
    rest = [_storing(committer, name) for name in "bcd"]
    await _turns()
    nats.store(0)
    await first
    await _turns()

    assert nats.written == [["a"], ["b", "c", "d"]]
    assert not any(task.done() for task in rest)
    nats.store(1)
    await asyncio.gather(*rest)


@pytest.mark.parametrize("how", ["lose", "refuse"])
async def test_a_write_that_fails_is_answered_to_its_own_group_only(
    nats: HeldNats, committer: GroupCommitter, how: str
) -> None:
    first = [_storing(committer, name) for name in "ab"]
    await _turns()
    second = _storing(committer, "c")
    await _turns()
    getattr(nats, how)(0)
    codes = {await _code_of(task) for task in first}
    await _turns()
    nats.store(1)

    await second
    assert codes == {"not_stored" if how == "lose" else "refused_by_nats"}
    assert committer.pending_bytes == 0


async def test_a_segment_is_bounded_unless_one_delivery_alone_is_larger(
    nats: HeldNats, committer: GroupCommitter
) -> None:
    first = _storing(committer, "first")
    await _turns()
    sizes = {"a": 400_000, "b": 300_000, "c": 300_000, "huge": 5_000_000, "d": 10}
    rest = [_storing(committer, name, size) for name, size in sizes.items()]
    for place in range(5):
        await _turns()
        nats.store(place)
    await asyncio.gather(first, *rest)

    assert nats.written == [["first"], ["a", "b"], ["c"], ["huge"], ["d"]]
    small = [
        size for size, names in zip(nats.sizes, nats.written, strict=True) if "huge" not in names
    ]
    assert max(small) <= SEGMENT_BYTES_MAX + 4096


async def test_who_goes_away_while_waiting_takes_nobody_along(
    nats: HeldNats, committer: GroupCommitter
) -> None:
    gone, stays = _storing(committer, "gone"), _storing(committer, "stays")
    await _turns()
    gone.cancel()
    await _turns()
    nats.store(0)

    await stays
    assert committer.pending_bytes == 0


async def test_a_request_under_way_when_the_process_is_told_to_stop_is_still_stored(
    nats: HeldNats,
) -> None:
    made = GroupCommitter(
        nats,  # type: ignore[arg-type]  # as above
        FakeClock(),
        SequentialIds(),
        Metrics(),
        pending_bytes_max=32 * 2**20,
    )
    async with running(made):
        first = _storing(made, "first")
        await _turns()
        made.stop()
        nats.store(0)
        await first
        await _turns()
        late = _storing(made, "late")
        await _turns()
        assert nats.written == [["first"], ["late"]]
        nats.store(1)

    assert late.done()
    await late
