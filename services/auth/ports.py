"""What the handlers of the auth service need of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.domain.scopes import Use
from services.auth.domain.subscriptions import Found, Wanted
from tidewire.auth.v1 import connection_service_pb2, health_pb2, record_pb2
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_TIKTOK_SHOP, Connection
from tidewire.delivery.v1 import gate_pb2

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


R = TypeVar("R", record_pb2.StoredGrant, record_pb2.StoredConnection)


@dataclass(frozen=True, slots=True)
class Kept(Generic[R]):
    """A record as it was stored; shared, so not to be changed."""

    connection_id: str
    sequence: int
    """What a write over it is fenced by."""
    record: R
    stored_ns: int = field(default=0, compare=False)
    """When it was stored, where that was told."""


KeptGrant: TypeAlias = "Kept[record_pb2.StoredGrant]"
KeptConnection: TypeAlias = "Kept[record_pb2.StoredConnection]"


class Records(Protocol[R]):
    """Records of connections; what was stored is known from memory soon after.

    Every method that waits may raise ServiceError RETRYABLE, where the store does not answer.
    """

    def known(self, connection_id: str) -> Kept[R] | None:
        """The record as this process knows it; None where there is none."""

    def all(self) -> Iterable[Kept[R]]:
        """Every record that this process knows."""

    def subscribe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Calls `changed` with the id of each that changes, until what this returns is called.

        `changed` must not raise and must not wait.
        """

    async def fresh(self, connection_id: str) -> Kept[R] | None:
        """The record as it is stored now."""

    async def write(self, connection_id: str, record: R, *, expected: int) -> Kept[R]:
        """Stores a record over the one of that sequence (0: there is none).

        Raises:
            ConflictError: somebody else has written; nothing was stored.
            ServiceError: RETRYABLE; it may nevertheless be stored.
        """


class Grants(Records[record_pb2.StoredGrant], Protocol):
    """Grants, stored with what is secret sealed for its connection."""

    async def seal(self, connection_id: str, grant: Grant, into: record_pb2.StoredGrant) -> None:
        """Puts a grant into a record, with what may be read of it in clear."""

    def opened(self, kept: KeptGrant) -> Grant | None:
        """The grant of a record, where it was opened before."""

    async def open(self, kept: KeptGrant) -> Grant:
        """The grant of a record.

        Raises:
            ServiceError: PERMANENT, where it was altered or is another connection's.
        """


class Liveness(Protocol):
    """Which processes of this service live."""

    @property
    def owner(self) -> str:
        """The name of this process."""

    @property
    def is_alive(self) -> bool:
        """Whether the others take this process for alive now."""

    async def lives(self, owner: str) -> bool:
        """Whether a process lives, as far as anybody knows.

        Raises:
            ServiceError: RETRYABLE, where the store does not answer.
        """


class Sessions(Protocol):
    """Shopify's session tokens."""

    async def exchange_session(self, app: App, session_token: str) -> tuple[str, Grant]:
        """The domain of the shop that issued the token, and what it is exchanged for.

        Raises:
            ServiceError: PERMANENT, CONSENT_REFUSED or APP_REFUSED.
        """


class Providers(Protocol):
    """The providers, and the apps that the service has there."""

    def of(self, family: Family) -> Provider:
        """The provider of a family."""

    def app(self, family: Family) -> App | None:
        """The service's own app there; None where the settings name none."""

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        """Whether the provider still takes the access token; False where it cannot be asked.

        Raises:
            ServiceError: RETRYABLE or THROTTLED, where that cannot be told now.
        """


@dataclass(frozen=True, slots=True)
class KeptFlow:
    """An attempt to connect as it was stored, the secret of an own app opened in its `spec`."""

    flow_id: str
    sequence: int
    """What a write over it is fenced by."""
    record: record_pb2.StoredFlow = field(repr=False)


class Flows(Protocol):
    """Attempts to connect, stored and sealed; each is gone a while after its last write.

    Every method may raise ServiceError RETRYABLE, where the store does not answer.
    """

    async def create(self, flow_id: str, record: record_pb2.StoredFlow) -> None:
        """Stores a new one.

        Raises:
            ConflictError: there is one of that id.
        """

    async def load(self, flow_id: str) -> KeptFlow | None:
        """The attempt as it is stored now; None where there is none."""

    async def replace(self, kept: KeptFlow, record: record_pb2.StoredFlow) -> KeptFlow:
        """Stores a record over the one that was read.

        Raises:
            ConflictError: somebody else has written, or it is gone; nothing was stored.
        """


