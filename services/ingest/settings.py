"""Every knob of the ingest service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.foundation import CommonSettings
from libs.settings import Address, env

_MIB = 1024 * 1024


class Role(StrEnum):
    """Which half of ingest a process runs."""

    HTTP = "http"
    NORMALIZER = "normalizer"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Read once, from `TIDEWIRE_…`."""

    http_address: Address = env(
        "INGEST_HTTP_ADDRESS", "where webhooks arrive", default=Address("127.0.0.1", 8080)
    )
    grpc_address: Address = env(
        "INGEST_GRPC_ADDRESS",
        "IngestService and CommerceService",
        default=Address("127.0.0.1", 9080),
    )
    metrics_address: Address = env(
        "INGEST_METRICS_ADDRESS", "/livez /readyz /metrics", default=Address("127.0.0.1", 9180)
    )
    workers: int = env(
        "INGEST_WORKERS",
        "processes that share the webhook port, with `--role http`",
        default=1,
        least=1,
        most=64,
    )
    reuse_port: bool = env(
        "INGEST_REUSE_PORT", "share the webhook port with other processes", default=False
    )
    body_bytes_max: int = env(
        "INGEST_BODY_BYTES_MAX", "largest webhook body", default=6 * _MIB, most=6 * _MIB
    )
    pending_bytes_max: int = env(
        "INGEST_PENDING_BYTES_MAX", "bytes that may wait to be stored; then 503", default=32 * _MIB
    )
    read_ahead_bytes: int = env(
        "NORMALIZER_READ_AHEAD_BYTES", "bytes read before their turn", default=64 * _MIB
    )
    batch_deliveries: int = env(
        "NORMALIZER_BATCH", "deliveries of one atomic commit", default=120, most=160
    )
    burials_max: int = env(
        "NORMALIZER_BURIALS_MAX",
        "dead letters of one topic in a row, spread over shops, that stop the normalizer; 0: none",
        default=50,
        least=0,
        most=10_000,
    )
    shopify_base_url: str = env(
        "SHOPIFY_BASE_URL",
        "Shopify's Admin API; `{shop}` stands for a shop's domain",
        default="https://{shop}",
    )
    shopify_api_version: str = env(
        "SHOPIFY_API_VERSION",
        "version of the Admin API where a connection names none",
        default="2026-10",
    )
    reconcile_every_s: float = env(
        "RECONCILE_EVERY_S",
        "seconds between two comparisons of a shop with Shopify, by the normalizer; 0: never",
        default=300.0,
        least=0,
    )
    reconcile_overlap_s: float = env(
        "RECONCILE_OVERLAP_S",
        "seconds before the last comparison's end that are compared again",
        default=300.0,
        least=0,
    )
    reconcile_settle_s: float = env(
        "RECONCILE_SETTLE_S",
        "age in seconds from which a change without its webhook counts as missed",
        default=120.0,
        least=0,
    )
    reconcile_reach_s: float = env(
        "RECONCILE_REACH_S",
        "seconds that a shop's first comparison looks back, at most to its activation",
        default=7 * 86_400.0,
        least=0,
    )
