"""What is asked of stores, and what their answers say of tokens and versions."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest
from graphql import build_client_schema, parse, validate

from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.shopify.admin import ShopifyAdmin
from libs.telemetry import Metrics
from services.auth.adapters.shopify_subscriptions import OPERATIONS, ShopifyStores
from services.auth.ports import Place
from tests.integration.auth.store_admin import FakeStore, OneToken, admin_of, serving


@dataclass
class Bench:
    store: FakeStore
    session: aiohttp.ClientSession
    template: str
    tokens: OneToken

    @property
    def admin(self) -> ShopifyAdmin:
        return admin_of(self.template, self.session, Metrics(), self.tokens)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    store = FakeStore()
    shops = {f"shop-{number}": store for number in range(101)}
    async with serving(shops) as template, http_session() as session:
        yield Bench(store, session, template, OneToken())


@pytest.mark.parametrize("version", ["2026-01", "2026-10"])
def test_shopifys_own_schema_knows_all_that_is_asked(version: str, corpus_dir: Path) -> None:
    file = corpus_dir / f"data/schema/admin/admin_{version}.introspection.json.gz"
    told = msgspec.json.decode(gzip.decompress(file.read_bytes()))
    schema = build_client_schema(told["data"], assume_valid=True)

    for operation in OPERATIONS:
        assert validate(schema, parse(operation.document)) == [], operation.name


async def test_only_a_token_that_is_refused_as_such_is_reported(bench: Bench) -> None:
    stores = ShopifyStores(bench.admin)
    bench.store.down = {"StorePlace"}
    with pytest.raises(ServiceError):
        await stores.place("shop-1")
    assert bench.tokens.reported == []

    bench.store.token = "shpat_another"
    with pytest.raises(ServiceError) as raised:
        await stores.place("shop-1")

    assert raised.value.kind is Kind.AUTH
    assert [connection for connection, _ in bench.tokens.reported] == ["shop-1.shopify"]


async def test_many_stores_with_hidden_fields_do_not_silence_the_end_of_a_version(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = bench.admin
    bench.store.denied = True
    for number in range(101):
        assert await ShopifyStores(admin).place(f"shop-{number}") == Place("GB", "GBP")
    bench.store.denied, bench.store.deprecation = False, "https://shopify.dev/changelog/x"

    await ShopifyStores(admin).place("shop-1")

    assert capsys.readouterr().out.count("https://shopify.dev/changelog/x") == 1


@pytest.mark.parametrize("version", ["", "unstable", "2026-13", "2026-10-01", "v1"])
async def test_a_version_that_is_no_dated_one_is_refused_at_the_start(
    bench: Bench, version: str
) -> None:
    with pytest.raises(ServiceError) as raised:
        admin_of(bench.template, bench.session, Metrics(), bench.tokens, api_version=version)

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "api_version_unpinned")
