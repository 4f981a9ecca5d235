"""The row of the matrix that reads shapes of answers counts those that are misread."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from services.events.domain.answers import Meaning
from tests.faults.tiktok import read_right
from tests.unit.events_service.answer_shapes import SHAPES


async def test_a_shape_that_is_read_otherwise_is_told_by_name() -> None:
    right, another = (shape for shape in SHAPES[:2] if shape.means is Meaning.DELIVERED)
    wrong = replace(another, name="a yes that is none", means=Meaning.UNCERTAIN)
    scene = SimpleNamespace(complaints=[])

    await read_right([right, wrong])(cast("Any", scene))

    assert scene.complaints == ["misread: a yes that is none"]
