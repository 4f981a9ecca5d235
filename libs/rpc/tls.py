"""TLS of a server: its certificate, and the certificates that vouch for its callers.

gRPC offers TLS 1.2 and 1.3 alone. Files are looked at with each new connection, so that what is
renewed is taken up without a restart; connections end after an hour (libs/rpc/server.py), so that
what has been withdrawn does not stay in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from libs.errors import ServiceError, permanent

_log = structlog.stdlib.get_logger()

_ADVICE: Final = "set TIDEWIRE_RPC_CA_FILE, _CERT_FILE and _KEY_FILE; `tidewire dev` makes its own"

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class Pems(NamedTuple):
    """What TLS needs, as read."""

    certificate: bytes
    key: bytes
    ca: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a side of TLS has its own certificate, and those that vouch for the other side."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None

    def stamp(self) -> Stamp:
        """What changes when a file does.

        Raises:
            OSError: one is not there.
        """
        found = [one.stat() for one in (self.cert_file, self.key_file, self.ca_file) if one]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def read(self) -> Pems:
        """The files' content, once it fits together.

        Raises:
            ServiceError: PERMANENT, `rpc_certificate_unusable`, naming the file.
        """
        certificate, key = _read(self.cert_file), _read(self.key_file)
        ca = _read(self.ca_file) if self.ca_file else None
        if ca is not None:
            _loaded(self.ca_file, ca)
        first = _loaded(self.cert_file, certificate)[0]
        if _public(self.key_file, key) != _spelt(first.public_key()):
            raise _unusable(self.key_file, f"is not the key of {self.cert_file}")
        return Pems(certificate, key, ca)


class ServerTls:
    """Credentials of a server. With a `ca_file`, callers need a certificate that it vouches for.

    Raises:
        ServiceError: as `TlsFiles.read`.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp: Stamp = ()
        self._warned = ""
        self._first = self._configuration()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for `add_secure_port`."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._renewed,  # type: ignore[arg-type]  # None is documented, the stub does not know
            require_client_authentication=self._files.ca_file is not None,
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        try:
            # The stamp comes first: what is written while we read looks changed at the next look.
            stamp = self._files.stamp()
        except OSError as error:
            raise _unusable(error.filename, f"cannot be read ({error.strerror})") from error
        pems = self._files.read()
        self._stamp = stamp
        return grpc.ssl_server_certificate_configuration(
            [(pems.key, pems.certificate)], root_certificates=pems.ca
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration; None goes on with what there is. Called by gRPC's thread."""
        try:
            if self._files.stamp() == self._stamp:
                return None
            found = self._configuration()
        except (ServiceError, OSError) as error:
            # It may be half written; the next connection looks again.
            reason = error.message if isinstance(error, ServiceError) else type(error).__name__
            if reason != self._warned:
                self._warned = reason
                _log.warning("rpc_certificate_not_reloaded", reason=reason)
            return None
        self._warned = ""
        _log.info("rpc_certificate_reloaded", file=str(self._files.cert_file))
        return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error


def _loaded(path: Path | None, pem: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _unusable(path, "holds no certificate in PEM") from error
    return found


def _public(path: Path, pem: bytes) -> bytes:
    try:
        return _spelt(load_pem_private_key(pem, password=None).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Without `from`: the library's words are about the key.
        del error
    raise _unusable(path, "holds no private key in PEM without a password")


def _spelt(key: object) -> bytes:
    spelt: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # every kind of key has it
    return spelt


def _unusable(path: object, what: str) -> ServiceError:
    return permanent("rpc_certificate_unusable", f"{path} {what}: {_ADVICE}")
