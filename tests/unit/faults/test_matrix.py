"""The table of faults is whole, and its page says what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.catalogs import FAULTS as CATALOG_FAULTS
from tests.faults.matrix import FAULTS, SHORT, chosen
from tests.faults.site import Kind

PAGE = Path(__file__).resolve().parents[3] / "docs" / "fault-matrix.md"


def test_names_are_unique_and_there_are_enough_of_them() -> None:
    names = [fault.name for fault in FAULTS]

    assert len(set(names)) == len(names) >= 25


def test_the_short_form_is_a_part_of_the_matrix_on_one_site() -> None:
    short = [fault for fault in FAULTS if fault.name in SHORT]

    assert len(short) == len(SHORT)
    assert {fault.kind for fault in short} == {Kind.PLAIN}


def test_faults_are_chosen_by_name_or_by_its_first_part() -> None:
    assert chosen([]) == list(FAULTS)
    assert [fault.name for fault in chosen(["nats.kill"])] == ["nats.kill"]
    assert {fault.name.partition(".")[0] for fault in chosen(["clock", "fair"])} == {
        "clock",
        "fair",
    }


@pytest.mark.parametrize("name", ["nats.kil", "nat", ""])
def test_a_name_that_fits_no_fault_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--list"):
        chosen([name])


def test_the_page_has_a_row_for_each_fault() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]

    told = [(row.split(" | ")[0][3:-1], row.split(" | ")[1]) for row in rows]
    of_faults = [one for one in told if not one[0].startswith(("books.", "tokens."))]
    every = [(one.name, one.what) for one in FAULTS]
    every += [(one.name, one.what) for one in CATALOG_FAULTS]
    assert sorted(of_faults) == sorted(every), "run `make faults`"
