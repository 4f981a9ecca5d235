"""Signatures of TikTok Shop: of what we ask, and of the webhooks that it sends. Pure.

From Partner Center's "Sign your API request", whose published vector the tests hold.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

_UNSIGNED: Final = frozenset({"sign", "access_token"})


def sign(path: str, query: Mapping[str, str], body: bytes, content_type: str, secret: str) -> str:
    """The value of the parameter `sign`: lower-case hex.

    `path` is without host and query, `query` holds decoded values (a list is one value, joined by
    commas), and `body` the very bytes that are sent: another way to write the same JSON has another
    signature, and so has `{}` instead of nothing. The body of an upload in parts is not signed.
    """
    pairs = "".join(f"{key}{query[key]}" for key in sorted(query) if key not in _UNSIGNED)
    signed = b"" if content_type.strip().lower().startswith("multipart/form-data") else body
    key = secret.encode()
    return hmac.digest(key, key + f"{path}{pairs}".encode() + signed + key, "sha256").hex()


def webhook_signature(app_key: str, body: bytes, secret: str) -> str:
    """What a webhook with this body has in its `Authorization` header: lower-case hex."""
    return hmac.digest(secret.encode(), app_key.encode() + body, "sha256").hex()
