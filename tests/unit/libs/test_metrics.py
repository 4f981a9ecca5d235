from __future__ import annotations

import re

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.resources import Resource

from libs import metric_names as names
from libs.metric_names import METRICS, MetricKind
from libs.telemetry import Metrics, render_prometheus
from libs.telemetry.otlp import metrics_data

UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}


class TestNames:
    def test_every_name_constant_has_an_entry_and_every_entry_a_constant(self) -> None:
        constants = {
            value
            for name, value in vars(names).items()
            if name.isupper() and isinstance(value, str)
        }

        assert constants == METRICS.keys()

    @pytest.mark.parametrize("name", METRICS)
    def test_a_name_tells_its_suite_unit_and_kind(self, name: str) -> None:
        spec = METRICS[name]

        assert re.fullmatch(r"tidewire_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (spec.kind is MetricKind.COUNTER)
        assert name.endswith(UNIT_SUFFIXES.get(spec.unit, ""))
        assert spec.meaning.endswith(".")

    @pytest.mark.parametrize("name", METRICS)
    def test_no_label_grows_with_the_customers(self, name: str) -> None:
        assert not {"shop", "shop_id", "connection", "id", "topic"} & set(METRICS[name].labels)

    @pytest.mark.parametrize("name", METRICS)
    def test_histograms_alone_have_buckets_and_these_ascend(self, name: str) -> None:
        spec = METRICS[name]

        assert bool(spec.buckets) == (spec.kind is MetricKind.HISTOGRAM)
        assert list(spec.buckets) == sorted(set(spec.buckets))


class TestRegistry:
    def test_the_same_name_and_labels_are_the_same_counter(self) -> None:
        metrics = Metrics()

        metrics.counter(names.INGEST_DELIVERIES, source="shopify", outcome="stored").add()
        metrics.counter(names.INGEST_DELIVERIES, outcome="stored", source="shopify").add(2)
        other = metrics.counter(names.INGEST_DELIVERIES, source="shopify", outcome="late")

        stored = metrics.counter(names.INGEST_DELIVERIES, source="shopify", outcome="stored")
        assert (stored.value, other.value) == (3, 0)

    def test_an_unknown_name_another_kind_and_other_labels_are_refused(self) -> None:
        metrics = Metrics()

        with pytest.raises(ValueError, match="not in libs"):
            metrics.counter("tidewire_made_up_total")
        with pytest.raises(ValueError, match="is a histogram, not a counter"):
            metrics.counter(names.INGEST_COMMIT)
        with pytest.raises(ValueError, match="labels"):
            metrics.counter(names.NORMALIZER_FACTS, kind="paid", shop="a.myshopify.com")
        with pytest.raises(ValueError, match="labels"):
            metrics.counter(names.NORMALIZER_FACTS)
        with pytest.raises(ValueError, match="labels"):
            metrics.gauge(names.NORMALIZER_LAG, lambda: 0.0, lane="3")
        assert render_prometheus(metrics) == ""

    def test_too_many_label_values_are_counted_together_and_that_is_counted(self) -> None:
        metrics = Metrics(series_max=2)

        for code in ("a", "b", "c", "d"):
            metrics.counter(names.INGEST_COMMIT_FAILURES, code=code).add()
        metrics.counter(names.INGEST_COMMIT_FAILURES, code="a").add()

        text = render_prometheus(metrics)
        assert 'commit_failures_total{code="a"} 2' in text
        assert 'commit_failures_total{code="other"} 2' in text
        assert 'code="c"' not in text
        folded = metrics.counter(names.SERIES_FOLDED, metric=names.INGEST_COMMIT_FAILURES)
        assert folded.value == 2

    def test_a_value_on_a_bound_belongs_to_that_bucket(self) -> None:
        histogram = Metrics().histogram(names.INGEST_SEGMENT_DELIVERIES)

        for value in (0.5, 1.0, 1.5, 1000.0, 1001.0):
            histogram.observe(value)

        assert histogram.counts[:2] == [2, 1]
        assert histogram.counts[-2:] == [1, 1]
        assert (histogram.count, histogram.total) == (5, 2004.0)

    def test_a_gauge_is_read_when_asked_and_the_last_reader_counts(self) -> None:
        metrics, level = Metrics(), [1.0]
        metrics.gauge(names.INGEST_PENDING_BYTES, lambda: -1.0)
        metrics.gauge(names.INGEST_PENDING_BYTES, lambda: level[0])

        level[0] = 4096.0

        assert "tidewire_ingest_pending_bytes 4096\n" in render_prometheus(metrics)


class TestPrometheus:
    def test_a_counter_and_a_histogram_read_as_the_format_wants(self) -> None:
        metrics = Metrics()
        metrics.counter(names.EVENTS_SENT, event_name="Purchase", dialect="event_track").add(7)
        batch = metrics.histogram(names.EVENTS_BATCH, dialect="event_track")
        batch.observe(1)
        batch.observe(700)

        text = render_prometheus(metrics).splitlines()

        assert text[:3] == [
            "# HELP tidewire_events_batch_events Events in one request.",
            "# TYPE tidewire_events_batch_events histogram",
            'tidewire_events_batch_events_bucket{dialect="event_track",le="1"} 1',
        ]
        assert text[11:17] == [
            'tidewire_events_batch_events_bucket{dialect="event_track",le="1000"} 2',
            'tidewire_events_batch_events_bucket{dialect="event_track",le="+Inf"} 2',
            'tidewire_events_batch_events_sum{dialect="event_track"} 701',
            'tidewire_events_batch_events_count{dialect="event_track"} 2',
            "# HELP tidewire_events_sent_total Events the upstream accepted.",
            "# TYPE tidewire_events_sent_total counter",
        ]
        assert text[17:] == [
            'tidewire_events_sent_total{dialect="event_track",event_name="Purchase"} 7'
        ]

    def test_quotes_line_ends_and_backslashes_in_labels_are_escaped(self) -> None:
        metrics = Metrics()
        metrics.counter(names.INGEST_COMMIT_FAILURES, code='a"b\\c\nd').add()

        assert r'{code="a\"b\\c\nd"} 1' in render_prometheus(metrics)

    @pytest.mark.parametrize(
        ("value", "written"),
        [(0.25, "0.25"), (3.0, "3"), (float("inf"), "+Inf"), (float("nan"), "NaN")],
    )
    def test_numbers_are_written_as_the_format_wants(self, value: float, written: str) -> None:
        metrics = Metrics()
        metrics.gauge(names.NORMALIZER_LAG, lambda: value)

        assert render_prometheus(metrics).endswith(f"_seconds {written}\n")


def test_the_registry_as_otlp_holds_every_kind_with_its_values() -> None:
    metrics = Metrics()
    metrics.counter(names.RPC_SERVED, method="/a/B", code="OK").add(3)
    metrics.gauge(names.NORMALIZER_LAG, lambda: 1.5)
    metrics.histogram(names.INGEST_COMMIT).observe(0.004)

    sent = encode_metrics(
        metrics_data(metrics, Resource({"service.name": "x"}), start_ns=1, now_ns=2)
    )

    found = {one.name: one for one in sent.resource_metrics[0].scope_metrics[0].metrics}
    total = found[names.RPC_SERVED].sum
    assert total.is_monotonic
    assert (total.data_points[0].as_int, total.data_points[0].start_time_unix_nano) == (3, 1)
    assert {one.key: one.value.string_value for one in total.data_points[0].attributes} == {
        "code": "OK",
        "method": "/a/B",
    }
    assert found[names.NORMALIZER_LAG].gauge.data_points[0].as_double == 1.5
    histogram = found[names.INGEST_COMMIT].histogram.data_points[0]
    assert (histogram.count, histogram.sum) == (1, 0.004)
    assert not histogram.HasField("min")
    assert not histogram.HasField("max")
    assert list(histogram.bucket_counts).index(1) == 2
    assert list(histogram.explicit_bounds) == list(METRICS[names.INGEST_COMMIT].buckets)
    assert found[names.INGEST_COMMIT].unit == "s"
