"""How many connections are said to need a person."""

from __future__ import annotations

from libs import metric_names
from libs.bus.commit_log import MemoryLog
from libs.clock import Clock
from libs.keys import MemoryKeySource
from libs.settings import Secret
from libs.telemetry import Metrics
from libs.telemetry.metrics import render_prometheus
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Family, Grant
from services.auth.refresher import Refresher
from tests.fakes.provider import PlayedProvider, PlayedProviders
from tests.fakes.virtual_clock import VirtualClock
from tidewire.auth.v1 import record_pb2


class Alone:
    """`Liveness` of the only replica."""

    owner = "r"
    is_alive = True

    async def lives(self, owner: str) -> bool:
        return owner == self.owner


async def test_who_lost_a_token_is_counted_and_who_was_ended_is_not() -> None:
    clock = VirtualClock()
    store = GrantStore(MemoryLog(), Vault(MemoryKeySource()))
    metrics = _counted_by(store, clock)
    lost = _record("a.shopify", "refused_upstream")
    await store.seal("a.shopify", Grant(access_token=Secret("dead")), lost)
    await store.write("a.shopify", lost, expected=0)

    await store.write("b.shopify", _record("b.shopify", "revoked"), expected=0)

    assert f"{metric_names.GRANTS_ENDED} 1\n" in render_prometheus(metrics)


def _record(connection_id: str, code: str) -> record_pb2.StoredGrant:
    return record_pb2.StoredGrant(
        connection_id=connection_id,
        family=Family.SHOPIFY.value,
        token_revision=1,
        needs_reauthorization=True,
        error_code=code,
    )


def _counted_by(store: GrantStore, clock: Clock) -> Metrics:
    metrics = Metrics()
    Refresher(store, PlayedProviders(PlayedProvider()), Alone(), clock, metrics)
    return metrics
