"""States and their kin: the numbers are the schema's."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from services.catalog.domain.states import IssueSource, ItemState, SyncKind, SyncPhase
from tidewire.catalog.v1 import catalog_service_pb2 as pb


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ItemState, pb.ItemState),
        (IssueSource, pb.IssueSource),
        (SyncKind, pb.SyncKind),
        (SyncPhase, pb.SyncPhase),
    ],
)
def test_names_and_numbers_are_those_of_the_schema(ours: type[IntEnum], theirs: Any) -> None:
    schema = {name.split("_", 2)[2]: number for name, number in theirs.items()}

    assert {one.name: one.value for one in ours} | {"UNSPECIFIED": 0} == schema


def test_only_what_is_done_or_failed_has_come_to_rest() -> None:
    assert [one for one in SyncPhase if one.is_end] == [SyncPhase.DONE, SyncPhase.FAILED]
