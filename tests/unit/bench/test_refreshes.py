"""What the bench of refreshes counts, and that a small one of it runs."""

from __future__ import annotations

from libs.bus.commit_log import MemoryLog
from libs.clock import FakeClock
from libs.keys import MemoryKeySource
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from tests.bench.played_grants import Watch
from tests.bench.refreshes import in_memory
from tidewire.auth.v1 import record_pb2

ID = "example.shopify"


async def test_a_few_connections_live_through_hours_of_hourly_tokens() -> None:
    found = await in_memory(5, 3 * 3600.0)

    assert (found.refreshes, found.refused, found.late) == (15, 0, 0)
    assert 600 < found.least_left_s < 900


async def replaced_after(seconds: float) -> Watch:
    clock = FakeClock()
    grants = GrantStore(MemoryLog(), Vault(MemoryKeySource()))
    watch = Watch(grants, clock)
    grants.subscribe(watch.look)
    for revision in (1, 2):
        record = record_pb2.StoredGrant(connection_id=ID, token_revision=revision)
        record.granted_at.FromNanoseconds(clock.now_ns())
        record.expires_at.FromNanoseconds(clock.now_ns() + 3600 * 10**9)
        await grants.write(ID, record, expected=revision - 1)
        clock.advance(seconds)
    return watch


async def test_a_token_that_is_replaced_in_its_last_minute_was_late() -> None:
    assert (await replaced_after(3500.0)).late == 0
    assert (await replaced_after(3541.0)).late == 1


async def test_a_token_that_nothing_replaces_is_judged_in_the_end() -> None:
    watch = await replaced_after(3541.0)
    watch.end()
    assert watch.late == 2
