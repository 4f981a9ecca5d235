"""An audit record stays small, whatever its caller names."""

from __future__ import annotations

from nats.aio.client import Client

from libs.clock import FakeClock
from libs.ids import SequentialIds
from libs.rpc.callers import Caller
from libs.rpc.policy import NOTHING, Scope
from libs.telemetry import Metrics
from services.auth.adapters.audit import AuditLog


class NoRules:
    """Rules that are not asked here."""

    def scope(self, caller: str, method: str) -> Scope | None:
        return NOTHING


def test_what_a_caller_names_at_length_is_cut() -> None:
    audit = AuditLog(Client(), FakeClock(), SequentialIds(), Metrics())
    caller = Caller("operator", "spiffe://tidewire/operator", "a.B/C", NoRules())

    audit.note(caller, ["x" * 10_000], changes=["y" * 10_000] * 1_000)

    assert audit._waiting[0].ByteSize() < 32_000
