"""Settings of connections, changed over gRPC: where the mask says so, and only to what is good."""

from __future__ import annotations

from typing import Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from libs.errors import Kind, ServiceError
from libs.rpc.client import call
from tests.integration.auth.service import Rig
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_STATE_PAUSED,
    Connection,
    EventsSettings,
)

_S = 10.0


async def _failure(method: Any, request: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call(method, request, timeout_s=_S)
    return caught.value


async def _status(rig: Rig, connection_id: str) -> Any:
    request = pb.GetConnectionRequest(connection_id=connection_id)
    return (await call(rig.connections().GetConnection, request, timeout_s=_S)).connection


async def _update(
    rig: Rig, wanted: Connection, *paths: str, expected: int = 0
) -> pb.UpdateSettingsResponse:
    request = pb.UpdateSettingsRequest(
        connection=wanted, update_mask=FieldMask(paths=paths), expected_revision=expected
    )
    return await call(rig.connections().UpdateSettings, request, timeout_s=_S)


def _wanted(rig: Rig, connection_id: str, **fields: Any) -> Connection:
    return Connection(connection_id=connection_id, shop=rig.shop, **fields)


def _pixel(**fields: Any) -> EventsSettings:
    return EventsSettings(pixel_code="C1", **fields)


async def test_an_active_since_that_there_is_not_is_refused(rig: Rig) -> None:
    _, pixel = await rig.connected()
    wanted = _wanted(rig, pixel)
    wanted.active_since.seconds = 1 << 60
    request = pb.UpdateSettingsRequest(
        connection=wanted, update_mask=FieldMask(paths=["active_since"])
    )

    error = await _failure(rig.connections().UpdateSettings, request)

    assert (error.code, error.path) == ("settings_unfit", "active_since")


async def test_settings_are_changed_where_the_mask_says_so_and_nowhere_else(rig: Rig) -> None:
    await rig.connected()
    pixel = await rig.imported(
        rig.pixel(
            "C2",
            shadow=True,
            test_event_code="T1",
            limited_data_use_regions=["US"],
            limited_data_use=2,
        ),
        access_token="t",
    )
    wanted = _wanted(
        rig,
        pixel,
        country="FR",
        tiktok_events=EventsSettings(
            pixel_code="C9", test_event_code="T2", limited_data_use_regions=["DE"]
        ),
    )

    paths = ("tiktok_events.test_event_code", "tiktok_events.limited_data_use_regions")
    answer = await _update(rig, wanted, *paths)

    changed = answer.connection.connection
    assert changed.country == "US"
    assert (changed.tiktok_events.pixel_code, changed.tiktok_events.shadow) == ("C2", True)
    assert changed.tiktok_events.test_event_code == "T2"
    assert list(changed.tiktok_events.limited_data_use_regions) == ["DE"]
    [record] = await rig.audited("UpdateSettings")
    assert (record.caller, list(record.changes)) == ("operator", list(paths))
    assert "T2" not in str(record)


async def test_a_setting_that_is_named_and_not_given_is_taken_away(rig: Rig) -> None:
    await rig.connected()
    pixel = await rig.imported(rig.pixel("C2", test_event_code="T1"), access_token="t")

    answer = await _update(rig, _wanted(rig, pixel), "tiktok_events.test_event_code")

    assert answer.connection.connection.tiktok_events.test_event_code == ""


_BAD: Final[list[tuple[tuple[str, ...], dict[str, Any]]]] = [
    ((), {"country": "FR"}),
    (("connection_id",), {}),
    (("state",), {"state": CONNECTION_STATE_PAUSED}),
    (("kind",), {}),
    (("country",), {"country": "ZZ"}),
    (("country",), {}),
    (("active_since",), {}),
    (("active_since.seconds",), {}),
    (("tiktok_events",), {"tiktok_events": _pixel()}),
    (("tiktok_events.pixel_code",), {"tiktok_events": EventsSettings(pixel_code="C2")}),
    (("tiktok_events.nothing",), {}),
    (("tiktok_events.event_id_templates.purchase",), {}),
    (("tiktok_events.",), {}),
    (("shopify.api_version",), {}),
    (("tiktok_catalog.language",), {}),
    (("country", "nothing"), {"country": "FR"}),
    (("tiktok_events.guide_lists",), {"tiktok_events": _pixel(guide_lists=True)}),
]


async def test_a_change_that_is_not_good_changes_nothing(rig: Rig) -> None:
    _, pixel = await rig.connected()
    before = await _status(rig, pixel)

    for paths, fields in _BAD:
        request = pb.UpdateSettingsRequest(
            connection=_wanted(rig, pixel, **fields), update_mask=FieldMask(paths=paths)
        )
        error = await _failure(rig.connections().UpdateSettings, request)
        assert (error.kind, error.code) == (Kind.PERMANENT, "settings_unfit"), paths

    assert await _status(rig, pixel) == before
    records = await rig.audited("UpdateSettings")
    assert [record.code for record in records] == ["settings_unfit"] * len(_BAD)


async def test_a_change_of_what_somebody_else_has_changed_is_refused(rig: Rig) -> None:
    _, pixel = await rig.connected()
    read = (await _status(rig, pixel)).revision
    first = await _update(rig, _wanted(rig, pixel, country="FR"), "country", expected=read)
    request = pb.UpdateSettingsRequest(
        connection=_wanted(rig, pixel, country="DE"),
        update_mask=FieldMask(paths=["country"]),
        expected_revision=read,
    )

    error = await _failure(rig.connections().UpdateSettings, request)

    assert (error.kind, error.code) == (Kind.PERMANENT, "settings_changed")
    assert (await _status(rig, pixel)).connection.country == "FR"
    assert first.connection.revision > read


async def test_a_pixel_that_is_connected_again_keeps_where_it_sells(rig: Rig) -> None:
    _, pixel = await rig.connected()
    await _update(rig, _wanted(rig, pixel, country="FR", currency="EUR"), "country", "currency")
    began = (await _status(rig, pixel)).connection.active_since

    await rig.imported(rig.pixel(), access_token=rig.token("pixel-2"))

    again = (await _status(rig, pixel)).connection
    assert (again.country, again.currency, again.active_since) == ("FR", "EUR", began)
