"""The file that a bulk operation leaves behind, read as it comes; a broken read is taken up again.

It lies with a storage host, at an address that is itself the permission to read it. So it gets no
token of ours, and the address stands in no error and no log.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple

import aiohttp
import structlog
from yarl import URL

from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.http.session import CONNECT_S
from libs.ids import Random, system_random
from libs.retry import RetryPolicy
from services.catalog.adapters.plain_hosts import NO_HOST, PlainHosts

_log = structlog.stdlib.get_logger()

_POLICY: Final = RetryPolicy(attempts_max=6)
_CHUNK_BYTES: Final = 256 * 1024
_TRIES_MAX: Final = 200
"""Of one file, even where each brings a little more: a million lines in so many pieces are not
worth having."""
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PASSES: Final = frozenset({408, 425, 429})


class Piece(NamedTuple):
    """Some bytes of the file, after those before it. At offset 0 the file begins, maybe again."""

    offset: int
    content: bytes


class _BrokenError(Exception):
    """This try has failed; the next one may not."""


@dataclass
class _Reading:
    """How far one file has been read."""

    offset: int = 0
    furthest: int = 0
    version: str = ""
    """What `If-Range` calls the file; empty where it cannot be told from another."""
    length: str = ""
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class BulkDownload:
    """Reads files of bulk operations.

    `policy` bounds the tries that bring nothing new. `plain` admits `http`, to simulators.
    """

    session: aiohttp.ClientSession
    clock: Clock
    policy: RetryPolicy = _POLICY
    random: Random = system_random
    idle_s: float = 60.0
    """Seconds without a byte after which a try has failed."""
    plain: PlainHosts = NO_HOST

    async def pieces(self, url: str) -> AsyncGenerator[Piece, None]:
        """The file from its start to its end. Close what is not read to the end (`aclosing`).

        Raises:
            ServiceError: PERMANENT, `bulk_url_refused`, where it is no https address; RETRYABLE,
                `bulk_result_gone`, where the host has it no more or never had; RETRYABLE,
                `bulk_download_broken`, where it broke off for good.
        """
        target = self._target(url)
        reading = _Reading()
        barren = 0
        for _ in range(_TRIES_MAX):
            before = reading.furthest
            try:
                async with aclosing(self._tried(target, reading)) as pieces:
                    async for piece in pieces:
                        yield piece
            except (_BrokenError, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                barren = 1 if reading.furthest > before else barren + 1
                if barren >= self.policy.attempts_max:
                    raise _broken(type(error).__name__) from None
            else:
                return
            _log.info("bulk_download_resumed", offset=reading.offset, barren_tries=barren)
            await self.clock.sleep(self.policy.delay_s(barren, self.random))
        raise _broken("too many pieces")

    def _target(self, url: str) -> URL:
        try:
            target = URL(url, encoded=True)
            plain = self.plain.admits(str(target))
        except ValueError as error:
            raise permanent("bulk_url_refused", "the result's address is unreadable") from error
        if not target.host or not (target.scheme == "https" or plain):
            raise permanent("bulk_url_refused", "the result's address is not https")
        return target

    async def _tried(self, target: URL, reading: _Reading) -> AsyncGenerator[Piece, None]:
        # Compressed on the way, an offset of the file would be none of what is sent.
        headers = {"Accept-Encoding": "identity"}
        if reading.offset and reading.resumable:
            headers["Range"] = f"bytes={reading.offset}-"
            if reading.version:
                headers["If-Range"] = reading.version
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=self.idle_s
        )
        exchange = self.session.get(target, headers=headers, allow_redirects=False, timeout=timeout)
        async with exchange as response:
            if _is_read_to_the_end(response, reading):
                return
            if _begins_anew(response, reading):
                yield Piece(0, b"")
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                piece = Piece(reading.offset, chunk)
                reading.offset += len(chunk)
                reading.furthest = max(reading.furthest, reading.offset)
                yield piece


def _is_read_to_the_end(response: aiohttp.ClientResponse, reading: _Reading) -> bool:
    """Whether the connection broke after the last byte: then there is nothing left to send."""
    told = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return response.status == 416 and told is not None and told[2] == str(reading.offset)


def _begins_anew(response: aiohttp.ClientResponse, reading: _Reading) -> bool:
    """Whether the answer has the file from its start; else it goes on where reading stopped.

    Raises:
        _BrokenError: it has neither, and may have the next time.
        ServiceError: RETRYABLE, `bulk_result_gone`.
    """
    status, headers = response.status, response.headers
    if status == 206 and reading.offset:
        told = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if told and told[1] == str(reading.offset) and told[2] in {"*", reading.length}:
            return False
        status = 416
    if status == 416:
        # Another file than the one that was begun, so far as the host is concerned.
        reading.resumable = False
        raise _BrokenError("unsatisfied range")
    if status >= 500 or status in _PASSES:
        raise _BrokenError(f"status {status}")
    if status != 200:
        raise ServiceError(
            Kind.RETRYABLE, "bulk_result_gone", f"the storage host answered {status}"
        )
    etag = headers.get("ETag", "")
    reading.offset = 0
    reading.length = headers.get("Content-Length", "")
    reading.version = "" if etag.startswith("W/") else etag
    # What was compressed all the same has other offsets than the file.
    reading.resumable = headers.get("Content-Encoding", "identity") == "identity"
    return True


def _broken(why: str) -> ServiceError:
    return ServiceError(Kind.RETRYABLE, "bulk_download_broken", f"the download broke off: {why}")
