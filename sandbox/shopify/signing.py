"""The signature that Shopify puts on a delivery."""

from __future__ import annotations

import base64
import hashlib
import hmac


def webhook_signature(secret: str, wire_body: bytes) -> str:
    """Value of `X-Shopify-Hmac-Sha256`: base64 of HMAC-SHA256 over the bytes on the wire.

    The wire bytes are those after any content encoding, so a gzip body is signed compressed.
    """
    digest = hmac.new(secret.encode(), wire_body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
