"""Bytes sealed for one shop: compressed where that helps, then AES-256-GCM under its data key."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeAlias

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.errors import ServiceError, permanent
from libs.zstd import Zstd
from tidewire.common.v1.sealed_pb2 import ENCODING_UNSPECIFIED, ENCODING_ZSTD, Encoding, Payload

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
PLAIN_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may be sealed, and what unsealing will ever unpack to."""

# Below this zstd's frame costs more than it saves.
_WORTH_COMPRESSING_BYTES: Final = 256


class DataKey:
    """A key that seals what is stored of one shop. It never prints its secret.

    Raises:
        ValueError: `secret` is not 32 bytes long.
    """

    __slots__ = ("_secret", "cipher", "key_id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("a data key is 32 bytes long")
        self.key_id = key_id
        self._secret = secret
        # Its set-up costs as much as sealing 4 KB does, so it is made once a key.
        self.cipher = AESGCM(secret)

    def reveal(self) -> bytes:
        """The key itself, for the one place that hands it to another process."""
        return self._secret

    def __repr__(self) -> str:
        return f"DataKey({self.key_id!r})"


KeyFinder: TypeAlias = Callable[[str], DataKey | None]
"""Gives the data key of an id, such as `{key.key_id: key}.get`."""


_zstd = Zstd()


def seal(plain: bytes, key: DataKey, *, associated: bytes, nonce: bytes | None = None) -> Payload:
    """`plain` sealed; only the same `associated` bytes (the shop's handle) will open it.

    `nonce` is for tests: one that comes twice under a key gives both texts away.

    Raises:
        ServiceError: PERMANENT, `payload_too_large`, above 64 MiB.
    """
    packed, encoding = _pack(plain)
    fresh = os.urandom(NONCE_BYTES) if nonce is None else nonce
    return Payload(
        key_id=key.key_id,
        nonce=fresh,
        data=key.cipher.encrypt(fresh, packed, _bound(associated, encoding)),
        encoding=encoding,
    )


def pack(plain: bytes) -> Payload:
    """`plain` in clear, compressed where that helps: for what holds no personal data.

    Raises:
        ServiceError: PERMANENT, `payload_too_large`, above 64 MiB.
    """
    packed, encoding = _pack(plain)
    return Payload(data=packed, encoding=encoding)


def unseal(payload: Payload, keys: KeyFinder, *, associated: bytes) -> bytes:
    """What was sealed; a payload without key id is in clear and only unpacked.

    Raises:
        ServiceError: PERMANENT, `unsealing_failed`, for another key, other associated bytes or
            altered data; `key_unknown`, where `keys` does not have its key.
    """
    if not payload.key_id:
        return _unpack(payload.data, payload.encoding)
    key = keys(payload.key_id)
    if key is None:
        raise permanent(
            "key_unknown", f"there is no data key {payload.key_id}; was its shop forgotten?"
        )
    bound = _bound(associated, payload.encoding)
    try:
        packed = key.cipher.decrypt(payload.nonce, payload.data, bound)
    except (InvalidTag, ValueError):
        raise _failed("it was sealed for another shop or by another key, or was altered") from None
    return _unpack(packed, payload.encoding)


def _bound(associated: bytes, encoding: Encoding.ValueType) -> bytes:
    # The encoding stands in clear: bound in, it cannot be changed without the tag noticing.
    return b"%b\x00%d" % (associated, encoding)


def _pack(plain: bytes) -> tuple[bytes, Encoding.ValueType]:
    if len(plain) > PLAIN_BYTES_MAX:
        raise permanent("payload_too_large", "more than 64 MiB cannot be sealed")
    if len(plain) >= _WORTH_COMPRESSING_BYTES:
        packed = _zstd.compressor.compress(plain)
        if len(packed) < len(plain):
            return packed, ENCODING_ZSTD
    return plain, ENCODING_UNSPECIFIED


def _unpack(packed: bytes, encoding: Encoding.ValueType) -> bytes:
    if encoding == ENCODING_UNSPECIFIED:
        return packed
    if encoding != ENCODING_ZSTD:
        raise _failed(f"its encoding {encoding} is unknown: was it written by a newer version?")
    try:
        # A frame says how much it unpacks to, and the library would allocate that unasked.
        if zstandard.frame_content_size(packed) > PLAIN_BYTES_MAX:
            raise _failed("it unpacks to more than 64 MiB")
        return _zstd.decompressor.decompress(packed, max_output_size=PLAIN_BYTES_MAX)
    except zstandard.ZstdError:
        raise _failed("it is no zstd frame of at most 64 MiB") from None


def _failed(why: str) -> ServiceError:
    return permanent("unsealing_failed", why)
