"""Limits of upstreams that all replicas and all services share."""

from libs.limits.declared import DeclaredLimits
from libs.limits.errors import LIMITS_UNREACHABLE, LimitedError
from libs.limits.on_nats import LimiterPart
from libs.limits.port import TURN_LASTS_S, BucketSeen, Limiter, Priority, Unlimited
from libs.limits.seen import LimitSeen
from libs.limits.shared import SharedLimiter

__all__ = [
    "LIMITS_UNREACHABLE",
    "TURN_LASTS_S",
    "BucketSeen",
    "DeclaredLimits",
    "LimitSeen",
    "LimitedError",
    "Limiter",
    "LimiterPart",
    "Priority",
    "SharedLimiter",
    "Unlimited",
]
