from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
import structlog
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from libs import metric_names
from libs.clock import FakeClock
from libs.errors import ServiceError
from libs.telemetry import Sampler, SpanRecord, Telemetry, Tracer, setup_logging, setup_telemetry
from libs.telemetry.files import FileSpanExporter
from libs.telemetry.setup import TelemetrySettings


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    handlers, level, access_level = list(root.handlers), root.level, access.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    access.setLevel(access_level)
    structlog.reset_defaults()


class Collector:
    """A collector that keeps what it was sent, by path."""

    def __init__(self) -> None:
        received: dict[str, list[bytes]] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        self.received = received
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.close()


def records(directory: Path) -> list[SpanRecord]:
    return [
        msgspec.json.decode(line, type=SpanRecord)
        for path in directory.glob("*.jsonl")
        for line in path.read_bytes().splitlines()
    ]


def emit_one(telemetry: Telemetry, name: str = "receive") -> None:
    tracer = telemetry.tracer
    tracer.emit(name, tracer.start_trace(), parent=None, start_ns=1, end_ns=2)


def some_spans(count: int) -> list[ReadableSpan]:
    spans: list[ReadableSpan] = []
    tracer = Tracer(Sampler(FakeClock(), ratio=1), spans.append)
    for _ in range(count):
        tracer.emit("x", tracer.start_trace(), parent=None, start_ns=1, end_ns=2)
    return spans


class TestWhereSpansGo:
    def test_without_a_collector_spans_are_lines_in_a_file_with_all_their_links(
        self, tmp_path: Path
    ) -> None:
        environ = {"TIDEWIRE_TRACE_RATIO": "1"}

        with setup_telemetry("events", environ, state_dir=tmp_path) as telemetry:
            tracer = telemetry.tracer
            links = [tracer.start_trace() for _ in range(1000)]
            with tracer.span("batch", None, attributes={"batch_size": 1000}, links=links) as ref:
                pass

        (span,) = records(tmp_path / "traces")
        assert (span.name, span.service, span.trace_id) == ("batch", "events", ref.trace_hex)
        assert span.attributes == {"batch_size": 1000}
        assert span.links == [(one.trace_hex, f"{one.span_id:016x}") for one in links]

    def test_a_span_is_in_the_file_soon_after_its_end_while_the_service_runs(
        self, tmp_path: Path
    ) -> None:
        with setup_telemetry("events", {}, state_dir=tmp_path) as telemetry:
            emit_one(telemetry)
            ended_s = time.monotonic()
            while not records(tmp_path / "traces") and time.monotonic() < ended_s + 5:
                time.sleep(0.01)

            assert time.monotonic() < ended_s + 3

    def test_a_collector_gets_spans_and_metrics_and_no_file_is_written(
        self, tmp_path: Path, collector: Collector
    ) -> None:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/base/",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=a%2Cb, service.name=hidden",
            "OTEL_SERVICE_NAME": "shown",
        }

        with setup_telemetry("ingest", environ, state_dir=tmp_path) as telemetry:
            emit_one(telemetry)
            telemetry.metrics.counter(metric_names.NORMALIZER_FACTS, kind="order_paid").add(5)

        (body,) = collector.received["/base/v1/traces"]
        (sent,) = ExportTraceServiceRequest.FromString(body).resource_spans
        resource = {one.key: one.value.string_value for one in sent.resource.attributes}
        assert (resource["service.name"], resource["deployment.environment"]) == ("shown", "a,b")
        assert [span.name for span in sent.scope_spans[0].spans] == ["receive"]
        (pushed,) = collector.received["/base/v1/metrics"]
        (scope,) = ExportMetricsServiceRequest.FromString(pushed).resource_metrics[0].scope_metrics
        counted = {one.name: one.sum.data_points for one in scope.metrics}
        assert counted[metric_names.NORMALIZER_FACTS][0].as_int == 5
        assert not (tmp_path / "traces").exists()

    def test_an_endpoint_for_traces_alone_is_used_as_it_is(
        self, tmp_path: Path, collector: Collector
    ) -> None:
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url + "/own/path"}

        with setup_telemetry("ingest", environ, state_dir=tmp_path) as telemetry:
            emit_one(telemetry)

        assert list(collector.received) == ["/own/path"]

    def test_metrics_tell_what_became_of_the_spans(self, tmp_path: Path) -> None:
        (tmp_path / "traces").write_text("a file where a directory must be")
        telemetry = setup_telemetry("ingest", {}, state_dir=tmp_path)
        emit_one(telemetry)
        telemetry.flush()
        (tmp_path / "traces").unlink()
        emit_one(telemetry)
        emit_one(telemetry)
        telemetry.shutdown()

        results = {
            result: telemetry.metrics.counter(metric_names.SPANS, result=result).value
            for result in ("emitted", "exported", "failed")
        }

        assert results == {"emitted": 3, "exported": 2, "failed": 1}

    @pytest.mark.parametrize("environ", [{}, {"OTEL_SDK_DISABLED": "true"}])
    def test_with_nowhere_to_go_spans_are_not_kept(
        self, environ: dict[str, str], tmp_path: Path
    ) -> None:
        state_dir = tmp_path if environ else None

        with setup_telemetry("ingest", environ, state_dir=state_dir) as telemetry:
            emit_one(telemetry)

        assert list(tmp_path.iterdir()) == []

    def test_a_collector_that_is_gone_holds_up_the_end_only_for_the_time_allowed(self) -> None:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        telemetry = setup_telemetry("ingest", environ, state_dir=None, shutdown_s=0.2)
        emit_one(telemetry)

        began_s = time.monotonic()
        telemetry.shutdown()

        assert time.monotonic() - began_s < 5.0

    def test_shutting_down_twice_is_harmless(self, tmp_path: Path) -> None:
        with setup_telemetry("ingest", {}, state_dir=tmp_path) as telemetry:
            emit_one(telemetry)
            telemetry.shutdown()

        assert len(records(tmp_path / "traces")) == 1


