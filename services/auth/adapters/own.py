"""Credentials for the auth service's own calls: without a way through gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from libs.connections import WebhookSecret
from libs.errors import ServiceError
from libs.settings import Secret
from services.auth.tokens import Tokens

_log = structlog.stdlib.get_logger()


class OwnCredentials:
    """`Credentials` on the tokens of this process."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        """None: this service verifies no webhooks."""
        del handle
        return ()

    async def access_token(self, connection_id: str) -> Secret:
        return Secret((await self._tokens.token(connection_id)).access_token)

    async def refused(self, connection_id: str, token: Secret) -> None:
        held = self._tokens.ready(connection_id)
        if held is None or held.access_token != token.reveal():
            return
        try:
            await self._tokens.report(connection_id, held.revision, "refused_upstream")
        except ServiceError as error:
            _log.info("refusal_not_noted", connection=connection_id, reason=error.code)
