"""Who calls: what a servicer may ask of the rpc under way."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from libs.rpc.policy import NOTHING, Scope

REVEAL: Final = "reveal"
"""Permission to see personal data in clear."""


class Rules(Protocol):
    """What callers may do by the policy that is in force now."""

    def scope(self, caller: str, method: str) -> Scope | None:
        """How far a caller may go with a method; None where no rule lets it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller that has proved who it is, in an rpc that the policy lets it make."""

    name: str
    """As the policy calls it: for audit lines."""

    identity: str
    """What it has proved: a name of its certificate, or the subject of its token."""

    method: str
    """What it calls, such as `tidewire.auth.v1.TokenService/GetToken`."""

    rules: Rules

    def may(self, *, connection_id: str = "", shop: str = "", method: str = "") -> bool:
        """Whether it may have a connection or a shop, in this rpc or by another `method`.

        Servicers of lists and watches filter what they tell by it. The policy may have changed
        since the rpc began; what counts is the one in force now.
        """
        ids = (connection_id,) if connection_id else ()
        shops = (shop,) if shop else ()
        return self._scope(method).refused(ids, shops) is None

    def has(self, permission: str) -> bool:
        """Whether a rule grants it `permission` with this rpc."""
        return permission in self._scope("").permissions

    def _scope(self, method: str) -> Scope:
        return self.rules.scope(self.name, method or self.method) or NOTHING


current_caller: ContextVar[Caller] = ContextVar("current_caller")
"""The caller of the rpc under way; set before any servicer is entered."""
