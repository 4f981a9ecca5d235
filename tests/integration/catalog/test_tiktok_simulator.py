"""The catalog adapter against the sandbox's catalogs: submits, their logs to the end, reviews."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

import pytest
from aiohttp import ClientSession

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.telemetry import Metrics
from sandbox.tiktok.app import TikTokSandbox
from sandbox.tiktok.catalog.settings import CatalogSettings as Simulated
from sandbox.tiktok.catalog.settings import ImageRule
from sandbox.tiktok.config import Grant, SandboxConfig
from services.catalog.adapters.tiktok import TikTokCatalogApi
from services.catalog.domain.answers import RefusedError
from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.feed_log import FeedLog
from services.catalog.domain.isolation import parts_after_refusal
from services.catalog.domain.items import Availability, Item
from services.catalog.domain.settings import CatalogSettings, DialectName
from services.catalog.domain.verdicts import Fate, Judgement, Reason, SubmitKind, judge
from tests.integration.catalog.tiktok_fake import CATALOG, TOKEN, ListingLimiter, OneToken

_TITLE_TOO_LONG: Final = "x" * 501
_ONLINE = dialect_of(DialectName.PRODUCT_UPLOAD)


def item(number: int, *, title: str = "Shirt", brand: str = "Example", gender: str = "") -> Item:
    return Item(
        sku_id=f"SHIRT-{number:04}",
        variant_id=str(number),
        item_group_id="1",
        first_sku="SHIRT-0000",
        title=title,
        description="A shirt",
        availability=Availability.IN_STOCK,
        condition="NEW",
        brand=brand,
        price=Decimal("19.99"),
        sale_price=None,
        currency="EUR",
        image_url="https://cdn.example/shirt.jpg",
        additional_image_urls=(),
        landing_page_url="https://shop.example/products/shirt",
        product_category="Apparel",
        gender=gender,
    )


class World:
    """The sandbox, and the adapter before it."""

    def __init__(
        self, api: TikTokCatalogApi, catalog: CatalogSettings, session: ClientSession, url: str
    ) -> None:
        self.api = api
        self.catalog = catalog
        self._session = session
        self._url = url

    async def upload(self, items: Sequence[Item]) -> str:
        bodies = [_ONLINE.encode(one) for one in items]
        answer = await self.api.submit(self.catalog, _ONLINE.upload(self.catalog, bodies))
        return answer.feed_log_id

    async def delete(self, sku_ids: Sequence[str]) -> str:
        answer = await self.api.submit(self.catalog, _ONLINE.delete(self.catalog, sku_ids))
        return answer.feed_log_id

    async def log(self, feed_log_id: str) -> FeedLog:
        """The log once it has ended."""
        async with asyncio.timeout(5):
            while True:
                found = await self.api.feed_log(self.catalog, feed_log_id)
                if found.ended:
                    return found
                await asyncio.sleep(0.01)

    async def bound(self) -> list[str]:
        """The pixels that the sandbox matches with the catalog."""
        ids = {"bc_id": self.catalog.business_center_id, "catalog_id": self.catalog.catalog_id}
        async with self._session.get(
            f"{self._url}/open_api/v1.3/catalog/eventsource_bind/get/",
            params=ids,
            headers={"Access-Token": TOKEN},
        ) as answer:
            sources = (await answer.json())["data"]["event_sources"]
        return [source["pixel_code"] for source in sources]

    async def uploaded(self, items: Sequence[Item]) -> Judgement:
        log = await self.log(await self.upload(items))
        return judge(SubmitKind.UPLOAD, [one.sku_id for one in items], log)

    async def deleted(self, sku_ids: Sequence[str]) -> Judgement:
        return judge(SubmitKind.DELETE, sku_ids, await self.log(await self.delete(sku_ids)))


@asynccontextmanager
async def world(**simulated: Any) -> AsyncIterator[World]:
    quick = {"submit_spacing_s": 0.0, "ingestion_ms": 20.0, "ingestion_us_per_item": 0.0}
    told = Simulated(
        bc_id="6001", region="DE", currency="EUR", **{**quick, "review_ms": 0.0, **simulated}
    )
    grant = Grant(catalogs=frozenset({"7001"}), pixels=frozenset({"C1"}))
    tiktok = TikTokSandbox(
        SandboxConfig(tokens={TOKEN: grant}, catalogs={"7001": told}), SystemClock()
    )
    url = await tiktok.start()
    try:
        async with http_session() as session:
            api = TikTokCatalogApi(
                url, session, OneToken(), ListingLimiter(), SystemClock(), Metrics()
            )
            yield World(api, CATALOG, session, url)
    finally:
        await tiktok.stop()


def fates(judged: Judgement) -> Counter[Fate]:
    return Counter(one.fate for one in judged.verdicts.values())


@pytest.mark.parametrize("status", ["process_status", "status", "none"])
async def test_five_thousand_items_with_a_bad_one_are_judged_to_the_last(status: str) -> None:
    many = 5000 if status == "none" else 20
    items = [item(number) for number in range(many)]
    items[17] = item(17, title=_TITLE_TOO_LONG)
    for number in range(3, 12):
        items[number] = item(number, gender="COOL")
    async with world(log_status=status, download_path="flat", sparse_counts=True) as tiktok:
        judged = await tiktok.uploaded(items)

        assert fates(judged) == {Fate.ACCEPTED: many - 10, Fate.WARNED: 9, Fate.REFUSED: 1}
        refused = judged.verdicts["SHIRT-0017"]
        assert [one.field for one in refused.issues] == ["title"]
        found = await tiktok.api.reviews(tiktok.catalog, [one.sku_id for one in items[:450]])
        assert {one.sku_id for one in found} == {
            one.sku_id for one in items[:450] if one.sku_id != "SHIRT-0017"
        }
        assert {(one.status, one.is_usable) for one in found} == {("approved", True)}


async def test_deletes_are_done_once_twice_and_for_what_never_was() -> None:
    async with world() as tiktok:
        await tiktok.uploaded([item(number) for number in range(4)])
        gone = ["SHIRT-0000", "SHIRT-0001", "NEVER-WAS"]

        once = await tiktok.deleted(gone)
        twice = await tiktok.deleted(gone)

        # Of the second nothing is counted: a catalog that drops its writes would say the same.
        assert (fates(once), fates(twice)) == ({Fate.ACCEPTED: 3}, {Fate.AGAIN: 3})
        left = await tiktok.api.reviews(tiktok.catalog, [f"SHIRT-000{n}" for n in range(4)])
        assert {one.sku_id for one in left} == {"SHIRT-0002", "SHIRT-0003"}


async def test_a_whole_request_that_is_refused_names_the_item_to_isolate() -> None:
    items = [item(number) for number in range(300)]
    items[123] = item(123, brand="")
    async with world() as tiktok:
        with pytest.raises(RefusedError) as caught:
            await tiktok.upload(items)
        others, alone = parts_after_refusal(
            items, [one.sku_id for one in items], caught.value.words
        )

        assert (caught.value.kind, caught.value.divisible) == (Kind.PERMANENT, True)
        assert alone == [items[123]]
        assert fates(await tiktok.uploaded(others)) == {Fate.ACCEPTED: 299}


async def test_a_second_write_is_told_apart_from_a_refusal() -> None:
    async with world(ingestion_ms=60_000.0) as tiktok:
        first = await tiktok.upload([item(1)])
        with pytest.raises(ServiceError) as caught:
            await tiktok.upload([item(2)])

        assert (caught.value.kind, caught.value.code) == (Kind.THROTTLED, "catalog_busy")
        assert not (await tiktok.api.feed_log(tiktok.catalog, first)).ended


async def test_a_submit_that_comes_too_soon_is_sent_again_a_minute_later() -> None:
    items = [item(number) for number in range(30)]
    async with world(submit_spacing_s=60.0) as tiktok:
        await tiktok.uploaded(items)
        judged = await tiktok.uploaded(items)

        assert {one.reason for one in judged.verdicts.values()} == {Reason.TOO_SOON}
        assert (fates(judged), judged.spacing_s) == ({Fate.AGAIN: 30}, 60.0)


async def test_a_catalog_that_takes_nothing_is_a_matter_of_its_setup() -> None:
    async with world(channel="SHOPIFY") as tiktok:
        judged = await tiktok.uploaded([item(1), item(2)])
        facts = await tiktok.api.facts(tiktok.catalog)

        assert fates(judged) == {Fate.NOT_INGESTED: 2}
        assert "CLIENT" in judged.advice
        assert (facts.region, facts.currency, facts.channel) == ("DE", "EUR", "SHOPIFY")


async def test_a_review_that_hangs_says_why() -> None:
    async with world(image_rules=(ImageRule(url="*shirt.jpg", status="FILTERED"),)) as tiktok:
        await tiktok.uploaded([item(1)])
        [found] = await tiktok.api.reviews(tiktok.catalog, ["SHIRT-0001"])

        assert (found.status, found.is_usable) == ("processing", False)
        assert any("FILTERED" in reason for reason in found.reasons)


async def test_a_log_that_was_never_there_is_unknown() -> None:
    async with world() as tiktok:
        await tiktok.uploaded([item(1)])
        with pytest.raises(ServiceError) as caught:
            await tiktok.api.feed_log(tiktok.catalog, "1")

        assert caught.value.code == "feed_log_unknown"


async def test_an_event_source_is_bound() -> None:
    async with world() as tiktok:
        await tiktok.uploaded([item(1)])

        await tiktok.api.bind_event_source(tiktok.catalog, advertiser_id="42", pixel_code="C1")

        assert await tiktok.bound() == ["C1"]
