"""Grants that need nobody at a browser: token exchange, and an app's own credentials."""

from __future__ import annotations

from dataclasses import replace

from libs.connections import DOMAIN_SUFFIX
from libs.errors import permanent
from libs.settings import Secret
from services.auth.domain.flows import APP_MISSING
from services.auth.domain.grants import App, Consent, Family, Grant
from services.auth.own_apps import own_app_of
from services.auth.ports import CONSENT_REFUSED, Providers, Sessions
from services.auth.specs import SETTINGS_UNFIT, family_by
from tidewire.auth.v1.connection_service_pb2 import (
    GRANT_FLOW_TOKEN_EXCHANGE,
    ConnectionSpec,
    GrantFlow,
)


class Unattended:
    """Asks a provider for a grant on an app's behalf."""

    def __init__(self, providers: Providers, sessions: Sessions) -> None:
        self._providers = providers
        self._sessions = sessions

    async def granted(
        self, spec: ConnectionSpec, flow: GrantFlow.ValueType, session_token: Secret
    ) -> Grant:
        """What is granted; `spec.shop` is a handle.

        Raises:
            ServiceError: PERMANENT, SETTINGS_UNFIT, CONSENT_REFUSED or APP_MISSING; else the
                provider's own.
        """
        family = family_by(spec.kind, flow)
        app = self._app(spec, family)
        domain = spec.shop + DOMAIN_SUFFIX
        if flow != GRANT_FLOW_TOKEN_EXCHANGE:
            consent = Consent(shop=domain, state="", redirect_uri="")
            grant = await self._providers.of(family).exchange(app, consent, "")
            return _with_app(grant, spec, app)
        if not session_token:
            raise permanent(SETTINGS_UNFIT, "give the session token", path="session_token")
        shop, grant = await self._sessions.exchange_session(app, session_token.reveal())
        if shop != domain:
            raise permanent(CONSENT_REFUSED, "the session token is another shop's")
        return _with_app(grant, spec, app)

    def _app(self, spec: ConnectionSpec, family: Family) -> App:
        app = own_app_of(spec) or self._providers.app(family)
        if app is None:
            raise permanent(APP_MISSING, f"the settings name no app for {family}")
        return app


def _with_app(grant: Grant, spec: ConnectionSpec, app: App) -> Grant:
    return replace(grant, app=app) if spec.HasField("app") else grant
