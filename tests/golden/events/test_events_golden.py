"""Each folder beside this file is a case: input.json says why it exists."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from tests.golden.events.cases import HERE, case_names, digits, load, outcome

CASES = case_names()
_SAMPLE = re.compile(r"Example TikTok Events API Payload:\s*(\{.*?\n\})\s*Phase 3", re.DOTALL)


@pytest.mark.parametrize("name", CASES)
def test_what_happened_becomes_exactly_the_expected_requests(name: str) -> None:
    expected = json.loads((HERE / name / "expected.json").read_text(), parse_float=Decimal)

    found = outcome(load(name))

    assert digits(found) == digits(expected)


@pytest.mark.parametrize("name", CASES)
def test_every_case_says_why_it_exists(name: str) -> None:
    assert len(load(name).why.split()) >= 5


def test_the_guides_own_sample_is_what_the_guides_dialect_sends(corpus_dir: Path) -> None:
    guide = (corpus_dir / "integration-guide.txt").read_text()
    found = _SAMPLE.search(guide)
    assert found, "the guide no longer holds its sample where it was"

    (request,) = outcome(load("the_guides_own_sample"))["requests"]

    assert request["path"] == "/open_api/v1.3/pixel/track/"
    assert digits(request["body"]) == digits(json.loads(found[1], parse_float=Decimal))
    assert list(request["body"]) == list(json.loads(found[1]))
