"""Handing out tokens: from memory while they are fresh, refreshed first where they are not."""

from __future__ import annotations

from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.auth.domain.grants import Family, Grant
from services.auth.domain.timing import margin_s, seconds
from services.auth.ports import Grants, KeptGrant, Providers
from services.auth.refresher import (
    REFRESH_FAILED,
    Refresher,
    domain_of,
    needs_person,
    unknown,
)
from tidewire.auth.v1 import record_pb2, token_service_pb2
from tidewire.auth.v1.token_service_pb2 import (
    TOKEN_STATE_NEEDS_REAUTHORIZATION,
    TOKEN_STATE_REVOKED,
    TOKEN_STATE_USABLE,
    TokenState,
)

_log = structlog.stdlib.get_logger()

ACCESS_TOKEN_MISSING: Final = "access_token_missing"  # noqa: S105  a code

_YOUNG_S: Final = 60.0
"""Of a token that is younger its provider is asked before it is believed dead."""
_REST_S: Final = 30.0
"""Between two refreshes for reports, whoever reports and whatever the provider says."""


class Tokens:
    """The tokens of connections."""

    def __init__(
        self, grants: Grants, refresher: Refresher, providers: Providers, clock: Clock
    ) -> None:
        self._grants = grants
        self._refresher = refresher
        self._providers = providers
        self._clock = clock
        self._ready: dict[str, tuple[int, int, token_service_pb2.Token]] = {}
        """By connection: revision, until when it is handed out, and the token itself."""
        grants.subscribe(self._changed)

    def ready(self, connection_id: str) -> token_service_pb2.Token | None:
        """The token, where it is at hand and fresh: nothing is awaited."""
        found = self._ready.get(connection_id)
        if found is None or self._clock.now_ns() >= found[1] or not self._refresher.is_awake:
            return None
        return found[2]

    async def token(self, connection_id: str) -> token_service_pb2.Token:
        """A token that may be used now; shared, so not to be changed.

        Raises:
            ServiceError: PERMANENT, `connection_unknown`; AUTH, `needs_reauthorization` or
                ACCESS_TOKEN_MISSING; RETRYABLE, `refresh_failed`; RETRYABLE, from the store.
        """
        found = self.ready(connection_id)
        if found is not None:
            return found
        kept = await self._newest(connection_id)
        if kept is None:
            raise unknown(connection_id)
        if kept.record.needs_reauthorization or not kept.record.HasField("grant"):
            raise needs_person(kept)
        if self._until_ns(kept.record) <= self._clock.now_ns():
            revision = kept.record.token_revision
            kept = await self._refresher.refreshed(connection_id, newer_than=revision)
        return await self._opened(kept)

    async def report(self, connection_id: str, revision: int, code: str) -> KeptGrant:
        """Deals with a token that an upstream has refused; the grant as it is then.

        Raises:
            ServiceError: PERMANENT, `connection_unknown`; RETRYABLE, from the store.
        """
        kept = await self._grants.fresh(connection_id)
        if kept is None:
            raise unknown(connection_id)
        if kept.record.token_revision != revision or kept.record.needs_reauthorization:
            return kept
        try:
            if not kept.record.can_refresh:
                # Believed only after a question: a slip of whoever reports must end no connection.
                if await self._is_alive(kept):
                    return kept
                return await self._refresher.condemn(connection_id, revision, code)
            if await self._is_spared(kept):
                return kept
            return await self._refresher.refreshed(
                connection_id, newer_than=revision, rest_s=_REST_S
            )
        except ServiceError as error:
            # What the refresh came to stands on record; the token in hand may still be good.
            if error.kind is not Kind.AUTH and error.code != REFRESH_FAILED:
                raise
            return self._grants.known(connection_id) or kept

    async def _is_spared(self, kept: KeptGrant) -> bool:
        """Whether a token that was reported is too new to be refreshed for that.

        An upstream may refuse every token while its token endpoint goes on giving them.
        """
        now_ns, record = self._clock.now_ns(), kept.record
        if now_ns < record.retry_at.ToNanoseconds():
            return True
        if now_ns - record.granted_at.ToNanoseconds() >= _YOUNG_S * 1e9:
            return False
        try:
            return await self._is_alive(kept)
        except ServiceError as error:
            _log.info("token_not_asked", connection=kept.connection_id, reason=error.code)
            return False

    async def _is_alive(self, kept: KeptGrant) -> bool:
        family, shop = Family(kept.record.family), domain_of(kept.connection_id)
        return await self._providers.is_alive(family, shop, await self._grant(kept))

    async def _newest(self, connection_id: str) -> KeptGrant | None:
        known = self._grants.known(connection_id)
        if known is not None and self._refresher.is_awake:
            return known
        try:
            return await self._grants.fresh(connection_id)
        except ServiceError:
            # While NATS is away what is in memory is the best there is, and nobody changes it.
            if known is None:
                raise
            return known

    def _changed(self, connection_id: str) -> None:
        kept, ready = self._grants.known(connection_id), self._ready.get(connection_id)
        if ready is None:
            return
        if kept is None:
            # Deleted by hand: what was handed out of it must not come back with another grant.
            del self._ready[connection_id]
        elif kept.record.token_revision != ready[0] or kept.record.needs_reauthorization:
            del self._ready[connection_id]

    async def _grant(self, kept: KeptGrant) -> Grant:
        """The grant of a record. That it cannot be read is no fault of what it is asked for."""
        try:
            return await self._grants.open(kept)
        except ServiceError as error:
            raise await self._refresher.unopened(kept, error) from error

    async def _opened(self, kept: KeptGrant) -> token_service_pb2.Token:
        record, connection_id = kept.record, kept.connection_id
        grant = await self._grant(kept)
        if not grant.access_token:
            advice = f"{connection_id} has no access token: `tidewire connect` gets one"
            raise ServiceError(Kind.AUTH, ACCESS_TOKEN_MISSING, advice)
        token = token_service_pb2.Token(
            connection_id=connection_id,
            access_token=grant.access_token.reveal(),
            revision=record.token_revision,
        )
        if record.HasField("expires_at"):
            token.expires_at.CopyFrom(record.expires_at)
            token.use_until.FromNanoseconds(self._until_ns(record))
        self._add_signing(token, record, grant)
        newest = self._grants.known(connection_id)
        if newest is kept or (
            newest is not None and newest.record.token_revision == record.token_revision
        ):
            until_ns = self._until_ns(record)
            self._ready[connection_id] = (record.token_revision, until_ns, token)
        return token

    def _add_signing(
        self, token: token_service_pb2.Token, record: record_pb2.StoredGrant, grant: Grant
    ) -> None:
        if record.family != Family.TIKTOK_SHOP or grant.shop_cipher is None:
            return
        token.signing.shop_cipher = grant.shop_cipher.reveal()
        app = grant.app or self._providers.app(Family.TIKTOK_SHOP)
        if app is not None:
            token.signing.app_key = app.client_id
            token.signing.app_secret = app.secret.reveal()

    def _until_ns(self, record: record_pb2.StoredGrant) -> int:
        if not record.HasField("expires_at"):
            return _FOR_EVER_NS
        expires_ns = record.expires_at.ToNanoseconds()
        margin = margin_s(seconds(record.granted_at.ToNanoseconds()), seconds(expires_ns))
        return expires_ns - int(margin * 1e9)


_FOR_EVER_NS: Final = 1 << 62


def state_of(record: record_pb2.StoredGrant) -> TokenState.ValueType:
    """How the token of a grant is, as it is told to those who watch."""
    if not record.HasField("grant"):
        return TOKEN_STATE_REVOKED
    if record.needs_reauthorization:
        return TOKEN_STATE_NEEDS_REAUTHORIZATION
    return TOKEN_STATE_USABLE
