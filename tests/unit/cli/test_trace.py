from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cli.trace import (
    BAR_CELLS,
    LINKED_ROWS_MAX,
    TRACES_SHOWN,
    Waterfall,
    arrange,
    bar,
    load_spans,
    trace_command,
)
from libs.telemetry import SpanRecord, Telemetry

A = "a" * 32
B = "b" * 32
MS = 1_000_000


def span(
    trace_id: str,
    number: int,
    name: str,
    *,
    parent: int | None = None,
    start_ms: float = 0,
    end_ms: float = 1,
    links: tuple[tuple[str, int], ...] = (),
    error: str | None = None,
    **attributes: str | int,
) -> SpanRecord:
    return SpanRecord(
        trace_id=trace_id,
        span_id=f"{number:016x}",
        name=name,
        service="ingest" if trace_id == A else "events",
        start_ns=int(start_ms * MS),
        end_ns=int(end_ms * MS),
        parent_id=f"{parent:016x}" if parent else None,
        attributes=dict(attributes),
        links=[(trace, f"{one:016x}") for trace, one in links],
        error=error,
    )


DELIVERY = [
    span(A, 3, "send", parent=2, start_ms=6, end_ms=9, links=((B, 1),), event_id="order-7"),
    span(A, 1, "receive", end_ms=2, delivery_id="d-1"),
    span(A, 2, "normalize", parent=1, start_ms=3, end_ms=5, resource_id="7", batch_size=4),
]
BATCH = [
    span(B, 1, "events.batch", start_ms=5, end_ms=10),
    span(B, 2, "POST /event/track/", parent=1, start_ms=6, end_ms=8, error="refused: 40002"),
    span(B, 9, "unrelated", start_ms=1),
]


def outline(waterfall: Waterfall) -> list[str]:
    return [
        f"{'.' * row.depth}{'~' if row.linked else ''}{row.span.name}" for row in waterfall.rows
    ]


def printed(id_text: str, directory: Path) -> tuple[int, str]:
    out = io.StringIO()
    code = trace_command(id_text, directory, Console(file=out, width=160))
    return code, out.getvalue()


def write(path: Path, spans: list[SpanRecord]) -> None:
    path.write_bytes(msgspec.json.Encoder().encode_lines(spans))


class TestArrange:
    @pytest.mark.parametrize(
        "id_text",
        [
            A,
            A.upper(),
            f"00-{A}-00f067aa0ba902b7-01",
            " d-1\n",
            "7",
            "gid://shopify/Order/7",
            "order-7",
        ],
    )
    def test_a_trace_is_found_by_its_id_and_by_the_ids_on_its_spans(self, id_text: str) -> None:
        (found,) = arrange([*DELIVERY, *BATCH], id_text)

        assert found.trace_id == A

    @pytest.mark.parametrize("id_text", ["4", "a", "", "normalize", "order", "None"])
    def test_other_attributes_parts_of_ids_and_names_are_no_ids(self, id_text: str) -> None:
        assert arrange([*DELIVERY, *BATCH], id_text) == []

    def test_children_stand_under_parents_and_a_linked_batch_with_its_calls_under_its_event(
        self,
    ) -> None:
        (found,) = arrange([*DELIVERY, *BATCH], A)

        assert outline(found) == [
            "receive",
            ".normalize",
            "..send",
            "...~events.batch",
            "....~POST /event/track/",
        ]

    def test_a_link_is_followed_backwards_as_well(self) -> None:
        (found,) = arrange([*DELIVERY, *BATCH], B)

        assert outline(found) == [
            "unrelated",
            "events.batch",
            ".~send",
            ".POST /event/track/",
        ]

    def test_links_are_followed_for_one_hop_only(self) -> None:
        far = span("c" * 32, 1, "far")
        middle = span(B, 1, "middle", links=(("c" * 32, 1),))
        near = span(A, 1, "near", links=((B, 1),))

        (found,) = arrange([near, middle, far], A)

        assert outline(found) == ["near", ".~middle"]

    def test_a_batch_linked_with_a_thousand_events_shows_some(self) -> None:
        events = [span(f"{number:032x}", 1, "sent", links=((B, 1),)) for number in range(1, 1001)]

        (found,) = arrange([BATCH[0], *events], B)

        assert len(found.rows) == 1 + LINKED_ROWS_MAX

    def test_a_span_whose_parent_is_missing_is_a_root_and_a_ring_is_shown_once(self) -> None:
        spans = [
            span(A, 5, "orphan", parent=77),
            span(A, 6, "ring", parent=7, start_ms=1),
            span(A, 7, "ring too", parent=6, start_ms=2),
            span(A, 5, "orphan", parent=77),
        ]

        (found,) = arrange(spans, A)

        assert outline(found) == ["orphan", "ring", ".ring too"]

    def test_a_child_whose_clock_is_behind_still_stands_under_its_orphaned_parent(self) -> None:
        spans = [span(A, 6, "child", parent=5), span(A, 5, "orphan", parent=77, start_ms=1)]

        (found,) = arrange(spans, A)

        assert outline(found) == ["orphan", ".child"]

    def test_a_trace_of_any_depth_is_arranged(self) -> None:
        spans = [
            span(A, number, "step", parent=number - 1 or None, start_ms=number)
            for number in range(1, 3001)
        ]

        (found,) = arrange(spans, A)

        assert [row.depth for row in found.rows] == list(range(3000))

    def test_traces_come_by_their_start(self) -> None:
        later = span(A, 1, "later", start_ms=9, end_ms=10, resource_id="7")
        earlier = span(B, 1, "earlier", resource_id="7")

        assert [one.trace_id for one in arrange([later, earlier], "7")] == [B, A]


