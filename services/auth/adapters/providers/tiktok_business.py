"""TikTok for Business: an advertiser's consent, for catalogs, events and reports.

`/oauth2/access_token/` grants a token without an end, as the Marketing API documents. Where the
answer carries `expires_in` and `refresh_token` (24 hours and a year, the dialect of creators'
tokens that the official SDK describes), they are kept and refreshed. How, TikTok has not
published; `/oauth2/refresh_token/` with the exchange's own names is how clients in the field do.
"""

from __future__ import annotations

from libs.errors import ServiceError
from libs.http.client import Request
from services.auth.adapters.providers import envelope
from services.auth.adapters.providers.calls import (
    Caller,
    post,
    refresh_token,
    refused_consent,
    with_query,
)
from services.auth.domain import refusals
from services.auth.domain.answers import business_grant
from services.auth.domain.callbacks import authorisation_code, declined
from services.auth.domain.grants import Answer, App, Consent, Grant
from services.auth.domain.refusals import Step
from services.auth.ports import GRANT_REVOKED


class TikTokBusiness:
    """`Provider` of `Family.TIKTOK_BUSINESS`."""

    def __init__(self, caller: Caller, *, api_url: str, api_version: str, consent_url: str) -> None:
        self._caller = caller
        self._root = f"{api_url.rstrip('/')}/open_api/{api_version}/oauth2"
        self._consent_url = consent_url

    def consent_url(self, app: App, consent: Consent) -> str:
        # What is asked for is set on the app, not here.
        return with_query(
            self._consent_url,
            {
                "app_id": app.client_id,
                "state": consent.state,
                "redirect_uri": consent.redirect_uri,
            },
        )

    def code(self, app: App, consent: Consent, answer: Answer) -> str:  # noqa: ARG002
        return code_of(answer, "auth_code", "code")

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:  # noqa: ARG002
        body = {
            "app_id": app.client_id,
            "secret": app.secret.reveal(),
            "auth_code": code,
            "grant_type": "auth_code",
        }
        return await self._granted("/access_token/", body, Step.EXCHANGE, None)

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:  # noqa: ARG002
        body = {
            "app_id": app.client_id,
            "secret": app.secret.reveal(),
            "refresh_token": refresh_token(grant, self._caller.name),
            "grant_type": "refresh_token",
        }
        return await self._granted("/refresh_token/", body, Step.REFRESH, grant)

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:  # noqa: ARG002
        """Ends the token for all the advertisers that it covers, other connections' too."""
        body = {
            "app_id": app.client_id,
            "secret": app.secret.reveal(),
            "access_token": grant.access_token.reveal(),
        }
        await revoked(self._caller, f"{self._root}/revoke_token/", body)

    async def is_alive(self, app: App, grant: Grant) -> bool:
        """Whether TikTok takes the access token, asked by the list of its advertisers.

        Raises:
            ServiceError: RETRYABLE or THROTTLED, where that cannot be told; PERMANENT, APP_REFUSED.
        """
        query = {"app_id": app.client_id, "secret": app.secret.reveal()}
        request = Request(
            method="GET",
            url=with_query(f"{self._root}/advertiser/get/", query),
            headers={"Access-Token": grant.access_token.reveal()},
        )
        judge = envelope.judged_by(refusals.business, Step.REFRESH)
        try:
            await self._caller.read(request, judge)
        except ServiceError as error:
            if error.code == GRANT_REVOKED:
                return False
            raise
        return True

    async def _granted(
        self, path: str, body: dict[str, str], step: Step, before: Grant | None
    ) -> Grant:
        judge = envelope.judged_by(refusals.business, step)
        told = await self._caller.once(post(self._root + path, body), judge)
        found = business_grant(envelope.data(told), self._caller.now, before)
        if found is None:
            raise self._caller.unreadable()
        return found


def code_of(answer: Answer, *names: str) -> str:
    """The code of an answer that a provider does not sign.

    Raises:
        ServiceError: PERMANENT, CONSENT_REFUSED.
    """
    if declined(answer):
        raise refused_consent("TikTok says that the request was declined; begin again to agree")
    found = authorisation_code(answer, *names)
    if not found:
        raise refused_consent("TikTok's answer holds no authorisation code; begin again")
    return found


async def revoked(caller: Caller, url: str, body: dict[str, str]) -> None:
    """Ends a token; one that TikTok does not know has ended.

    Raises:
        ServiceError: PERMANENT, APP_REFUSED.
    """
    judge = envelope.judged_by(refusals.business, Step.REVOKE)
    await caller.ended(post(url, body), judge)
