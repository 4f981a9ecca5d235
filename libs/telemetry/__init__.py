"""Logs, spans and metrics, set up once for every service.

    with setup_telemetry("ingest", os.environ, state_dir=state_dir) as telemetry:
        log = get_logger(__name__)
        ref = telemetry.tracer.start_trace()
        stored = telemetry.metrics.counter(metric_names.INGEST_DELIVERIES, …)

Only libs start spans and count; a handler is given what it may add to.
"""

from opentelemetry.trace import SpanKind

from libs.telemetry.attributes import ATTRIBUTES, ID_ATTRIBUTES, AttributeValue
from libs.telemetry.logs import get_logger, in_trace, setup_logging
from libs.telemetry.metrics import Counter, Histogram, Metrics, render_prometheus
from libs.telemetry.records import SpanRecord, record_of
from libs.telemetry.setup import TRACES_FOLDER, Telemetry, setup_telemetry
from libs.telemetry.tracing import (
    LINKS_MAX,
    TRACEPARENT,
    Sampler,
    SpanRef,
    Tracer,
)

__all__ = [
    "ATTRIBUTES",
    "ID_ATTRIBUTES",
    "LINKS_MAX",
    "TRACEPARENT",
    "TRACES_FOLDER",
    "AttributeValue",
    "Counter",
    "Histogram",
    "Metrics",
    "Sampler",
    "SpanKind",
    "SpanRecord",
    "SpanRef",
    "Telemetry",
    "Tracer",
    "get_logger",
    "in_trace",
    "record_of",
    "render_prometheus",
    "setup_logging",
    "setup_telemetry",
]
