"""Lean tracing: sampling is decided before a span exists, and a span is built once, when it ended.

A span made by the OpenTelemetry SDK costs about 60 µs, more than the rest of a webhook's handling.
Here the hot path keeps a `SpanRef` and two timestamps; whoever has time builds the span from them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Final

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from libs.clock import Clock, SystemClock
from libs.errors import Kind, ServiceError
from libs.ids import RandomBits, system_random_bits
from libs.telemetry.attributes import ATTRIBUTES, AttributeValue
from libs.telemetry.metrics import Counter

TRACEPARENT: Final = "traceparent"
"""The header, in HTTP, NATS and gRPC alike, that carries `SpanRef.traceparent()`."""

LINKS_MAX: Final = 1024
"""Links of one span: a batch holds up to 1,000 events, each with its own; the SDK keeps 128."""

NO_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = MappingProxyType({})
_SCOPE: Final = InstrumentationScope("tidewire")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_LOW_64_BITS: Final = (1 << 64) - 1
_ERROR_CHARS_MAX: Final = 500
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


class SpanRef(msgspec.Struct, frozen=True, gc=False):
    """Names one span, and says whether its trace is kept. Immutable, and cheap to make."""

    trace_id: int
    span_id: int
    sampled: bool

    def traceparent(self) -> str:
        """The W3C `traceparent` header that makes this span the parent of what the reader does."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"

    @property
    def trace_hex(self) -> str:
        """The trace id as people and collectors write it."""
        return f"{self.trace_id:032x}"

    @classmethod
    def parse(cls, text: str | None) -> SpanRef | None:
        """The span that a `traceparent` names (W3C Trace Context 3.2); None for anything else.

        A caller from the open internet could switch sampling on with it: believe it only where the
        sender is ours.
        """
        found = _TRACEPARENT.fullmatch(text.strip()) if text else None
        if found is None or found["version"] == "ff":
            return None
        if found["version"] == "00" and found["more"]:
            return None
        trace_id, span_id = int(found["trace"], 16), int(found["span"], 16)
        if not trace_id or not span_id:
            return None
        return cls(trace_id, span_id, bool(int(found["flags"], 16) & 1))


class Sampler:
    """Keeps the first `full_per_s` traces of every second, and `ratio` of the others.

    The ratio looks at the trace id alone (its low 64 bits, as OpenTelemetry's does), so every
    process that is asked gives the same answer.
    """

    def __init__(self, clock: Clock, *, full_per_s: int = 200, ratio: float = 0.01) -> None:
        self._monotonic_s = clock.monotonic_s
        self._full_per_s = full_per_s
        self._ids_below = round(ratio * (1 << 64))
        self._second_ends_s = float("-inf")
        self._kept = 0

    def keeps(self, trace_id: int) -> bool:
        now_s = self._monotonic_s()
        if now_s >= self._second_ends_s:
            self._second_ends_s = now_s + 1.0
            self._kept = 0
        if self._kept < self._full_per_s:
            self._kept += 1
            return True
        return trace_id & _LOW_64_BITS < self._ids_below


