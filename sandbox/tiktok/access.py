"""Which token may call, and for which pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sandbox.tiktok.config import Grant
from sandbox.tiktok.verdict import Problem

EMPTY_TOKEN = Problem(40104, "empty access token")
UNKNOWN_TOKEN = Problem(40105, "Invalid or incorrect access token")
EXPIRED_TOKEN = Problem(40102, "access token expired")
NO_PERMISSION = Problem(40001, "No permission to operate this pixel code or event source id")


class Access:
    """The tokens that a sandbox knows, held as digests, so that none can be read back.

    A lookup by digest also gives away nothing by its timing.
    """

    def __init__(self, tokens: Mapping[str, Grant], *, allow_any_pixel: bool) -> None:
        self._grants = {digest_of(token): grant for token, grant in tokens.items()}
        self._allow_any_pixel = allow_any_pixel

    def refusal_of_token(self, token: str, now_s: float) -> Problem | None:
        """Why `token` may not call at all."""
        if not token:
            return EMPTY_TOKEN
        grant = self._grants.get(digest_of(token))
        if grant is None:
            return UNKNOWN_TOKEN
        is_expired = grant.expires_at_s is not None and now_s >= grant.expires_at_s
        return EXPIRED_TOKEN if is_expired else None

    def knows(self, token: str) -> bool:
        """Whether `token` is one of the tokens, expired or not."""
        return digest_of(token) in self._grants

    def refusal_of_source(self, token: str, source_id: str) -> Problem | None:
        """Why `token`, a known one, may not report for `source_id`."""
        if self._allow_any_pixel or source_id in self._grants[digest_of(token)].pixels:
            return None
        return NO_PERMISSION


def digest_of(token: str) -> bytes:
    """What stands for a token wherever one is remembered."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
