"""Replicas of the token service on one log, and a provider that keeps count: all in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from libs.bus.commit_log import Entry, MemoryLog, Stored
from libs.bus.follow import Follower, MemoryFeed
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.keys import MemoryKeySource
from libs.keys.port import key_unknown
from libs.sealing import DataKey
from libs.settings import Secret
from libs.telemetry import Metrics
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.ports import GRANT_REVOKED, KeptGrant
from services.auth.refresher import Refresher
from tests.fakes.virtual_clock import VirtualClock
from tidewire.auth.v1 import record_pb2

ID: Final = "example.shopify"
LIFE_S: Final = 3600.0


class Cable:
    """What connects a replica with the world: pulled, everything that it does waits."""

    def __init__(self) -> None:
        self._plugged = asyncio.Event()
        self._plugged.set()

    def pull(self) -> None:
        self._plugged.clear()

    def plug(self) -> None:
        self._plugged.set()

    async def through(self) -> None:
        await self._plugged.wait()


class CabledLog:
    """A log at the end of a cable."""

    def __init__(self, log: MemoryLog, cable: Cable) -> None:
        self._log = log
        self._cable = cable
        self.down = False
        self.unheard = 0

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        await self._cable.through()
        self._refuse_down()
        return await self._log.read(subjects)

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self.read(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        await self._cable.through()
        self._refuse_down()
        sequence = await self._log.commit(entries)
        if self.unheard:
            self.unheard -= 1
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        return sequence

    def _refuse_down(self) -> None:
        if self.down:
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")


@dataclass
class Upstream:
    """A provider's side of the refresh tokens.

    `strict`: the old refresh token dies at once. Else it lives until what replaced it is used.
    """

    clock: Clock
    strict: bool = False
    takes_s: float = 0.2
    life_s: float | None = LIFE_S
    """None: its answers do not say."""
    count: int = 0
    refreshes: int = 0
    dead_refreshes: int = 0
    troubles: list[ServiceError] = field(default_factory=list)
    answers_lost: int = 0
    rotated: asyncio.Event = field(default_factory=asyncio.Event)
    _alive: set[str] = field(default_factory=set)
    _older: dict[str, str] = field(default_factory=dict)

    def pair(self, replaces: str = "") -> Grant:
        self.count += 1
        refresh = f"refresh-{self.count}"
        self._alive.add(refresh)
        if replaces:
            self._older[refresh] = replaces
        access = f"access-{self.count}"
        now = datetime.fromtimestamp(self.clock.now_ns() / 1e9, UTC)
        return Grant(
            access_token=Secret(access),
            expires_at=None if self.life_s is None else now + timedelta(seconds=self.life_s),
            refresh_token=Secret(refresh),
        )

    def use(self, access: str) -> None:
        """A call with an access token: what it replaced dies now."""
        refresh = access.replace("access", "refresh")
        older = self._older.pop(refresh, "")
        if older:
            self._alive.discard(older)
            # Its sisters, which were granted for the same old token, die with it.
            for sister in [one for one, old in self._older.items() if old == older]:
                self._alive.discard(sister)
                del self._older[sister]

    def refresh(self, refresh_token: str) -> Grant:
        self.refreshes += 1
        if refresh_token not in self._alive:
            self.dead_refreshes += 1
            raise ServiceError(Kind.AUTH, GRANT_REVOKED, "invalid_grant")
        self.use(refresh_token.replace("refresh", "access"))
        if self.strict:
            self._alive.discard(refresh_token)
        new = self.pair(replaces="" if self.strict else refresh_token)
        self.rotated.set()
        return new


class PlayedProvider:
    """`Provider` on an `Upstream`, reached over a replica's cable."""

    def __init__(self, upstream: Upstream, cable: Cable) -> None:
        self.upstream = upstream
        self.cable = cable
        self.pull_when_rotated = False

    def consent_url(self, app: App, consent: Consent) -> str:
        raise NotImplementedError

    def code(self, app: App, consent: Consent, answer: Answer) -> str:
        raise NotImplementedError

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        raise NotImplementedError

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        await self.cable.through()
        if self.upstream.troubles:
            raise self.upstream.troubles.pop(0)
        assert grant.refresh_token is not None
        new = self.upstream.refresh(grant.refresh_token.reveal())
        if self.pull_when_rotated:
            self.cable.pull()
        await self.upstream.clock.sleep(self.upstream.takes_s)
        await self.cable.through()
        if self.upstream.answers_lost:
            self.upstream.answers_lost -= 1
            raise ServiceError(Kind.RETRYABLE, "upstream_timeout")
        return new

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        raise NotImplementedError


