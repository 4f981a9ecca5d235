"""What senders count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from libs import metric_names
from libs.errors import ServiceError
from libs.telemetry import Metrics
from services.catalog.comparing import Outgoing
from services.catalog.domain.fates import Settled
from services.catalog.domain.waiting import Act, Waiting


class Tally:
    """Submits, items by how they ended, and how long products have waited."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def submit(self, act: Act, failure: ServiceError | None) -> None:
        """A request was made."""
        result = failure.kind.value if failure else "ok"
        self._metrics.counter(metric_names.CATALOG_SUBMITS, act=act.value, result=result).value += 1

    def delays(self, items: Sequence[Outgoing], waiting: Waiting, now_s: float) -> None:
        """A request with these items has gone."""
        for product_id in dict.fromkeys(one.sent.product_id for one in items):
            delay = waiting.delay_of(product_id, now_s)
            if delay is not None:
                urgency = "urgent" if delay[1] else "ordinary"
                self._metrics.histogram(metric_names.CATALOG_DELAY, urgency=urgency).observe(
                    delay[0]
                )

    def ended(self, ends: Sequence[Settled]) -> None:
        """What became of items is known."""
        for fate, count in Counter(end.fate.value for end in ends).items():
            self._metrics.counter(metric_names.CATALOG_ITEMS, result=fate).value += count
