"""`tidewire preview catalog`: what a product's webhook would become in TikTok's catalog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.preview import preview_catalog

SHOE: dict[str, Any] = {
    "id": 7001,
    "title": "Running Shoe",
    "body_html": "<p>Runs by itself.</p>",
    "vendor": "Acme",
    "product_type": "Shoes",
    "handle": "running-shoe",
    "status": "active",
    "published_at": "2026-11-01T00:00:00Z",
    "updated_at": "2026-11-02T00:00:00Z",
    "tags": "",
    "options": [{"name": "Size", "values": ["42", "43"]}],
    "variants": [
        {
            "id": 42000 + size,
            "product_id": 7001,
            "title": str(size),
            "option1": str(size),
            "sku": f"SHOE-{size}",
            "price": "120.00",
            "inventory_policy": "deny",
            "inventory_quantity": 5,
            "inventory_item_id": 43000 + size,
            "updated_at": "2026-11-02T00:00:00Z",
        }
        for size in (42, 43)
    ],
    "images": [{"id": 1, "src": "https://cdn.shopify.com/s/files/1/a.jpg"}],
}

SHOP: dict[str, Any] = {
    "shop": "example.myshopify.com",
    "country": "US",
    "currency": "USD",
    "active_since": "2026-11-01T00:00:00Z",
    "shopify": {"webhook_secrets": ["a-secret-of-a-test"], "access_token": "a-token-of-a-test"},
}


def settings_file(folder: Path, **catalog: Any) -> Path:
    path = folder / "connections.yaml"
    chosen = {
        "access_token": "an-access-token-of-a-test",
        "business_center_id": "9001",
        "catalog_id": "8001",
        **catalog,
    }
    path.write_text(yaml.safe_dump({"connections": [{**SHOP, "tiktok_catalog": [chosen]}]}))
    return path


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    def show(body: Any, topic: str = "products/update", **other: Any) -> tuple[int, Any, Any]:
        code = preview_catalog(
            topic, json.dumps(body).encode(), other.get("settings"), other.get("dialect")
        )
        printed = capsys.readouterr()
        return code, json.loads(printed.out), json.loads(printed.err) if printed.err else None

    return show


def test_a_product_becomes_an_upload_of_its_variants(shown: Any) -> None:
    code, out, err = shown(SHOE)

    (request,) = out
    assert code == 0
    assert list(request) == ["method", "url", "headers", "body"]
    assert request["url"] == (
        "https://business-api.tiktok.com/open_api/v1.3/catalog/product/upload/"
    )
    assert request["headers"]["Access-Token"] == "***"
    assert request["body"]["bc_id"] == request["body"]["catalog_id"] == "PREVIEW"
    assert [one["sku_id"] for one in request["body"]["products"]] == ["SHOE-42", "SHOE-43"]
    assert request["body"]["products"][0]["landing_page"]["landing_page_url"] == (
        "https://example.myshopify.com/products/running-shoe?variant=42042"
    )
    assert err is None


def test_the_guides_dialect_can_be_chosen(shown: Any) -> None:
    _, out, _ = shown(SHOE, dialect="item_batch")

    assert out[0]["url"].endswith("/open_api/v1.3/catalog/item/batch/")
    assert [one["item_id"] for one in out[0]["body"]["items"]] == ["SHOE-42", "SHOE-43"]


def test_settings_name_the_catalog_and_its_brand(shown: Any, tmp_path: Path) -> None:
    settings = settings_file(tmp_path, brand="House", dialect="item_batch")
    nameless = {**SHOE, "vendor": ""}

    _, by_settings, _ = shown(nameless, settings=settings, dialect="product_upload")

    assert by_settings[0]["body"]["catalog_id"] == "8001"
    assert by_settings[0]["body"]["products"][0]["brand"] == "House"


def test_a_refused_variant_is_told_beside_the_requests_for_the_others(shown: Any) -> None:
    free, paid = SHOE["variants"]

    code, out, err = shown({**SHOE, "variants": [{**free, "price": "0.00"}, paid]})

    assert code == 0
    assert [one["sku_id"] for one in out[0]["body"]["products"]] == ["SHOE-43"]
    assert [(one["sku_id"], one["code"], one["field"]) for one in err["refused"]] == [
        ("SHOE-42", "price_zero", "variants.price")
    ]


def test_where_all_are_refused_the_first_reason_is_given_with_all_of_them(shown: Any) -> None:
    code, out, err = shown({**SHOE, "vendor": ""})

    assert (code, err) == (0, None)
    assert out["ignored"] == "brand_missing"
    assert [one["sku_id"] for one in out["refused"]] == ["SHOE-42", "SHOE-43"]


@pytest.mark.parametrize(
    ("changes", "reason"), [({"status": "draft"}, "not_active"), ({"variants": []}, "no_variants")]
)
def test_a_product_that_is_not_for_sale_is_ignored(
    shown: Any, changes: dict[str, Any], reason: str
) -> None:
    assert shown({**SHOE, **changes})[:2] == (0, {"ignored": reason})


def test_a_deletion_is_ignored_where_nothing_is_known_of_the_product(shown: Any) -> None:
    assert shown({"id": 7001}, "products/delete")[:2] == (0, {"ignored": "product_not_known"})


def test_what_is_no_topic_of_a_product_is_ignored(shown: Any) -> None:
    code, out, _ = shown({"id": 1}, "locales/create")

    assert code == 0
    assert set(out) == {"ignored"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"body": "no object"}, "not_an_object"),
        ({"dialect": "event_track"}, "dialect_unknown"),
    ],
)
def test_what_cannot_be_previewed_is_refused_with_path_and_reason(
    shown: Any, given: dict[str, Any], reason: str
) -> None:
    code, out, _ = shown(given.pop("body", SHOE), **given)

    assert (code, out["error"]["reason"]) == (2, reason)


def test_settings_without_a_catalog_are_refused(shown: Any, tmp_path: Path) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(yaml.safe_dump({"connections": [SHOP]}))

    code, out, _ = shown(SHOE, settings=path)

    assert (code, out["error"]["reason"]) == (2, "settings_without_catalog")
