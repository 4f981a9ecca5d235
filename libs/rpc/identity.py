"""Who we are when we call, and whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.rpc.settings import RpcAuth, RpcSettings
from libs.settings import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a caller proves itself with: a token where there is one, else a certificate.

    Files, not their content: they are read again when they are renewed.
    """

    ca_file: Path
    """Vouches for the servers that are called."""

    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None

    @classmethod
    def of(cls, settings: RpcSettings) -> Identity:
        """That of a process of ours."""
        if settings.rpc_auth is RpcAuth.JWT:
            return cls(ca_file=settings.rpc_ca_file, token_file=settings.rpc_token_file)
        return cls(
            ca_file=settings.rpc_ca_file,
            cert_file=settings.rpc_cert_file,
            key_file=settings.rpc_key_file,
        )


@dataclass(frozen=True, slots=True)
class Callee:
    """A service to call, and who calls it."""

    address: Address
    identity: Identity
