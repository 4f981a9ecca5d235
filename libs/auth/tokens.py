"""Tokens in memory, so that a call upstream costs no call to the token service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
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
_AGAIN_NS: Final = 1_000_000_000
"""Between questions while the service does not answer, for a token that is still good."""
_ENDED_NS: Final = 30_000_000_000
"""Between questions for a token that needs a person: that one came is told, this is for what is
missed. Whoever waits for it looks twice a second, for weeks."""
_FLIGHT_NS: Final = 1_000_000_000
"""How long before its expiry the last call with a token begins, while nobody can be asked."""
_LAGS_S: Final = 0.1
_TRIES: Final = 5
"""A replica may know of a change a moment later than the one that told of it."""
_FOR_EVER_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Held:
    secret: Secret
    token: token_service_pb2.Token = field(repr=False)
    until_ns: int
    early_ns: int
    expires_ns: int


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
        self._doubts = 0
        self._told: dict[str, tuple[int, bool]] = {}
        """By connection: the newest revision that was told of, and whether it can be used."""
        self._again_ns: dict[str, int] = {}
        self._ended: dict[str, tuple[int, ServiceError]] = {}
        """By connection: until when nobody asks again, and what the service said."""
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
        if now_ns >= held.early_ns:
            self._ask_early(connection_id)
        return held.secret

    async def signed_by(self, connection_id: str) -> token_service_pb2.Token:
        """The whole token, with what signs requests to TikTok Shop; raises as `access_token`."""
        held = self._held.get(connection_id)
        now_ns = self._clock.now_ns()
        if held is None or now_ns >= held.until_ns:
            held = await self._asked(connection_id)
        elif now_ns >= held.early_ns:
            self._ask_early(connection_id)
        return held.token

    def changed(self, told: token_service_pb2.WatchTokensResponse) -> None:
        """Takes in what the service says of a token."""
        usable = told.state == token_service_pb2.TOKEN_STATE_USABLE
        self._told[told.connection_id] = (told.revision, usable)
        self._ended.pop(told.connection_id, None)
        held = self._held.get(told.connection_id)
        if held is not None and (held.token.revision < told.revision or not usable):
            del self._held[told.connection_id]
        self._doubtful.pop(told.connection_id, None)

    def doubt(self) -> None:
        """Has every token asked for again: changes may have been missed."""
        self._doubts += 1
        self._doubtful |= self._held
        self._held.clear()
        self._told.clear()
        self._ended.clear()

    async def refused(self, connection_id: str, token: Secret) -> None:
        """Tells the service that an upstream has refused this token."""
        held = self._held.get(connection_id) or self._doubtful.get(connection_id)
        if held is None or held.secret != token:
            return
        self._held.pop(connection_id, None)
        self._doubtful.pop(connection_id, None)
        # So that an answer under way does not bring it back.
        self._told[connection_id] = (held.token.revision, False)
        request = token_service_pb2.ReportInvalidRequest(
            connection_id=connection_id, revision=held.token.revision, code="refused_upstream"
        )
        try:
            answer = await call(self._stub.ReportInvalid, request, timeout_s=_TIMEOUT_S)
        except ServiceError as error:
            _log.info("refusal_not_reported", connection=connection_id, reason=error.code)
            self._told.pop(connection_id, None)
        else:
            usable = answer.state == token_service_pb2.TOKEN_STATE_USABLE
            self._told[connection_id] = (answer.revision, usable)

    def asks(self, connection_id: str) -> bool:
        """Whether the service is being asked for this token now."""
        return connection_id in self._under_way

    async def _asked(self, connection_id: str) -> _Held:
        until_ns, said = self._ended.get(connection_id, (0, None))
        if said is not None and self._clock.now_ns() < until_ns:
            raise ServiceError(said.kind, said.code, said.message)
        if self._clock.now_ns() < self._again_ns.get(connection_id, 0):
            old = self._still_good(connection_id)
            if old is not None:
                return old
        task = self._under_way.get(connection_id) or self._ask(connection_id)
        # Shielded: others wait for the same answer.
        return await asyncio.shield(task)

    def _ask_early(self, connection_id: str) -> None:
        waits = self._clock.now_ns() < self._again_ns.get(connection_id, 0)
        if not waits and not self.asks(connection_id):
            self._ask(connection_id)

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
        for tries_left in reversed(range(_TRIES)):
            doubts = self._doubts
            try:
                answer = await call(self._stub.GetToken, request, timeout_s=_TIMEOUT_S)
            except ServiceError as error:
                if doubts == self._doubts:
                    self._note_end(connection_id, error)
                return self._without_answer(connection_id, error)
            held = self._held_of(answer.token)
            if doubts == self._doubts and not self._is_outdated(held.token):
                self._held[connection_id] = held
                self._doubtful.pop(connection_id, None)
                self._again_ns.pop(connection_id, None)
                return held
            if tries_left:
                await self._clock.sleep(_LAGS_S)
        # Used this once, and not kept: the next one asks again.
        return held

    def _without_answer(self, connection_id: str, error: ServiceError) -> _Held:
        """What is still good while the service cannot give a token; raises `error` else."""
        if error.kind not in {Kind.RETRYABLE, Kind.THROTTLED}:
            self._held.pop(connection_id, None)
            self._doubtful.pop(connection_id, None)
            raise error
        self._again_ns[connection_id] = self._clock.now_ns() + _AGAIN_NS
        old = self._still_good(connection_id)
        if old is None:
            raise error
        return old

    def _note_end(self, connection_id: str, error: ServiceError) -> None:
        """Remembers that a person is needed, unless it was told that one has come."""
        _, usable = self._told.get(connection_id, (0, False))
        if error.kind is Kind.AUTH and not usable:
            self._ended[connection_id] = (self._clock.now_ns() + _ENDED_NS, error)

    def _still_good(self, connection_id: str) -> _Held | None:
        old = self._held.get(connection_id) or self._doubtful.get(connection_id)
        if old is None or self._clock.now_ns() >= old.expires_ns - _FLIGHT_NS:
            return None
        return old

    def _is_outdated(self, token: token_service_pb2.Token) -> bool:
        revision, usable = self._told.get(token.connection_id, (0, True))
        return token.revision < revision or (token.revision == revision and not usable)

    def _held_of(self, token: token_service_pb2.Token) -> _Held:
        until_ns = early_ns = expires_ns = _FOR_EVER_NS
        if token.HasField("use_until"):
            until_ns = expires_ns = token.use_until.ToNanoseconds()
            early_ns = until_ns - int(_EARLY_SHARE * max(0, until_ns - self._clock.now_ns()))
        if token.HasField("expires_at"):
            expires_ns = token.expires_at.ToNanoseconds()
        secret = Secret(token.access_token)
        return _Held(secret, token, until_ns, early_ns, expires_ns)
