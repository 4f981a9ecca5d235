"""A channel whose certificate and token are read again when they are renewed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import grpc

from libs.clock import Clock, SystemClock
from libs.errors import ServiceError, permanent
from libs.rpc.identity import Identity
from libs.rpc.tls import Stamp, TlsFiles
from libs.settings import Address

_LOOK_EVERY_S: Final = 1.0

_Options = Sequence[tuple[str, Any]]


class RenewingChannel(grpc.aio.Channel):
    """TLS to `address` as `identity`.

    What is renewed on disk is used by calls from a second later on. Those under way go on with
    what they began with: the channel that carries them lives for as long as they do.
    """

    def __init__(
        self,
        address: Address,
        identity: Identity,
        options: _Options,
        clock: Clock | None = None,
    ) -> None:
        self._address = address
        self._identity = identity
        self._options = options
        self._clock = clock or SystemClock()
        self._looked_s = float("-inf")
        self._stamp: tuple[object, ...] = ()
        self._token = ""
        self._inner: grpc.aio.Channel | None = None
        self.version = 0
        """Grows with each new channel inside."""

    def current(self) -> grpc.aio.Channel:
        """The channel for a call that begins now.

        Raises:
            ServiceError: PERMANENT, `rpc_certificate_unusable` or `rpc_token_unusable`, where there
                is nothing to begin with; what was good once is used until what is new is good too.
        """
        now_s = self._clock.monotonic_s()
        if self._inner is None or now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            self._look()
        assert self._inner is not None
        return self._inner

    def proof(self) -> tuple[tuple[str, str], ...]:
        """The metadata that says who calls; empty where the certificate does."""
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def _look(self) -> None:
        try:
            stamp = self._stamp_of_files()
            if stamp == self._stamp:
                return
            token = self._read_token()
            opened = self._opened() if self._inner is None or stamp[0] != self._stamp[0] else None
        except (ServiceError, OSError) as error:
            if self._inner is not None:
                return
            if isinstance(error, ServiceError):
                raise
            raise _missing(error) from error
        self._stamp, self._token = stamp, token
        if opened is not None:
            self._inner = opened
            self.version += 1

    def _stamp_of_files(self) -> tuple[object, ...]:
        who = self._identity
        names = [one for one in (who.ca_file, who.cert_file, who.key_file) if one is not None]
        return _stamps(names), _stamps([who.token_file] if who.token_file else [])

    def _read_token(self) -> str:
        if self._identity.token_file is None:
            return ""
        token = self._identity.token_file.read_text(encoding="utf-8", errors="replace").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise permanent("rpc_token_unusable", f"{self._identity.token_file} holds no token")
        return token

    def _opened(self) -> grpc.aio.Channel:
        who = self._identity
        certificate = key = None
        if who.cert_file is not None and who.key_file is not None:
            pems = TlsFiles(who.cert_file, who.key_file, who.ca_file).read()
            certificate, key, ca = pems
        else:
            ca = who.ca_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.aio.secure_channel(str(self._address), credentials, self._options)

    # -- what a stub asks of a channel ---------------------------------------------------------

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_stream", args, kwargs)

    async def close(self, grace: float | None = None) -> None:
        if self._inner is not None:
            await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - grpc's signature
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


class _Method:
    """A method of a stub: calls by the channel there is now."""

    __slots__ = ("_args", "_channel", "_inner", "_kwargs", "_shape", "_version")

    def __init__(
        self, channel: RenewingChannel, shape: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._shape = shape
        self._args = args
        self._kwargs = kwargs
        self._inner: Callable[..., Any] | None = None
        self._version = -1

    def __call__(self, *args: Any, metadata: Any = None, **kwargs: Any) -> Any:
        opened = self._channel.current()
        inner = self._inner
        if inner is None or self._version != self._channel.version:
            inner = self._inner = getattr(opened, self._shape)(*self._args, **self._kwargs)
            self._version = self._channel.version
        proof = self._channel.proof()
        if proof:
            metadata = grpc.aio.Metadata(*(metadata or ()), *proof)
        return inner(*args, metadata=metadata, **kwargs)


def _stamps(paths: Sequence[Path]) -> Stamp:
    found = [one.stat() for one in paths]
    return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


def _missing(error: OSError) -> ServiceError:
    return permanent(
        "rpc_certificate_unusable",
        f"{error.filename} cannot be read ({error.strerror}): `tidewire dev` makes certificates"
        " for this machine; else set TIDEWIRE_RPC_CA_FILE, with _CERT_FILE and _KEY_FILE or with"
        " _TOKEN_FILE",
    )
