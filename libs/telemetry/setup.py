"""Telemetry of one process: built from the environment, torn down within a bounded time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, Self
from urllib.parse import unquote

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from libs import metric_names
from libs.clock import Clock, SystemClock
from libs.errors import permanent
from libs.ids import RandomBits, system_random_bits
from libs.telemetry.files import FileSpanExporter
from libs.telemetry.logs import setup_logging
from libs.telemetry.metrics import Metrics
from libs.telemetry.records import SpanRecord, record_of
from libs.telemetry.tracing import Sampler, Tracer

SHUTDOWN_S: Final = 5.0
"""How long a collector that does not answer may hold up a process's end, for each signal."""

TRACES_FOLDER: Final = "traces"
"""Where under the state directory the trace files are."""

_FILE_DELAY_MS: Final = 200.0
_COLLECTOR_DELAY_MS: Final = 1_000.0
_EXPORT_SPANS: Final = 512
_QUEUE_SPANS_DEFAULT: Final = 8_192
"""Spans waiting for export: a normalizer's batch of 500 deliveries gives 2,000 at a stroke."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the environment says about telemetry. Endpoints are full URLs; None is "not there"."""

    service_name: str
    resource_attributes: Mapping[str, str]
    traces_endpoint: str | None
    metrics_endpoint: str | None
    metrics_interval_s: float
    full_traces_per_s: int
    trace_ratio: float
    queue_spans: int
    disabled: bool

    @property
    def export_delay_ms(self) -> float:
        """How long a span may wait: a person is watching the files, nobody the collector."""
        return _COLLECTOR_DELAY_MS if self.traces_endpoint else _FILE_DELAY_MS

    @classmethod
    def of(cls, service: str, environ: Mapping[str, str]) -> TelemetrySettings:
        """The settings in `environ`: OpenTelemetry's own, and two `TIDEWIRE_TRACE_…`.

        Raises:
            ServiceError: PERMANENT, `settings_unreadable`, naming every bad variable.
        """
        numbers = _Numbers(environ)
        attributes = _resource_attributes(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        name = environ.get("OTEL_SERVICE_NAME") or attributes.pop("service.name", "") or service
        read = cls(
            service_name=name,
            resource_attributes=attributes,
            traces_endpoint=_endpoint(environ, "traces"),
            metrics_endpoint=_endpoint(environ, "metrics"),
            metrics_interval_s=numbers.read("OTEL_METRIC_EXPORT_INTERVAL", 60_000, 1e9) / 1000,
            full_traces_per_s=int(numbers.read("TIDEWIRE_TRACE_FULL_PER_S", 200, 1e9)),
            trace_ratio=numbers.read("TIDEWIRE_TRACE_RATIO", 0.01, 1),
            queue_spans=int(numbers.read("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE_SPANS_DEFAULT, 1e6)),
            disabled=_disabled(environ),
        )
        if numbers.problems:
            raise permanent("settings_unreadable", "; ".join(numbers.problems))
        return read


class _Numbers:
    """Reads numbers from the environment, and remembers every one that is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def read(self, name: str, default: float, most: float) -> float:
        text = self._environ.get(name) or str(default)
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most:
            self.problems.append(f"{name} must be a number from 0 to {most:g}")
        return number


class Telemetry:
    """The tracer and the metrics of one process. Leaving its `with` block sends what is left."""

    def __init__(
        self,
        tracer: Tracer,
        metrics: Metrics,
        *,
        finished: Sequence[SpanRecord] = (),
        flush: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.tracer = tracer
        self.metrics = metrics
        self.finished = finished
        """The spans so far, of a recording telemetry; otherwise empty."""
        self.flush = flush
        self.shutdown = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        raised_type: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @classmethod
    def null(cls, clock: Clock | None = None) -> Telemetry:
        """Keeps no span and opens nothing; still refuses unknown attributes and metrics."""
        clock = clock or SystemClock()
        nothing = Sampler(clock, full_per_s=0, ratio=0)
        return cls(Tracer(nothing, None, clock=clock, strict=True), Metrics())

    @classmethod
    def recording(
        cls,
        clock: Clock | None = None,
        *,
        service: str = "test",
        random_bits: RandomBits = system_random_bits,
    ) -> Telemetry:
        """Keeps every span in `finished`, in the order of their ends."""
        clock = clock or SystemClock()
        finished: list[SpanRecord] = []
        tracer = Tracer(
            Sampler(clock, ratio=1),
            lambda span: finished.append(record_of(span)),
            clock=clock,
            resource=Resource({"service.name": service}),
            random_bits=random_bits,
            strict=True,
        )
        return cls(tracer, Metrics(), finished=finished)


def setup_telemetry(
    service: str,
    environ: Mapping[str, str],
    *,
    state_dir: Path | None,
    shutdown_s: float = SHUTDOWN_S,
) -> Telemetry:
    """Logging set up, and the telemetry that `environ` asks for.

    Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` where that is set, else to `<state_dir>/traces`, else
    nowhere. Metrics go to the endpoint as well; `/metrics` has them in any case.
    `shutdown_s` bounds the wait for a collector at the end, for spans and for metrics each.

    Raises:
        ServiceError: PERMANENT, `settings_unreadable` or `log_level_unknown`.
    """
    settings = TelemetrySettings.of(service, environ)
    setup_logging(environ)
    metrics, clock = Metrics(), SystemClock()
    resource = _resource(settings)
    spans = _span_pipeline(settings, service, metrics, state_dir)
    stop_metrics = _pushed(settings, metrics, resource, shutdown_s)
    tracer = Tracer(
        Sampler(clock, full_per_s=settings.full_traces_per_s, ratio=settings.trace_ratio),
        spans.on_end if spans else None,
        clock=clock,
        resource=resource,
        emitted=metrics.counter(metric_names.SPANS, result="emitted"),
    )
    if spans is None:
        return Telemetry(tracer, metrics, close=stop_metrics)

    def close() -> None:
        spans.close(shutdown_s)
        stop_metrics()

    return Telemetry(tracer, metrics, flush=spans.flush, close=close)


class _SpanPipeline:
    """The queue of finished spans, the thread that exports them, and how both end."""

    def __init__(self, exporter: SpanExporter, settings: TelemetrySettings) -> None:
        self._exporter = exporter
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=settings.queue_spans,
            schedule_delay_millis=settings.export_delay_ms,
            max_export_batch_size=min(_EXPORT_SPANS, settings.queue_spans),
        )
        self.on_end = self._processor.on_end

    def flush(self) -> None:
        """Exports what is queued, and returns when that is done."""
        self._processor.force_flush()

    def close(self, timeout_s: float) -> None:
        # An exporter that was shut down stops waiting for its collector; without this the queue
        # of a process whose collector is gone would take half a minute to give up.
        impatience = threading.Timer(timeout_s, self._exporter.shutdown)
        impatience.daemon = True
        impatience.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        impatience.cancel()
        impatience.join()


class _Counted(SpanExporter):
    """An exporter that counts what became of the spans; shut down once, however often asked."""

    def __init__(self, exporter: SpanExporter, metrics: Metrics) -> None:
        self._exporter = exporter
        self._exported = metrics.counter(metric_names.SPANS, result="exported")
        self._failed = metrics.counter(metric_names.SPANS, result="failed")
        self._open = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans) if self._open else SpanExportResult.FAILURE
        succeeded = result is SpanExportResult.SUCCESS
        (self._exported if succeeded else self._failed).add(len(spans))
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        if self._open:
            self._open = False
            self._exporter.shutdown()


def _span_pipeline(
    settings: TelemetrySettings, service: str, metrics: Metrics, state_dir: Path | None
) -> _SpanPipeline | None:
    exporter: SpanExporter
    if settings.traces_endpoint is not None:
        exporter = _otlp().span_exporter(settings.traces_endpoint)
    elif state_dir is not None and not settings.disabled:
        exporter = FileSpanExporter(state_dir / TRACES_FOLDER, service)
    else:
        return None
    return _SpanPipeline(_Counted(exporter, metrics), settings)


def _pushed(
    settings: TelemetrySettings, metrics: Metrics, resource: Resource, shutdown_s: float
) -> Callable[[], None]:
    """Starts sending the metrics where a collector is set; returns what ends it."""
    if settings.metrics_endpoint is None:
        return lambda: None
    pusher = _otlp().MetricPusher(
        metrics,
        resource,
        endpoint=settings.metrics_endpoint,
        interval_s=settings.metrics_interval_s,
    )
    return lambda: pusher.stop(shutdown_s)


def _otlp() -> ModuleType:
    # Imported only where a collector is set: it brings a whole HTTP client along.
    return import_module("libs.telemetry.otlp")


def _resource(settings: TelemetrySettings) -> Resource:
    return Resource(
        {
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
            "process.pid": os.getpid(),
            **settings.resource_attributes,
            "service.name": settings.service_name,
        }
    )


def _resource_attributes(text: str) -> dict[str, str]:
    """`OTEL_RESOURCE_ATTRIBUTES`: pairs of key=value, percent-encoded, between commas."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {key.strip(): unquote(value.strip()) for key, found, value in pairs if found}


def _endpoint(environ: Mapping[str, str], signal: str) -> str | None:
    """The URL for `traces` or `metrics`; a general endpoint gets the signal's path appended."""
    if _disabled(environ):
        return None
    if own := environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"):
        return own
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"{base.rstrip('/')}/v1/{signal}" if base else None


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
