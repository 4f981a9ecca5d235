"""The policy from its YAML file: every fault at once, read again whenever the file changes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from libs.connections.tree import parse_yaml, shown
from libs.errors import Kind, ServiceError
from libs.rpc.callers import REVEAL
from libs.rpc.policy import Policy, Rule, Scope

PERMISSIONS: Final = frozenset({REVEAL})
"""All that a rule may grant besides methods."""

_FAULTS_SHOWN_MAX: Final = 100
_CALLER_FIELDS: Final = ("certificates", "tokens")
_RULE_FIELDS: Final = ("callers", "methods", "connections", "shops", "permissions")
# A name in a metric's label, an audit record, a line of a log.
_NAME_CHARS_MAX: Final = 60

_log = structlog.stdlib.get_logger()


class PolicyError(ServiceError):
    """Everything that is wrong with a policy file, one line a fault."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        lines = list(faults[:_FAULTS_SHOWN_MAX])
        if len(faults) > len(lines):
            lines.append(f"and {len(faults) - len(lines)} more")
        text = "\n".join((f"{path} cannot be used (docs/callers.md):", *lines))
        super().__init__(Kind.PERMANENT, "rpc_policy_invalid", text)
        self.faults = tuple(faults)


class PolicyFile:
    """The policy that `path` holds, as of the last look at it.

    Raises:
        PolicyError: the file has faults now; names them all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp_of(path)
        self._policy = read_policy(path)
        self._scopes: dict[tuple[str, str], Scope | None] = {}
        self._warned: tuple[str, ...] = ()
        self.version = 0
        """Grows whenever another policy has come into force."""

    @property
    def policy(self) -> Policy:
        """The one in force."""
        return self._policy

    def scope(self, caller: str, method: str) -> Scope | None:
        """As `Policy.scope`, worked out once for each caller and method."""
        key = (caller, method)
        if key not in self._scopes:
            self._scopes[key] = self._policy.scope(caller, method)
        return self._scopes[key]

    def refresh(self) -> bool:
        """Reads the file again if it has changed; true where another policy is in force now.

        A file with faults changes nothing and is warned about once.
        """
        stamp = _stamp_of(self._path)
        if stamp == self._stamp:
            return False
        try:
            policy = read_policy(self._path)
        except PolicyError as error:
            # The stamp stays the good file's: each look reads again until there is one.
            if error.faults != self._warned:
                self._warned = error.faults
                _log.warning("rpc_policy_not_reloaded", file=str(self._path), faults=error.message)
            return False
        self._stamp, self._policy, self._warned = stamp, policy, ()
        self._scopes = {}
        self.version += 1
        _log.info("rpc_policy_reloaded", callers=len(policy.certificates), rules=len(policy.rules))
        return True


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        PolicyError: with every fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        advice = f"cannot be read ({error.strerror}); set TIDEWIRE_RPC_POLICY_FILE"
        raise PolicyError(path, [advice]) from error
    except ValueError as error:
        raise PolicyError(path, ["is not UTF-8 text"]) from error
    tree, faults = parse_yaml(text)
    if faults:
        raise PolicyError(path, faults)
    reading = _Reading()
    policy = reading.policy(tree)
    if reading.faults:
        raise PolicyError(path, reading.faults)
    return policy


class _Reading:
    """Gathers the faults of one file while it makes a policy of it."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._callers: set[str] = set()

    def policy(self, tree: object) -> Policy:
        top = self._mapping("the file", tree, ("callers", "rules"))
        certificates, tokens = self._proofs(self._mapping("callers", top.get("callers"), None))
        rules = top.get("rules")
        if not isinstance(rules, list) or not rules:
            self.faults.append("rules: must be a list with at least one rule")
            rules = []
        made = [self._rule(f"rules[{place}]", one) for place, one in enumerate(rules)]
        return Policy(certificates, tokens, made)

    def _proofs(self, callers: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        certificates: dict[str, str] = {}
        tokens: dict[str, str] = {}
        for name, tree in callers.items():
            place = f"callers.{shown(name)}"
            self._callers.add(name)
            if not name.isprintable() or not 0 < len(name) <= _NAME_CHARS_MAX:
                self.faults.append(f"{place}: needs a name of 1 to {_NAME_CHARS_MAX} characters")
            fields = self._mapping(place, tree, _CALLER_FIELDS)
            for field, known in (("certificates", certificates), ("tokens", tokens)):
                for identity in self._texts(f"{place}.{field}", fields.get(field)):
                    if known.setdefault(identity, name) != name:
                        self.faults.append(
                            f"{place}.{field}: {shown(known[identity])} has the same; who of them"
                            " calls could not be told"
                        )
            if isinstance(tree, dict) and not any(fields.get(field) for field in _CALLER_FIELDS):
                self.faults.append(f"{place}: needs `certificates` or `tokens` to be known by")
        return certificates, tokens

    def _rule(self, place: str, tree: object) -> Rule:
        fields = self._mapping(place, tree, _RULE_FIELDS)
        found = {
            field: self._texts(f"{place}.{field}", fields.get(field), needed=field in _NEEDED)
            for field in _RULE_FIELDS
        }
        for name in found["callers"]:
            if name not in self._callers:
                self._unknown(f"{place}.callers", name, self._callers)
        for permission in found["permissions"]:
            if permission not in PERMISSIONS:
                self._unknown(f"{place}.permissions", permission, PERMISSIONS)
        for method in found["methods"]:
            if method.startswith("/") or ("/" not in method and not method.endswith("*")):
                self.faults.append(
                    f"{place}.methods: {shown(method)} fits nothing; write package.Service/Method,"
                    " or a beginning and `*`"
                )
        if found["permissions"] and (found["connections"] or found["shops"]):
            self.faults.append(
                f"{place}: `permissions` cannot be limited to connections or shops; give them a"
                " rule of their own"
            )
        for limit in ("connections", "shops"):
            # An empty list most likely means none, and would mean all.
            if limit in fields and not found[limit]:
                self.faults.append(f"{place}.{limit}: is empty; leave it out for no limit")
        return Rule(
            callers=frozenset(found["callers"]),
            methods=found["methods"],
            connections=found["connections"],
            shops=found["shops"],
            permissions=frozenset(found["permissions"]),
        )

    def _mapping(
        self, place: str, tree: object, fields: Collection[str] | None
    ) -> Mapping[str, Any]:
        if not isinstance(tree, dict):
            self.faults.append(f"{place}: must be fields, `name: value`")
            return {}
        for key in tree:
            if fields is not None and key not in fields:
                self._unknown(place, str(key), fields)
        return {str(key): value for key, value in tree.items()}

    def _texts(self, place: str, tree: object, *, needed: bool = False) -> tuple[str, ...]:
        if tree is None and not needed:
            return ()
        if not isinstance(tree, list) or not all(isinstance(one, str) and one for one in tree):
            self.faults.append(f"{place}: must be a list of texts")
            return ()
        if needed and not tree:
            self.faults.append(f"{place}: must not be empty")
        return tuple(tree)

    def _unknown(self, place: str, name: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        advice = f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(sorted(known))}"
        self.faults.append(f"{place}: {shown(name)} is not known{advice}")


_NEEDED: Final = frozenset({"callers", "methods"})


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
