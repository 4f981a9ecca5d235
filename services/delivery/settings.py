"""Every knob of the delivery service."""

from __future__ import annotations

from dataclasses import dataclass

from libs.foundation import CommonSettings
from libs.settings import Address, env


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Read once, from `TIDEWIRE_…`."""

    grpc_address: Address = env(
        "DELIVERY_GRPC_ADDRESS",
        "DeadLetterService and the rest of delivery's control plane",
        default=Address("127.0.0.1", 9083),
    )
    metrics_address: Address = env(
        "DELIVERY_METRICS_ADDRESS", "/livez /readyz /metrics", default=Address("127.0.0.1", 9183)
    )
