from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.ingest.normalize.golden import CASES_DIR, outcome_of

CASES = sorted(file.parent for file in CASES_DIR.glob("*/input.json"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_golden_body_becomes_what_was_agreed(folder: Path) -> None:
    case = json.loads((folder / "input.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())

    assert case["why"]
    assert outcome_of(case) == expected


def test_there_are_golden_cases() -> None:
    assert len(CASES) >= 8
