"""Codes and tokens: who holds which, until when, and what became of those that were replaced.

Only digests are kept, but for the last texts that were handed out: a test looks for them where they
must not be. Under `grace` a refresh token that was used stays usable until one of the
pairs that replaced it is first used (its access or its refresh token), or until `grace_s` is over;
used again before that, it gives a further pair. When one pair is used, its predecessor and the
other pairs' refresh tokens die, since one refresh token is live for each app and account; that the
other pairs are usable until then is our reading of Shopify's note of 2026-08-28. An access token
lives to its own end, whatever becomes of its refresh token.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sandbox.oauth.apps import App, Rotation

_TEXTS_MAX: Final = 10_000


class State(StrEnum):
    """What a token is worth."""

    LIVE = "live"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REVOKED = "revoked"


class Connection(NamedTuple):
    """One app at one account (a shop's domain, a seller's or an advertiser's id)."""

    provider: str
    app_id: str
    account: str


@dataclass(slots=True, eq=False)
class Grant:
    """What somebody allowed an app."""

    connection: Connection
    scopes: frozenset[str]
    details: Mapping[str, Any] = field(default_factory=dict)
    is_revoked: bool = False
    kind: str = "offline"


@dataclass(slots=True, eq=False)
class Refresh:
    """A refresh token."""

    grant: Grant
    name: str
    expires_at_s: float
    parent: Refresh | None = None
    children: list[Refresh] = field(default_factory=list)
    replaced_at_s: float | None = None
    grace_ends_s: float = 0.0
    is_dead: bool = False


@dataclass(slots=True, eq=False)
class Access:
    """An access token, and the refresh token that came with it."""

    grant: Grant
    expires_at_s: float | None
    refresh: Refresh | None
    is_revoked: bool = False


@dataclass(slots=True, eq=False)
class Code:
    """An authorization code."""

    app: App
    grant: Grant
    expires_at_s: float
    redirect_uri: str
    is_used: bool = False


class Issued(NamedTuple):
    """What an exchange or a refresh hands out."""

    grant: Grant
    access_token: str
    expires_at_s: float | None
    refresh_token: str | None
    refresh_expires_at_s: float | None


def name_of(token: str) -> str:
    """What stands for a token in the ledger: half of its SHA-256, hex."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()[:32]


class Vault:
    """Everything that was handed out. `draw` gives text that nobody can guess."""

    def __init__(self, draw: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._draw = draw
        self._codes: dict[str, Code] = {}
        self._access: dict[str, Access] = {}
        self._refresh: dict[str, Refresh] = {}
        self._by_connection: dict[Connection, list[Grant]] = {}
        self._texts: deque[str] = deque(maxlen=_TEXTS_MAX)

    @property
    def texts(self) -> list[str]:
        """The codes and tokens that were handed out last, as they were."""
        return list(self._texts)

    def new_code(self, app: App, grant: Grant, redirect_uri: str, now_s: float) -> str:
        code = self._drawn("")
        held = Code(app, grant, now_s + app.code_life_s, redirect_uri)
        self._codes[name_of(code)] = held
        return code

    def _drawn(self, prefix: str) -> str:
        text = prefix + self._draw()
        self._texts.append(text)
        return text

    def code(self, text: str) -> Code | None:
        return self._codes.get(name_of(text))

    def issue(  # the parts of an answer, each once
        self,
        grant: Grant,
        now_s: float,
        *,
        access_s: float | None,
        refresh_s: float | None = None,
        prefixes: tuple[str, str] = ("", ""),
        parent: Refresh | None = None,
    ) -> Issued:
        """A new access token, with a refresh token where `refresh_s` is given."""
        refresh, refresh_token = None, None
        if refresh_s is not None:
            refresh_token = self._drawn(prefixes[1])
            refresh = Refresh(grant, name_of(refresh_token), now_s + refresh_s, parent)
            self._refresh[refresh.name] = refresh
            if parent is not None:
                parent.children.append(refresh)
        access_token = self._drawn(prefixes[0])
        expires_at_s = None if access_s is None else now_s + access_s
        self._access[name_of(access_token)] = Access(grant, expires_at_s, refresh)
        grants = self._by_connection.setdefault(grant.connection, [])
        if grant not in grants:
            grants.append(grant)
        ends_s = refresh.expires_at_s if refresh else None
        return Issued(grant, access_token, expires_at_s, refresh_token, ends_s)

    def access(self, token: str, now_s: float) -> tuple[State, Access | None]:
        """What an access token is worth now; using it is `use`."""
        held = self._access.get(name_of(token))
        if held is None:
            return State.UNKNOWN, None
        if held.is_revoked or held.grant.is_revoked:
            return State.REVOKED, held
        if held.expires_at_s is not None and now_s >= held.expires_at_s:
            return State.EXPIRED, held
        return State.LIVE, held

    def use(self, held: Access) -> bool:
        """Notes that a live access token was used; whether it is of the newest pair."""
        if held.refresh is None:
            return True
        self._settle(held.refresh)
        return not held.refresh.is_dead and held.refresh.replaced_at_s is None

    def refresh(self, token: str, now_s: float) -> tuple[State, Refresh | None]:
        """What a refresh token is worth now."""
        held = self._refresh.get(name_of(token))
        if held is None:
            return State.UNKNOWN, None
        if held.grant.is_revoked:
            return State.REVOKED, held
        if held.is_dead or (held.replaced_at_s is not None and now_s >= held.grace_ends_s):
            return State.REPLACED, held
        return (State.EXPIRED if now_s >= held.expires_at_s else State.LIVE), held

    def replace(self, held: Refresh, rotation: Rotation, grace_s: float, now_s: float) -> None:
        """Notes that a live refresh token was used, before its replacement is issued."""
        self._settle(held)
        if rotation == "strict":
            held.is_dead = True
        elif rotation == "grace" and held.replaced_at_s is None:
            held.replaced_at_s, held.grace_ends_s = now_s, now_s + grace_s

    def _settle(self, used: Refresh) -> None:
        """The pair of `used` is in use: what it replaced, and the pairs beside it, are over."""
        parent = used.parent
        if parent is None or used.is_dead:
            return
        parent.is_dead = True
        for other in parent.children:
            other.is_dead = other.is_dead or other is not used
        parent.children = [used]

    def revoke(self, grant: Grant) -> None:
        """Ends every token of a grant."""
        grant.is_revoked = True

    def grants(self, connection: Connection) -> list[Grant]:
        """Those that still stand."""
        return [g for g in self._by_connection.get(connection, ()) if not g.is_revoked]

    def connections(self, provider: str, account: str | None = None) -> list[Connection]:
        """Every app that ever got a token there."""
        return [
            one
            for one in self._by_connection
            if one.provider == provider and account in {None, one.account}
        ]

    def expire(self, connection: Connection, now_s: float) -> int:
        """Ends the access tokens of a connection now, as if their time were over; how many."""
        ended = 0
        for held in self._access.values():
            if held.grant.connection == connection and held.expires_at_s != now_s:
                held.expires_at_s = now_s
                ended += 1
        return ended