class Tracer:
    """Makes span references, and hands finished spans to `deliver` (None: to nobody).

    An attribute outside `ATTRIBUTES` raises when `strict` (as tests are), and is otherwise left
    out: what nobody has looked at for personal data does not leave the process.
    """

    def __init__(
        self,
        sampler: Sampler,
        deliver: Callable[[ReadableSpan], None] | None,
        *,
        clock: Clock | None = None,
        resource: Resource | None = None,
        random_bits: RandomBits = system_random_bits,
        strict: bool = False,
        emitted: Counter | None = None,
    ) -> None:
        # The module's own generator is seeded anew after a fork; one of ours would repeat its ids.
        self._random_bits = random_bits
        self._keeps = sampler.keeps
        self._deliver = deliver
        self._strict = strict
        self._resource = resource or Resource.get_empty()
        self.now_ns = (clock or SystemClock()).now_ns
        self._emitted = emitted or Counter()

    def start_trace(self) -> SpanRef:
        """The root of a new trace, with the decision whether it is kept."""
        trace_id = self._random_bits(128) or 1
        return SpanRef(trace_id, self._random_bits(64) or 1, self._keeps(trace_id))

    def child(self, parent: SpanRef) -> SpanRef:
        """A new span in the parent's trace, kept if the parent is."""
        return SpanRef(parent.trace_id, self._random_bits(64) or 1, parent.sampled)

    def emit(
        self,
        name: str,
        ref: SpanRef,
        *,
        parent: SpanRef | None,
        start_ns: int,
        end_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] = NO_ATTRIBUTES,
        links: Sequence[SpanRef] = (),
        error: ServiceError | None = None,
    ) -> None:
        """Delivers the span that `ref` names; one with an error also when its trace is not kept.

        Times are nanoseconds since the Unix epoch. Beyond `LINKS_MAX` links the last are kept, and
        the span says how many it lost.

        Raises:
            ValueError: an attribute is not in `ATTRIBUTES`, and the tracer is strict.
        """
        if self._strict:
            _refuse_unknown(attributes)
        if self._deliver is None or not (ref.sampled or error is not None):
            return
        self._emitted.add()
        self._deliver(
            ReadableSpan(
                name,
                _context(ref),
                parent=_context(parent) if parent is not None else None,
                resource=self._resource,
                attributes=_known(attributes, error),
                links=_links(links) if links else (),
                kind=kind,
                status=_status(error) if error is not None else _UNSET,
                start_time=start_ns,
                end_time=end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    def span(
        self,
        name: str,
        parent: SpanRef | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] = NO_ATTRIBUTES,
        links: Sequence[SpanRef] = (),
    ) -> OpenSpan:
        """A span around a `with` block that gets its `SpanRef`; without a parent, a new trace.

        `attributes` is read when the block ends: pass a dict of your own and add to it on the way.
        An exception that leaves the block marks the span and goes on.
        """
        ref = self.start_trace() if parent is None else self.child(parent)
        return OpenSpan(self, name, ref, parent, kind, attributes, links)


class OpenSpan:
    """The `with` block of `Tracer.span`."""

    __slots__ = (
        "_attributes",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_start_ns",
        "_tracer",
        "ref",
    )

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        ref: SpanRef,
        parent: SpanRef | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[SpanRef],
    ) -> None:
        self._tracer = tracer
        self._name = name
        self.ref = ref
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._links = links
        self._start_ns = 0

    def __enter__(self) -> SpanRef:
        self._start_ns = self._tracer.now_ns()
        return self.ref

    def __exit__(
        self,
        raised_type: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tracer.emit(
            self._name,
            self.ref,
            parent=self._parent,
            start_ns=self._start_ns,
            end_ns=self._tracer.now_ns(),
            kind=self._kind,
            attributes=self._attributes,
            links=self._links,
            error=_as_service_error(raised) if raised is not None else None,
        )


def _context(ref: SpanRef) -> SpanContext:
    # Always marked as sampled: whoever gets here is exported, and the batch processor asks again.
    return SpanContext(ref.trace_id, ref.span_id, is_remote=False, trace_flags=_SAMPLED)


def _links(refs: Sequence[SpanRef]) -> Sequence[Link]:
    links = [Link(_context(ref)) for ref in refs]
    return links if len(links) <= LINKS_MAX else BoundedList.from_seq(LINKS_MAX, links)


def _status(error: ServiceError) -> Status:
    return Status(StatusCode.ERROR, (error.message or error.code)[:_ERROR_CHARS_MAX])


def _refuse_unknown(attributes: Mapping[str, AttributeValue]) -> None:
    if unknown := sorted(attributes.keys() - ATTRIBUTES.keys()):
        raise ValueError(f"not in libs.telemetry.ATTRIBUTES: {', '.join(unknown)}")


def _known(
    attributes: Mapping[str, AttributeValue], error: ServiceError | None
) -> dict[str, AttributeValue]:
    """A copy, since the caller may go on with its dict while the span waits for its export."""
    known = dict(attributes)
    if not known.keys() <= ATTRIBUTES.keys():
        known = {key: value for key, value in known.items() if key in ATTRIBUTES}
    if error is not None:
        known["error.kind"], known["error.code"] = error.kind.value, error.code
    return known


def _as_service_error(raised: BaseException) -> ServiceError:
    """The error a span shows. Of a foreign one only the type: its text may quote the input."""
    if isinstance(raised, ServiceError):
        return raised
    if isinstance(raised, asyncio.CancelledError):
        return ServiceError(Kind.RETRYABLE, "cancelled")
    return ServiceError(Kind.RETRYABLE, f"unforeseen/{type(raised).__name__}")
