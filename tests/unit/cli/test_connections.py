"""`tidewire connections set`: what it sends."""

from __future__ import annotations

import protovalidate
import pytest
import typer

from cli.connections import _wanted, settings_change
from tidewire.auth.v1 import health_pb2
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_TIKTOK_EVENTS,
    Connection,
    EventsSettings,
)

KNOWN = health_pb2.ConnectionStatus(
    connection=Connection(
        connection_id="example.events.C1",
        shop="example",
        kind=CONNECTION_KIND_TIKTOK_EVENTS,
        country="US",
        tiktok_events=EventsSettings(pixel_code="C1", test_event_code="T1"),
    ),
    revision=7,
)


def wanted(**settings: object) -> Connection:
    return Connection(
        connection_id="example.events.C1",
        tiktok_events=EventsSettings(**settings),  # type: ignore[arg-type]
    )


def test_a_change_keeps_the_schemas_rules_and_what_it_does_not_name() -> None:
    request = settings_change(KNOWN, wanted(shadow=True), ["tiktok_events.shadow"])

    protovalidate.validate(request)
    assert request.connection.tiktok_events.shadow
    assert request.connection.tiktok_events.test_event_code == "T1"
    assert request.connection.country == "US"
    assert list(request.update_mask.paths) == ["tiktok_events.shadow"]


def test_a_change_is_of_what_was_read() -> None:
    assert settings_change(KNOWN, wanted(), ["country"]).expected_revision == 7


@pytest.mark.parametrize("path", ["tiktok_events.test_event_code", "country"])
def test_nothing_after_the_sign_empties_a_setting(path: str) -> None:
    request = settings_change(KNOWN, wanted(), [path])

    place = request.connection
    *heads, last = path.split(".")
    for head in heads:
        place = getattr(place, head)
    assert not getattr(place, last)


def test_lists_are_given_as_json_has_them() -> None:
    found = _wanted(
        "example.catalog.7",
        [
            'tiktok_catalog.fallback_languages=["fr", "de"]',
            'tiktok_catalog.field_rules=[{"target": "color", "source": "option:Colour"}]',
            "tiktok_catalog.submit_spacing_s=0",
            "tiktok_catalog.check_images=true",
            "tiktok_catalog.brand=Example 1",
        ],
    ).tiktok_catalog

    assert list(found.fallback_languages) == ["fr", "de"]
    assert [(one.target, one.source) for one in found.field_rules] == [("color", "option:Colour")]
    assert found.HasField("submit_spacing_s")
    assert (found.check_images, found.brand) == (True, "Example 1")


@pytest.mark.parametrize("value", ["[fr]", "fr", '[{"a": 1}]'])
def test_a_list_that_cannot_be_read_is_told_by_its_setting(value: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"fallback_?[lL]anguages"):
        _wanted("example.catalog.7", [f"tiktok_catalog.fallback_languages={value}"])
