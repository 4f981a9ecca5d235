"""The catalog of the Shopify simulator: read by GraphQL, made and changed over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from graphql import parse, validate

from sandbox.shopify_admin.schema import SUPPORTED, schema_of
from tests.fakes.product_csv import product_csv
from tests.integration.sandbox.bulk_rig import Bulk, bulk_shop
from tests.unit.sandbox_shopify_admin.shelves import SHOP

READ = """
query Read($product: ID!, $variant: ID!, $item: ID!, $level: ID!, $nodes: [ID!]!) {
  product(id: $product) {
    id title descriptionHtml status vendor productType tags onlineStoreUrl publishedAt
    category { id fullName } options { name optionValues { name } }
    translations(locale: "fr") { key value locale }
    metafield(namespace: "custom", key: "material") { type value }
    metafields(first: 5) { nodes { key value } }
    media(first: 5) { nodes {
      id mediaContentType status ... on MediaImage { image { url width } }
    } }
    variants(first: 1) { nodes { id price } pageInfo { hasNextPage endCursor } }
  }
  productVariant(id: $variant) {
    sku price compareAtPrice inventoryPolicy inventoryQuantity title
    selectedOptions { name value } product { id }
    contextualPricing(context: {country: FR}) {
      price { amount currencyCode } compareAtPrice { amount }
    }
    inventoryItem { id tracked measurement { weight { value unit } } }
  }
  inventoryItem(id: $item) {
    id inventoryLevels(first: 5) {
      nodes { location { name } quantities(names: ["available"]) { quantity } }
    }
  }
  inventoryLevel(id: $level) { id item { variant { id } } }
  nodes(ids: $nodes) { id ... on ProductVariant { sku } ... on Product { title } }
  locations(first: 5) { nodes { id name fulfillsOnlineOrders } }
  shopLocales { locale primary published }
  productsCount { count }
  shop { currencyCode primaryDomain { host url } }
}"""
LAMP = "gid://shopify/Product/11"
IDS = {
    "product": LAMP,
    "variant": "gid://shopify/ProductVariant/51",
    "item": "gid://shopify/InventoryItem/1051",
    "level": "gid://shopify/InventoryLevel/72?inventory_item_id=1051",
    "nodes": ["gid://shopify/ProductVariant/52", "gid://shopify/Product/99"],
}
PAGES = """
query Pages($after: String, $sort: ProductSortKeys, $query: String) {
  products(first: 1, after: $after, sortKey: $sort, query: $query) {
    nodes { id } pageInfo { hasNextPage endCursor }
  }
}"""


@pytest.fixture
async def bulk() -> AsyncIterator[Bulk]:
    async with bulk_shop() as served:
        yield served


@pytest.fixture(scope="session")
def schemas(corpus_dir: Path) -> Path:
    folder = corpus_dir / "data" / "schema" / "admin"
    if not (folder / "admin_2026-10.introspection.json.gz").is_file():
        pytest.skip(f"no Admin schema of Shopify's under {folder}")
    return folder


async def get(bulk: Bulk, path: str) -> Any:
    async with bulk.session.get(f"{bulk.url}{path}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def made(bulk: Bulk, **plan: Any) -> Any:
    wish = {"shop": SHOP, "variants": 120, "odd": []} | plan
    return await bulk.post("/_sandbox/shopify/catalog", wish)


async def truth(bulk: Bulk, limit: int = 5) -> dict[int, Any]:
    """Every product, page by page."""
    found: dict[int, Any] = {}
    after: int | None = 0
    while after is not None:
        page = await get(bulk, f"/_sandbox/shopify/catalog?shop={SHOP}&after={after}&limit={limit}")
        found |= {one["id"]: one for one in page["items"]}
        after = page["next"]
    return found


# -- reading -------------------------------------------------------------------------------------


async def test_everything_of_a_product_can_be_read(bulk: Bulk) -> None:
    body = await bulk.ask(READ, IDS)

    assert "errors" not in body
    data = body["data"]
    product, variant = data["product"], data["productVariant"]
    assert product["category"]["fullName"] == "Home > Lighting > Lamps"
    assert product["onlineStoreUrl"] == "https://www.shop.example/products/thing-11"
    assert product["translations"][0] == {"key": "title", "value": "Lampe", "locale": "fr"}
    assert product["metafields"]["nodes"] == [{"key": "material", "value": "oak"}]
    ready, unfinished, film = product["media"]["nodes"]
    assert ready["image"] == {"url": "https://cdn.example.com/l/1.jpg", "width": 1200}
    assert (unfinished["status"], unfinished["image"]) == ("PROCESSING", None)
    assert film == {"id": "gid://shopify/Video/33", "mediaContentType": "VIDEO", "status": "READY"}
    assert product["variants"]["pageInfo"]["hasNextPage"] is True
    assert variant["selectedOptions"] == [{"name": "Size", "value": "Small"}]
    assert variant["contextualPricing"]["price"] == {"amount": "18.00", "currencyCode": "EUR"}
    assert variant["inventoryQuantity"] == 8
    assert variant["inventoryItem"]["measurement"]["weight"] == {
        "value": 1.25,
        "unit": "KILOGRAMS",
    }
    assert data["inventoryItem"]["inventoryLevels"]["nodes"] == [
        {"location": {"name": "Harbour"}, "quantities": [{"quantity": 3}]},
        {"location": {"name": "Hill"}, "quantities": [{"quantity": 5}]},
    ]
    assert data["inventoryLevel"]["item"]["variant"]["id"] == IDS["variant"]
    assert data["nodes"] == [{"id": "gid://shopify/ProductVariant/52", "sku": "SKU-52"}, None]
    assert [one["fulfillsOnlineOrders"] for one in data["locations"]["nodes"]] == [True, False]
    assert [one["locale"] for one in data["shopLocales"]] == ["en", "fr"]
    assert data["productsCount"] == {"count": 2}


async def test_reading_costs_what_is_asked_and_gives_back_what_is_not_there(bulk: Bulk) -> None:
    cost = (await bulk.ask(READ, IDS))["extensions"]["cost"]

    assert 10 < cost["actualQueryCost"] < cost["requestedQueryCost"] < 200
    left = cost["throttleStatus"]
    assert left["currentlyAvailable"] == left["maximumAvailable"] - cost["actualQueryCost"]


@pytest.mark.parametrize("version", [SUPPORTED[0], SUPPORTED[-1]])
def test_what_is_read_here_is_valid_by_shopifys_own_schema(schemas: Path, version: str) -> None:
    for document in (READ, PAGES):
        assert validate(schema_of(version, schemas), parse(document)) == []


async def test_under_shopifys_own_schema_the_answers_are_the_same(
    bulk: Bulk, schemas: Path
) -> None:
    own = await bulk.ask(READ, IDS)
    async with bulk_shop(schemas) as real:
        assert (await real.ask(READ, IDS))["data"] == own["data"]


async def test_a_field_that_the_shop_does_not_have_is_an_error_and_never_just_null(
    schemas: Path,
) -> None:
    async with bulk_shop(schemas) as real:
        body = await real.ask(
            '{ product(id: "gid://shopify/Product/11") { id giftCardTemplateSuffix } }'
        )

    assert "this sandbox has no Product.giftCardTemplateSuffix" in body["errors"][0]["message"]


async def test_products_are_paged_by_id_and_by_change_and_found_by_change(bulk: Bulk) -> None:
    bulk.shop.products[11].updated_at_s = bulk.shop.products[12].updated_at_s + 5

    async def page(**variables: Any) -> Any:
        found = (await bulk.ask(PAGES, variables))["data"]["products"]
        ids = [node["id"].rpartition("/")[2] for node in found["nodes"]]
        return ids, found["pageInfo"]["hasNextPage"], found["pageInfo"]["endCursor"]

    first, more, cursor = await page()
    assert (first, more) == (["11"], True)
    assert (await page(after=cursor))[:2] == (["12"], False)
    newest_last, _, cursor = await page(sort="UPDATED_AT")
    assert newest_last == ["12"]
    assert (await page(sort="UPDATED_AT", after=cursor))[0] == ["11"]
    assert (await page(query="updated_at:>'2026-09-21T14:13:33Z'"))[:2] == (["11"], False)


# -- making --------------------------------------------------------------------------------------


async def test_a_catalog_is_made_and_its_truth_is_paged_whole(bulk: Bulk) -> None:
    told = await made(bulk, currency="EUR", country="DE", markets={"GB": "GBP"})

    found = await truth(bulk)
    shop = (await bulk.ask("{ shop { currencyCode primaryDomain { host } } }"))["data"]["shop"]

    variants = [one for product in found.values() for one in product["variants"]]
    assert (told["variants"], told["products"]) == (len(variants), len(found)) == (120, len(found))
    assert variants[0]["prices"]["GB"]["currency"] == "GBP"
    assert shop == {
        "currencyCode": "EUR",
        "primaryDomain": {"host": "www.example.example.com"},
    }


async def test_an_export_is_the_truth_item_by_item(bulk: Bulk) -> None:
    await made(bulk, odd=["skus", "stock", "texts", "prices"])
    await bulk.pace(shuffle=True, window=50)

    lines = await bulk.lines("""{ products { edges { node { id title descriptionHtml variants {
      edges { node { id sku price inventoryItem { inventoryLevels { edges { node {
        id quantities(names: ["available"]) { quantity } } } } } } } } } } } }""")

    by_id = {line["id"]: line for line in lines}
    levels = Counter(line["__parentId"] for line in lines if "quantities" in line)
    for product in (await truth(bulk)).values():
        told = by_id.pop(f"gid://shopify/Product/{product['id']}")
        assert (told["title"], told["descriptionHtml"]) == (product["title"], product["body_html"])
        for variant in product["variants"]:
            id_ = f"gid://shopify/ProductVariant/{variant['id']}"
            assert by_id.pop(id_)["price"] == variant["price"]
            assert levels[id_] == len(variant["inventory_item"]["levels"]) == 3
    assert all("InventoryLevel" in id_ for id_ in by_id)


async def test_a_plan_that_cannot_be_read_and_a_shop_without_a_catalog_are_refused(
    bulk: Bulk,
) -> None:
    url = f"{bulk.url}/_sandbox/shopify"
    async with bulk.session.post(f"{url}/catalog", json={"shop": SHOP, "size": 3}) as answer:
        assert answer.status == 400
        assert "size" in (await answer.json())["error"]
    async with bulk.session.get(f"{url}/catalog?shop=nowhere.myshopify.com") as answer:
        assert answer.status == 404


# -- changing ------------------------------------------------------------------------------------


def verified(secret: str, body: bytes, signature: str) -> bool:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode() == signature


async def test_changes_are_in_the_truth_and_their_deliveries_are_shown_signed(bulk: Bulk) -> None:
    await made(bulk)
    before = await truth(bulk)
    wish = {"shop": SHOP, "kind": "price", "count": 3, "seed": 4, "secret": "shpss_x"}
    answer = await bulk.post("/_sandbox/shopify/mutate", wish)
    after = await truth(bulk)

    touched = {json.loads(one["body"])["id"] for one in answer["deliveries"]}
    assert {id_ for id_ in before if before[id_] != after[id_]} == touched
    assert answer["changed"] == 3
    for one in answer["deliveries"]:
        headers = {name.lower().removeprefix("x-"): value for name, value in one["headers"]}
        assert headers["shopify-topic"] == one["topic"] == "products/update"
        assert verified("shpss_x", one["body"].encode(), headers["shopify-hmac-sha256"])


@pytest.fixture
async def hooks(bulk: Bulk) -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """An address on this machine, and what arrives there."""
    taken: list[tuple[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower().removeprefix("x-"): one for name, one in request.headers.items()}
        data = await request.read()
        good = verified("shpss_x", data, headers["shopify-hmac-sha256"])
        taken.append((headers["shopify-topic"], json.loads(data)))
        return web.Response(status=200 if good else 401)

    app = web.Application(client_max_size=2**25)
    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks", taken
    await runner.cleanup()


async def test_changes_are_sent_where_they_are_wanted(
    bulk: Bulk, hooks: tuple[str, list[tuple[str, Any]]]
) -> None:
    url, taken = hooks
    await made(bulk)
    sending = {"url": url, "secret": "shpss_x"}
    wish = {"shop": SHOP, "kind": "stock", "count": 5, "send": sending}
    progress = await bulk.post("/_sandbox/shopify/mutate", wish)

    found = await truth(bulk)
    assert progress == {
        "wanted": 5,
        "changed": 5,
        "delivered": 10,
        "statuses": {"200": 10},
        "done": True,
    }
    assert Counter(topic for topic, _ in taken) == {
        "inventory_levels/update": 5,
        "products/update": 5,
    }
    items = {
        variant["inventory_item"]["id"]: variant["inventory_item"]
        for product in found.values()
        for variant in product["variants"]
    }
    last = {
        (body["inventory_item_id"], body["location_id"]): body["available"]
        for topic, body in taken
        if topic == "inventory_levels/update"
    }
    for (item, location), available in last.items():
        levels = items[item]["levels"]
        assert {"location": location, "available": available} in levels


async def test_a_storm_of_changes_has_a_pace_and_nobody_waits_for_it(
    bulk: Bulk, hooks: tuple[str, list[tuple[str, Any]]]
) -> None:
    url, taken = hooks
    await made(bulk)
    sending = {"url": url, "secret": "shpss_x", "per_s": 20, "wait": False}
    wish = {"shop": SHOP, "count": 30, "send": sending}
    began_s = bulk.clock.now_s
    first = await bulk.post("/_sandbox/shopify/mutate", wish)

    for _ in range(500):
        [progress] = await get(bulk, "/_sandbox/shopify/mutate")
        if progress["done"]:
            break
        await asyncio.sleep(0.01)

    assert first["done"] is False
    assert progress["changed"] == 30
    assert progress["statuses"] == {"200": len(taken)}
    # The first goes at once, the last of thirty after 1.45 seconds at twenty in one.
    assert 1.4 < bulk.clock.now_s - began_s < 1.7


async def test_nothing_is_sent_off_this_machine(bulk: Bulk) -> None:
    wish = {"shop": SHOP, "kind": "text", "send": {"url": "https://hooks.example.com/x"}}
    async with bulk.session.post(f"{bulk.url}/_sandbox/shopify/mutate", json=wish) as answer:
        assert answer.status == 400


# -- a real shop's export ------------------------------------------------------------------------


async def test_a_product_export_is_put_on_the_shelf(bulk: Bulk) -> None:
    await made(bulk, variants=0)
    url = f"{bulk.url}/_sandbox/shopify/catalog/export?shop={SHOP}&limit=10"

    async with bulk.session.post(url, data=product_csv(products=3).encode()) as answer:
        assert (answer.status, (await answer.json())["added"]) == (200, 6)
    async with bulk.session.post(url, data=b"Title\nLamp\n") as answer:
        said = await answer.text()
        assert answer.status == 400
        assert "Variant Price" in said

    products = (await truth(bulk)).values()
    assert [one["handle"] for one in products] == ["lamp-0", "lamp-1", "lamp-2"]
