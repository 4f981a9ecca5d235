"""Every knob of the events service."""

from __future__ import annotations

from dataclasses import dataclass

from libs.foundation import CommonSettings
from libs.settings import Address, env


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Read once, from `TIDEWIRE_…`."""

    grpc_address: Address = env(
        "EVENTS_GRPC_ADDRESS", "EventsService", default=Address("127.0.0.1", 9081)
    )
    metrics_address: Address = env(
        "EVENTS_METRICS_ADDRESS", "/livez /readyz /metrics", default=Address("127.0.0.1", 9181)
    )
    tiktok_api_base_url: str = env(
        "TIKTOK_API_BASE_URL", "TikTok for Business", default="https://business-api.tiktok.com"
    )
    tiktok_api_version: str = env("TIKTOK_API_VERSION", "version in the path", default="v1.3")
    tiktok_timeout_s: float = env(
        "TIKTOK_TIMEOUT_S", "seconds until a request to TikTok is given up", default=10.0
    )
    attempts_max: int = env(
        "EVENTS_ATTEMPTS_MAX",
        "counted tries of a unit, at most 15 s apart, before it goes to the dead letters",
        default=500,
        least=1,
    )
    burials_max: int = env(
        "EVENTS_BURIALS_MAX",
        "dead letters of one kind of fact in a row, over several shops, that stop all; 0: none",
        default=50,
        least=0,
        most=10_000,
    )
