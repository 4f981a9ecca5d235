"""One purchase from webhook to TikTok, found among the spans that the services wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cli.trace import Waterfall, arrange, load_spans
from libs.clock import Clock
from libs.telemetry import SpanRecord

_SPANS_WITHIN_S: Final = 4.0
"""Services write their spans about once a second."""

_LOOK_EVERY_S: Final = 0.5
_WHOLE_WAY: Final = frozenset({"webhook received", "segment committed", "normalised", "published"})
_CANDIDATES_MAX: Final = 40


async def purchase_waterfall(directory: Path, clock: Clock) -> Waterfall | None:
    """The trace of a purchase that shows the most of its way; None where none was recorded.

    `directory` is that of the trace files. It is empty where spans go to a collector.
    """
    deadline_s = clock.monotonic_s() + _SPANS_WITHIN_S
    while True:
        found = _best(load_spans(directory))
        if found is not None and _is_whole(found):
            return found
        if clock.monotonic_s() > deadline_s:
            return found
        await clock.sleep(_LOOK_EVERY_S)


def _best(spans: list[SpanRecord]) -> Waterfall | None:
    traces = sorted({span.trace_id for span in spans if _reports_a_purchase(span)})
    # The traces of one batch call are all alike: a few of them are enough to choose from.
    few = set(traces[:_CANDIDATES_MAX])
    near = few | {trace for span in spans if span.trace_id in few for trace, _ in span.links}
    kept = [span for span in spans if span.trace_id in near or few & dict(span.links).keys()]
    found = [waterfall for trace_id in few for waterfall in arrange(kept, trace_id)]
    return max(found, key=_worth, default=None)


def _reports_a_purchase(span: SpanRecord) -> bool:
    of_purchase = span.attributes.get("kind") == "order_paid"
    return span.name == "fact consumed" and of_purchase and "reason" not in span.attributes


def _worth(waterfall: Waterfall) -> tuple[int, int, str]:
    """More kinds of steps first, then fewer rows; the id only so that ties always end alike."""
    names = {(row.span.service, row.span.name) for row in waterfall.rows}
    return len(names), -len(waterfall.rows), waterfall.trace_id


def _is_whole(waterfall: Waterfall) -> bool:
    return {row.span.name for row in waterfall.rows} >= _WHOLE_WAY
