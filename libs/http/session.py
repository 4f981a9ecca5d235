"""The one place that makes HTTP client sessions."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import aiohttp

CONNECT_S: Final = 5.0
"""Seconds to a connection, the wait for a free one included; longer means unreachable."""

_KEEP_ALIVE_S = 15.0


def http_session(
    *,
    connections_max: int = 100,
    connections_max_per_host: int = 32,
    ca_file: Path | None = None,
    trusted: ssl.SSLContext | None = None,
) -> aiohttp.ClientSession:
    """A session for `async with`: TLS 1.2 or newer, no cookies, no sends behind our back.

    `ca_file` holds the certificates to trust instead of the system's. Who makes sessions often
    gives a `tls_context` of its own: reading the system's takes tens of milliseconds.
    """
    connector = aiohttp.TCPConnector(
        ssl=trusted or tls_context(ca_file),
        limit=connections_max,
        limit_per_host=connections_max_per_host,
        keepalive_timeout=_KEEP_ALIVE_S,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        # One shop's cookies would travel with another shop's calls.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "tidewire"},
    )
    # aiohttp sends a GET, PUT or DELETE again by itself when a kept connection turns out dead:
    # a second send that no limit has let through and no retry policy has counted.
    session._retry_connection = False  # noqa: SLF001
    return session


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer, trusting the certificates of `ca_file`, else the system's.

    Raises:
        OSError: `ca_file` has none to read.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
