"""Spans and metrics to a collector, by OTLP over HTTP.

TLS, headers, compression and time limits come from the standard `OTEL_EXPORTER_OTLP_*` variables,
which the exporters read by themselves.
"""

from __future__ import annotations

import threading
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as points
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from libs.clock import SystemClock
from libs.metric_names import MetricKind, MetricSpec
from libs.telemetry.logs import get_logger
from libs.telemetry.metrics import Counter, Gauge, Histogram, Labels, Metrics, Series

_CUMULATIVE: Final = points.AggregationTemporality.CUMULATIVE
_SCOPE: Final = InstrumentationScope("tidewire")

_log = get_logger(__name__)


def span_exporter(endpoint: str) -> SpanExporter:
    """An exporter to the full URL `endpoint`."""
    return OTLPSpanExporter(endpoint=endpoint)


_CLOCK: Final = SystemClock()


class MetricPusher:
    """Sends every metric each `interval_s` seconds, and once more when it is stopped.

    The points are built straight from the registry: OpenTelemetry has observable counters and
    gauges, but no observable histogram.
    """

    def __init__(
        self, metrics: Metrics, resource: Resource, *, endpoint: str, interval_s: float
    ) -> None:
        self._metrics = metrics
        self._resource = resource
        self._exporter = OTLPMetricExporter(endpoint=endpoint)
        self._interval_s = interval_s
        self._start_ns = _CLOCK.now_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric-pusher", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Sends the last values, and gives up on them after `timeout_s`."""
        self._stopping.set()
        self._thread.join(timeout_s)
        self._exporter.shutdown(timeout_millis=0)
        # The exporter's shutdown ends its waiting between tries.
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._push()
        self._push()

    def _push(self) -> None:
        now_ns = _CLOCK.now_ns()
        try:
            self._exporter.export(
                metrics_data(self._metrics, self._resource, start_ns=self._start_ns, now_ns=now_ns)
            )
        except Exception:  # noqa: BLE001
            # A gauge whose source is gone must not end the metrics of the whole process.
            _log.exception("metrics_not_pushed")


def metrics_data(
    metrics: Metrics, resource: Resource, *, start_ns: int, now_ns: int
) -> points.MetricsData:
    """The registry as OpenTelemetry's data model: cumulative since `start_ns`."""
    found = [
        points.Metric(
            name,
            spec.meaning,
            spec.unit,
            _data(spec, [_point(labels, one, start_ns, now_ns) for labels, one in series]),
        )
        for name, spec, series in metrics.series()
    ]
    scope = points.ScopeMetrics(scope=_SCOPE, metrics=found, schema_url="")
    return points.MetricsData([points.ResourceMetrics(resource, [scope], schema_url="")])


def _data(
    spec: MetricSpec, series: list[points.NumberDataPoint | points.HistogramDataPoint]
) -> points.Sum | points.Gauge | points.Histogram:
    numbers = [one for one in series if isinstance(one, points.NumberDataPoint)]
    match spec.kind:
        case MetricKind.COUNTER:
            return points.Sum(numbers, _CUMULATIVE, is_monotonic=True)
        case MetricKind.GAUGE:
            return points.Gauge(numbers)
        case MetricKind.HISTOGRAM:
            histograms = [one for one in series if isinstance(one, points.HistogramDataPoint)]
            return points.Histogram(histograms, _CUMULATIVE)


def _point(
    labels: Labels, series: Series, start_ns: int, now_ns: int
) -> points.NumberDataPoint | points.HistogramDataPoint:
    match series:
        case Counter():
            return points.NumberDataPoint(dict(labels), start_ns, now_ns, series.value)
        case Gauge():
            return points.NumberDataPoint(dict(labels), start_ns, now_ns, series.read())
        case Histogram():
            counts = tuple(series.counts)
            return points.HistogramDataPoint(
                attributes=dict(labels),
                start_time_unix_nano=start_ns,
                time_unix_nano=now_ns,
                count=sum(counts),
                sum=series.total,
                bucket_counts=counts,
                explicit_bounds=series.bounds,
                min=None,  # type: ignore[arg-type]  # not kept; the wire form has them optional
                max=None,  # type: ignore[arg-type]
            )
