"""Results of bulk operations, fetched from a storage host that breaks, moves on and forgets."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.retry import RetryPolicy
from services.catalog.adapters.bulk_download import BulkDownload, Piece
from services.catalog.adapters.bulk_export import ProductExport
from services.catalog.adapters.plain_hosts import NO_HOST, PlainHosts
from services.catalog.adapters.spool_process import serve
from services.catalog.domain.model import Money, Product
from tests.integration.catalog.shopify_fake import FakeShopify, Storage, fake_shopify
from tests.unit.catalog.shopify_lines import Json, jsonl, level, product, variant


def lines(products: int) -> list[Json]:
    found: list[Json] = []
    for number in range(1, products + 1):
        found += [product(number), variant(number * 10, number), level(1, number, number * 10)]
    return found


@dataclass(frozen=True, kw_only=True)
class Watched(BulkDownload):
    """One that tells the storage host how far it is, so that answers break where they should."""

    storage: Storage

    async def pieces(self, url: str) -> AsyncGenerator[Piece, None]:
        async with aclosing(super().pieces(url)) as pieces:
            async for piece in pieces:
                self.storage.received = piece.offset + len(piece.content)
                yield piece


@dataclass
class Rig:
    fake: FakeShopify
    download: BulkDownload
    clock: FakeClock
    folder: Path

    def export(self, url: str = "", after: int = 0) -> ProductExport:
        async def currency() -> str:
            return "USD"

        url = url or self.fake.result_url
        return ProductExport(self.download, self.folder, url, currency, after, block_bytes=1000)

    async def read(self, **how: Any) -> list[Product]:
        return [one async for portion in self.export(**how) for one in portion]

    async def error(self, **how: Any) -> ServiceError:
        with pytest.raises(ServiceError) as raised:
            await self.read(**how)
        return raised.value

    @property
    def ranges(self) -> list[str]:
        return [one.get("Range", "") for one in self.fake.storage.headers]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(fake_shopify())
        session = await stack.enter_async_context(http_session())
        policy = RetryPolicy(attempts_max=3, base_s=1.0)
        download = Watched(
            session=session,
            clock=clock,
            policy=policy,
            random=lambda: 0.5,
            plain=PlainHosts(loopback=True),
            storage=fake.storage,
        )
        fake.storage.content = jsonl(lines(40))
        yield Rig(fake, download, clock, tmp_path)


def is_whole(found: list[Product]) -> bool:
    return [(one.product_id, one.variants[0].levels[0].available) for one in found] == [
        (str(number), number) for number in range(1, 41)
    ]


async def test_a_result_comes_as_products(rig: Rig) -> None:
    found = await rig.read()

    assert is_whole(found)
    assert found[0].variants[0].price == Money(1250, "USD")


async def test_reading_goes_on_behind_the_product_that_was_last(rig: Rig) -> None:
    assert [one.product_id for one in await rig.read(after=38)] == ["39", "40"]


async def test_the_storage_host_gets_no_token(rig: Rig) -> None:
    await rig.read()

    (headers,) = rig.fake.storage.headers
    told = {name.lower() for name in headers}
    assert told <= {"host", "user-agent", "accept", "accept-encoding"}


async def test_a_broken_download_goes_on_where_it_broke(rig: Rig) -> None:
    rig.fake.storage.breaks = [3000, 2000]

    assert is_whole(await rig.read())

    assert rig.ranges == ["", "bytes=3000-", "bytes=5000-"]
    assert [one.get("If-Range") for one in rig.fake.storage.headers] == [None, '"one"', '"one"']
    assert rig.clock.slept_s == [0.5, 0.5]


async def test_where_the_host_knows_no_ranges_the_file_is_read_from_its_start(rig: Rig) -> None:
    rig.fake.storage.breaks = [3000]
    rig.fake.storage.ranges = False

    assert is_whole(await rig.read())


async def test_a_file_that_is_another_one_by_now_is_read_from_its_start(rig: Rig) -> None:
    storage = rig.fake.storage
    old, storage.content = storage.content, jsonl([product(77), *lines(30)])
    storage.breaks = [3000]

    def change() -> float:
        storage.content, storage.etag = old, '"two"'
        return 0.5

    rig.download = replace(rig.download, random=change)

    assert is_whole(await rig.read())


async def test_a_connection_that_breaks_after_the_last_byte_costs_nothing(rig: Rig) -> None:
    storage = rig.fake.storage
    whole = storage.content
    storage.content = whole + b"\n"
    storage.breaks = [len(whole)]

    def cut() -> float:
        storage.content = whole
        return 0.5

    rig.download = replace(rig.download, random=cut)

    assert is_whole(await rig.read())
    assert len(rig.ranges) == 2


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_host_that_is_down_for_a_moment_is_asked_again(rig: Rig, status: int) -> None:
    rig.fake.storage.statuses = [status, status]

    assert is_whole(await rig.read())
    assert rig.clock.slept_s == [0.5, 1.0]


async def test_a_download_that_brings_nothing_more_is_given_up(rig: Rig) -> None:
    rig.fake.storage.breaks = [3000, 0, 0, 0, 0]

    error = await rig.error()

    assert (error.kind, error.code) == (Kind.RETRYABLE, "bulk_download_broken")
    assert len(rig.ranges) == 3
    assert "secret-of-the-address" not in str(error)


async def test_a_file_that_always_breaks_at_one_place_is_given_up(rig: Rig) -> None:
    rig.fake.storage.breaks = [3000] * 10
    rig.fake.storage.ranges = False

    assert (await rig.error()).code == "bulk_download_broken"
    assert len(rig.ranges) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 410, 302])
async def test_an_address_that_has_expired_says_so_at_once(rig: Rig, status: int) -> None:
    rig.fake.storage.statuses = [status]

    error = await rig.error()

    assert (error.kind, error.code) == (Kind.RETRYABLE, "bulk_result_gone")
    assert str(status) in error.message
    assert "secret-of-the-address" not in str(error)
    assert len(rig.ranges) == 1


@pytest.mark.parametrize(
    "url", ["http://storage.example.com/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "", "//x"]
)
async def test_an_address_that_is_not_https_is_refused(rig: Rig, url: str) -> None:
    with pytest.raises(ServiceError) as raised:
        async for _ in rig.download.pieces(url):
            pass

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "bulk_url_refused")


async def test_this_machine_is_no_storage_host_unless_settings_say_so(rig: Rig) -> None:
    rig.download = replace(rig.download, plain=NO_HOST)

    assert (await rig.error()).code == "bulk_url_refused"
    assert rig.ranges == []


async def test_an_empty_result_has_no_products(rig: Rig) -> None:
    rig.fake.storage.content = b""

    assert await rig.read() == []


async def test_what_was_left_out_can_be_asked_for(rig: Rig) -> None:
    rig.fake.storage.content = jsonl(lines(2)) + b"{broken\n"
    export = rig.export()

    found = [one async for portion in export for one in portion]

    assert len(found) == 2
    assert export.oddities == {"line_unreadable": 1}
    assert not export.is_whole


async def test_a_reader_that_is_cancelled_leaves_no_file(rig: Rig) -> None:
    rig.fake.storage.stalled = asyncio.Event()
    reading = asyncio.create_task(rig.read())
    await rig.fake.storage.stalled.wait()

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert list(rig.folder.iterdir()) == []


async def test_a_reader_that_stops_early_gives_the_disk_back(rig: Rig) -> None:
    export = rig.export()
    await anext(export)

    await export.aclose()

    with pytest.raises(StopAsyncIteration):
        await anext(export)
    assert list(rig.folder.iterdir()) == []


async def test_a_disk_that_refuses_is_an_error_that_may_pass(rig: Rig) -> None:
    rig.folder = rig.folder / "file"
    rig.folder.write_text("not a folder", encoding="utf-8")

    error = await rig.error()

    assert (error.kind, error.code) == (Kind.RETRYABLE, "spool_failed")


async def test_a_reader_whose_process_is_killed_says_that_it_may_pass(rig: Rig) -> None:
    export = rig.export()
    before = children()
    await anext(export)
    (reader,) = children() - before

    os.kill(reader, signal.SIGKILL)
    with pytest.raises(ServiceError) as raised:
        async for _ in export:
            pass

    assert (raised.value.kind, raised.value.code) == (Kind.RETRYABLE, "spool_failed")
    assert list(rig.folder.iterdir()) == []


async def test_no_process_outlives_its_reader(rig: Rig) -> None:
    before = children()
    export = rig.export()
    await anext(export)
    assert len(children() - before) == 1

    await export.aclose()

    assert children() == before


def children() -> set[int]:
    """Processes that this one has begun and that are alive."""
    own = Path(f"/proc/{os.getpid()}/task")
    return {int(one) for task in own.iterdir() for one in (task / "children").read_text().split()}


def test_a_surprise_in_the_process_tells_its_place_and_no_content() -> None:
    answers = io.BytesIO()
    question = b"not msgpack of a merchant"

    serve(io.BytesIO(struct.pack(">cI", b"o", len(question)) + question), answers)

    how, length = struct.unpack(">cI", answers.getvalue()[:5])
    said = answers.getvalue()[5:]
    assert (how, length) == (b"u", len(said))
    assert said.startswith(b"ValidationError in answer, line ")
    assert b"merchant" not in said
