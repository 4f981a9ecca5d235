"""ConnectionService over gRPC: connections made, changed, watched and ended; all of it audited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from libs.errors import Kind, ServiceError
from libs.rpc.client import call, stream
from services.auth.ports import GRANT_REVOKED
from tests.fakes.provider import APP_SECRET
from tests.fakes.until import until
from tests.integration.auth.service import Rig, rig_at
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import token_service_pb2
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_TIKTOK_CATALOG,
    CONNECTION_KIND_TIKTOK_EVENTS,
    CONNECTION_KIND_TIKTOK_SHOP,
    CONNECTION_STATE_ACTIVE,
    CONNECTION_STATE_NEEDS_REAUTHORIZATION,
    CONNECTION_STATE_PAUSED,
    CatalogSettings,
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


async def _act(rig: Rig, name: str, connection_id: str) -> Any:
    request = getattr(pb, f"{name}Request")(connection_id=connection_id)
    return await call(getattr(rig.connections(), name), request, timeout_s=_S)


async def test_an_attempt_is_begun_and_audited_without_its_app_secret(rig: Rig) -> None:
    app = pb.OwnApp(client_id="own", client_secret="own-secret-nobody-prints")
    begun = await call(
        rig.connections().BeginConnection,
        pb.BeginConnectionRequest(spec=rig.store(app=app)),
        timeout_s=_S,
    )
    flow = await call(
        rig.connections().GetFlow, pb.GetFlowRequest(flow_id=begun.flow_id), timeout_s=_S
    )

    assert begun.url.endswith(f"/connect/{begun.flow_id}")
    assert flow.state == pb.FLOW_STATE_BEGUN
    [record] = await rig.audited("BeginConnection")
    assert (record.caller, record.code, list(record.changes)) == ("operator", "ok", ["begun"])
    assert b"own-secret" not in await rig.all_that_was_stored()


async def test_what_needs_no_browser_is_completed_at_once(rig: Rig) -> None:
    request = pb.CompleteConnectionRequest(
        spec=rig.store(shop=f"{rig.shop}.myshopify.com", country="", currency=""),
        flow=pb.GRANT_FLOW_CLIENT_CREDENTIALS,
    )

    answer = await call(rig.connections().CompleteConnection, request, timeout_s=_S)

    connection = answer.connection.connection
    assert connection.connection_id == f"{rig.shop}.shopify"
    assert (connection.country, connection.currency) == ("GB", "GBP")
    assert connection.state == CONNECTION_STATE_ACTIVE
    assert rig.world.attended == [rig.shop]
    [record] = await rig.audited("CompleteConnection")
    assert list(record.subjects) == [rig.shop, f"{rig.shop}.shopify"]


async def test_a_provider_that_says_no_is_audited_too(rig: Rig) -> None:
    rig.provider.trouble = ServiceError(Kind.PERMANENT, "app_refused", "not this app")
    request = pb.CompleteConnectionRequest(spec=rig.store(), flow=pb.GRANT_FLOW_CLIENT_CREDENTIALS)

    error = await _failure(rig.connections().CompleteConnection, request)

    assert error.code == "app_refused"
    [record] = await rig.audited("CompleteConnection")
    assert (record.code, list(record.subjects)) == ("app_refused", [rig.shop])


async def test_an_imported_token_is_stored_sealed_and_shown_to_nobody(rig: Rig) -> None:
    store, pixel = await rig.connected()

    listed = await call(
        rig.connections().ListConnections, pb.ListConnectionsRequest(shop=rig.shop), timeout_s=_S
    )

    assert [one.connection.connection_id for one in listed.connections] == [pixel, store]
    shown = str(listed).encode() + await rig.all_that_was_stored()
    for secret in (rig.token("store-1"), rig.token("pixel-1"), "hook-secret-1", APP_SECRET):
        assert secret.encode() not in shown
    records = await rig.audited("ImportConnection")
    assert [list(one.subjects)[-1] for one in records] == [store, pixel]


async def test_what_cannot_be_is_not_connected(rig: Rig) -> None:
    await rig.connected()
    before = set(rig.book.index.by_id)
    catalog = CatalogSettings(business_center_id="1", catalog_id="a.b")
    changes: list[tuple[dict[str, Any], str]] = [
        ({"shop": "a b"}, "spec.shop"),
        ({"kind": CONNECTION_KIND_TIKTOK_EVENTS}, "spec"),
        ({"kind": CONNECTION_KIND_TIKTOK_EVENTS, "tiktok_catalog": catalog}, "spec"),
        ({"kind": CONNECTION_KIND_TIKTOK_SHOP}, "shop_cipher"),
        (
            {"kind": CONNECTION_KIND_TIKTOK_CATALOG, "tiktok_catalog": catalog},
            "tiktok_catalog.catalog_id",
        ),
        (
            {
                "kind": CONNECTION_KIND_TIKTOK_EVENTS,
                "tiktok_events": EventsSettings(pixel_code="C.1"),
            },
            "tiktok_events.pixel_code",
        ),
        ({"country": "ZZ"}, "country"),
    ]

    for change, path in changes:
        request = pb.ImportConnectionRequest(spec=rig.store(**change), access_token="t")
        error = await _failure(rig.connections().ImportConnection, request)
        assert (error.code, error.path) == ("settings_unfit", path)

    assert set(rig.book.index.by_id) == before


async def test_a_pixel_needs_its_store(rig: Rig) -> None:
    request = pb.ImportConnectionRequest(spec=rig.pixel(), access_token="t")

    assert (await _failure(rig.connections().ImportConnection, request)).code == (
        "shop_not_connected"
    )


async def test_a_store_that_cannot_be_asked_where_it_is_must_be_told(rig: Rig) -> None:
    spec = rig.store(country="", currency="")
    request = pb.ImportConnectionRequest(spec=spec, webhook_secrets=["hook-secret-1"])

    error = await _failure(rig.connections().ImportConnection, request)

    assert (error.code, rig.grants.known(f"{rig.shop}.shopify")) == ("settings_unfit", None)


@pytest.mark.parametrize("field", ["expires_at", "refresh_expires_at"])
async def test_a_time_that_there_is_not_is_refused(rig: Rig, field: str) -> None:
    request = pb.ImportConnectionRequest(spec=rig.store(), access_token="t")
    getattr(request, field).seconds = 1 << 60

    assert (await _failure(rig.connections().ImportConnection, request)).code == "settings_unfit"


async def test_connections_come_in_pages(rig: Rig) -> None:
    await rig.connected()
    for number in range(2, 5):
        await rig.imported(rig.pixel(f"C{number}"), access_token="t")

    async def pages(caller: str, size: int) -> list[list[str]]:
        found, token = [], ""
        while True:
            request = pb.ListConnectionsRequest(shop=rig.shop, page_size=size, page_token=token)
            page = await call(rig.connections(caller).ListConnections, request, timeout_s=_S)
            found.append([one.connection.connection_id for one in page.connections])
            token = page.next_page_token
            if not token:
                return found

    pixels = [f"{rig.shop}.events.C{number}" for number in range(1, 5)]
    assert await pages("operator", 2) == [pixels[:2], pixels[2:], [f"{rig.shop}.shopify"]]
    assert await pages("operator", 5) == [[*pixels, f"{rig.shop}.shopify"]]


async def test_a_list_leaves_out_what_a_caller_may_not_see(rig: Rig) -> None:
    store, pixel = await rig.connected()
    request = pb.ListConnectionsRequest(page_size=500)

    page = await call(rig.connections("events").ListConnections, request, timeout_s=_S)

    ids = {one.connection.connection_id for one in page.connections}
    assert pixel in ids
    assert store not in ids
    assert all(".events." in one for one in ids)


async def test_connections_are_listed_by_kind_and_state(rig: Rig) -> None:
    store, pixel = await rig.connected()
    await _act(rig, "PauseConnection", pixel)

    async def ids(**fields: Any) -> list[str]:
        request = pb.ListConnectionsRequest(shop=f"{rig.shop}.myshopify.com", **fields)
        page = await call(rig.connections().ListConnections, request, timeout_s=_S)
        return [one.connection.connection_id for one in page.connections]

    assert await ids(kind=CONNECTION_KIND_TIKTOK_EVENTS) == [pixel]
    assert await ids(state=CONNECTION_STATE_PAUSED) == [pixel]
    assert await ids(state=CONNECTION_STATE_ACTIVE) == [store]


async def test_a_connection_that_there_is_not_is_not_found(rig: Rig) -> None:
    request = pb.GetConnectionRequest(connection_id=f"{rig.shop}.shopify")

    error = await _failure(rig.connections().GetConnection, request)

    assert (error.kind, error.code) == (Kind.PERMANENT, "connection_not_found")


async def test_a_paused_connection_goes_on_where_a_person_says_so(rig: Rig) -> None:
    _, pixel = await rig.connected()

    paused = await _act(rig, "PauseConnection", pixel)
    again = await _act(rig, "ResumeConnection", pixel)

    states = [one.connection.connection.state for one in (paused, again)]
    assert states == [CONNECTION_STATE_PAUSED, CONNECTION_STATE_ACTIVE]
    assert rig.book.index.by_id[pixel].state == CONNECTION_STATE_ACTIVE
    for method, change in (("PauseConnection", "paused"), ("ResumeConnection", "resumed")):
        [record] = await rig.audited(method)
        assert (list(record.subjects), list(record.changes)) == ([pixel], [change])


async def test_what_was_paused_before_a_start_goes_on_in_what_is_watched(
    rig: Rig, nats_server: Any, tmp_path: Any
) -> None:
    _, pixel = await rig.connected()
    await _act(rig, "PauseConnection", pixel)
    async with rig_at(nats_server, tmp_path) as other:
        at_start = other.book.index.by_id[pixel].state
        await _act(other, "ResumeConnection", pixel)

        assert at_start == CONNECTION_STATE_PAUSED
        assert other.book.index.by_id[pixel].state == CONNECTION_STATE_ACTIVE
        await until(lambda: rig.book.index.by_id[pixel].state == CONNECTION_STATE_ACTIVE)


async def test_resuming_has_a_token_tried_again_that_was_believed_dead(rig: Rig) -> None:
    _, pixel = await rig.connected()
    report = token_service_pb2.ReportInvalidRequest(connection_id=pixel, revision=1, code="40105")
    await call(rig.tokens().ReportInvalid, report, timeout_s=_S)
    dead = await _status(rig, pixel)

    again = (await _act(rig, "ResumeConnection", pixel)).connection

    assert (dead.connection.state, dead.grant.error_code) == (
        CONNECTION_STATE_NEEDS_REAUTHORIZATION,
        "40105",
    )
    assert (again.connection.state, again.grant.error_code) == (CONNECTION_STATE_ACTIVE, "")
    assert (pixel, "resumed") in rig.told


async def test_revoking_ends_a_connection_here_and_at_its_provider(rig: Rig) -> None:
    store, pixel = await rig.connected()
    scope_key = await rig.keys.current(f"connection.{pixel}")

    answer = await _act(rig, "RevokeConnection", pixel)

    assert (answer.upstream_error, rig.provider.revoked) == ("", [rig.token("pixel-1")])
    assert list(rig.book.index.ids_of(rig.shop)) == [store]
    assert not rig.book.has_token(pixel)
    with pytest.raises(ServiceError, match="key_unknown"):
        await rig.keys.by_id(f"connection.{pixel}", scope_key.key_id)
    request = pb.RevokeConnectionRequest(connection_id=pixel)
    assert (await _failure(rig.connections().RevokeConnection, request)).code == (
        "connection_not_found"
    )
    codes = [record.code for record in await rig.audited("RevokeConnection")]
    assert codes == ["ok", "connection_not_found"]


async def test_a_token_that_others_use_is_revoked_with_the_last_of_them(rig: Rig) -> None:
    await rig.connected()
    one = await rig.imported(rig.pixel("C2"), access_token=rig.token("shared"))
    other = await rig.imported(rig.pixel("C3"), access_token=rig.token("shared"))

    first = await _act(rig, "RevokeConnection", one)
    revoked_at_first = list(rig.provider.revoked)
    last = await _act(rig, "RevokeConnection", other)

    assert "another connection uses the same token" in first.upstream_error
    assert (last.upstream_error, revoked_at_first) == ("", [])
    assert rig.provider.revoked == [rig.token("shared")]


async def test_a_provider_that_is_away_does_not_keep_a_token_alive_here(rig: Rig) -> None:
    _, pixel = await rig.connected()
    rig.provider.trouble = ServiceError(Kind.RETRYABLE, "upstream_unreachable")

    answer = await _act(rig, "RevokeConnection", pixel)

    assert answer.upstream_error.startswith("upstream_unreachable")
    assert not rig.book.has_token(pixel)


async def test_a_store_without_a_token_is_revoked_with_its_secrets(rig: Rig) -> None:
    store = await rig.imported(webhook_secrets=["hook-secret-1"])

    answer = await _act(rig, "RevokeConnection", store)

    kept = rig.grants.known(store)
    assert kept is not None
    assert (answer.upstream_error, kept.record.HasField("grant")) == ("", False)


async def test_a_revoked_connection_can_be_made_again(rig: Rig) -> None:
    _, pixel = await rig.connected()
    await _act(rig, "RevokeConnection", pixel)

    again = await rig.imported(rig.pixel(), access_token=rig.token("pixel-2"))

    request = token_service_pb2.GetTokenRequest(connection_id=pixel)
    token = (await call(rig.tokens().GetToken, request, timeout_s=_S)).token
    assert (again, token.access_token, token.revision) == (pixel, rig.token("pixel-2"), 3)
    assert (await _status(rig, pixel)).connection.state == CONNECTION_STATE_ACTIVE


async def test_an_uninstalled_store_is_ended_with_all_that_is_sent_for_it(rig: Rig) -> None:
    store, pixel = await rig.connected()
    granted_at = await rig.linking.granted_at(rig.shop)
    assert granted_at is not None

    await rig.linking.uninstalled(rig.shop, granted_until=granted_at - timedelta(seconds=1))
    too_early = rig.book.has_token(store), rig.book.has_token(pixel)
    for _ in range(2):
        await rig.linking.uninstalled(rig.shop, granted_until=granted_at)

    assert too_early == (True, True)
    assert (rig.book.has_token(store), rig.book.has_token(pixel)) == (False, False)
    assert sorted(rig.provider.revoked) == [rig.token("pixel-1"), rig.token("store-1")]
    kept = rig.grants.known(store)
    assert kept is not None
    verifies = await rig.grants.open(kept)
    # `shop/redact` comes two days later, and has to be verified.
    assert [one.reveal() for one in verifies.webhook_secrets] == ["hook-secret-1"]
    assert not verifies.access_token
    resumed = (await _act(rig, "ResumeConnection", store)).connection.connection.state
    assert resumed == CONNECTION_STATE_NEEDS_REAUTHORIZATION


async def test_an_uninstalled_store_whose_key_is_gone_is_ended_all_the_same(rig: Rig) -> None:
    store, pixel = await rig.connected()
    granted_at = await rig.linking.granted_at(rig.shop)
    assert granted_at is not None
    await rig.keys.forget(f"connection.{store}")
    rig.grants._opened.clear()  # as in a process that has just started

    await rig.linking.uninstalled(rig.shop, granted_until=granted_at)

    assert (rig.book.has_token(store), rig.book.has_token(pixel)) == (False, False)


async def test_a_token_is_rotated_when_a_person_says_so(rig: Rig) -> None:
    store = await rig.imported(access_token="old", refresh_token="r", lasts=timedelta(hours=1))

    await _act(rig, "RotateConnection", store)

    assert (rig.provider.refreshes, rig.book.revision(store)) == (1, 2)
    [record] = await rig.audited("RotateConnection")
    assert (record.code, list(record.changes)) == ("ok", ["rotated"])


async def test_a_token_that_nothing_refreshes_is_not_rotated(rig: Rig) -> None:
    _, pixel = await rig.connected()

    error = await _failure(
        rig.connections().RotateConnection, pb.RotateConnectionRequest(connection_id=pixel)
    )

    assert (error.kind, error.code) == (Kind.PERMANENT, "not_refreshable")
    [record] = await rig.audited("RotateConnection")
    assert record.code == "not_refreshable"


async def test_a_rotation_that_the_provider_refuses_needs_a_person(rig: Rig) -> None:
    store = await rig.imported(access_token="old", refresh_token="r", lasts=timedelta(hours=1))
    rig.provider.trouble = ServiceError(Kind.AUTH, GRANT_REVOKED)
    request = pb.RotateConnectionRequest(connection_id=store)

    error = await _failure(rig.connections().RotateConnection, request)

    assert (error.kind, error.code) == (Kind.AUTH, "needs_reauthorization")


async def test_a_caller_changes_nothing_beyond_its_rules(rig: Rig) -> None:
    store, _ = await rig.connected()
    request = pb.PauseConnectionRequest(connection_id=store)

    denied = await _failure(rig.connections("events").PauseConnection, request)
    unknown = await _failure(rig.connections("delivery").PauseConnection, request)

    assert [denied.code, unknown.code] == ["rpc_connection_denied", "rpc_method_denied"]
    assert (await _status(rig, store)).connection.state == CONNECTION_STATE_ACTIVE


async def test_a_watch_tells_what_there_is_then_each_change(rig: Rig) -> None:
    store, pixel = await rig.connected()
    watches = {
        caller: stream(
            rig.connections(caller).WatchConnections, pb.WatchConnectionsRequest(), timeout_s=_S
        )
        for caller in ("operator", "events")
    }
    told: dict[str, list[str]] = {}
    for caller, watch in watches.items():
        told[caller] = []
        async for answer in watch:
            if answer.complete:
                break
            told[caller].append(answer.connection.connection_id)

    await _act(rig, "PauseConnection", store)
    await _act(rig, "PauseConnection", pixel)
    changed = [await anext(watches["events"]), await anext(watches["operator"])]
    await _act(rig, "RevokeConnection", pixel)
    removed = ""
    while not removed:
        removed = (await anext(watches["events"])).removed_connection_id
    for watch in watches.values():
        await watch.aclose()  # type: ignore[attr-defined]  # it is a generator

    assert {store, pixel} <= set(told["operator"])
    assert pixel in told["events"]
    assert not any(one.endswith(".shopify") for one in told["events"])
    assert [one.connection.state for one in changed] == [CONNECTION_STATE_PAUSED] * 2
    assert [one.connection.connection_id for one in changed] == [pixel, store]
    assert removed == pixel
