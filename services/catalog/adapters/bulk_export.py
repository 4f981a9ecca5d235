"""The products of a bulk operation's file: read, spooled to disk, and given out some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import structlog

from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.spool_process import SpoolProcess
from services.catalog.domain.model import Product

_log = structlog.stdlib.get_logger()

_BLOCK_BYTES: Final = 1024 * 1024
"""Given to the disk at once: a few thousand lines, some milliseconds of work."""


class ProductExport(AsyncIterator[Sequence[Product]]):
    """Products by ascending number. Whoever does not read to the end calls `aclose`.

    `oddities` counts what was left out, by reason: `line_unreadable`, `line_unknown` (of a type
    that nobody asked for), `line_too_long`; it grows until the last product is there.
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
        self.oddities: Mapping[str, int] = {}
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
        spool = await SpoolProcess.start()
        try:
            await spool.open(folder, own, self._after)
            await self._fill(spool, download, url)
            # One ahead: the next is put together while whoever reads writes the last one down.
            ahead = asyncio.ensure_future(spool.portion())
            try:
                while True:
                    products, self.oddities = await ahead
                    if not products:
                        break
                    ahead = asyncio.ensure_future(spool.portion())
                    yield products
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
        finally:
            await spool.end()

    async def _fill(self, spool: SpoolProcess, download: BulkDownload, url: str) -> None:
        block = bytearray()
        size = 0
        async with aclosing(download.pieces(url)) as pieces:
            async for offset, content in pieces:
                if offset == 0 and not content:
                    block.clear()
                    await spool.restart()
                block += content
                size = offset + len(content)
                if len(block) >= self._block_bytes:
                    await spool.add(bytes(block))
                    block.clear()
        await spool.add(bytes(block))
        self.oddities = await spool.seal()
        _log.info("bulk_result_spooled", size_bytes=size, **self.oddities)
