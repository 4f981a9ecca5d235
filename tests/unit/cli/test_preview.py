"""`tidewire preview`: what a webhook would become, from standard input to standard output."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import yaml

from cli.preview import preview_event, preview_normalize
from tests.unit.ingest.normalize.bodies_of import cart, checkout, line, order, product

_ROOT: Final = Path(__file__).resolve().parents[3]


class SocketError(Exception):
    """Somebody wanted the network."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise SocketError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class Shown:
    """Runs a preview and reads what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def normalize(self, topic: str, body: object, settings: Path | None = None) -> tuple[int, Any]:
        code = preview_normalize(topic, _bytes(body), settings)
        return code, json.loads(self._capsys.readouterr().out)

    def event(
        self, topic: str, body: object, settings: Path | None = None, dialect: str | None = None
    ) -> tuple[int, Any]:
        code = preview_event(topic, _bytes(body), settings, dialect)
        return code, json.loads(self._capsys.readouterr().out)


def _bytes(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return Shown(capsys)


def settings_file(directory: Path, **changes: object) -> Path:
    entry = {
        "shop": "somewhere.myshopify.com",
        "country": "GB",
        "currency": "GBP",
        "active_since": "2026-10-01T00:00:00Z",
        "shopify": {"webhook_secrets": ["whsec-do-not-print"]},
        "tiktok_events": [
            {"access_token": "token-do-not-print", "pixel_code": "C77", "dialect": "pixel_track"}
        ],
        **changes,
    }
    path = directory / "connections.yaml"
    path.write_text(yaml.safe_dump({"connections": [entry]}), encoding="utf-8")
    return path


# -- normalize -----------------------------------------------------------------------------------


def test_an_order_is_shown_as_its_message_and_its_facts(shown: Shown) -> None:
    code, messages = shown.normalize("orders/paid", order())

    kinds = [message["@type"].rsplit(".", 1)[1] for message in messages]
    assert code == 0
    assert kinds == ["Order", "Fact"]
    assert messages[0]["orderId"] == "1001"
    assert messages[1]["orderPaid"]["order"] == {
        name: value for name, value in messages[0].items() if name != "@type"
    }


@pytest.mark.parametrize(
    ("topic", "body", "path", "reason"),
    [
        ("orders/paid", b'{"id": 1, ', "$", "not_json"),
        ("orders/paid", b"[]", "$", "not_an_object"),
        ("orders/paid", b"\xff", "$", "not_utf8"),
        ("orders/paid", b"", "$", "not_json"),
        ("orders/paid", product(), "$.", ""),
    ],
)
def test_what_cannot_be_normalised_says_where_and_why(
    shown: Shown, topic: str, body: object, path: str, reason: str
) -> None:
    code, found = shown.normalize(topic, body)

    assert code == 2
    assert set(found) == {"error"}
    assert found["error"]["path"].startswith(path)
    assert found["error"]["reason"].startswith(reason)
    assert found["error"]["reason"]


def test_a_topic_that_is_not_used_becomes_nothing(shown: Shown) -> None:
    assert shown.normalize("themes/publish", {"id": 1}) == (0, [])


def test_the_same_webhook_is_shown_alike_each_time(shown: Shown) -> None:
    assert shown.normalize("orders/paid", order()) == shown.normalize("orders/paid", order())
    assert shown.event("orders/paid", order()) == shown.event("orders/paid", order())


# -- event ---------------------------------------------------------------------------------------


def test_a_purchase_is_shown_as_the_request_it_would_be(shown: Shown) -> None:
    code, [request] = shown.event("orders/paid", order())

    [event] = request["body"]["data"]
    assert code == 0
    assert request["method"] == "POST"
    assert request["url"] == "https://business-api.tiktok.com/open_api/v1.3/event/track/"
    assert request["headers"] == {"Access-Token": "***", "Content-Type": "application/json"}
    assert request["body"]["event_source_id"] == "PREVIEW"
    assert (event["event"], event["properties"]["value"]) == ("Purchase", 18.0)
    assert (event["properties"]["currency"], event["properties"]["order_id"]) == ("USD", "1001")


def test_a_preview_shows_nobodys_address_in_clear(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    preview_event("orders/paid", _bytes(order(email="alice@example.com")), None, None)

    assert "alice" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("topic", "body", "names"),
    [
        ("checkouts/create", checkout(), ["InitiateCheckout"]),
        ("carts/update", cart(line(101, 1)), ["AddToCart"]),
    ],
)
def test_every_kind_of_event_can_be_shown(
    shown: Shown, topic: str, body: object, names: list[str]
) -> None:
    _, requests = shown.event(topic, body)

    assert [event["event"] for one in requests for event in one["body"]["data"]] == names


def test_the_dialect_can_be_chosen(shown: Shown) -> None:
    _, [request] = shown.event("orders/paid", order(), dialect="pixel_track")

    assert request["url"].endswith("/open_api/v1.3/pixel/track/")
    assert (request["body"]["pixel_code"], request["body"]["event"]) == (
        "PREVIEW",
        "CompletePayment",
    )


def test_a_dialect_that_nobody_knows_is_refused(shown: Shown) -> None:
    assert shown.event("orders/paid", order(), dialect="graph_api") == (
        2,
        {"error": {"path": "dialect", "reason": "dialect_unknown"}},
    )


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("orders/paid", order(test=True), "test_order"),
        ("orders/paid", order(source_name="pos"), "point_of_sale"),
        ("orders/paid", order(source_name="shopify_draft_order"), "draft_order"),
        ("orders/paid", order(source_name="tidewire"), "own_echo"),
        ("orders/create", order(financial_status="pending"), "no_conversion"),
        ("products/update", product(), "no_conversion"),
    ],
)
def test_what_would_not_be_sent_has_its_reason(
    shown: Shown, topic: str, body: object, reason: str
) -> None:
    assert shown.event(topic, body) == (0, {"ignored": reason})


def test_a_topic_that_is_not_used_is_ignored(shown: Shown) -> None:
    code, found = shown.event("themes/publish", {"id": 1})

    assert (code, set(found)) == (0, {"ignored"})
    assert found["ignored"]


def test_what_cannot_be_normalised_fails_as_an_event_too(shown: Shown) -> None:
    code, found = shown.event("orders/paid", b"{")

    assert (code, found["error"]["reason"]) == (2, "not_json")


# -- settings ------------------------------------------------------------------------------------


def test_the_first_pixel_of_a_settings_file_is_followed_and_its_secrets_stay_inside(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path)

    code, [request] = shown.event("orders/paid", order(), path)
    preview_event("orders/paid", _bytes(order()), path, None)

    assert code == 0
    assert request["body"]["pixel_code"] == "C77"
    assert "do-not-print" not in capsys.readouterr().out


def test_an_order_older_than_the_connection_is_shown_all_the_same(
    shown: Shown, tmp_path: Path
) -> None:
    _, requests = shown.event("orders/paid", order(), settings_file(tmp_path))

    assert len(requests) == 1


@pytest.mark.parametrize("changes", [{"tiktok_events": []}, {"country": "Utopia"}])
def test_settings_that_do_not_fit_are_named(
    shown: Shown, tmp_path: Path, changes: dict[str, object]
) -> None:
    code, found = shown.event("orders/paid", order(), settings_file(tmp_path, **changes))

    assert (code, set(found)) == (2, {"error"})


def test_a_settings_file_that_is_not_there_is_named(shown: Shown, tmp_path: Path) -> None:
    code, found = shown.normalize("orders/paid", order(), tmp_path / "none.yaml")

    assert (code, set(found)) == (2, {"error"})


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "body", "code", "opening"),
    [
        (["event", "--topic", "orders/paid"], _bytes(order()), 0, '[\n  {\n    "method": "POST"'),
        (["normalize", "--topic", "orders/paid"], b"{", 2, '{\n  "error": {'),
    ],
)
def test_the_command_reads_standard_input_and_needs_no_environment(
    tmp_path: Path, arguments: list[str], body: bytes, code: int, opening: str
) -> None:
    done = subprocess.run(  # noqa: S603  our own command line
        [sys.executable, "-m", "cli", "preview", *arguments],
        input=body,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "gen")])},
    )

    assert (done.returncode, done.stderr.decode()) == (code, "")
    assert done.stdout.decode().startswith(opening)
