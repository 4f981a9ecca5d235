"""Gates of several replicas on one real bucket."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, Entry, Stored
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.gates import GateBook, connection_gate, sink_gate
from libs.telemetry import Telemetry
from tests.integration.bus.conftest import LogOf
from tests.integration.rpc.rig import new_id
from tidewire.delivery.v1 import gate_pb2

OUTAGE = gate_pb2.GATE_REASON_OUTAGE
OPERATOR = gate_pb2.GATE_REASON_OPERATOR
CREDENTIALS = gate_pb2.GATE_REASON_CREDENTIALS


class Deaf:
    """A log whose server does not answer."""

    def __init__(self) -> None:
        self.mute = True

    async def read(self, subjects: object) -> dict[str, Stored]:
        raise ServiceError(Kind.RETRYABLE, "nats_unavailable")

    read_fresh = read

    async def commit(self, entries: object) -> int:
        raise ServiceError(Kind.RETRYABLE, "nats_unavailable")


def book(nats: Client, log: CommitLog, clock: FakeClock | None = None) -> GateBook:
    return GateBook(nats, log, clock or FakeClock(), Telemetry.recording().metrics)


def circuits(log_of: LogOf) -> CommitLog:
    return log_of(subjects.bucket_stream(subjects.CIRCUITS))


async def test_what_one_replica_shuts_all_others_find_shut(nats: Client, log_of: LogOf) -> None:
    name = connection_gate(new_id())
    one, other = book(nats, circuits(log_of)), book(nats, circuits(log_of))

    await one.close(name, CREDENTIALS, code="upstream_40105", mark="f1")
    await other.follow()

    found = other.shut(name)
    assert found is not None
    assert (found.reason, found.code, found.mark) == (CREDENTIALS, "upstream_40105", "f1")


async def test_what_one_replica_opens_all_others_find_open(nats: Client, log_of: LogOf) -> None:
    name = sink_gate(new_id())
    one, other = book(nats, circuits(log_of)), book(nats, circuits(log_of))
    await one.close(name, OUTAGE)
    await other.follow()

    await other.reopen(name)
    await one.follow()

    assert one.shut(name) is None


async def test_two_replicas_that_shut_one_gate_at_once_agree(nats: Client, log_of: LogOf) -> None:
    name = sink_gate(new_id())
    one, other = book(nats, circuits(log_of)), book(nats, circuits(log_of))
    await one.close(name, OUTAGE, code="upstream_timeout")

    # It has not followed yet: its write is refused, and it takes what stands.
    found = await other.close(name, OUTAGE, code="upstream_reset")

    assert found.code == "upstream_timeout"


async def test_what_a_person_shut_only_a_person_opens(nats: Client, log_of: LogOf) -> None:
    name = sink_gate(new_id())
    gates = book(nats, circuits(log_of))
    await gates.close(name, OPERATOR, note="maintenance")

    await gates.close(name, OUTAGE)
    await gates.reopen(name)

    still = gates.shut(name)
    assert still is not None
    assert (still.reason, still.note) == (OPERATOR, "maintenance")
    assert not gates.is_probe_due(name)
    await gates.reopen(name, by_operator=True)
    assert gates.shut(name) is None


async def test_a_run_of_dead_letters_waits_for_a_person(nats: Client, log_of: LogOf) -> None:
    name = sink_gate(new_id())
    clock = FakeClock()
    gates = book(nats, circuits(log_of), clock)
    await gates.close(name, gate_pb2.GATE_REASON_DEAD_LETTERS)

    clock.advance(3600)
    await gates.reopen(name)

    assert not gates.is_probe_due(name)
    assert gates.shut(name) is not None


async def test_probes_come_soon_at_first_and_at_most_ten_seconds_apart(
    nats: Client, log_of: LogOf
) -> None:
    name = sink_gate(new_id())
    clock = FakeClock()
    gates = book(nats, circuits(log_of), clock)
    await gates.close(name, OUTAGE)

    waits = []
    for _ in range(6):
        began_s = clock.now_s
        while not gates.is_probe_due(name):
            clock.advance(0.5)
        waits.append(clock.now_s - began_s)
        await gates.probe_failed(name)

    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


async def test_what_a_person_asks_for_is_stored_or_refused(nats: Client, log_of: LogOf) -> None:
    name = sink_gate(new_id())
    here = book(nats, Deaf())

    with pytest.raises(ServiceError, match="nats_unavailable"):
        await here.close(name, OPERATOR)

    assert here.shut(name) is None


async def test_a_gate_that_cannot_be_written_holds_here_until_the_server_says_otherwise(
    nats: Client, log_of: LogOf
) -> None:
    name = sink_gate(new_id())
    here = book(nats, Deaf())

    await here.close(name, OUTAGE)

    assert here.shut(name) is not None
    open_again = gate_pb2.Gate(name=name)
    subject = subjects.in_bucket(subjects.CIRCUITS, name)
    await circuits(log_of).commit([Entry(subject, open_again.SerializeToString())])
    await here.follow()
    assert here.shut(name) is None
