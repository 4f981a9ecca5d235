"""Where files may be fetched without TLS: from a simulator, which has no certificate to show."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

_HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class PlainHosts:
    """Hosts that are spoken to in the clear. None at all, where an upstream is spoken to over TLS.

    A simulator's files lie with the simulator: at its very host and port. On this machine any port
    will do, for nobody else listens to what stays on it.
    """

    loopback: bool = False
    host: str = ""
    port: int = 0

    @classmethod
    def of(cls, base_url: str) -> Self:
        """Those that come with an upstream at `base_url`.

        Raises:
            ValueError: it is no URL.
        """
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname:
            return cls()
        if _is_loopback(parts.hostname):
            return cls(loopback=True)
        return cls(host=parts.hostname, port=_port(parts))

    def admits(self, url: str) -> bool:
        """Whether a URL is `http` to one of them.

        Raises:
            ValueError: it is no URL.
        """
        parts = urlsplit(url)
        host = parts.hostname
        if parts.scheme != "http" or not host:
            return False
        if _is_loopback(host):
            return self.loopback
        return (host, _port(parts)) == (self.host, self.port)


NO_HOST: Final = PlainHosts()
"""All files are fetched over TLS."""


def _port(parts: SplitResult) -> int:
    return _HTTP_PORT if parts.port is None else parts.port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
