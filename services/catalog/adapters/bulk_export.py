"""The products of a bulk operation's file: read, spooled to disk, and given out some at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Final, TypeVar

import structlog

from libs.errors import Kind, ServiceError
from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.bulk_spool import Spool
from services.catalog.domain.model import Product

_log = structlog.stdlib.get_logger()
T = TypeVar("T")

_BLOCK_BYTES: Final = 1024 * 1024
"""Given to the disk at once: a few thousand lines, some milliseconds of work."""


class ProductExport(AsyncIterator[Sequence[Product]]):
    """Products by ascending number. Whoever does not read to the end calls `aclose`.

    `oddities` counts what was left out, by reason: `line_unreadable`, `line_unknown` (of a type
    that nobody asked for), `line_too_long`. It is whole once the first products are there.
    """

    def __init__(
        self,
        download: BulkDownload,
        folder: Path,
        url: str,
        currency: Callable[[], Awaitable[str]],
        after: int = 0,
        *,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        self.oddities: Mapping[str, int] = Counter()
        self._after = after
        self._block_bytes = block_bytes
        self._products = self._read(download, folder, url, currency)

    @property
    def is_whole(self) -> bool:
        """Whether no line was left out that may have told of a product."""
        return not (self.oddities.get("line_unreadable") or self.oddities.get("line_too_long"))

    def __aiter__(self) -> ProductExport:
        return self

    async def __anext__(self) -> Sequence[Product]:
        """The next products, at least one."""
        return await anext(self._products)

    async def aclose(self) -> None:
        """Stops, and gives the disk back."""
        await self._products.aclose()

    async def _read(
        self,
        download: BulkDownload,
        folder: Path,
        url: str,
        currency: Callable[[], Awaitable[str]],
    ) -> AsyncGenerator[Sequence[Product], None]:
        own = await currency()
        # A thread of its own, so that closing waits its turn behind what is still at work there
        # and no cancelled reader leaves a file behind.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        spools: list[Spool] = []
        try:
            spool = await _run(thread, _opened, spools, folder, self._after)
            self.oddities = spool.oddities
            await self._fill(thread, spool, download, url)
            portions = spool.portions(own)
            # One ahead: the next is put together while whoever reads writes the last one down.
            ahead = asyncio.ensure_future(_run(thread, next, portions, ()))
            try:
                while portion := await ahead:
                    ahead = asyncio.ensure_future(_run(thread, next, portions, ()))
                    yield portion
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
        finally:
            thread.submit(_close, spools)
            thread.shutdown(wait=False)

    async def _fill(
        self, thread: ThreadPoolExecutor, spool: Spool, download: BulkDownload, url: str
    ) -> None:
        block = bytearray()
        size = 0
        async with aclosing(download.pieces(url)) as pieces:
            async for offset, content in pieces:
                if offset == 0 and not content:
                    block.clear()
                    await _run(thread, spool.restart)
                block += content
                size = offset + len(content)
                if len(block) >= self._block_bytes:
                    await _run(thread, spool.add, bytes(block))
                    block.clear()
        await _run(thread, spool.add, bytes(block))
        await _run(thread, spool.seal)
        _log.info("bulk_result_spooled", size_bytes=size, **spool.oddities)


def _opened(spools: list[Spool], folder: Path, after: int) -> Spool:
    spools.append(Spool(folder, after=after))
    return spools[0]


def _close(spools: list[Spool]) -> None:
    for spool in spools:
        spool.close()


async def _run(thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    """What `work` returns, done in the thread.

    Raises:
        ServiceError: RETRYABLE, `spool_failed`, where the disk refuses.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
    except (sqlite3.Error, OSError) as error:
        raise ServiceError(Kind.RETRYABLE, "spool_failed", str(error)) from error
