"""Looks at images as TikTok will: whether they can be fetched, and are large enough.

Merchants choose the addresses, so they may point anywhere, at our own network too. A host is
resolved here, refused where any of its addresses is not public, and connected to by the address
that was judged: resolved twice, it could be another one. So is each redirect.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

import aiohttp
from yarl import URL

from libs.clock import Clock
from libs.http.session import CONNECT_S
from services.catalog.domain.image_headers import size_px

UNREACHABLE: Final = "unreachable"
NOT_AN_IMAGE: Final = "not_an_image"
TOO_SMALL: Final = "too_small"
TOO_LARGE: Final = "too_large"

SIDE_MIN_PX: Final = 500
BYTES_MAX: Final = 10 * 2**20
"""Our own bound, since TikTok documents none for catalogs: more may not be fetched in time."""

_HEAD_BYTES: Final = 256 * 1024
"""Read of an image at most. A size that stands behind more than that of metadata stays unknown."""
_HOPS_MAX: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_LENGTH: Final = re.compile(r"bytes \d+-\d+/(\d+)")
_KEPT_S: Final = 86_400.0
_KEPT_UNREACHABLE_S: Final = 600.0
"""A host that is down for a moment is no fault for a day."""
_KEPT_MAX: Final = 50_000

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, for a port; raises OSError where there are none."""


async def resolved(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class ImageLooks:
    """`Images`, so many at once, each looked at once a day."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        at_once: int = 16,
        timeout_s: float = 10.0,
        plain_loopback: bool = False,
        resolve: Resolve = resolved,
        admits: Callable[[str], bool] | None = None,
    ) -> None:
        """`plain_loopback` admits `http` to this machine, for simulators.

        `admits` says which addresses may be connected to: `is_public` ones, unless it is given.
        """
        self._session = session
        self._clock = clock
        self._turns = asyncio.Semaphore(at_once)
        self._timeout_s = timeout_s
        self._plain_loopback = plain_loopback
        self._resolve = resolve
        self._admits = admits or is_public
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def look(self, urls: Sequence[str], found: MutableMapping[str, str]) -> None:
        """As in the port: it raises nothing, whatever the addresses."""

        async def one(url: str) -> None:
            if fault := await self._fault(url):
                found[url] = fault

        await asyncio.gather(*map(one, dict.fromkeys(urls)))

    async def _fault(self, url: str) -> str:
        until_s, fault = self._known.get(url, (0.0, ""))
        if self._clock.monotonic_s() < until_s:
            return fault
        async with self._turns:
            try:
                async with asyncio.timeout(self._timeout_s):
                    fault = await self._looked(URL(url))
            except (aiohttp.ClientError, OSError, ValueError):  # a timeout is an OSError
                fault = UNREACHABLE
        kept_s = _KEPT_UNREACHABLE_S if fault == UNREACHABLE else _KEPT_S
        self._known[url] = (self._clock.monotonic_s() + kept_s, fault)
        self._known.move_to_end(url)
        if len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)
        return fault

    async def _looked(self, url: URL) -> str:
        for _ in range(1 + _HOPS_MAX):
            async with await self._opened(url) as response:
                if response.status not in _REDIRECTS:
                    return await _judged(response)
                url = url.join(URL(response.headers.get("Location", "")))
        return UNREACHABLE

    async def _opened(self, url: URL) -> aiohttp.ClientResponse:
        """An answer of the host itself, redirect or not.

        Raises:
            ValueError: an address that is not fetched.
            OSError: a host that nobody knows.
        """
        host, port = url.raw_host or "", url.port or 443
        headers = {"Accept-Encoding": "identity", "Range": f"bytes=0-{_HEAD_BYTES - 1}"}
        if self._plain_loopback and url.scheme == "http" and host in _LOOPBACK:
            return await self._session.get(url, headers=headers, allow_redirects=False)
        if url.scheme != "https" or not host or url.user is not None:
            raise ValueError("not a public https address")
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(self._admits, addresses)):
            raise ValueError("not a public host")
        headers["Host"] = host if port == 443 else f"{host}:{port}"
        return await self._session.get(
            url.with_host(addresses[0]),
            headers=headers,
            allow_redirects=False,
            server_hostname=host,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
        )


async def _judged(response: aiohttp.ClientResponse) -> str:
    if response.status not in {200, 206}:
        return UNREACHABLE
    head = b""
    try:
        while (size := size_px(head)) is None and len(head) < _HEAD_BYTES:
            chunk = await response.content.read(_HEAD_BYTES - len(head))
            if not chunk:
                return NOT_AN_IMAGE
            head += chunk
    except ValueError:
        return NOT_AN_IMAGE
    finally:
        # What is left unread may be a gigabyte.
        response.close()
    if size is not None and min(size) < SIDE_MIN_PX:
        return TOO_SMALL
    return TOO_LARGE if _length(response) > BYTES_MAX else ""


def _length(response: aiohttp.ClientResponse) -> int:
    """Bytes of the whole image; 0 where nobody says."""
    told = _LENGTH.fullmatch(response.headers.get("Content-Range", ""))
    return int(told[1]) if told else response.content_length or 0


def is_public(address: str) -> bool:
    """Whether an address is of the open internet, also where it hides another one in itself."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        teredo = found.teredo[1] if found.teredo else None
        nat64 = int(found) >> 32 == _NAT64
        inner = found.ipv4_mapped or found.sixtofour or teredo
        if inner is not None or nat64:
            return is_public(str(inner or ip_address(int(found) & 0xFFFF_FFFF)))
    return found.is_global and not found.is_multicast


_NAT64: Final = int(IPv6Address("64:ff9b::")) >> 32
