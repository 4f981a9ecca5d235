"""Limits of upstreams that all replicas and all services share."""

from libs.limits.port import BucketSeen, Limiter, Priority, Unlimited

__all__ = ["BucketSeen", "Limiter", "Priority", "Unlimited"]
