"""How results are laid out for the terminal and put into the document."""

from __future__ import annotations

import msgspec
import pytest

from tests.bench.figures import Bound, Goal, Spread
from tests.bench.report import (
    BEGIN,
    END,
    Report,
    Section,
    Table,
    heading_text,
    markdown,
    section_text,
    with_results,
)

TABLE = Table("Rates", ("handler", "req/s"), (("bare", "1,323"), ("ours and more", "4")))
SECTION = Section(
    name="ingest",
    title="Ingest",
    goals=(Goal("ratio", Bound.AT_LEAST, 3.0, Spread(2.0, 2.0, 2.0, 1)),),
    tables=(TABLE,),
    notes=("Shared cores.",),
    raw={"bare": [{"per_s": 1323.0}]},
)
REPORT = Report({"processor": "Z80"}, {"run": "full"}, ("not quiet",), (SECTION,))


def test_columns_line_up_with_names_to_the_left_and_figures_to_the_right() -> None:
    lines = section_text(SECTION).splitlines()

    assert "    bare           1,323" in lines
    assert "    ours and more      4" in lines


def test_a_section_says_its_missed_goals_before_its_tables() -> None:
    text = section_text(SECTION)

    assert 0 < text.index("MISSED: ratio") < text.index("handler") < text.index("Shared cores.")


def test_the_heading_warns_of_a_machine_that_was_not_quiet() -> None:
    assert "WARNING: not quiet" in heading_text(REPORT)


def test_markdown_has_the_machine_the_warning_the_goals_and_the_tables() -> None:
    lines = markdown(REPORT).splitlines()

    assert "- processor: Z80" in lines
    assert "- **not quiet**" in lines
    assert "- MISSED: ratio: 2.00, goal ≥ 3.00" in lines
    assert lines[lines.index("| handler | req/s |") + 1] == "| --- | ---: |"


def test_results_replace_earlier_ones_and_nothing_else() -> None:
    before = f"# Title\n{BEGIN}\nold\n{END}\nafter\n"

    once = with_results(before, "new\n")

    assert once == f"# Title\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_results(once, "new\n") == once


@pytest.mark.parametrize("document", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_document_without_both_markers_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="no markers"):
        with_results(document, "new")


def test_a_report_reads_back_from_its_json_as_it_was() -> None:
    encoded = msgspec.json.encode(REPORT)

    assert msgspec.json.decode(encoded, type=Report) == REPORT
