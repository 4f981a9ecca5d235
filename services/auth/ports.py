"""What the handlers of the auth service need of the world."""

from __future__ import annotations

from typing import Final, Protocol

from services.auth.domain.grants import Answer, App, Consent, Grant

GRANT_REVOKED: Final = "grant_revoked"
"""AUTH: the provider no longer knows the grant, or its refresh token is used up or too old."""

APP_REFUSED: Final = "app_refused"
"""PERMANENT: the provider does not know the app or its secret: our settings are wrong."""

CODE_REFUSED: Final = "code_refused"
"""PERMANENT: the authorisation code is used, too old or not ours; begin again."""

CONSENT_REFUSED: Final = "consent_refused"
"""PERMANENT: the person said no, or the answer that came back is not to be trusted."""


class Provider(Protocol):
    """One dialogue with one provider. All that is spoken of lies in `Family`.

    Every method that calls out may raise ServiceError RETRYABLE (down, or unreadable) and
    THROTTLED besides what it names, and puts no token, code or secret into any error.
    """

    def consent_url(self, app: App, consent: Consent) -> str:
        """Where the browser goes to agree."""

    def code(self, app: App, consent: Consent, answer: Answer) -> str:
        """The authorisation code that the browser brought back, once the answer is verified.

        `state` was compared before.

        Raises:
            ServiceError: PERMANENT, CONSENT_REFUSED, with the reason for a person.
        """

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        """What was granted.

        Raises:
            ServiceError: PERMANENT, CODE_REFUSED or APP_REFUSED.
        """

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        """A new grant for the old one; what the answer leaves out is as before.

        `shop` is the shop's myshopify domain.

        Raises:
            ServiceError: AUTH, GRANT_REVOKED; PERMANENT, APP_REFUSED.
        """

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        """Ends the grant; no error where the provider does not know it any more.

        Raises:
            ServiceError: PERMANENT, APP_REFUSED.
        """
