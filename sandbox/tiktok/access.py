"""Which token may call, and for which pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sandbox.oauth.desk import Desk
from sandbox.oauth.vault import Connection, State
from sandbox.tiktok.config import Grant
from sandbox.tiktok.verdict import Problem

EMPTY_TOKEN = Problem(40104, "empty access token")
UNKNOWN_TOKEN = Problem(40105, "Invalid or incorrect access token")
EXPIRED_TOKEN = Problem(40102, "access token expired")
NO_PERMISSION = Problem(40001, "No permission to operate this pixel code or event source id")
CATALOG_FORBIDDEN = "You don't have permission to operate this catalog:{}."
NO_SCOPE = Problem(40125, "The app lacks the permission for this endpoint")
ALL_CATALOG_SCOPES = "9"
"""The parent of every catalog scope."""


_TOLD = Connection("tiktok-business", "static", "static")
_STRANGER = Connection("tiktok-business", "unknown", "unknown")


class Access:
    """The tokens that a sandbox was told or has issued, held as digests: none can be read back.

    A lookup by digest also gives away nothing by its timing.
    """

    def __init__(
        self,
        tokens: Mapping[str, Grant],
        *,
        allow_any_pixel: bool,
        allow_any_catalog: bool = False,
        desk: Desk | None = None,
    ) -> None:
        self._desk = desk
        self._grants = {digest_of(token): grant for token, grant in tokens.items()}
        self._allow_any_pixel = allow_any_pixel
        self._allow_any_catalog = allow_any_catalog

    def refusal_of_token(self, token: str, now_s: float) -> Problem | None:
        """Why `token` may not call at all; a call with a dead one is put down at the desk."""
        if not token:
            return EMPTY_TOKEN
        grant = self._grants.get(digest_of(token))
        if grant is None:
            return self._refusal_of_issued(token)
        is_expired = grant.expires_at_s is not None and now_s >= grant.expires_at_s
        if is_expired and self._desk is not None:
            self._desk.ledger.called_dead(_TOLD, State.EXPIRED)
        return EXPIRED_TOKEN if is_expired else None

    def _refusal_of_issued(self, token: str) -> Problem | None:
        """The same of a token that was handed out here; using it counts as its use."""
        if self._desk is None:
            return UNKNOWN_TOKEN
        _, held = self._desk.vault.access(token, self._desk.now_s())
        if held is not None and held.grant.connection.provider != "tiktok-business":
            self._desk.ledger.called_dead(_STRANGER, State.UNKNOWN)
            return UNKNOWN_TOKEN
        state = self._desk.call_with(_STRANGER, token)
        if state is State.LIVE:
            return None
        return EXPIRED_TOKEN if state is State.EXPIRED else UNKNOWN_TOKEN

    def is_told(self, token: str) -> bool:
        """Whether `token` is one that the sandbox was told of and has not issued."""
        return digest_of(token) in self._grants

    def knows(self, token: str) -> bool:
        """Whether `token` is one of the tokens, expired or not."""
        return digest_of(token) in self._grants or self._pixels_of_issued(token) is not None

    def _pixels_of_issued(self, token: str) -> frozenset[str] | None:
        """Pixels that an issued token may report for; None where it is none of ours."""
        if self._desk is None or not token:
            return None
        _, held = self._desk.vault.access(token, self._desk.now_s())
        if held is None or held.grant.connection.provider != "tiktok-business":
            return None
        pixels: frozenset[str] = held.grant.details["pixels"]
        return pixels

    def refusal_of_source(self, token: str, source_id: str) -> Problem | None:
        """Why `token`, a known one, may not report for `source_id`."""
        if self._allow_any_pixel:
            return None
        told = self._grants.get(digest_of(token))
        pixels = told.pixels if told is not None else self._pixels_of_issued(token) or frozenset()
        is_any = told is None and "*" in pixels
        return None if is_any or source_id in pixels else NO_PERMISSION

    def refusal_of_catalog(self, token: str, catalog_id: str) -> Problem | None:
        """Why `token`, a known one, may not touch a catalog; an issued one may touch any."""
        told = self._grants.get(digest_of(token))
        named = {"*"} if told is None or self._allow_any_catalog else told.catalogs
        if "*" in named or catalog_id in named:
            return None
        return Problem(40001, CATALOG_FORBIDDEN.format(catalog_id))

    def refusal_of_scope(self, token: str, scope: str) -> Problem | None:
        """Why an issued token may not call an endpoint of `scope`; a told one may call all."""
        if self._desk is None or self.is_told(token):
            return None
        _, held = self._desk.vault.access(token, self._desk.now_s())
        scopes = held.grant.scopes if held is not None else frozenset[str]()
        return None if scopes & {scope, ALL_CATALOG_SCOPES} else NO_SCOPE


def digest_of(token: str) -> bytes:
    """What stands for a token wherever one is remembered."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
