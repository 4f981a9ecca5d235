"""How many grants are in trouble, for those who watch the metrics."""

from __future__ import annotations

from libs import metric_names
from libs.clock import Clock
from libs.telemetry import Metrics
from services.auth.domain.timing import seconds
from services.auth.ports import Grants


def show(grants: Grants, clock: Clock, metrics: Metrics) -> None:
    """Has the metrics count what this process knows of."""
    metrics.gauge(metric_names.GRANTS_ENDED, lambda: float(_ended(grants)))
    metrics.gauge(
        metric_names.GRANTS_EXPIRED, lambda: float(_expired(grants, seconds(clock.now_ns())))
    )


def _ended(grants: Grants) -> int:
    """Those that need a person. What a person has ended keeps none, and needs nobody."""
    return sum(
        kept.record.needs_reauthorization and kept.record.HasField("grant") for kept in grants.all()
    )


def _expired(grants: Grants, now_s: float) -> int:
    """Those that have expired although something could refresh them."""
    return sum(
        kept.record.can_refresh
        and not kept.record.needs_reauthorization
        and kept.record.HasField("expires_at")
        and seconds(kept.record.expires_at.ToNanoseconds()) <= now_s
        for kept in grants.all()
    )