class PlayedProviders:
    """The same provider for every family, but for `others`."""

    def __init__(self, provider: PlayedProvider, app: App | None) -> None:
        self.provider = provider
        self.own = app
        self.others: dict[Family, PlayedProvider] = {}
        self.alive: set[str] = set()
        self.trouble: ServiceError | None = None

    def of(self, family: Family) -> PlayedProvider:
        return self.others.get(family, self.provider)

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        if self.trouble is not None:
            raise self.trouble
        return grant.access_token.reveal() in self.alive

    def app(self, family: Family) -> App | None:
        return self.own


class PlayedLiveness:
    """`Liveness` that a test turns off."""

    def __init__(self, owner: str, dead: set[str]) -> None:
        self.owner = owner
        self.dead = dead

    @property
    def is_alive(self) -> bool:
        return self.owner not in self.dead

    async def lives(self, owner: str) -> bool:
        return owner not in self.dead


class FarKeys(MemoryKeySource):
    """Keys that are fetched each time; `trouble` is what comes instead.

    `closed` is what comes instead of the key of something that was sealed, and `opens` counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trouble: ServiceError | None = None
        self.closed: ServiceError | None = None
        self.opens = 0

    def cached(self, scope: str) -> DataKey | None:
        return None

    def cached_by_id(self, scope: str, key_id: str) -> DataKey | None:
        return None

    async def by_id(self, scope: str, key_id: str) -> DataKey:
        self.opens += 1
        if self.closed is not None:
            raise self.closed
        key = super().cached_by_id(scope, key_id)
        if key is None:
            raise key_unknown(scope, key_id)
        return key

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:
        if self.trouble is not None:
            raise self.trouble
        return super().cached(scope) or await self.rotate(scope)


class Replica:
    """One process of the token service."""

    def __init__(
        self, name: str, log: MemoryLog, upstream: Upstream, dead: set[str], keys: MemoryKeySource
    ) -> None:
        self.cable = Cable()
        self.log = CabledLog(log, self.cable)
        self.grants = GrantStore(self.log, Vault(keys))
        self.follower = Follower("tokens", MemoryFeed(log), self.grants.take)
        self.provider = PlayedProvider(upstream, self.cable)
        self.providers = PlayedProviders(self.provider, App("app", Secret("app-secret")))
        self.liveness = PlayedLiveness(name, dead)
        self.ended: list[str] = []
        self.metrics = Metrics()
        self.refresher = Refresher(
            self.grants,
            self.providers,
            self.liveness,
            upstream.clock,
            self.metrics,
            random=lambda: 0.5,
            ended=lambda kept: self.ended.append(kept.connection_id),
        )

    async def token(self, newer_than: int = 1) -> str:
        """The access token of `ID`, newer than a revision."""
        kept = await self.refresher.refreshed(ID, newer_than=newer_than)
        return (await self.grants.open(kept)).access_token.reveal()

    async def record(self) -> record_pb2.StoredGrant:
        kept = await self.grants.fresh(ID)
        assert kept is not None
        return kept.record


class House:
    """Some replicas, a provider and one connection."""

    def __init__(self, replicas: int = 4, *, strict: bool = False) -> None:
        self.clock = VirtualClock()
        self.upstream = Upstream(self.clock, strict=strict)
        self.log = MemoryLog()
        self.dead: set[str] = set()
        self.keys = FarKeys()
        self.replicas = [
            Replica(f"r{number}", self.log, self.upstream, self.dead, self.keys)
            for number in range(replicas)
        ]

    async def connect(
        self,
        grant: Grant | None = None,
        connection_id: str = ID,
        family: Family = Family.SHOPIFY,
    ) -> KeptGrant:
        """Stores a grant for the connection, revision 1."""
        store = self.replicas[0].grants
        record = record_pb2.StoredGrant(
            connection_id=connection_id, family=family.value, token_revision=1
        )
        record.granted_at.FromNanoseconds(self.clock.now_ns())
        await store.seal(connection_id, grant or self.upstream.pair(), record)
        return await store.write(connection_id, record, expected=0)

    async def follow(self) -> None:
        """Every replica learns of all that was written."""
        for replica in self.replicas:
            await replica.follower.follow()

    def kill(self, replica: Replica) -> None:
        """Nothing of this replica happens any more, and the others notice."""
        replica.cable.pull()
        self.dead.add(replica.liveness.owner)
