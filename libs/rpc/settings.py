"""Settings of gRPC, for those who serve and those who call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from libs.settings import env


class RpcAuth(StrEnum):
    """How callers prove who they are."""

    MTLS = "mtls"
    """By a certificate."""

    JWT = "jwt"
    """By a signed token; only the server has a certificate."""


@dataclass(frozen=True, kw_only=True)
class RpcSettings:
    """Read once, from `TIDEWIRE_RPC_…`. Files are read again when they are renewed."""

    rpc_auth: RpcAuth = env(
        "RPC_AUTH",
        "how gRPC callers prove who they are: `mtls` by certificate, `jwt` by signed token",
        default=RpcAuth.MTLS,
    )
    rpc_ca_file: Path = env(
        "RPC_CA_FILE",
        "certificates that vouch for the other side of gRPC, PEM",
        default=Path("certificates/ca.crt"),
    )
    rpc_cert_file: Path = env(
        "RPC_CERT_FILE",
        "certificate of this process for gRPC, with its chain, PEM",
        default=Path("certificates/tls.crt"),
    )
    rpc_key_file: Path = env(
        "RPC_KEY_FILE", "private key of that certificate, PEM", default=Path("certificates/tls.key")
    )
    rpc_token_file: Path | None = env(
        "RPC_TOKEN_FILE", "with `jwt`: the token that this process calls others with", default=None
    )
    rpc_policy_file: Path = env(
        "RPC_POLICY_FILE", "who may call what (docs/callers.md)", default=Path("policy.yaml")
    )
    rpc_jwt_issuer: str = env("RPC_JWT_ISSUER", "with `jwt`: issuer of callers' tokens", default="")
    rpc_jwt_audience: str = env(
        "RPC_JWT_AUDIENCE", "with `jwt`: audience that tokens must be meant for", default="tidewire"
    )
    rpc_jwks_url: str = env(
        "RPC_JWKS_URL", "with `jwt`: where the issuer's keys are; https", default=""
    )
    rpc_jwks_file: Path | None = env(
        "RPC_JWKS_FILE", "with `jwt`: the issuer's keys as a file, instead", default=None
    )
    rpc_jwks_ca_file: Path | None = env(
        "RPC_JWKS_CA_FILE",
        "certificates that vouch for that URL instead of the system's, such as "
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        default=None,
    )
    rpc_jwks_token_file: Path | None = env(
        "RPC_JWKS_TOKEN_FILE",
        "token to ask that URL with, such as /var/run/secrets/kubernetes.io/serviceaccount/token",
        default=None,
    )
