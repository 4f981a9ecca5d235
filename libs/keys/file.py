"""The KEK whose 32 bytes this process holds, such as one from a file."""

from __future__ import annotations

import base64
import os
import secrets
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.errors import permanent
from libs.keys.kek import kek_missing, unreadable
from libs.keys.port import RandomBytes
from libs.sealing import KEY_BYTES, NONCE_BYTES


class LocalKek:
    """AES-256-GCM in memory: a fresh 12-byte nonce, then what is sealed. It never prints its bytes.

    Its id follows from its bytes, and does not give them away: the same key from a file and from a
    secret store is one KEK.

    Raises:
        ValueError: `kek` is not 32 bytes long.
    """

    __slots__ = ("_cipher", "_random_bytes", "kek_id")

    answers_within_s = 0.0
    opens_unnamed = True

    def __init__(self, kek: bytes, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        if len(kek) != KEY_BYTES:
            raise ValueError("a key-encryption key is 32 bytes long")
        self._cipher = AESGCM(kek)
        self._random_bytes = random_bytes
        self.kek_id = sha256(b"tidewire kek\x00" + kek).hexdigest()[:16]

    async def wrap(self, plain: bytes, binding: bytes) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, binding)

    async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], binding)
        except (InvalidTag, ValueError):
            raise unreadable() from None

    def __repr__(self) -> str:
        return f"LocalKek({self.kek_id!r})"


def load_kek(path: Path) -> bytes:
    """The key-encryption key: 32 bytes, which the file holds raw, as hex or as base64.

    Raises:
        ServiceError: PERMANENT, `kek_missing` or `kek_malformed`.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise kek_missing(
            f"{path} does not exist. Restore it from your backup: what is stored cannot be read"
            " without it. A new installation creates one (tidewire keys create-kek)"
        ) from None
    except OSError as error:
        raise kek_missing(f"{path} cannot be read ({error.strerror})") from None
    return kek_of(raw, str(path))


def kek_of(raw: bytes, where: str) -> bytes:
    """The 32 bytes that `raw` spells: raw, as hex or as base64.

    Raises:
        ServiceError: PERMANENT, `kek_malformed`, which names `where` it came from.
    """
    if len(raw) == KEY_BYTES:
        return raw
    text = raw.strip()
    for decode in (bytes.fromhex, _from_base64):
        try:
            found = decode(text.decode("ascii"))
        except ValueError:
            continue
        if len(found) == KEY_BYTES:
            return found
    raise permanent(
        "kek_malformed",
        f"{where} should hold 32 bytes, raw, as hex or as base64, and holds {len(raw)} bytes that"
        " are none of these. If it was truncated or edited, restore it from your backup; do not"
        " create another one: what is stored could not be read with it",
    )


def create_kek(path: Path, random_bytes: RandomBytes = secrets.token_bytes) -> bytes:
    """A new key-encryption key, written to `path` as hex, readable by its owner only.

    Raises:
        ServiceError: PERMANENT, `kek_exists`: a KEK is never overwritten.
    """
    kek = random_bytes(KEY_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise permanent("kek_exists", f"{path} exists; load it instead") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(kek.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return kek


def _from_base64(text: str) -> bytes:
    # Both alphabets: what tools print differs.
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
