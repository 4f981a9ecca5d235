"""Throw-away certificates for suites on one machine: development, the demo, tests.

A real installation gets its certificates from cert-manager, SPIRE or its own authority.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libs.clock import Clock
from libs.rpc.identity import Identity

NAMES: Final = ("ingest", "events", "delivery", "auth", "catalog", "orders", "operator")
"""Who gets one: the services, and the person at the command line."""

_LIFE: Final = timedelta(days=14)
_BACKDATED: Final = timedelta(minutes=5)
"""Clocks of containers may be behind."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """A folder with `ca.crt`, and `<name>.crt` and `<name>.key` for each name."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.crt"

    def cert_file(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key_file(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def identity(self, name: str) -> Identity:
        """Calls as `name`."""
        return Identity(
            ca_file=self.ca_file, cert_file=self.cert_file(name), key_file=self.key_file(name)
        )

    def environment(self, name: str) -> dict[str, str]:
        """The settings of a process that is `name`."""
        return {
            "TIDEWIRE_RPC_CA_FILE": str(self.ca_file),
            "TIDEWIRE_RPC_CERT_FILE": str(self.cert_file(name)),
            "TIDEWIRE_RPC_KEY_FILE": str(self.key_file(name)),
        }


def spiffe_id(name: str) -> str:
    """What the certificate of `name` says it is, and the shipped policy calls it by."""
    return f"spiffe://tidewire/{name}"


def make_certificates(
    directory: Path, clock: Clock, names: Iterable[str] = NAMES, *, life: timedelta = _LIFE
) -> Certificates:
    """New certificates below `directory`, in place of those there were.

    Each is good for both sides of a connection, on this machine (`localhost`, 127.0.0.1, ::1) and
    under its own name (in a network of containers). Their authority's key is never written: nobody
    can have another certificate made by it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(directory)
    begins = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC) - _BACKDATED
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, begins, begins + life)
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, authority.subject, key, begins, begins + life)
            .add_extension(_names(name), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        spelt = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(made.key_file(name), spelt, 0o600)
        _write(made.cert_file(name), certificate.public_bytes(Encoding.PEM), 0o644)
    _write(made.ca_file, authority.public_bytes(Encoding.PEM), 0o644)
    return made


def _authority(
    key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tidewire throw-away authority")])
    return (
        _builder("tidewire throw-away authority", name, key, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _names(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(spiffe_id(name)),
            x509.DNSName(name),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than `mode` lets, not even for a moment."""
    beside = path.with_suffix(path.suffix + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    beside.rename(path)
