"""Metrics as plain numbers: counting is one addition, and whoever exports them reads them.

The SDK's counter and histogram cost about 28 µs a request; these cost a fraction of one. They are
counted from one thread (the event loop's) and may be read from any.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, TypeVar

from libs.metric_names import METRICS, SERIES_FOLDED, MetricKind, MetricSpec

SERIES_MAX: Final = 256
"""Series of one metric; what would be one more is counted under `other`."""

Labels = tuple[tuple[str, str], ...]
"""Label keys and values, sorted by key."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount


class Histogram:
    """How often values fell into each bucket. `counts` has one more entry than `bounds`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts `value`, which belongs to the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Gauge:
    """A number that is read where it lives, at the moment somebody asks."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read


Series = Counter | Gauge | Histogram
S = TypeVar("S", Counter, Gauge, Histogram)


class Metrics:
    """All series of one process. Get a series once and keep it: finding it is not for a hot path.

    Every method raises ValueError for a name that `libs.metric_names` does not have, another kind
    than it has there, or other label keys.
    """

    def __init__(self, *, series_max: int = SERIES_MAX) -> None:
        self._series: dict[str, dict[Labels, Series]] = {}
        self._series_max = series_max

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter with these labels; asked twice, the same one."""
        _spec_of(name, MetricKind.COUNTER, labels)
        return self._series_of(name, labels, Counter)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram with these labels, in the buckets of its table entry."""
        spec = _spec_of(name, MetricKind.HISTOGRAM, labels)
        return self._series_of(name, labels, lambda: Histogram(spec.buckets))

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """From now on this series is what `read` returns; the last `read` given counts."""
        _spec_of(name, MetricKind.GAUGE, labels)
        self._series_of(name, labels, lambda: Gauge(read)).read = read

    def series(self) -> Iterator[tuple[str, MetricSpec, list[tuple[Labels, Series]]]]:
        """Every metric that has a series, with all of them, by name."""
        for name in sorted(self._series):
            yield name, METRICS[name], sorted(self._series[name].items(), key=lambda one: one[0])

    def _series_of(self, name: str, labels: dict[str, str], make: Callable[[], S]) -> S:
        known = self._series.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        if key not in known and len(known) >= self._series_max:
            self._series_of(SERIES_FOLDED, {"metric": name}, Counter).add()
            key = tuple((label, "other") for label, _ in key)
        # One name has one kind, so what is found is what `make` makes.
        return known.setdefault(key, make())  # type: ignore[return-value]


def _spec_of(name: str, kind: MetricKind, labels: Iterable[str]) -> MetricSpec:
    spec = METRICS.get(name)
    if spec is None:
        raise ValueError(f"{name} is not in libs.metric_names")
    if spec.kind is not kind:
        raise ValueError(f"{name} is a {spec.kind}, not a {kind}")
    if set(labels) != set(spec.labels):
        raise ValueError(f"{name} has the labels {list(spec.labels)}, not {sorted(labels)}")
    return spec


def render_prometheus(metrics: Metrics) -> str:
    """The Prometheus text exposition, format 0.0.4."""
    lines = []
    for name, spec, series in metrics.series():
        lines += [f"# HELP {name} {_escaped(spec.meaning)}", f"# TYPE {name} {spec.kind}"]
        for labels, one in series:
            lines += _samples(name, labels, one)
    return "".join(f"{line}\n" for line in lines)


def _samples(name: str, labels: Labels, series: Series) -> list[str]:
    match series:
        case Counter():
            return [f"{name}{_braces(labels)} {series.value}"]
        case Gauge():
            return [f"{name}{_braces(labels)} {_number(series.read())}"]
        case Histogram():
            return _histogram_samples(name, labels, series)


def _histogram_samples(name: str, labels: Labels, series: Histogram) -> list[str]:
    running = list(accumulate(series.counts))
    bounds = [*map(_number, series.bounds), "+Inf"]
    return [
        f"{name}_bucket{_braces((*labels, ('le', bound)))} {count}"
        for bound, count in zip(bounds, running, strict=True)
    ] + [
        f"{name}_sum{_braces(labels)} {_number(series.total)}",
        f"{name}_count{_braces(labels)} {running[-1]}",
    ]


def _braces(labels: Labels) -> str:
    pairs = ",".join(f'{key}="{_escaped(value, quote=True)}"' for key, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quote else escaped


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    return repr(int(value)) if value == int(value) else repr(float(value))