class Connected(Protocol):
    """What comes of a grant."""

    async def connect(
        self,
        spec: connection_service_pb2.ConnectionSpec,
        flow: connection_service_pb2.GrantFlow.ValueType,
        grant: Grant,
    ) -> str:
        """Makes the connection, or connects it again; returns its id. `spec.shop` is a handle.

        Raises:
            ServiceError: what stands in the way, for a person to read.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is; a field is empty where Shopify does not say."""

    country: str
    """ISO 3166-1 alpha-2."""
    currency: str
    """ISO 4217."""


class Places(Protocol):
    """What a store says of itself."""

    async def place(self, shop: str) -> Place:
        """Where the store with this handle is.

        Raises:
            ServiceError: as the store's API does.
        """


class Forgetting(Protocol):
    """Keys that can be thrown away."""

    async def forget(self, scope: str) -> None:
        """Throws the data keys of a scope away: what they sealed is no more."""


class ShutGates(Protocol):
    """Which gates are shut."""

    def shut(self, name: str) -> gate_pb2.Gate | None:
        """The gate where it is shut; None where it is open."""


class Overview(Protocol):
    """What an operator looks at."""

    def connections(self) -> Sequence[health_pb2.ConnectionStatus]:
        """Every connection and how it is; no secrets."""


@dataclass(frozen=True, slots=True)
class KeptStore:
    """A store or a TikTok Shop that is connected, and how it was at the last look."""

    connection: Connection
    """Of the store itself."""
    uses: frozenset[Use] = frozenset()
    """What the shop's other connections use it for; of a TikTok Shop nothing is asked."""
    webhooks: health_pb2.WebhookHealth | None = None
    """None: nobody has looked since it was connected."""

    @property
    def key(self) -> str:
        """What it is looked for by: the handle, or of a TikTok Shop the connection's id.

        A shop has one store and may have several TikTok Shops.
        """
        is_shop = self.connection.kind == CONNECTION_KIND_TIKTOK_SHOP
        return self.connection.connection_id if is_shop else self.connection.shop


class KeptStores(Protocol):
    """The stores whose subscriptions, scopes and versions are looked after."""

    async def stores(self) -> Sequence[KeptStore]:
        """Those that can be called: not such as need a person to connect them again."""

    async def store(self, key: str) -> KeptStore | None:
        """The one with this key, if it can be called."""

    async def note(
        self,
        connection_id: str,
        *,
        webhooks: health_pb2.WebhookHealth,
        version: health_pb2.VersionHealth,
        granted_scopes: Sequence[str],
        missing_scopes: Sequence[str],
    ) -> None:
        """Keeps what a look has found.

        Raises:
            ServiceError: RETRYABLE, where the store of connections does not answer; what the store
                itself says, where something is asked of it that was not known before.
        """


@dataclass(frozen=True, slots=True)
class Installation:
    """The app as a store has it."""

    scopes: frozenset[str]
    """As the provider names them."""
    found: tuple[Found, ...]
    version: health_pb2.VersionHealth
    unreadable: str = ""
    """Why the subscriptions may not be read, for a person; empty: they were."""


class Stores(Protocol):
    """What is asked of a store, and changed there. `shop` is the key of a `KeptStore`.

    Every method may raise ServiceError RETRYABLE, THROTTLED, and AUTH where the token is refused.
    """

    async def installation(self, shop: str) -> Installation:
        """The app as the store has it now."""

    async def create(self, shop: str, want: Wanted, address: str) -> bool:
        """Subscribes to a topic; False where somebody else just has.

        Raises:
            ServiceError: PERMANENT, `subscription_refused`, with what the store says.
        """

    async def update(self, shop: str, found: Found, want: Wanted, address: str) -> bool:
        """Sets a subscription right; False where it is gone.

        Raises:
            ServiceError: PERMANENT, `subscription_refused`.
        """

    async def delete(self, shop: str, found: Found) -> None:
        """Ends a subscription, if there still is one.

        Raises:
            ServiceError: PERMANENT, `subscription_refused`.
        """


class StoreGrants(Protocol):
    """What becomes of a store's grant when the merchant takes it back. `shop` is a handle."""

    async def granted_at(self, shop: str) -> datetime | None:
        """When the store last granted or its token was refreshed; None: there is no grant."""

    async def uninstalled(self, shop: str, *, granted_until: datetime) -> None:
        """Stops sending, revokes and deletes what was granted until then; the ledger stays.

        A younger grant is left. Done twice it is done once.
        """


class Attention(Protocol):
    """Has stores looked at out of turn."""

    def soon(self, shop: str) -> None:
        """Has the store with this handle looked at now: it was just connected, or has changed."""
