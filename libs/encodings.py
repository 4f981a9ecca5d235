"""Bodies as they were sent, without their `Content-Encoding`."""

from __future__ import annotations

import zlib
from typing import Final

from libs.errors import permanent

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""The most that a compressed body may unfold to."""

_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def decoded(body: bytes, content_encoding: str) -> bytes:
    """`body` without its `Content-Encoding`: none, `identity`, `gzip` or `deflate`.

    Raises:
        ServiceError: PERMANENT, path `$`: `encoding_unsupported`, `encoding_broken`, or
            `body_too_large` beyond 16 MiB unfolded; no more than that is ever held.
    """
    encoding = content_encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in _WBITS:
        raise permanent("encoding_unsupported", "send it plain, gzip or deflate", path="$")
    try:
        return _inflated(body, _WBITS[encoding])
    except zlib.error as error:
        if encoding == "deflate":
            return _inflated_raw(body)
        raise permanent("encoding_broken", f"not valid {encoding}", path="$") from error


def _inflated_raw(body: bytes) -> bytes:
    """Deflate without the zlib header, which some senders mean by `deflate`."""
    try:
        return _inflated(body, -15)
    except zlib.error as error:
        raise permanent("encoding_broken", "not valid deflate", path="$") from error


def _inflated(body: bytes, wbits: int) -> bytes:
    inflater = zlib.decompressobj(wbits)
    plain = inflater.decompress(body, BODY_BYTES_MAX + 1)
    if len(plain) > BODY_BYTES_MAX:
        raise permanent("body_too_large", f"more than {BODY_BYTES_MAX} bytes unfolded", path="$")
    if not inflater.eof:
        raise permanent("encoding_broken", "the compressed body is cut short", path="$")
    return plain
