"""What services ask about shops: `Connections` for what is known, `Credentials` for secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from libs.settings import Secret
from tidewire.connections.v1.connection_pb2 import Connection, ConnectionKind

DOMAIN_SUFFIX: Final = ".myshopify.com"
_DOMAIN: Final = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9-]*)\.myshopify\.com")
_HANDLE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]*")


def shop_handle(text: str, *, bare: bool = False) -> str | None:
    """The handle of `<handle>.myshopify.com` in lower case, or None where `text` is no such domain.

    With `bare`, a handle alone is accepted as well.
    """
    found = _DOMAIN.fullmatch(text)
    if found is not None:
        return found[1].lower()
    return text.lower() if bare and _HANDLE.fullmatch(text) else None


@dataclass(frozen=True, slots=True)
class ShopView:
    """A shop that is connected."""

    handle: str
    domain: str
    country: str
    """ISO 3166-1 alpha-2; the default region of its telephone numbers."""
    currency: str
    """ISO 4217."""
    active_since: datetime
    """With its zone; nothing that happened before is reported."""


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A secret that may have signed a webhook. Its key is never printed."""

    secret_id: str
    """The shop's handle, or `_app` where several shops share it, a dot, and its place."""
    key: bytes = field(repr=False)


class Connections(Protocol):
    """Which shops there are and what each is connected to. Answers come from memory."""

    def shop(self, handle: str) -> ShopView | None:
        """The shop, or None where it is not connected."""

    def shops(self) -> Iterable[ShopView]:
        """All shops."""

    def connections(self, handle: str, kind: ConnectionKind.ValueType) -> Sequence[Connection]:
        """The shop's connections of one kind; shared, so not to be changed."""

    def sinks(self, handle: str) -> Sequence[str]:
        """Names of what its deliveries go to, as they stand in the subjects of OUTCOMES."""

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Calls `changed` after each change, until what this returns is called.

        `changed` must not raise and must not wait.
        """

    async def told(self) -> None:
        """Returns once all connections there are have been told; until then any may be missing.

        Who takes a connection that is missing for one that is gone waits for this first.
        """


class Credentials(Protocol):
    """The secrets of connections."""

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        """The secrets to try on a webhook: the shop's own, and no others.

        For None and for a shop that is not connected: every distinct secret there is.

        Raises:
            ServiceError: RETRYABLE, where they are not known yet.
        """

    async def access_token(self, connection_id: str) -> Secret:
        """The token to call the connection's upstream with.

        Raises:
            ServiceError: PERMANENT, `connection_unknown`; AUTH, `access_token_missing`.
        """

    async def refused(self, connection_id: str, token: Secret) -> None:
        """Tells that the connection's upstream has refused that token as dead.

        Never raises: whoever was refused has its own error to deal with.
        """
