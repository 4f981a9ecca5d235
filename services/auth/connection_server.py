"""ConnectionService: connections made, looked at, changed and ended. No answer holds a secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from libs.connections import shop_handle
from libs.errors import ServiceError, permanent
from libs.gates import Gates, connection_gate
from libs.rpc.callers import current_caller
from libs.settings import Secret
from services.auth.adapters.audit import AuditLog
from services.auth.book import Book
from services.auth.connecting import Connecting
from services.auth.domain.grants import Grant
from services.auth.linking import Linking
from services.auth.own_apps import own_app_of
from services.auth.ports import Grants
from services.auth.refresher import Refresher
from services.auth.specs import SETTINGS_UNFIT
from services.auth.unattended import Unattended
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import connection_service_pb2_grpc, health_pb2
from tidewire.connections.v1.connection_pb2 import Connection
from tidewire.delivery.v1 import gate_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_PAGE: Final = 100


class ConnectionServer(connection_service_pb2_grpc.ConnectionServiceServicer):
    """Checks nothing that the guard has checked, and audits what changes anything."""

    def __init__(
        self,
        *,
        book: Book,
        linking: Linking,
        connecting: Connecting,
        unattended: Unattended,
        grants: Grants,
        refresher: Refresher,
        gates: Gates,
        audit: AuditLog,
    ) -> None:
        self._book = book
        self._linking = linking
        self._connecting = connecting
        self._unattended = unattended
        self._grants = grants
        self._refresher = refresher
        self._gates = gates
        self._audit = audit

    async def BeginConnection(  # noqa: N802  the schema's name
        self, request: pb.BeginConnectionRequest, context: Context
    ) -> pb.BeginConnectionResponse:
        with self._audited(request.spec.shop, "begun"):
            begun = await self._connecting.begin(request.spec, request.flow)
        answer = pb.BeginConnectionResponse(flow_id=begun.flow_id, url=begun.url)
        answer.expires_at.FromDatetime(begun.expires_at)
        return answer

    async def GetFlow(  # noqa: N802  the schema's name
        self, request: pb.GetFlowRequest, context: Context
    ) -> pb.GetFlowResponse:
        return await self._connecting.flow(request.flow_id)

    async def CompleteConnection(  # noqa: N802  the schema's name
        self, request: pb.CompleteConnectionRequest, context: Context
    ) -> pb.CompleteConnectionResponse:
        spec = _with_handle(request.spec)
        with self._audited(spec.shop, "connected") as subjects:
            token = Secret(request.session_token)
            grant = await self._unattended.granted(spec, request.flow, token)
            connection_id = await self._linking.connect(spec, request.flow, grant)
            subjects.append(connection_id)
        return pb.CompleteConnectionResponse(connection=self._book.status(connection_id))

    async def ImportConnection(  # noqa: N802  the schema's name
        self, request: pb.ImportConnectionRequest, context: Context
    ) -> pb.ImportConnectionResponse:
        spec = _with_handle(request.spec)
        with self._audited(spec.shop, "imported") as subjects:
            grant = _imported(request)
            connection_id = await self._linking.connect(spec, request.flow, grant, imported=True)
            subjects.append(connection_id)
        return pb.ImportConnectionResponse(connection=self._book.status(connection_id))

    async def ListConnections(  # noqa: N802  the schema's name
        self, request: pb.ListConnectionsRequest, context: Context
    ) -> pb.ListConnectionsResponse:
        caller = current_caller.get()
        size = request.page_size or _PAGE
        answer = pb.ListConnectionsResponse()
        for connection_id in sorted(self._book.index.by_id):
            if connection_id <= request.page_token or not caller.may(connection_id=connection_id):
                continue
            if not _fits(self._book.index.by_id[connection_id], request):
                continue
            if len(answer.connections) == size:
                answer.next_page_token = answer.connections[-1].connection.connection_id
                break
            answer.connections.append(self._book.status(connection_id))
        return answer

    async def GetConnection(  # noqa: N802  the schema's name
        self, request: pb.GetConnectionRequest, context: Context
    ) -> pb.GetConnectionResponse:
        return pb.GetConnectionResponse(connection=self._book.status(request.connection_id))

    async def PauseConnection(  # noqa: N802  the schema's name
        self, request: pb.PauseConnectionRequest, context: Context
    ) -> pb.PauseConnectionResponse:
        with self._audited(request.connection_id, "paused"):
            self._book.existing(request.connection_id)
            gate = connection_gate(request.connection_id)
            await self._gates.close(gate, gate_pb2.GATE_REASON_OPERATOR, note=request.note)
        return pb.PauseConnectionResponse(connection=self._looked_at(request.connection_id))

    async def ResumeConnection(  # noqa: N802  the schema's name
        self, request: pb.ResumeConnectionRequest, context: Context
    ) -> pb.ResumeConnectionResponse:
        with self._audited(request.connection_id, "resumed"):
            self._book.existing(request.connection_id)
            await self._linking.try_again(request.connection_id)
            await self._gates.reopen(connection_gate(request.connection_id), by_operator=True)
        return pb.ResumeConnectionResponse(connection=self._looked_at(request.connection_id))

    async def RevokeConnection(  # noqa: N802  the schema's name
        self, request: pb.RevokeConnectionRequest, context: Context
    ) -> pb.RevokeConnectionResponse:
        with self._audited(request.connection_id, "revoked"):
            problem = await self._linking.revoke(request.connection_id)
        return pb.RevokeConnectionResponse(upstream_error=problem)

    async def RotateConnection(  # noqa: N802  the schema's name
        self, request: pb.RotateConnectionRequest, context: Context
    ) -> pb.RotateConnectionResponse:
        with self._audited(request.connection_id, "rotated"):
            self._book.existing(request.connection_id)
            kept = await self._grants.fresh(request.connection_id)
            if kept is None or not kept.record.can_refresh:
                raise permanent(
                    "not_refreshable",
                    "its token came with nothing that refreshes it: connect it again",
                )
            newer_than = kept.record.token_revision
            await self._refresher.refreshed(request.connection_id, newer_than=newer_than)
        return pb.RotateConnectionResponse(connection=self._book.status(request.connection_id))

    async def UpdateSettings(  # noqa: N802  the schema's name
        self, request: pb.UpdateSettingsRequest, context: Context
    ) -> pb.UpdateSettingsResponse:
        with self._audited(request.connection.connection_id, *request.update_mask.paths):
            kept = await self._linking.update(
                request.connection, request.update_mask, expected=request.expected_revision
            )
        return pb.UpdateSettingsResponse(connection=self._book.status(kept.connection_id))

    async def WatchConnections(  # noqa: N802  the schema's name
        self, request: pb.WatchConnectionsRequest, context: Context
    ) -> AsyncIterator[pb.WatchConnectionsResponse]:
        caller = current_caller.get()
        told: dict[str, Connection] = {}
        come = asyncio.Event()
        come.set()
        unsubscribe = self._book.index.subscribe(come.set)
        complete = False
        try:
            while True:
                await come.wait()
                come.clear()
                now = dict(self._book.index.by_id)
                for connection_id, connection in now.items():
                    if told.get(connection_id) is connection or not caller.may(
                        connection_id=connection_id
                    ):
                        continue
                    told[connection_id] = connection
                    yield pb.WatchConnectionsResponse(connection=connection)
                for connection_id in [one for one in told if one not in now]:
                    del told[connection_id]
                    yield pb.WatchConnectionsResponse(removed_connection_id=connection_id)
                if not complete:
                    complete = True
                    yield pb.WatchConnectionsResponse(complete=True)
        finally:
            unsubscribe()

    @contextmanager
    def _audited(self, subject: str, *changes: str) -> Iterator[list[str]]:
        """Has what is done inside audited with what came of it; further subjects may be added.

        Raises:
            ServiceError: RETRYABLE, `audit_unavailable`, before anything is done.
        """
        self._audit.refuse_full()
        caller, subjects = current_caller.get(), [subject]
        code = "internal"
        try:
            yield subjects
            code = "ok"
        except ServiceError as error:
            code = error.code
            raise
        finally:
            self._audit.note(caller, subjects, code=code, changes=changes, is_done=True)

    def _looked_at(self, connection_id: str) -> health_pb2.ConnectionStatus:
        self._book.look_at_gates()
        return self._book.status(connection_id)


def _fits(connection: Connection, request: pb.ListConnectionsRequest) -> bool:
    shop = shop_handle(request.shop, bare=True) if request.shop else connection.shop
    return (
        connection.shop == shop
        and request.kind in {0, connection.kind}
        and request.state in {0, connection.state}
    )


def _with_handle(
    spec: pb.ConnectionSpec,
) -> pb.ConnectionSpec:
    handle = shop_handle(spec.shop, bare=True)
    if handle is None:
        raise permanent(
            SETTINGS_UNFIT, "the shop is no handle and no myshopify.com domain", path="spec.shop"
        )
    new = pb.ConnectionSpec()
    new.CopyFrom(spec)
    new.shop = handle
    return new


def _imported(request: pb.ImportConnectionRequest) -> Grant:
    return Grant(
        access_token=Secret(request.access_token),
        expires_at=_instant(request.expires_at) if request.HasField("expires_at") else None,
        refresh_token=Secret(request.refresh_token) if request.refresh_token else None,
        refresh_expires_at=(
            _instant(request.refresh_expires_at) if request.HasField("refresh_expires_at") else None
        ),
        shop_cipher=Secret(request.shop_cipher) if request.shop_cipher else None,
        app=own_app_of(request.spec),
        webhook_secrets=tuple(map(Secret, request.webhook_secrets)),
    )


def _instant(stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise permanent(SETTINGS_UNFIT, "a time is none that there is", path="expires_at") from None
