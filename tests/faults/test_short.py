"""The most telling faults of the matrix, one after the other on one running suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix import FAULTS, SHORT
from tests.faults.report import details
from tests.faults.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_the_most_telling_faults_cost_nothing(tmp_path: Path) -> None:
    faults = [fault for fault in FAULTS if fault.name in SHORT]

    results = [result async for result in run(faults, tmp_path)]

    failed = [f"{one.fault.name}\n{details(one)}" for one in results if not one.passed]
    assert not failed, "\n".join(failed)
    assert [one.fault.name for one in results] == [*(f.name for f in faults), "books.plain"]
