"""Who may call what: the policy, pure. The file's format is in docs/callers.md.

Everything is refused that no rule grants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_SHOP_DOMAIN: Final = ".myshopify.com"


@dataclass(frozen=True, slots=True)
class Scope:
    """How far one caller may go with one method: the sum of all rules that grant it."""

    everything: bool = False
    """A rule without limits is among them; one with permissions counts only where all have them."""

    connections: re.Pattern[str] | None = None
    shops: re.Pattern[str] | None = None
    permissions: frozenset[str] = frozenset()

    def refused(self, connection_ids: Iterable[str], shops: Iterable[str]) -> str | None:
        """The first connection or shop that it may not have; "" where none is named at all.

        None: it may have all of them. A shop's connections begin with its handle and a dot, so
        whoever may have a shop may have them, and whoever may have a connection may name its shop
        beside it.
        """
        if self.everything:
            return None
        owners: set[str] = set()
        named = False
        for one in connection_ids:
            named = True
            owner = one.partition(".")[0]
            if not (_fits(self.connections, one) or _fits(self.shops, owner)):
                return one
            owners.add(owner)
        for shop in shops:
            named = True
            handle = shop.lower().removesuffix(_SHOP_DOMAIN)
            if handle not in owners and not _fits(self.shops, handle):
                return shop
        return None if named else ""


NOTHING: Final = Scope()


def _fits(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is not None and pattern.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """Lets callers call methods; with limits, only for the connections and shops that fit them."""

    callers: frozenset[str]
    methods: Sequence[str]
    connections: Sequence[str] = ()
    shops: Sequence[str] = ()
    permissions: frozenset[str] = frozenset()

    @property
    def is_limited(self) -> bool:
        return bool(self.connections or self.shops)

    def grants(self, caller: str, method: str) -> bool:
        return caller in self.callers and pattern_of(self.methods).fullmatch(method) is not None


class Known(NamedTuple):
    """A caller by the identity that it has proved."""

    name: str
    identity: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Callers by what they can prove, and the rules."""

    certificates: Mapping[str, str]
    """Name in a certificate to caller."""

    tokens: Mapping[str, str]
    """Subject of a token to caller."""

    rules: Sequence[Rule]

    def caller(self, identities: Iterable[str], *, by_token: bool) -> Known | None:
        """The caller with the first of these identities that is known."""
        known = self.tokens if by_token else self.certificates
        for identity in identities:
            if identity in known:
                return Known(known[identity], identity)
        return None

    def scope(self, caller: str, method: str) -> Scope | None:
        """How far `caller` may go with `method`; None where no rule grants it at all."""
        granting = [rule for rule in self.rules if rule.grants(caller, method)]
        if not granting:
            return None
        # A rule with permissions has no limits of its own; it must not lift those of the others.
        plain = [rule for rule in granting if not rule.permissions]
        return Scope(
            everything=any(not rule.is_limited for rule in plain or granting),
            connections=_any_of(one for rule in granting for one in rule.connections),
            shops=_any_of(one for rule in granting for one in rule.shops),
            permissions=frozenset(one for rule in granting for one in rule.permissions),
        )


def pattern_of(globs: Iterable[str]) -> re.Pattern[str]:
    """What fits one of `globs`: `*` stands for any characters, everything else for itself."""
    texts = (".*".join(map(re.escape, one.split("*"))) for one in globs)
    return re.compile("|".join(texts), re.DOTALL)


def _any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    known = sorted(set(globs))
    return pattern_of(known) if known else None
