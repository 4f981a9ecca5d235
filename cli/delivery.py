"""Where the delivery service listens, for the commands that ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.errors import permanent
from libs.settings import Address, SettingsError, env, load


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Read from `TIDEWIRE_…`."""

    address: Address = env(
        "DELIVERY_GRPC_ADDRESS", "the delivery service's gRPC", default=Address("127.0.0.1", 9083)
    )


def delivery_address(environ: Mapping[str, str], chosen: str | None) -> Address:
    """`chosen`, or what the environment says, or the address of `tidewire dev`.

    Raises:
        ServiceError: PERMANENT, `address_invalid`.
    """
    try:
        return load(_Settings, environ).address if chosen is None else Address.parse(chosen)
    except (SettingsError, ValueError) as error:
        raise permanent("address_invalid", f"the delivery service's address: {error}") from error
