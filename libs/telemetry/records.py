"""A finished span as one flat record: what the trace files hold, a JSON object a line."""

from __future__ import annotations

from typing import cast

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from opentelemetry.trace.status import StatusCode

from libs.telemetry.attributes import AttributeValue


class SpanRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finished span. Ids are lower-case hex; times are nanoseconds since the Unix epoch."""

    trace_id: str
    span_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    kind: str = "internal"
    parent_id: str | None = None
    attributes: dict[str, AttributeValue] = {}
    links: list[tuple[str, str]] = []
    """(trace id, span id) of each span this one is linked to."""
    links_dropped: int = 0
    error: str | None = None
    """What went wrong, for a person; None when nothing did."""


def record_of(span: ReadableSpan) -> SpanRecord:
    """The record of a span that has a context, as every span of `Tracer` has."""
    context = cast("SpanContext", span.context)
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        name=span.name,
        service=str(span.resource.attributes.get("service.name", "")),
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        kind=span.kind.name.lower(),
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        attributes=cast("dict[str, AttributeValue]", dict(span.attributes or {})),
        links=[
            (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links
        ],
        links_dropped=span.dropped_links,
        error=(span.status.description or "error")
        if span.status.status_code is StatusCode.ERROR
        else None,
    )
