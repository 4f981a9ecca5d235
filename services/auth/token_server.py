"""TokenService: secrets for those who may have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc

from libs.bus import subjects
from libs.connections import shop_handle
from libs.connections.index import ConnectionIndex
from libs.errors import Kind, ServiceError, permanent
from libs.keys import KeyKeeper
from libs.rpc.callers import current_caller
from libs.sealing import DataKey
from services.auth.adapters.audit import AuditLog
from services.auth.ports import Grants
from services.auth.specs import SHOP_NOT_CONNECTED
from services.auth.tokens import Tokens, state_of
from services.auth.webhook_secrets import WebhookSecrets
from tidewire.auth.v1 import token_service_pb2, token_service_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_SHOPS_A_RECORD = 500


class TokenServer(token_service_pb2_grpc.TokenServiceServicer):
    """Checks nothing that the guard has checked, and audits what it hands out."""

    def __init__(
        self,
        tokens: Tokens,
        grants: Grants,
        secrets: WebhookSecrets,
        keys: KeyKeeper,
        shops: ConnectionIndex,
        audit: AuditLog,
    ) -> None:
        self._tokens = tokens
        self._grants = grants
        self._secrets = secrets
        self._keys = keys
        self._shops = shops
        self._audit = audit

    async def GetToken(  # noqa: N802  the schema's name
        self, request: token_service_pb2.GetTokenRequest, context: Context
    ) -> token_service_pb2.GetTokenResponse:
        connection_id = request.connection_id
        token = self._tokens.ready(connection_id)
        if token is None:
            token = await self._tokens.token(connection_id)
        self._audit.note(current_caller.get(), (connection_id,))
        return token_service_pb2.GetTokenResponse(token=token)

    async def BatchGetTokens(  # noqa: N802  the schema's name
        self, request: token_service_pb2.BatchGetTokensRequest, context: Context
    ) -> token_service_pb2.BatchGetTokensResponse:
        found = await asyncio.gather(
            *(self._tokens.token(one) for one in request.connection_ids), return_exceptions=True
        )
        answer = token_service_pb2.BatchGetTokensResponse()
        for connection_id, one in zip(request.connection_ids, found, strict=True):
            if isinstance(one, ServiceError):
                answer.problems.append(_problem(connection_id, one))
            elif isinstance(one, BaseException):
                raise one
            else:
                answer.tokens.append(one)
        given = [token.connection_id for token in answer.tokens]
        if given:
            self._audit.note(current_caller.get(), given)
        return answer

    async def WatchTokens(  # noqa: N802  the schema's name
        self, request: token_service_pb2.WatchTokensRequest, context: Context
    ) -> AsyncIterator[token_service_pb2.WatchTokensResponse]:
        caller = current_caller.get()
        changed: dict[str, None] = {}
        come = asyncio.Event()

        def note(connection_id: str) -> None:
            # What changes twice before it is told is told once.
            changed[connection_id] = None
            come.set()

        unsubscribe = self._grants.subscribe(note)
        try:
            yield token_service_pb2.WatchTokensResponse()
            while True:
                await come.wait()
                come.clear()
                for connection_id in tuple(changed):
                    del changed[connection_id]
                    kept = self._grants.known(connection_id)
                    if not caller.may(connection_id=connection_id):
                        continue
                    answer = token_service_pb2.WatchTokensResponse(
                        connection_id=connection_id, state=token_service_pb2.TOKEN_STATE_REVOKED
                    )
                    if kept is not None:
                        answer.revision = kept.record.token_revision
                        answer.state = state_of(kept.record)
                    yield answer
        finally:
            unsubscribe()

    async def ReportInvalid(  # noqa: N802  the schema's name
        self, request: token_service_pb2.ReportInvalidRequest, context: Context
    ) -> token_service_pb2.ReportInvalidResponse:
        self._audit.note(
            current_caller.get(), (request.connection_id,), changes=(f"reported {request.code}",)
        )
        kept = await self._tokens.report(
            request.connection_id, request.revision, request.code or "reported_invalid"
        )
        return token_service_pb2.ReportInvalidResponse(
            state=state_of(kept.record), revision=kept.record.token_revision
        )

    async def WatchWebhookSecrets(  # noqa: N802  the schema's name
        self, request: token_service_pb2.WatchWebhookSecretsRequest, context: Context
    ) -> AsyncIterator[token_service_pb2.WatchWebhookSecretsResponse]:
        caller = current_caller.get()
        allowed = [one for one in self._secrets.by_shop if caller.may(shop=one)]
        for start in range(0, len(allowed), _SHOPS_A_RECORD):
            self._audit.note(caller, allowed[start : start + _SHOPS_A_RECORD])
        complete = False
        async for shop in self._secrets.watch():
            if shop is None:
                complete = True
                yield token_service_pb2.WatchWebhookSecretsResponse(complete=True)
            elif caller.may(shop=shop.shop):
                if complete:
                    self._audit.note(caller, (shop.shop,))
                yield token_service_pb2.WatchWebhookSecretsResponse(shop=shop)

    async def _sealing_key(self, shop: str) -> DataKey:
        """The current key; made only for a shop that is connected, or any name would make one.

        Raises:
            ServiceError: RETRYABLE, SHOP_NOT_CONNECTED: another replica may have connected it just
                now. As the port says.
        """
        if shop == subjects.NO_SHOP or self._shops.shop(shop) is not None:
            return await self._keys.current(shop)
        # What is left of a shop that was connected goes on being sealed.
        key = await self._keys.existing(shop)
        if key is None:
            message = "a shop has no key before it is connected"
            raise ServiceError(Kind.RETRYABLE, SHOP_NOT_CONNECTED, message, path="shop")
        return key

    async def GetDataKey(  # noqa: N802  the schema's name
        self, request: token_service_pb2.GetDataKeyRequest, context: Context
    ) -> token_service_pb2.GetDataKeyResponse:
        # Keys of connections seal their tokens, and stay here.
        is_shop = shop_handle(request.shop, bare=True) == request.shop
        if not is_shop and request.shop != subjects.NO_SHOP:
            raise permanent("shop_unfit", "give the handle of a shop", path="shop")
        if request.key_id:
            key = await self._keys.by_id(request.shop, request.key_id)
        else:
            key = await self._sealing_key(request.shop)
        self._audit.note(current_caller.get(), (request.shop,))
        return token_service_pb2.GetDataKeyResponse(key_id=key.key_id, key=key.reveal())


def _problem(connection_id: str, error: ServiceError) -> token_service_pb2.TokenProblem:
    return token_service_pb2.TokenProblem(
        connection_id=connection_id,
        kind=error.kind.value,
        code=error.code,
        message=error.message,
    )
