"""How the limiter says no."""

from __future__ import annotations

from typing import Final

from libs.errors import Kind, ServiceError

LIMITS_UNREACHABLE: Final = "limits_unreachable"

UNREACHABLE_AGAIN_S = 0.1
"""How long nobody asks the shared state again, once it has not answered."""


class LimitedError(ServiceError):
    """THROTTLED by our own account, not an upstream's; `limit` is the one that is in the way."""

    def __init__(self, code: str, message: str, *, retry_after_s: float, limit: str) -> None:
        super().__init__(Kind.THROTTLED, code, message, retry_after_s=retry_after_s)
        self.limit = limit


def busy(limit: str, wait_s: float) -> LimitedError:
    """The turn would come later than the caller wants to wait."""
    return LimitedError(
        "limit_busy", f"{limit} has no turn for {wait_s:.2f} s", retry_after_s=wait_s, limit=limit
    )


def unreachable(limit: str) -> LimitedError:
    """Nobody knows what the other replicas use, so nothing may be used."""
    return LimitedError(
        LIMITS_UNREACHABLE,
        f"the shared state of {limit} does not answer: check that NATS runs and has a leader",
        retry_after_s=UNREACHABLE_AGAIN_S,
        limit=limit,
    )
