from __future__ import annotations

import asyncio

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError, permanent
from libs.telemetry import (
    ATTRIBUTES,
    LINKS_MAX,
    AttributeValue,
    Sampler,
    SpanKind,
    SpanRef,
    Telemetry,
    Tracer,
)

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN = 0x00F067AA0BA902B7
HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECOND_NS = 1_000_000_000


def emit(tracer: Tracer, ref: SpanRef, *, error: ServiceError | None = None) -> None:
    tracer.emit("commit", ref, parent=None, start_ns=1, end_ns=2, error=error)


def collecting(*, strict: bool = False) -> tuple[Tracer, list[ReadableSpan]]:
    spans: list[ReadableSpan] = []
    return Tracer(Sampler(FakeClock(), ratio=1), spans.append, strict=strict), spans


class TestSpanRef:
    def test_a_traceparent_is_the_w3c_header_of_its_span(self) -> None:
        assert SpanRef(TRACE, SPAN, sampled=True).traceparent() == HEADER
        assert SpanRef(1, 2, sampled=False).traceparent() == f"00-{1:032x}-{2:016x}-00"

    def test_a_traceparent_that_was_written_is_read_as_the_same_span(self) -> None:
        for ref in (SpanRef(TRACE, SPAN, sampled=True), SpanRef(1, (1 << 64) - 1, sampled=False)):
            assert SpanRef.parse(ref.traceparent()) == ref

    @pytest.mark.parametrize(
        ("text", "sampled"),
        [
            (f" {HEADER}\n", True),
            (HEADER[:-2] + "00", False),
            (HEADER[:-2] + "03", True),
            (HEADER[:-2] + "02", False),
            ("cc" + HEADER[2:] + "-what-comes-later", True),
        ],
    )
    def test_white_space_other_flags_and_later_versions_are_understood(
        self, text: str, *, sampled: bool
    ) -> None:
        assert SpanRef.parse(text) == SpanRef(TRACE, SPAN, sampled)

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "nonsense",
            HEADER.upper(),
            HEADER[:-1],
            HEADER + "-more",
            HEADER + "0",
            "ff" + HEADER[2:],
            "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ],
    )
    def test_what_is_no_traceparent_is_none(self, text: str | None) -> None:
        assert SpanRef.parse(text) is None


class TestSampling:
    def test_beyond_the_full_rate_only_the_ratio_is_kept_until_the_second_is_over(self) -> None:
        clock = FakeClock()
        tracer = Tracer(Sampler(clock, full_per_s=3, ratio=0), None)

        first = [tracer.start_trace().sampled for _ in range(5)]
        clock.advance(0.999)
        late = tracer.start_trace().sampled
        clock.advance(0.001)
        second = [tracer.start_trace().sampled for _ in range(5)]

        assert first == [True, True, True, False, False]
        assert not late
        assert second == [True, True, True, False, False]

    def test_the_ratio_looks_at_the_low_half_of_the_trace_id(self) -> None:
        sampler = Sampler(FakeClock(), full_per_s=0, ratio=0.25)
        quarter = 1 << 62

        assert sampler.keeps(quarter - 1)
        assert sampler.keeps((0xFFFF << 64) + quarter - 1)
        assert not sampler.keeps(quarter)

    def test_a_ratio_of_one_keeps_every_trace_and_of_zero_none(self) -> None:
        assert Sampler(FakeClock(), full_per_s=0, ratio=1).keeps((1 << 128) - 1)
        assert not Sampler(FakeClock(), full_per_s=0, ratio=0).keeps(0)

    def test_a_child_stays_in_its_parents_trace_and_shares_its_decision(self) -> None:
        tracer, _ = collecting()
        for sampled in (True, False):
            parent = SpanRef(TRACE, SPAN, sampled)

            child = tracer.child(parent)

            assert (child.trace_id, child.sampled) == (TRACE, sampled)
            assert child.span_id not in {0, SPAN}

    def test_ids_are_never_zero_which_would_mean_no_span(self) -> None:
        tracer = Tracer(Sampler(FakeClock()), None, random_bits=lambda _bits: 0)

        root = tracer.start_trace()

        assert SpanRef.parse(root.traceparent()) == root


