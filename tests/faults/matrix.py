"""The table of faults. Each is independent of the others; those of one kind share a site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.faults.auth import AUTH
from tests.faults.clients import CLIENTS
from tests.faults.delivery import DELIVERY
from tests.faults.full import FULL
from tests.faults.limiter import LIMITER
from tests.faults.nats import NATS
from tests.faults.processes import PROCESSES
from tests.faults.tiktok import TIKTOK
from tests.faults.trial import Fault

FAULTS: Final[Sequence[Fault]] = (
    *PROCESSES,
    *DELIVERY,
    *AUTH,
    *NATS,
    *FULL,
    *LIMITER,
    *TIKTOK,
    *CLIENTS,
)

SHORT: Final = (
    "all.kill-in-turn",
    "events.stop-20s",
    "tiktok.one-event-refused",
    "tiktok.repetitions-refused",
    "clients.repeated-across-restart",
)
"""The most telling ones, for every run of the tests."""


def chosen(names: Sequence[str]) -> list[Fault]:
    """The faults whose name is given or begins with one that is given; all where none is.

    Raises:
        ValueError: a name fits none.
    """
    for name in names:
        if not any(_fits(fault, name) for fault in FAULTS):
            raise ValueError(f"no fault is called {name}: see --list")
    return [fault for fault in FAULTS if not names or any(_fits(fault, n) for n in names)]


def _fits(fault: Fault, name: str) -> bool:
    return fault.name == name or fault.name.startswith(f"{name}.")