class TestBar:
    @pytest.mark.parametrize(
        ("start_ms", "end_ms", "first", "cells"),
        [(0, 28, 0, 28), (14, 28, 14, 14), (27, 28, 27, 1), (7, 8, 7, 1), (-5, 28, 0, 28)],
    )
    def test_a_bar_lies_where_the_span_does(
        self, start_ms: float, end_ms: float, first: int, cells: int
    ) -> None:
        drawn = bar(span(A, 1, "x", start_ms=start_ms, end_ms=end_ms), 0, BAR_CELLS * MS)

        assert drawn == (" " * first + "█" * cells).ljust(BAR_CELLS)

    @pytest.mark.parametrize(("start_ms", "span_ms"), [(0, 0), (28, 28), (40, 28)])
    def test_a_span_of_no_length_has_a_mark_within_the_bar(
        self, start_ms: float, span_ms: int
    ) -> None:
        drawn = bar(span(A, 1, "x", start_ms=start_ms, end_ms=start_ms), 0, span_ms * MS)

        assert drawn.strip() == "▏"
        assert len(drawn) == BAR_CELLS


class TestCommand:
    def test_the_waterfall_of_all_files_is_drawn(self, tmp_path: Path) -> None:
        write(tmp_path / "ingest-1.jsonl", DELIVERY)
        write(tmp_path / "events-2.jsonl", BATCH)

        code, text = printed("d-1", tmp_path)

        assert code == 0
        assert f"trace {A}   5 spans   10.0 ms   1 failed" in text
        assert "    send" in text
        assert "      ⇢ events.batch" in text
        assert "refused: 40002" in text
        assert "resource_id=7  batch_size=4" in text
        assert "2.0 ms" in text

    def test_a_failed_span_is_red(self, tmp_path: Path) -> None:
        write(tmp_path / "x.jsonl", BATCH)
        out = io.StringIO()

        trace_command(
            B, tmp_path, Console(file=out, width=160, color_system="standard", force_terminal=True)
        )

        assert "\x1b[31m  POST /event/track/" in out.getvalue()
        assert "\x1b[31mevents.batch" not in out.getvalue()

    def test_values_are_shown_as_they_are_and_never_as_markup(self, tmp_path: Path) -> None:
        write(tmp_path / "x.jsonl", [span(A, 1, "x", topic="[red]orders[/red]")])

        _, text = printed(A, tmp_path)

        assert "topic=[red]orders[/red]" in text

    def test_into_a_pipe_whole_lines_are_written(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(tmp_path / "x.jsonl", [span(A, 1, "x", topic="t" * 100)])

        trace_command(A, tmp_path)

        assert "t" * 100 in capsys.readouterr().out

    def test_on_a_narrow_terminal_every_span_keeps_to_one_line(self, tmp_path: Path) -> None:
        write(tmp_path / "x.jsonl", [span(A, 1, "x", topic="t" * 100)])
        out = io.StringIO()

        trace_command(A, tmp_path, Console(file=out, width=80))

        assert sum("t" * 5 in line for line in out.getvalue().splitlines()) == 1

    def test_more_traces_than_fit_are_counted(self, tmp_path: Path) -> None:
        spans = [span(f"{number:032x}", 1, "x", resource_id="7") for number in range(1, 16)]
        write(tmp_path / "x.jsonl", spans)

        _, text = printed("7", tmp_path)

        assert text.count("trace 0000") == TRACES_SHOWN
        assert "3 more traces carry 7" in text

    def test_what_recorded_telemetry_finished_can_be_drawn(self, tmp_path: Path) -> None:
        telemetry = Telemetry.recording(service="orders")
        with telemetry.tracer.span("outer", None) as outer, telemetry.tracer.span("in", outer):
            pass
        write(tmp_path / "orders-1.jsonl", list(telemetry.finished))

        code, text = printed(outer.traceparent(), tmp_path)

        assert code == 0
        assert "  in" in text

    def test_an_unknown_id_says_how_much_was_searched_and_what_to_do(self, tmp_path: Path) -> None:
        write(tmp_path / "x.jsonl", DELIVERY)

        code, text = printed("d-2", tmp_path)

        assert code == 1
        assert "None of 3 spans" in text
        assert "TIDEWIRE_TRACE_FULL_PER_S" in text

    @pytest.mark.parametrize("folder", ["", "not/there"])
    def test_no_files_at_all_says_where_spans_come_from(self, tmp_path: Path, folder: str) -> None:
        code, text = printed("d-1", tmp_path / folder)

        assert code == 1
        assert "There are no trace files in" in text
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text


def test_lines_cut_off_or_of_another_shape_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", DELIVERY[:1])
    whole = (tmp_path / "x.jsonl").read_bytes()
    (tmp_path / "x.jsonl").write_bytes(b'{"other": 1}\n\n\xff\n' + whole + whole[:40])

    assert load_spans(tmp_path) == DELIVERY[:1]
