"""Fetches the file of a feed log from where TikTok has put it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog

from libs.errors import ServiceError
from libs.http.client import Request, Upstream
from services.catalog.adapters.plain_hosts import PlainHosts
from services.catalog.domain.csv_log import UnreadableError, issues_of
from services.catalog.domain.feed_log import Issue

BYTES_MAX: Final = 32 * 1024 * 1024
"""5,000 items with several issues each are some MiB; what is longer is given up."""

_IN_A_THREAD: Final = 256 * 1024
"""Bytes from which reading would hold the loop for more than some milliseconds."""

_log = structlog.stdlib.get_logger()


class LogFiles:
    """Reads files of feed logs. They are public addresses, signed for a while: no token is sent."""

    def __init__(self, upstream: Upstream, api_base_url: str, *, timeout_s: float) -> None:
        self._upstream = upstream
        self._timeout_s = timeout_s
        self._plain = PlainHosts.of(api_base_url)

    async def issues(self, url: str, *, has_errors: bool) -> Sequence[Issue] | None:
        """All issues that the file names; None where it cannot be read to its end."""
        if not is_safe_address(url, self._plain):
            _log.warning("feed_log_file_skipped", reason="address_not_allowed")
            return None
        try:
            # A redirect is not followed: nobody says where TikTok's files may lead.
            answer = await self._upstream.call(
                Request(
                    method="GET", url=url, timeout_s=self._timeout_s, answer_bytes_max=BYTES_MAX
                )
            )
            if len(answer.body) < _IN_A_THREAD:
                return issues_of(answer.body, has_errors=has_errors)
            return await asyncio.to_thread(issues_of, answer.body, has_errors=has_errors)
        except (ServiceError, UnreadableError) as error:
            reason = error.code if isinstance(error, ServiceError) else "not_a_feed_log"
            _log.warning("feed_log_file_skipped", reason=reason)
            return None


def is_safe_address(url: str, plain: PlainHosts) -> bool:
    """Whether a file may be fetched there: over TLS, or from a simulator."""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
        is_plain = plain.admits(url)
    except ValueError:
        return False
    is_clean = url.isascii() and url.isprintable() and " " not in url
    if not is_clean or not host or user is not None:
        return False
    return parts.scheme == "https" or is_plain
