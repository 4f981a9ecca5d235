from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.shopify.corpus import corpus_deliveries, topic_of_folder, unwrapped
from sandbox.shopify.signing import webhook_signature
from sandbox.shopify.storm import default_shops

SHOP = default_shops(datetime(2026, 11, 22, tzinfo=UTC))[0]


@pytest.mark.parametrize(
    ("folder", "topic"),
    [
        ("orders_paid", "orders/paid"),
        ("orders_partially_fulfilled", "orders/partially_fulfilled"),
        ("app_scopes_update", "app/scopes_update"),
        ("bulk_operations_finish", "bulk_operations/finish"),
        ("customers_data_request", "customers/data_request"),
        ("inventory_levels_connect", "inventory_levels/connect"),
        ("variants_out_of_stock", "variants/out_of_stock"),
        ("payloads", "payloads"),
    ],
)
def test_a_folder_name_names_its_topic(folder: str, topic: str) -> None:
    assert topic_of_folder(folder) == topic


def test_a_recorded_request_gives_its_body_in_the_form_of_the_recorded_length() -> None:
    body = b'{"url":"https:\\/\\/example.com"}'
    recorded = {"headers": {"Content-Length": str(len(body))}, "body": json.loads(body)}

    found, headers = unwrapped(json.dumps(recorded).encode())

    assert found == body
    assert headers == {"content-length": str(len(body))}


def test_bytes_that_are_no_recorded_request_stay_as_they_are() -> None:
    for raw in (b"not json", b' {"id": 1}\n', b"[]", b'{"headers": 1, "body": 2}'):
        assert unwrapped(raw) == (raw, {})


def test_an_index_outranks_the_folder(tmp_path: Path) -> None:
    (tmp_path / "webhooks" / "odd_name").mkdir(parents=True)
    (tmp_path / "webhooks" / "odd_name" / "a.json").write_bytes(b'{"id": 1}')
    index = [{"file": "webhooks/odd_name/a.json", "topic": "orders/paid"}]
    (tmp_path / "index.json").write_text(json.dumps(index))

    delivery = next(corpus_deliveries(tmp_path, SHOP))

    assert delivery.topic == "orders/paid"
    assert delivery.body == b'{"id": 1}'


def test_every_recorded_payload_becomes_a_signed_delivery(corpus_dir: Path) -> None:
    data = corpus_dir / "data"
    if not (data / "webhooks").is_dir():
        pytest.skip(f"no recorded webhooks under {data}")

    deliveries = list(corpus_deliveries(data, SHOP))

    assert len(deliveries) == len(list((data / "webhooks").glob("*/*.json")))
    assert len({delivery.webhook_id for delivery in deliveries}) == len(deliveries)
    assert all("/" in delivery.topic for delivery in deliveries)
    assert all(
        delivery.header("hmac-sha256") == webhook_signature(SHOP.secrets[0], delivery.body)
        for delivery in deliveries
    )
    assert not any("headers" in json.loads(delivery.body) for delivery in deliveries)
    assert list(corpus_deliveries(data, SHOP)) == deliveries
