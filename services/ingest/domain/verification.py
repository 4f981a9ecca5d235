"""Whether a webhook is Shopify's, and what its headers claim. Pure.

The signature covers the body's wire bytes alone, so nothing read from a header is proven: not the
topic, not the shop (contracts: Shopify webhooks, HMAC).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

_DIGEST_BYTES: Final = 32
_CLAIM_CHARS_MAX: Final = 200


class WebhookSecretLike(Protocol):
    """A secret that a signature may have been made with."""

    @property
    def secret_id(self) -> str: ...

    @property
    def key(self) -> bytes: ...


class AmbiguousHeaderError(ValueError):
    """A header came twice with different values; which one was meant cannot be known."""


def claim(getall: Callable[[str, Sequence[str]], Sequence[str]], name: str) -> str:
    """The value of `X-Shopify-<name>`, or of the newer `shopify-<name>`; empty if there is none.

    Cut to 200 characters.

    Raises:
        AmbiguousHeaderError: it came more than once, with different values.
    """
    return whole_claim(getall, name)[:_CLAIM_CHARS_MAX]


def whole_claim(getall: Callable[[str, Sequence[str]], Sequence[str]], name: str) -> str:
    """As `claim`, however long it is: two ids that only begin alike must stay two."""
    values = getall(f"X-Shopify-{name}", ()) or getall(f"shopify-{name}", ())
    if not values:
        return ""
    if len(values) > 1 and len(set(values)) > 1:
        raise AmbiguousHeaderError(name)
    return storable(values[0])


def storable(text: str) -> str:
    """A header's value as a message can hold it: bytes that are no text arrive as surrogates."""
    return text.encode(errors="backslashreplace").decode()


def fitting_secret(
    secrets: Iterable[WebhookSecretLike], signature: str, body: bytes
) -> WebhookSecretLike | None:
    """The secret with which `signature` (base64) signs `body`; None if there is none.

    Several secrets are good at once, because after a rotation Shopify signs with the old one for
    up to an hour. Compared in constant time: `==` gives the signature away byte by byte.
    """
    try:
        given = binascii.a2b_base64(signature, strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    # The last character has two bits to spare: other spellings of the same bytes are not accepted.
    if (
        len(given) != _DIGEST_BYTES
        or binascii.b2a_base64(given, newline=False) != signature.encode()
    ):
        return None
    for secret in secrets:
        if hmac.compare_digest(hmac.digest(secret.key, body, "sha256"), given):
            return secret
    return None


def fingerprint(key: bytes) -> str:
    """A name for a secret that does not give it away.

    Its place in the connections file would not do: that shifts when a shop is connected or a
    secret is rotated.
    """
    return "key-" + hmac.digest(key, b"which secret of a webhook", "sha256")[:8].hex()


def safe_delivery_id(claimed: str, made: Callable[[], str]) -> str:
    """The dedupe key: the claimed webhook id, or a made one where none came.

    A body's hash would not do in its place: Shopify sends equal bytes for different deliveries.
    """
    if not claimed:
        return f"none-{made()}"
    if len(claimed) < _CLAIM_CHARS_MAX:
        return claimed
    return "long-" + hashlib.sha256(claimed.encode()).hexdigest()