class TestSettings:
    def test_sampling_follows_both_settings(self) -> None:
        environ = {"TIDEWIRE_TRACE_FULL_PER_S": "2", "TIDEWIRE_TRACE_RATIO": "0"}

        with setup_telemetry("ingest", environ, state_dir=None) as telemetry:
            kept = [telemetry.tracer.start_trace().sampled for _ in range(3)]

        assert kept == [True, True, False]

    def test_every_bad_variable_is_named_in_one_error(self) -> None:
        environ = {"TIDEWIRE_TRACE_RATIO": "1.5", "TIDEWIRE_TRACE_FULL_PER_S": "many"}

        with pytest.raises(ServiceError) as raised:
            TelemetrySettings.of("ingest", environ)

        assert raised.value.code == "settings_unreadable"
        assert "TIDEWIRE_TRACE_RATIO" in raised.value.message
        assert "TIDEWIRE_TRACE_FULL_PER_S" in raised.value.message

    def test_a_service_name_among_the_resource_attributes_counts(self) -> None:
        settings = TelemetrySettings.of("x", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=y,a=b"})

        assert (settings.service_name, settings.resource_attributes) == ("y", {"a": "b"})


class TestTraceFiles:
    def test_a_full_file_is_set_aside_and_the_oldest_go(self, tmp_path: Path) -> None:
        exporter = FileSpanExporter(tmp_path, "events", bytes_max=1, files_max=2)
        theirs = tmp_path / "events-mapper-1.jsonl"
        theirs.touch()

        for _ in range(5):
            assert exporter.export(some_spans(1)) is SpanExportResult.SUCCESS

        ours = sorted(path.name for path in tmp_path.iterdir() if path != theirs)
        stem = exporter.path.stem
        assert ours == [f"{stem}-4.jsonl", f"{stem}-5.jsonl"]
        assert theirs.exists()

    def test_files_of_earlier_processes_count_and_go_first(self, tmp_path: Path) -> None:
        earlier = [tmp_path / f"events-{number}.jsonl" for number in (1, 2, 3)]
        for age_s, path in enumerate(reversed(earlier), start=1):
            path.touch()
            seconds_ns = time.time_ns() - age_s * 1_000_000_000
            os.utime(path, ns=(seconds_ns, seconds_ns))

        FileSpanExporter(tmp_path, "events", files_max=3).export(some_spans(1))

        assert [path.exists() for path in earlier] == [False, True, True]

    def test_a_directory_that_was_emptied_fills_again(self, tmp_path: Path) -> None:
        exporter = FileSpanExporter(tmp_path / "traces", "events")
        exporter.export(some_spans(1))
        exporter.path.unlink()
        exporter.path.parent.rmdir()

        exporter.export(some_spans(2))

        assert len(records(tmp_path / "traces")) == 2

    def test_an_unwritable_directory_is_reported_once_an_outage(self, tmp_path: Path) -> None:
        logged = io.StringIO()
        setup_logging({}, logged)
        blocked = tmp_path / "traces"
        exporter = FileSpanExporter(blocked, "events")

        for _ in range(2):
            blocked.touch()
            assert exporter.export(some_spans(1)) is SpanExportResult.FAILURE
            assert exporter.export(some_spans(1)) is SpanExportResult.FAILURE
            blocked.unlink()
            assert exporter.export(some_spans(1)) is SpanExportResult.SUCCESS
            exporter.path.unlink()
            blocked.rmdir()

        assert logged.getvalue().count("trace_file_unwritable") == 2
