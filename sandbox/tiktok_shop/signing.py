"""The signature that every TikTok Shop call carries (contracts: tiktok-shop.md 1.4)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

_UNSIGNED: Final = frozenset({"sign", "access_token"})


def signature_of(
    secret: str, path: str, query: Mapping[str, str], body: bytes, content_type: str
) -> str:
    """Lower-case hex HMAC-SHA256 over path, sorted decoded query and the exact body bytes.

    A multipart body is not signed.
    """
    pairs = "".join(f"{key}{query[key]}" for key in sorted(query) if key not in _UNSIGNED)
    signed = b"" if content_type.startswith("multipart/form-data") else body
    message = f"{secret}{path}{pairs}".encode() + signed + secret.encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
