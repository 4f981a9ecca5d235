"""Fingerprints of tokens: whether the one that was refused is still the one in use."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from libs.connections import Credentials
from libs.errors import ServiceError

_HEX_DIGITS: Final = 12
"""Enough to tell tokens apart; tokens are long and random, so it gives nothing of them away."""


class TokenMarks:
    """`Marks` of the tokens that the credentials port hands out."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def mark(self, connection_id: str) -> str:
        """The fingerprint of the connection's token; empty where there is none to be had."""
        try:
            token = await self._credentials.access_token(connection_id)
        except ServiceError:
            return ""
        return sha256(token.reveal().encode()).hexdigest()[:_HEX_DIGITS]
