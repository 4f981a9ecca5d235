"""Keys of an issuer of tokens (JWKS, RFC 7517), from a URL or a file; asked for when needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.http.session import http_session

ALGORITHMS: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""What tokens may be signed with, and the type of key that goes with it.

Never `none`, and nothing with a shared secret: whoever can check such a token can make one.
"""

_CURVES: Final[Mapping[str, str]] = {"EC": "P-256", "OKP": "Ed25519"}
_RSA_BITS_MIN: Final = 2048
_AGAIN_S: Final = 10.0
"""A key that nobody has is not asked for more often, whatever strangers send."""

_AGE_MAX_S: Final = 600.0
"""Keys are read anew after so long, so that one which is withdrawn stops counting."""

_FETCH_S: Final = 5.0
_BYTES_MAX: Final = 1024 * 1024

Source = Callable[[], Awaitable[bytes]]
"""Reads the key set as it is now. Raises OSError or ValueError where that fails."""

_log = structlog.stdlib.get_logger()


class JwtKeys:
    """Public keys by their id."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] | None = None
        self._asked_s: float | None = None
        self._asking = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """The key `kid`; None where the issuer has no such key, as of 10 s ago at most.

        Raises:
            ServiceError: RETRYABLE, `rpc_keys_unavailable`, where the keys could not be read yet.
        """
        if self._is_due(kid):
            async with self._asking:
                if self._is_due(kid):
                    await self._read()
        if self._keys is None:
            raise ServiceError(
                Kind.RETRYABLE,
                "rpc_keys_unavailable",
                "the keys that sign callers' tokens cannot be read: see the server's log",
                retry_after_s=_AGAIN_S,
            )
        return self._keys.get(kid)

    def _is_due(self, kid: str) -> bool:
        if self._asked_s is None:
            return True
        age_s = self._clock.monotonic_s() - self._asked_s
        known = self._keys is not None and kid in self._keys
        return age_s >= (_AGE_MAX_S if known else _AGAIN_S)

    async def _read(self) -> None:
        self._asked_s = self._clock.monotonic_s()
        try:
            self._keys = keys_of(await self._source())
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError) as error:
            # Those that are known stay good: the issuer's outage is not one of ours.
            _log.warning("rpc_keys_not_read", reason=_reason(error))


def keys_of(text: bytes) -> Mapping[str, jwt.PyJWK]:
    """The keys of a set that may sign tokens; others in it are passed over.

    Raises:
        ValueError: it is no key set.
    """
    tree = json.loads(text)
    listed = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a key set")  # noqa: TRY004  it is the text that is wrong
    return {one["kid"]: key for one in listed if (key := _key(one)) is not None}


def _key(tree: Any) -> jwt.PyJWK | None:
    if not isinstance(tree, dict) or tree.get("use", "sig") != "sig":
        return None
    kind = tree.get("kty")
    named = isinstance(tree.get("kid"), str) and tree["kid"]
    algorithm = next((alg for alg, kty in ALGORITHMS.items() if kty == kind), None)
    if not named or algorithm is None or tree.get("alg", algorithm) != algorithm:
        return None
    if tree.get("crv") != _CURVES.get(str(kind)):
        return None
    try:
        key = jwt.PyJWK(tree, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if kind == "RSA" and key.key.key_size < _RSA_BITS_MIN else key


def file_source(path: Path) -> Source:
    """A key set in a file."""

    async def read() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return read


def url_source(url: str, *, ca_file: Path | None, token_file: Path | None) -> Source:
    """A key set at `url`, asked for with the token in `token_file`, as Kubernetes wants it.

    Raises:
        ServiceError: PERMANENT, `rpc_jwks_url_insecure`: anybody on the way could put in a key.
    """
    if not url.startswith("https://") and urlsplit(url).hostname not in {"127.0.0.1", "localhost"}:
        raise permanent("rpc_jwks_url_insecure", "TIDEWIRE_RPC_JWKS_URL must be https")

    async def read() -> bytes:
        headers = {"Accept": "application/json"}
        if token_file is not None:
            token = await asyncio.to_thread(token_file.read_text, "utf-8")
            headers["Authorization"] = f"Bearer {token.strip()}"
        timeout = aiohttp.ClientTimeout(total=_FETCH_S)
        async with (
            http_session(ca_file=ca_file) as session,
            # A redirect would take the token elsewhere.
            session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            return await _capped(answer.content)

    return read


async def _capped(content: aiohttp.StreamReader) -> bytes:
    found = bytearray()
    async for piece in content.iter_chunked(65_536):
        found += piece
        if len(found) > _BYTES_MAX:
            raise ValueError("too long for a key set")
    return bytes(found)


def _reason(error: Exception) -> str:
    """What went wrong, in words that hold nothing of what was sent or received."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "not JSON"
    return str(error) if type(error) is ValueError else type(error).__name__
