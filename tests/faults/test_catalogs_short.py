"""The most telling faults of catalogs, one after the other in one running suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.catalogs import SHORT, chosen, details, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_after_a_fault_the_catalogs_are_as_the_shop(tmp_path: Path) -> None:
    faults = [fault for fault in chosen(()) if fault.name in SHORT]

    rows = [row async for row in run(faults, tmp_path)]

    failed = [f"{row.name}\n{details(row)}" for row in rows if not row.passed]
    assert not failed, "\n".join(failed)
    assert [row.name for row in rows] == [fault.name for fault in faults]
