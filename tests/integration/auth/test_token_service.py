"""TokenService over gRPC: who is given which secret, what is audited, what is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from libs.bus import subjects
from libs.bus.publisher import publish
from libs.bus.scan import scan
from libs.errors import Kind, ServiceError
from libs.keys import connection_scope
from libs.rpc.client import call, stream
from services.auth.ports import GRANT_REVOKED
from tests.fakes.until import until
from tests.integration.auth.service import SERVICE_SECRET, Rig
from tidewire.auth.v1 import connection_service_pb2, record_pb2
from tidewire.auth.v1 import token_service_pb2 as pb

_S = 10.0


async def _token(rig: Rig, connection_id: str, caller: str = "operator") -> pb.Token:
    request = pb.GetTokenRequest(connection_id=connection_id)
    answer: pb.GetTokenResponse = await call(rig.tokens(caller).GetToken, request, timeout_s=_S)
    return answer.token


async def _refused(rig: Rig, connection_id: str, caller: str = "operator") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await _token(rig, connection_id, caller)
    return caught.value


async def test_a_token_is_handed_out_and_audited_without_itself(rig: Rig) -> None:
    _, pixel = await rig.connected()

    token = await _token(rig, pixel, "events")

    assert (token.access_token, token.revision) == (rig.token("pixel-1"), 1)
    [record] = await rig.audited("GetToken")
    assert (record.caller, list(record.subjects), record.code) == ("events", [pixel], "ok")
    assert record.identity == "spiffe://tidewire/events"
    assert record.HasField("at")
    assert rig.token("pixel-1").encode() not in await rig.all_that_was_stored()


async def test_a_caller_is_given_no_token_beyond_its_rules(rig: Rig) -> None:
    store, pixel = await rig.connected()

    errors = [await _refused(rig, store, "events"), await _refused(rig, pixel, "delivery")]

    assert [error.code for error in errors] == ["rpc_connection_denied", "rpc_method_denied"]
    assert await rig.audited("GetToken") == []


async def test_a_connection_that_nobody_knows_is_a_permanent_error(rig: Rig) -> None:
    error = await _refused(rig, f"{rig.shop}.shopify")

    assert (error.kind, error.code) == (Kind.PERMANENT, "connection_unknown")


async def test_of_several_tokens_each_comes_with_its_problem(rig: Rig) -> None:
    store, pixel = await rig.connected()
    request = pb.BatchGetTokensRequest(connection_ids=[store, f"{rig.shop}.events.C9", pixel])

    answer = await call(rig.tokens().BatchGetTokens, request, timeout_s=_S)

    assert [one.access_token for one in answer.tokens] == [
        rig.token("store-1"),
        rig.token("pixel-1"),
    ]
    [problem] = answer.problems
    assert (problem.connection_id, problem.kind, problem.code) == (
        f"{rig.shop}.events.C9",
        "permanent",
        "connection_unknown",
    )
    [record] = await rig.audited("BatchGetTokens")
    assert list(record.subjects) == [store, pixel]


async def test_several_tokens_with_one_beyond_the_rules_are_all_refused(rig: Rig) -> None:
    store, pixel = await rig.connected()
    request = pb.BatchGetTokensRequest(connection_ids=[pixel, store])

    with pytest.raises(ServiceError, match="denied"):
        await call(rig.tokens("events").BatchGetTokens, request, timeout_s=_S)

    assert await rig.audited("BatchGetTokens") == []


async def test_an_expired_token_is_refreshed_before_it_is_handed_out(rig: Rig) -> None:
    store = await rig.imported(
        access_token="old", refresh_token="r", lasts=timedelta(milliseconds=1)
    )

    tokens = await asyncio.gather(*(_token(rig, store) for _ in range(20)))

    assert {token.access_token.partition("-")[0] for token in tokens} == {"refreshed"}
    assert {token.revision for token in tokens} == {2}
    assert rig.provider.refreshes == 1


async def _until_watching(watch: AsyncIterator[Any]) -> list[Any]:
    """What is told until all that there was has been told."""
    told = []
    async for answer in watch:
        told.append(answer)
        if not getattr(answer, "connection_id", "") and getattr(answer, "complete", True):
            return told
    raise AssertionError("the watch ended")


async def test_a_watch_tells_of_a_newer_token_and_of_the_end(rig: Rig) -> None:
    store, pixel = await rig.connected()
    watch = stream(rig.tokens("events").WatchTokens, pb.WatchTokensRequest(), timeout_s=_S)
    await _until_watching(watch)

    await rig.imported(access_token=rig.token("store-2"))
    await rig.imported(rig.pixel(), access_token=rig.token("pixel-2"))
    newer = await anext(watch)
    await call(
        rig.connections().RevokeConnection,
        connection_service_pb2.RevokeConnectionRequest(connection_id=pixel),
        timeout_s=_S,
    )
    ended = await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]  # it is a generator

    # The store's token is not told of: events may not have it.
    assert (newer.connection_id, newer.revision, newer.state) == (pixel, 2, pb.TOKEN_STATE_USABLE)
    assert (ended.connection_id, ended.state) == (pixel, pb.TOKEN_STATE_REVOKED)
    assert (await _refused(rig, pixel)).kind is Kind.AUTH
    assert store


def _report(connection_id: str, revision: int) -> pb.ReportInvalidRequest:
    return pb.ReportInvalidRequest(connection_id=connection_id, revision=revision, code="40105")


async def test_a_reported_token_that_can_be_refreshed_is(rig: Rig) -> None:
    store = await rig.imported(access_token="old", refresh_token="r", lasts=timedelta(hours=1))

    answer = await call(rig.tokens().ReportInvalid, _report(store, 1), timeout_s=_S)

    assert (answer.state, answer.revision) == (pb.TOKEN_STATE_USABLE, 2)
    [record] = await rig.audited("ReportInvalid")
    assert list(record.changes) == ["reported 40105"]


async def test_a_reported_token_is_condemned_unless_its_provider_still_takes_it(rig: Rig) -> None:
    _, pixel = await rig.connected()
    rig.providers.alive.add(rig.token("pixel-1"))
    doubted = await call(rig.tokens("events").ReportInvalid, _report(pixel, 1), timeout_s=_S)
    rig.providers.alive.clear()

    dead = await call(rig.tokens("events").ReportInvalid, _report(pixel, 1), timeout_s=_S)

    assert (doubted.state, dead.state) == (
        pb.TOKEN_STATE_USABLE,
        pb.TOKEN_STATE_NEEDS_REAUTHORIZATION,
    )
    error = await _refused(rig, pixel)
    assert (error.kind, error.code) == (Kind.AUTH, "needs_reauthorization")


async def test_a_report_on_an_older_token_changes_nothing(rig: Rig) -> None:
    await rig.connected()
    pixel = await rig.imported(rig.pixel(), access_token=rig.token("pixel-2"))

    answer = await call(rig.tokens().ReportInvalid, _report(pixel, 1), timeout_s=_S)

    assert (answer.state, answer.revision) == (pb.TOKEN_STATE_USABLE, 2)


async def test_a_refused_refresh_of_a_reported_token_ends_the_connection(rig: Rig) -> None:
    store = await rig.imported(access_token="old", refresh_token="r", lasts=timedelta(hours=1))
    rig.provider.trouble = ServiceError(Kind.AUTH, GRANT_REVOKED)

    answer = await call(rig.tokens().ReportInvalid, _report(store, 1), timeout_s=_S)

    assert answer.state == pb.TOKEN_STATE_NEEDS_REAUTHORIZATION


async def test_webhook_secrets_are_told_first_all_then_each_change(rig: Rig) -> None:
    await rig.connected()
    request = pb.WatchWebhookSecretsRequest()
    watch = stream(rig.tokens("ingest").WatchWebhookSecrets, request, timeout_s=_S)

    told = [one.shop for one in await _until_watching(watch) if one.shop.shop == rig.shop]
    await rig.imported(webhook_secrets=["hook-secret-2", "hook-secret-3"])
    newer = (await anext(watch)).shop
    await watch.aclose()  # type: ignore[attr-defined]

    assert [[one.key for one in shop.secrets] for shop in told] == [[b"hook-secret-1"]]
    assert [(one.secret_id, one.key) for one in newer.secrets] == [
        (f"{rig.shop}.0", b"hook-secret-2"),
        (f"{rig.shop}.1", b"hook-secret-3"),
    ]
    records = await rig.audited("WatchWebhookSecrets")
    assert [(one.caller, rig.shop in one.subjects) for one in records] == [("ingest", True)] * 2
    assert b"hook-secret" not in await rig.all_that_was_stored()


async def test_a_store_that_was_revoked_has_no_secrets_any_more(rig: Rig) -> None:
    store = await rig.imported(webhook_secrets=["hook-secret-1"])
    request = pb.WatchWebhookSecretsRequest()
    watch = stream(rig.tokens("ingest").WatchWebhookSecrets, request, timeout_s=_S)
    await _until_watching(watch)

    await rig.linking.revoke(store)
    told = (await anext(watch)).shop
    await watch.aclose()  # type: ignore[attr-defined]

    assert (told.shop, list(told.secrets)) == (rig.shop, [])


async def test_a_store_of_the_services_app_is_verified_by_its_secret(rig: Rig) -> None:
    await rig.imported(webhook_secrets=["hook-secret-1"])
    await call(
        rig.connections().CompleteConnection,
        connection_service_pb2.CompleteConnectionRequest(
            spec=rig.store(), flow=connection_service_pb2.GRANT_FLOW_CLIENT_CREDENTIALS
        ),
        timeout_s=_S,
    )
    request = pb.WatchWebhookSecretsRequest()

    def keys_of(told: list[Any]) -> list[bytes]:
        shops = [one.shop for one in told if one.shop.shop == rig.shop]
        return [one.key for one in shops[-1].secrets] if shops else []

    found: list[bytes] = []
    async with asyncio.timeout(5):
        while len(found) < 2:
            watch = stream(rig.tokens("ingest").WatchWebhookSecrets, request, timeout_s=_S)
            found = keys_of(await _until_watching(watch))
            await watch.aclose()  # type: ignore[attr-defined]

    assert found == [SERVICE_SECRET.encode(), b"hook-secret-1"]


async def test_the_key_of_a_shop_is_handed_out_and_stays_the_same(rig: Rig) -> None:
    await rig.connected()
    request = pb.GetDataKeyRequest(shop=rig.shop)
    first = await call(rig.tokens("ingest").GetDataKey, request, timeout_s=_S)
    named = pb.GetDataKeyRequest(shop=rig.shop, key_id=first.key_id)

    again = await call(rig.tokens("ingest").GetDataKey, named, timeout_s=_S)

    assert (again.key_id, again.key, len(first.key)) == (first.key_id, first.key, 32)
    records = await rig.audited("GetDataKey")
    assert [list(one.subjects) for one in records] == [[rig.shop]] * 2
    assert first.key not in await rig.all_that_was_stored()


async def test_the_key_of_a_connection_is_never_handed_out(rig: Rig) -> None:
    store, _ = await rig.connected()
    forms = [connection_scope(store), store, f"{rig.shop}.myshopify.com", rig.shop.upper(), "*"]

    refused = [await _key_refused(rig, shop) for shop in [*forms, "a b", ".", f"{rig.shop}\n"]]

    assert refused == [(Kind.PERMANENT, "shop_unfit")] * 8


async def test_a_shop_that_nobody_connected_gets_no_key(rig: Rig) -> None:
    not_yet = Kind.RETRYABLE, "shop_not_connected"
    # "connection" is a handle like any other; what came for unknown shops has a key of its own.
    refused = [await _key_refused(rig, shop) for shop in (rig.shop, "connection", "_unknown")]

    assert refused == [not_yet, not_yet, None]
    assert await rig.keys.existing(rig.shop) is None
    await rig.connected()
    assert await _key_refused(rig, rig.shop) is None


async def test_a_shop_that_was_ended_keeps_its_key(rig: Rig) -> None:
    store, _ = await rig.connected()
    request = pb.GetDataKeyRequest(shop=rig.shop)
    before = await call(rig.tokens().GetDataKey, request, timeout_s=_S)
    await rig.linking.revoke(store)
    await until(lambda: rig.book.index.shop(rig.shop) is None)

    after = await call(rig.tokens().GetDataKey, request, timeout_s=_S)

    assert after.key_id == before.key_id


async def _key_refused(rig: Rig, shop: str) -> tuple[Kind, str] | None:
    try:
        await call(rig.tokens().GetDataKey, pb.GetDataKeyRequest(shop=shop), timeout_s=_S)
    except ServiceError as error:
        return error.kind, error.code
    return None


async def test_a_key_that_there_is_not_is_a_permanent_error(rig: Rig) -> None:
    request = pb.GetDataKeyRequest(shop=rig.shop, key_id="0123")

    with pytest.raises(ServiceError) as refused:
        await call(rig.tokens().GetDataKey, request, timeout_s=_S)

    assert (refused.value.kind, refused.value.code) == (Kind.PERMANENT, "key_unknown")


async def test_more_audit_records_than_fit_into_one_message_are_all_stored(rig: Rig) -> None:
    _, pixel = await rig.connected()
    await _token(rig, pixel)
    [one] = await rig.audited("GetToken")
    many = [f"{rig.shop}.events.{'X' * 150}{number}" for number in range(500)]
    caller = _Caller(one.caller, one.identity, "x/Many")

    for _ in range(20):
        rig.audit.note(caller, many)  # type: ignore[arg-type]  # as much of a caller as is read

    assert len(await rig.audited("Many")) == 20
    sizes = [len(one.data) async for one in scan(rig.nats, subjects.AUDIT, "audit.>")]
    # As much as a NATS takes that nobody has told to take more.
    assert max(sizes) < 1_000_000


class _Caller:
    def __init__(self, name: str, identity: str, method: str) -> None:
        self.name, self.identity, self.method = name, identity, method


async def test_a_record_that_nobody_can_read_keeps_no_other_from_being_served(rig: Rig) -> None:
    _, pixel = await rig.connected()
    for name, data in (("bad", b"\xff\xff"), (f"{rig.shop}=2Eshopify", b"")):
        await publish(rig.nats, f"$KV.tokens.{name}", data, message_id=f"{rig.shop}{name}")
    forged = record_pb2.StoredGrant(connection_id=pixel, token_revision=9)
    await publish(
        rig.nats, f"$KV.tokens.{rig.shop}=2Eelse", forged.SerializeToString(), message_id=rig.shop
    )
    await until(lambda: rig.grants.known(f"{rig.shop}.shopify") is None)

    later = await rig.imported(rig.pixel("C2"), access_token=rig.token("pixel-2"))

    assert (await _token(rig, later)).access_token == rig.token("pixel-2")
    assert (await _token(rig, pixel)).revision == 1


async def test_where_too_much_waits_to_be_audited_nothing_is_handed_out(rig: Rig) -> None:
    _, pixel = await rig.connected()
    await _token(rig, pixel)
    [one] = await rig.audited("GetToken")
    caller = _Caller(one.caller, one.identity, "x/Flood")
    for _ in range(20_000):
        rig.audit.note(caller, ("x",), is_done=True)  # type: ignore[arg-type]

    refused = await _refused(rig, pixel)

    assert (refused.kind, refused.code) == (Kind.RETRYABLE, "audit_unavailable")
