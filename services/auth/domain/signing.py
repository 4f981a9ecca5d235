"""Texts that come back to us through a browser: signed, each purpose with a key of its own."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32

_SIGNED_CHARS_MAX: Final = 512
"""Far above what we sign: what is longer is not ours, and not worth its HMAC."""


def derived(secret: bytes, purpose: str, *, salt: bytes = b"") -> bytes:
    """The key of one purpose, by HKDF (RFC 5869).

    Keys of two purposes say nothing of each other: a signature that was given to a browser for one
    is worth nothing for the other, nor as the signature of a webhook (contracts of Shopify, 1.2).
    """
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose.encode())
    return kdf.derive(secret)


def signed(key: bytes, text: str) -> str:
    """`text`, a dot and its signature."""
    return f"{text}.{signature(key, text)}"


def verified(key: bytes, text: str) -> str | None:
    """What was signed; None where it was not, or altered."""
    if len(text) > _SIGNED_CHARS_MAX:
        return None
    body, _, claimed = text.rpartition(".")
    return body if same(claimed, signature(key, body)) else None


def signature(key: bytes, text: str) -> str:
    """HMAC-SHA256 in base64url without padding."""
    return encoded(hmac.digest(key, text.encode(errors="surrogatepass"), "sha256"))


def same(one: str, other: str) -> bool:
    """Whether two texts are the same, in constant time."""
    return hmac.compare_digest(
        one.encode(errors="surrogatepass"), other.encode(errors="surrogatepass")
    )


def encoded(data: bytes) -> str:
    """Base64url without padding: letters, digits, `-` and `_`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hashed(text: str) -> bytes:
    """SHA-256 of what is itself too long and too random to be guessed."""
    return sha256(text.encode(errors="surrogatepass")).digest()
