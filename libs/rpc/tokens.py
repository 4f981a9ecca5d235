"""Signed tokens of callers (JWT, RFC 7519): checked, and remembered for a minute."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import jwt

from libs.clock import Clock
from libs.rpc.jwt_keys import ALGORITHMS, JwtKeys

_SKEW_S: Final = 5.0
"""The issuer's clock may be ahead of ours by so much."""

_REMEMBERED_S: Final = 60.0
"""A key that is withdrawn counts for so much longer at most, in tokens seen before."""

_REMEMBERED_MAX: Final = 4096
_CHARS_MAX: Final = 8192
_NEEDED: Final = ("exp", "iss", "aud", "sub")


class TokenRefusedError(Exception):
    """Why a token does not count; the words hold nothing of it."""


class Tokens:
    """Tells whose a token is."""

    def __init__(self, keys: JwtKeys, clock: Clock, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        # By digest: what is remembered is no use to whoever reads this memory.
        self._known: dict[bytes, tuple[str, float]] = {}

    async def subject(self, token: str) -> str:
        """Whose it is: its `sub`.

        Raises:
            TokenRefusedError: it is not signed by the issuer, not for us, or not valid now.
            ServiceError: RETRYABLE, where the issuer's keys cannot be read.
        """
        now_s = self._clock.now_ns() / 1e9
        digest = sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and now_s < known[1]:
            return known[0]
        subject, expires_s = await self._checked(token, now_s)
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[digest] = (subject, min(expires_s, now_s + _REMEMBERED_S))
        return subject

    async def _checked(self, token: str, now_s: float) -> tuple[str, float]:
        if len(token) > _CHARS_MAX:
            raise TokenRefusedError("the token is too long")
        claims = self._signed_claims(token, await self._key_of(token))
        expires_s, begins_s = _instant(claims, "exp"), _instant(claims, "nbf", 0.0)
        if now_s >= expires_s:
            raise TokenRefusedError("the token has expired; its file must be renewed")
        if now_s + _SKEW_S < begins_s:
            raise TokenRefusedError("the token is not valid yet; are the clocks right?")
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject:
            raise TokenRefusedError("the token names no subject")
        return subject, expires_s

    async def _key_of(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise TokenRefusedError("what was sent is no token") from error
        if header.get("alg") not in ALGORITHMS:
            raise TokenRefusedError(f"only {', '.join(ALGORITHMS)} may sign tokens")
        kid = header.get("kid")
        key = await self._keys.key(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefusedError("the issuer has no key of the id that the token names")
        return key

    def _signed_claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                # Times are held against our own clock, which tests can turn.
                options={
                    "require": list(_NEEDED),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError as error:
            raise TokenRefusedError(f"the token is not meant for {self._audience!r}") from error
        except jwt.InvalidIssuerError as error:
            raise TokenRefusedError(f"the token is not from {self._issuer!r}") from error
        except jwt.MissingRequiredClaimError as error:
            raise TokenRefusedError(f"the token lacks {error.claim!r}") from error
        except jwt.PyJWTError as error:
            raise TokenRefusedError("the token is not signed by the issuer") from error
        return claims


def _instant(claims: dict[str, Any], claim: str, default: float | None = None) -> float:
    found = claims.get(claim, default)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TokenRefusedError(f"the token's {claim!r} is no time")
    return float(found)
