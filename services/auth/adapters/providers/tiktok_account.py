"""A TikTok account holder's consent: `/tt_user/oauth2/`, a day's token and a year's refresh."""

from __future__ import annotations

from services.auth.adapters.providers import envelope
from services.auth.adapters.providers.calls import Caller, post, refresh_token, with_query
from services.auth.adapters.providers.tiktok_business import code_of, revoked
from services.auth.domain import refusals
from services.auth.domain.answers import account_grant
from services.auth.domain.grants import Answer, App, Consent, Grant
from services.auth.domain.refusals import Step


class TikTokAccount:
    """`Provider` of `Family.TIKTOK_ACCOUNT`."""

    def __init__(self, caller: Caller, *, api_url: str, api_version: str, consent_url: str) -> None:
        self._caller = caller
        self._root = f"{api_url.rstrip('/')}/open_api/{api_version}/tt_user/oauth2"
        self._consent_url = consent_url

    def consent_url(self, app: App, consent: Consent) -> str:
        return with_query(
            self._consent_url,
            {
                "client_key": app.client_id,
                "scope": ",".join(consent.scopes),
                "response_type": "code",
                "redirect_uri": consent.redirect_uri,
                "state": consent.state,
            },
        )

    def code(self, app: App, consent: Consent, answer: Answer) -> str:  # noqa: ARG002
        return code_of(answer, "code", "auth_code")

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        body = {
            **_client(app),
            "grant_type": "authorization_code",
            "auth_code": code,
            "redirect_uri": consent.redirect_uri,
        }
        return await self._granted("/token/", body, Step.EXCHANGE, None)

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:  # noqa: ARG002
        body = {
            **_client(app),
            "grant_type": "refresh_token",
            "refresh_token": refresh_token(grant, self._caller.name),
        }
        return await self._granted("/refresh_token/", body, Step.REFRESH, grant)

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:  # noqa: ARG002
        body = {**_client(app), "access_token": grant.access_token.reveal()}
        await revoked(self._caller, f"{self._root}/revoke/", body)

    async def _granted(
        self, path: str, body: dict[str, str], step: Step, before: Grant | None
    ) -> Grant:
        judge = envelope.judged_by(refusals.business, step)
        told = await self._caller.once(post(self._root + path, body), judge)
        found = account_grant(envelope.data(told), self._caller.now, before)
        if found is None:
            raise self._caller.unreadable()
        return found


def _client(app: App) -> dict[str, str]:
    return {"client_id": app.client_id, "client_secret": app.secret.reveal()}
