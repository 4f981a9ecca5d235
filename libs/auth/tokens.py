"""Tokens in memory, so that a call upstream costs no call to the token service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import grpc
import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.rpc.client import call
from libs.settings import Secret
from tidewire.auth.v1 import token_service_pb2, token_service_pb2_grpc

_log = structlog.stdlib.get_logger()

_TIMEOUT_S: Final = 20.0
"""As long as a refresh may take that somebody else has to finish first."""
_EARLY_SHARE: Final = 0.1
"""Asked for again in the background when a tenth of the time is left for which it was given."""
_FOR_EVER_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Held:
    secret: Secret
    token: token_service_pb2.Token
    until_ns: int
    early_ns: int


class TokenCache:
    """`Credentials.access_token` by TokenService.

    A token is used until the time that the service names. What the service says of changes drops
    it sooner; while nobody can be asked, one that has not expired goes on being used.
    """

    def __init__(self, channel: grpc.aio.Channel, clock: Clock) -> None:
        self._stub = token_service_pb2_grpc.TokenServiceStub(channel)
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._doubtful: dict[str, _Held] = {}
        self._under_way: dict[str, asyncio.Task[_Held]] = {}

    async def access_token(self, connection_id: str) -> Secret:
        """The connection's token, from memory where it is fresh.

        Raises:
            ServiceError: as TokenService's GetToken; RETRYABLE, where nobody answers.
        """
        held = self._held.get(connection_id)
        now_ns = self._clock.now_ns()
        if held is None or now_ns >= held.until_ns:
            return (await self._asked(connection_id)).secret
        if now_ns >= held.early_ns and connection_id not in self._under_way:
            self._ask(connection_id)
        return held.secret

    async def signed_by(self, connection_id: str) -> token_service_pb2.Token:
        """The whole token, with what signs requests to TikTok Shop; raises as `access_token`."""
        held = self._held.get(connection_id)
        if held is None or self._clock.now_ns() >= held.until_ns:
            held = await self._asked(connection_id)
        return held.token

    def changed(self, told: token_service_pb2.WatchTokensResponse) -> None:
        """Takes in what the service says of a token."""
        held = self._held.get(told.connection_id)
        usable = told.state == token_service_pb2.TOKEN_STATE_USABLE
        if held is not None and (held.token.revision < told.revision or not usable):
            del self._held[told.connection_id]
        self._doubtful.pop(told.connection_id, None)

    def doubt(self) -> None:
        """Has every token asked for again: changes may have been missed."""
        self._doubtful |= self._held
        self._held.clear()

    async def refused(self, connection_id: str, token: Secret) -> None:
        """Tells the service that an upstream has refused this token."""
        held = self._held.get(connection_id)
        if held is None or held.secret != token:
            return
        del self._held[connection_id]
        request = token_service_pb2.ReportInvalidRequest(
            connection_id=connection_id, revision=held.token.revision, code="refused_upstream"
        )
        try:
            await call(self._stub.ReportInvalid, request, timeout_s=_TIMEOUT_S)
        except ServiceError as error:
            _log.info("refusal_not_reported", connection=connection_id, reason=error.code)

    async def _asked(self, connection_id: str) -> _Held:
        task = self._under_way.get(connection_id) or self._ask(connection_id)
        # Shielded: others wait for the same answer.
        return await asyncio.shield(task)

    def _ask(self, connection_id: str) -> asyncio.Task[_Held]:
        task = asyncio.create_task(self._fetch(connection_id))
        self._under_way[connection_id] = task
        task.add_done_callback(lambda done: self._over(connection_id, done))
        return task

    def _over(self, connection_id: str, task: asyncio.Task[_Held]) -> None:
        self._under_way.pop(connection_id, None)
        if not task.cancelled():
            # Heard here too: in the background nobody waits for it.
            task.exception()

    async def _fetch(self, connection_id: str) -> _Held:
        request = token_service_pb2.GetTokenRequest(connection_id=connection_id)
        try:
            answer = await call(self._stub.GetToken, request, timeout_s=_TIMEOUT_S)
        except ServiceError as error:
            old = self._doubtful.get(connection_id)
            usable = old is not None and self._clock.now_ns() < old.until_ns
            if error.kind is Kind.RETRYABLE and usable and old is not None:
                return old
            raise
        held = self._held_of(answer.token)
        self._held[connection_id] = held
        self._doubtful.pop(connection_id, None)
        return held

    def _held_of(self, token: token_service_pb2.Token) -> _Held:
        until_ns = early_ns = _FOR_EVER_NS
        if token.HasField("use_until"):
            until_ns = token.use_until.ToNanoseconds()
            early_ns = until_ns - int(_EARLY_SHARE * max(0, until_ns - self._clock.now_ns()))
        return _Held(Secret(token.access_token), token, until_ns, early_ns)
