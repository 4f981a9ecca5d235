"""Certificates and a policy for tests that start gRPC servers: made once, in a folder of their own.

The policy lets every caller call everything unless a test gives another one.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc

from libs.clock import SystemClock
from libs.rpc.certificates import NAMES, Certificates, make_certificates, spiffe_id
from libs.rpc.client import channel
from libs.rpc.guard import CertificateProof, Guard, Proof, Refused
from libs.rpc.identity import Callee, Identity
from libs.rpc.policy_file import PolicyFile
from libs.rpc.tls import ServerTls, TlsFiles
from libs.settings import Address

_CLOCK: Final = SystemClock()

CALLERS: Final = "callers:\n" + "".join(
    f"  {name}: {{certificates: [{spiffe_id(name)!r}], tokens: [{name!r}]}}\n" for name in NAMES
)
"""The part of a policy that names everybody."""

OPEN: Final = f"""\
{CALLERS}
rules:
  - callers: [{", ".join(NAMES)}]
    methods: ["*"]
"""


@cache
def folder() -> Path:
    """A folder that is gone when the tests end."""
    made = Path(tempfile.mkdtemp(prefix="tidewire-tests-callers-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def certificates() -> Certificates:
    """Those of all services and the operator."""
    return make_certificates(folder() / "certificates", _CLOCK)


@cache
def strangers() -> Certificates:
    """Those of another authority, with the same names."""
    return make_certificates(folder() / "strangers", _CLOCK)


@cache
def open_policy() -> Path:
    """A policy that lets everybody do everything, but see personal data."""
    path = folder() / "policy.yaml"
    path.write_text(OPEN, encoding="utf-8")
    return path


def tls_of(name: str = "delivery", *, with_ca: bool = True) -> ServerTls:
    """A server's side of TLS."""
    made = certificates()
    ca_file = made.ca_file if with_ca else None
    return ServerTls(TlsFiles(made.cert_file(name), made.key_file(name), ca_file))


def guard(
    policy: Path | None = None, proof: Proof | None = None, refused: Refused | None = None
) -> Guard:
    """A guard that knows callers by certificate, or as `proof` says."""
    shown = proof or CertificateProof()
    file = PolicyFile(policy or open_policy())
    return Guard(shown, file, tls_of(with_ca=not shown.by_token), refused)


def identity(name: str = "operator") -> Identity:
    """Calls as `name`."""
    return certificates().identity(name)


def callee(port: int, name: str = "operator") -> Callee:
    """The server at `port` of this machine, called as `name`."""
    return Callee(Address("127.0.0.1", port), identity(name))


def channel_to(port: int, name: str = "operator") -> grpc.aio.Channel:
    """A channel to the server at `port` of this machine."""
    return channel(Address("127.0.0.1", port), identity(name))


def settings_of(name: str) -> dict[str, Any]:
    """Fields of the settings of the service `name`."""
    made = certificates()
    return {
        "rpc_ca_file": made.ca_file,
        "rpc_cert_file": made.cert_file(name),
        "rpc_key_file": made.key_file(name),
        "rpc_policy_file": open_policy(),
    }


def environment(name: str) -> dict[str, str]:
    """The same for a process that is `name`."""
    return {
        **certificates().environment(name),
        "TIDEWIRE_RPC_POLICY_FILE": str(open_policy()),
    }