class TestEmit:
    def test_a_span_has_the_times_parent_kind_and_attributes_it_was_given(self) -> None:
        telemetry = Telemetry.recording(service="ingest")
        root = telemetry.tracer.start_trace()
        ref = telemetry.tracer.child(root)

        telemetry.tracer.emit(
            "receive",
            ref,
            parent=root,
            start_ns=5,
            end_ns=9,
            kind=SpanKind.SERVER,
            attributes={"delivery_id": "d-1", "bytes": 7},
        )

        (span,) = telemetry.finished
        assert (span.trace_id, span.span_id) == (f"{ref.trace_id:032x}", f"{ref.span_id:016x}")
        assert span.parent_id == f"{root.span_id:016x}"
        assert (span.name, span.service, span.kind) == ("receive", "ingest", "server")
        assert (span.start_ns, span.end_ns) == (5, 9)
        assert span.attributes == {"delivery_id": "d-1", "bytes": 7}
        assert span.error is None

    def test_a_span_of_a_trace_that_is_not_kept_is_emitted_only_with_an_error(self) -> None:
        tracer, spans = collecting()
        unsampled = SpanRef(TRACE, SPAN, sampled=False)

        emit(tracer, unsampled)
        emit(tracer, unsampled, error=permanent("bad_line", "line 3 has no price"))

        (span,) = spans
        assert span.context is not None
        assert span.context.trace_flags.sampled
        assert dict(span.attributes or {}) == {"error.kind": "permanent", "error.code": "bad_line"}
        assert span.status.description == "line 3 has no price"

    def test_an_attribute_that_nobody_listed_raises_in_tests_and_never_leaves_otherwise(
        self,
    ) -> None:
        strict, _ = collecting(strict=True)
        lenient, spans = collecting()
        attributes: dict[str, AttributeValue] = {"email": "a@b.example", "shop": "s"}
        ref = SpanRef(TRACE, SPAN, sampled=True)

        with pytest.raises(ValueError, match="email"):
            strict.emit("x", ref, parent=None, start_ns=1, end_ns=2, attributes=attributes)
        lenient.emit("x", ref, parent=None, start_ns=1, end_ns=2, attributes=attributes)

        assert dict(spans[0].attributes or {}) == {"shop": "s"}

    def test_a_null_telemetry_refuses_unlisted_attributes_as_well(self) -> None:
        with Telemetry.null() as telemetry, pytest.raises(ValueError, match="phone"):
            telemetry.tracer.emit(
                "x",
                telemetry.tracer.start_trace(),
                parent=None,
                start_ns=1,
                end_ns=2,
                attributes={"phone": "+15550100"},
            )

    def test_no_listed_attribute_is_named_after_personal_data_or_a_secret(self) -> None:
        words = {"email", "phone", "name", "address", "ip", "token", "secret", "body", "agent"}
        allowed = {"event_name"}

        suspicious = {
            key
            for key in ATTRIBUTES.keys() - allowed
            if words & set(key.replace(".", "_").split("_"))
        }

        assert suspicious == {"messaging.destination.name"}

    def test_what_the_caller_does_with_its_dict_afterwards_does_not_change_the_span(self) -> None:
        tracer, spans = collecting()
        attributes: dict[str, AttributeValue] = {"shop": "first"}

        tracer.emit(
            "x", tracer.start_trace(), parent=None, start_ns=1, end_ns=2, attributes=attributes
        )
        attributes["shop"] = "second"

        assert dict(spans[0].attributes or {}) == {"shop": "first"}

    def test_a_thousand_links_reach_a_collector(self) -> None:
        tracer, spans = collecting()
        links = [tracer.start_trace() for _ in range(1000)]

        tracer.emit("batch", tracer.start_trace(), parent=None, start_ns=1, end_ns=2, links=links)

        sent = encode_spans(spans).resource_spans[0].scope_spans[0].spans[0]
        assert [int.from_bytes(link.span_id, "big") for link in sent.links] == [
            link.span_id for link in links
        ]
        assert sent.dropped_links_count == 0

    def test_links_beyond_the_limit_are_counted_as_dropped(self) -> None:
        telemetry = Telemetry.recording()
        tracer = telemetry.tracer
        links = [tracer.start_trace() for _ in range(LINKS_MAX + 3)]

        tracer.emit("batch", tracer.start_trace(), parent=None, start_ns=1, end_ns=2, links=links)

        (span,) = telemetry.finished
        assert len(span.links) == LINKS_MAX
        assert span.links_dropped == 3


class TestSpanBlock:
    def test_a_block_is_a_child_that_lasts_as_long_as_the_block(self) -> None:
        clock = FakeClock(100)
        telemetry = Telemetry.recording(clock)
        attributes: dict[str, AttributeValue] = {"upstream": "tiktok"}

        with telemetry.tracer.span("outer", None) as outer:
            clock.advance(1)
            with telemetry.tracer.span(
                "inner", outer, kind=SpanKind.CLIENT, attributes=attributes, links=[outer]
            ) as inner:
                clock.advance(2)
                attributes["http.response.status_code"] = 200

        first, second = telemetry.finished
        assert (first.name, second.name) == ("inner", "outer")
        assert first.parent_id == f"{outer.span_id:016x}"
        assert first.span_id == f"{inner.span_id:016x}"
        assert (first.start_ns, first.end_ns) == (101 * SECOND_NS, 103 * SECOND_NS)
        assert first.attributes == {"upstream": "tiktok", "http.response.status_code": 200}
        assert first.links == [(outer.trace_hex, f"{outer.span_id:016x}")]
        assert second.parent_id is None

    def test_a_service_error_marks_the_block_and_goes_on(self) -> None:
        telemetry = Telemetry.recording()
        error = ServiceError(Kind.AUTH, "token_revoked", "connect the shop again")

        with pytest.raises(ServiceError) as raised, telemetry.tracer.span("call", None):
            raise error

        (span,) = telemetry.finished
        assert raised.value is error
        assert span.error == "connect the shop again"
        assert span.attributes == {"error.kind": "auth", "error.code": "token_revoked"}

    def test_the_text_of_a_foreign_exception_stays_out_of_the_span(self) -> None:
        telemetry = Telemetry.recording()

        with pytest.raises(ValueError, match="jane"), telemetry.tracer.span("call", None):
            raise ValueError("jane@example.com is no number")

        (span,) = telemetry.finished
        assert span.error == "unforeseen/ValueError"
        assert "jane" not in repr(span)

    async def test_a_cancelled_block_is_marked_as_cancelled(self) -> None:
        telemetry = Telemetry.recording()

        with pytest.raises(asyncio.CancelledError), telemetry.tracer.span("call", None):
            raise asyncio.CancelledError

        assert telemetry.finished[0].error == "cancelled"
