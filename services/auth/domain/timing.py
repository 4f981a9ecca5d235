"""When a token is refreshed, tried again, and no longer handed out. Seconds since the epoch."""

from __future__ import annotations

from typing import Final

_LEAD_SHARE: Final = 0.2
"""Refreshed when a fifth of its life is left: an hour's token survives an outage of 12 minutes."""
_LEAD_MOST_S: Final = 6 * 3600.0
_JITTER_SHARE: Final = 0.25
"""Up to a quarter of the lead earlier: tokens granted together are not refreshed together."""

_MARGIN_SHARE: Final = 0.02
_MARGIN_MOST_S: Final = 60.0
"""A token that is handed out lives long enough for the call that it is fetched for."""

_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MOST_S: Final = 25.0
"""However long an outage was, its end is noticed within the 30 s of a recovery."""
_DOUBLINGS_MOST: Final = 10


def refresh_due_s(granted_s: float, expires_s: float, *, draw: float) -> float:
    """When the background refreshes a token; `draw` in [0, 1) spreads those granted together."""
    lead_s = min(_LEAD_MOST_S, _LEAD_SHARE * max(0.0, expires_s - granted_s))
    return expires_s - lead_s * (1 + _JITTER_SHARE * draw)


def rested_s(granted_s: float, expires_s: float | None, rest_s: float) -> float:
    """Until when a token that was just refreshed out of turn is left alone.

    At most for half of its life: the background never waits for it.
    """
    if expires_s is None:
        return granted_s + rest_s
    return granted_s + min(rest_s, max(0.0, expires_s - granted_s) / 2)


def margin_s(granted_s: float, expires_s: float) -> float:
    """Seconds before its expiry from which a token is no longer handed out."""
    return min(_MARGIN_MOST_S, _MARGIN_SHARE * max(0.0, expires_s - granted_s))


def backoff_s(failures: int, *, draw: float) -> float:
    """Seconds until the next try after so many failures in a row (from 1); jitter from a half up.

    Not from zero: what is asked again at once has just failed.
    """
    doublings = min(max(failures - 1, 0), _DOUBLINGS_MOST)
    most_s = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0**doublings)
    return most_s * (0.5 + 0.5 * draw)


def seconds(nanos: int) -> float:
    """Seconds of an instant in nanoseconds."""
    return nanos / 1e9
