"""What the token endpoints were asked and which tokens were used: the judge of a token service."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sandbox.oauth.vault import Connection, State

_CALLS_MAX: Final = 20_000
_LOSING: Final = frozenset({State.REPLACED, State.EXPIRED})


class OAuthCall(NamedTuple):
    """One request to a token endpoint, as it is kept."""

    at_s: float
    provider: str
    endpoint: str
    app_id: str
    account: str
    outcome: str
    """`ok`, or what the answer says is wrong."""

    answer: str
    """`whole`, or what a fault did to the answer: `silent`, `cut`, `reset`, `http_503`, …"""

    refresh_token: str
    """The name of the refresh token that was sent; empty for none."""


@dataclass(slots=True)
class _Account:
    exchanges: int = 0
    refreshes: int = 0
    refreshes_by_token: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    dead_calls: Counter[str] = field(default_factory=Counter)
    revocations: int = 0
    answers_lost: int = 0
    is_lost: bool = False


class OAuthLedger:
    """Counts per connection, and the last requests one by one."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._accounts: dict[Connection, _Account] = {}
        self._calls: deque[OAuthCall] = deque(maxlen=_CALLS_MAX)

    @property
    def calls(self) -> list[OAuthCall]:
        """The last requests to token endpoints, in order."""
        return list(self._calls)

    def _of(self, connection: Connection) -> _Account:
        return self._accounts.setdefault(connection, _Account())

    def record(self, call: OAuthCall) -> None:
        self._calls.append(call)
        if call.outcome == "ok" and call.answer != "whole" and call.endpoint in _ISSUING:
            self._of(Connection(call.provider, call.app_id, call.account)).answers_lost += 1

    def exchanged(self, connection: Connection) -> None:
        account = self._of(connection)
        account.exchanges += 1
        account.is_lost = False

    def refreshed(self, connection: Connection, refresh_token: str) -> None:
        account = self._of(connection)
        account.refreshes += 1
        account.refreshes_by_token[refresh_token] += 1
        account.is_lost = False

    def refused(self, connection: Connection, state: State) -> None:
        """A refresh with a dead token."""
        account = self._of(connection)
        account.refused[state] += 1
        account.is_lost = account.is_lost or state in _LOSING

    def revoked(self, connection: Connection) -> None:
        account = self._of(connection)
        account.revocations += 1
        account.is_lost = False

    def called(self, connection: Connection, *, newest: bool) -> None:
        """A call with a live token. With the newest pair's it shows that a grant is not lost."""
        account = self._of(connection)
        account.calls += 1
        account.is_lost = account.is_lost and not newest

    def called_dead(self, connection: Connection, state: State) -> None:
        self._of(connection).dead_calls[state] += 1

    def summary(self) -> dict[str, object]:
        """What `GET /_sandbox/oauth/ledger` shows, and `/_sandbox/ledger` under `oauth`."""
        accounts = self._accounts.values()
        return {
            "exchanges": sum(one.exchanges for one in accounts),
            "refreshes": sum(one.refreshes for one in accounts),
            "refreshes_refused": sum(one.refused.total() for one in accounts),
            "grants_lost": sum(one.is_lost for one in accounts),
            "calls": sum(one.calls for one in accounts),
            "calls_dead": sum(one.dead_calls.total() for one in accounts),
            "revocations": sum(one.revocations for one in accounts),
            "answers_lost": sum(one.answers_lost for one in accounts),
            "connections": [
                {
                    **key._asdict(),
                    "exchanges": one.exchanges,
                    "refreshes": one.refreshes,
                    "refreshes_by_token": dict(one.refreshes_by_token),
                    "refreshes_refused": dict(one.refused),
                    "grant_lost": one.is_lost,
                    "calls": one.calls,
                    "calls_dead": dict(one.dead_calls),
                    "revocations": one.revocations,
                    "answers_lost": one.answers_lost,
                }
                for key, one in self._accounts.items()
            ],
        }


_ISSUING: Final = frozenset({"exchange", "refresh"})
