"""Key-encryption keys (KEK): one that wraps, others that only open, and what a wrapped key says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from libs.errors import Kind, ServiceError, permanent

_UNNAMED: Final = 0x01
"""First byte of a wrapped key that does not say which KEK wrapped it; written before there could be
several. Only a KEK whose bytes are here can have done so."""

_NAMED: Final = 0x02
"""First byte of one that does: then the length of the KEK's id in one byte, the id, and what the
KEK itself made of the key."""

_ID_BYTES_MAX: Final = 255

UNNAMED: Final = "(unnamed)"
"""In place of a KEK's id, for a key that does not name it and that no KEK of the ring opens."""


class Kek(Protocol):
    """Wraps data keys. `binding` is the place of the key; only the same binding opens it again."""

    @property
    def kek_id(self) -> str:
        """The same for the same key in every process; at most 255 printable ASCII characters."""

    @property
    def answers_within_s(self) -> float:
        """Seconds after which a call is given up; 0.0 where the key is in memory."""

    @property
    def opens_unnamed(self) -> bool:
        """Whether it may have wrapped keys before those said by which KEK."""

    async def wrap(self, plain: bytes, binding: bytes) -> bytes:
        """`plain` wrapped.

        Raises:
            ServiceError: RETRYABLE, `kek_unavailable`.
        """

    async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        """What was wrapped.

        Raises:
            ServiceError: PERMANENT, `key_unreadable`: by another KEK, for another place, or altered
                since; RETRYABLE, `kek_unavailable`.
        """


class KekRing:
    """One KEK that wraps, and any number of others that only open.

    The others are those that wrapped before it, and the next one before it is made the primary.
    `newer` finds a KEK that was made after the ring, where a service opens with it without being
    told (transit); each is asked for an id that the ring does not have.
    """

    def __init__(
        self, primary: Kek, *others: Kek, newer: Sequence[Callable[[str], Kek | None]] = ()
    ) -> None:
        self._primary = primary
        self._newer = tuple(newer)
        self._keks = {kek.kek_id: kek for kek in (*others, primary)}
        for kek_id in self._keks:
            if not kek_id.isascii() or not kek_id.isprintable() or " " in kek_id:
                raise ValueError(f"a KEK's id is printable ASCII without spaces, not {kek_id!r}")
            if not 0 < len(kek_id) <= _ID_BYTES_MAX:
                raise ValueError("a KEK's id has 1 to 255 characters")

    @property
    def primary_id(self) -> str:
        """The id of the KEK that wraps."""
        return self._primary.kek_id

    @property
    def kek_ids(self) -> frozenset[str]:
        """The ids of all that open."""
        return frozenset(self._keks)

    @property
    def answers_within_s(self) -> float:
        """Seconds after which the slowest of them is given up."""
        return max(kek.answers_within_s for kek in self._keks.values())

    async def wrap(self, plain: bytes, binding: bytes) -> bytes:
        """`plain`, wrapped by the primary KEK and marked with its id.

        Raises:
            ServiceError: as `Kek.wrap`.
        """
        kek_id = self.primary_id.encode()
        body = await self._primary.wrap(plain, binding)
        return bytes((_NAMED, len(kek_id))) + kek_id + body

    async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        """What was wrapped, by whichever KEK.

        Raises:
            ServiceError: as `Kek.unwrap`; RETRYABLE, `kek_unknown`, where the ring lacks the KEK:
                nothing is lost, this process is only told of too few.
        """
        _, plain = await self._opened(wrapped, binding)
        return plain

    async def wrapped_by(self, wrapped: bytes, binding: bytes) -> str:
        """The id of the KEK that wrapped it; `UNNAMED` where that cannot be told.

        Raises:
            ServiceError: PERMANENT, `key_unreadable`, where it is no wrapped key.
        """
        kek_id, body = _parsed(wrapped)
        if kek_id is not None:
            return kek_id
        opened = await self._tried(body, binding)
        return UNNAMED if opened is None else opened[0]

    def opens(self, kek_id: str) -> bool:
        """Whether it opens what the KEK of that id wrapped."""
        return self._found(kek_id) is not None

    def is_by_primary(self, wrapped: bytes) -> bool:
        """Whether the primary KEK wrapped it and it says so."""
        try:
            return _parsed(wrapped)[0] == self.primary_id
        except ServiceError:
            return False

    def _found(self, kek_id: str) -> Kek | None:
        made = (find(kek_id) for find in self._newer)
        return self._keks.get(kek_id) or next((kek for kek in made if kek is not None), None)

    async def _opened(self, wrapped: bytes, binding: bytes) -> tuple[str, bytes]:
        kek_id, body = _parsed(wrapped)
        if kek_id is not None:
            kek = self._found(kek_id)
            if kek is None:
                raise _lacking(f"KEK {kek_id} wrapped this data key, and it is not configured here")
            return kek_id, await kek.unwrap(body, binding)
        opened = await self._tried(body, binding)
        if opened is not None:
            return opened
        if not any(True for _ in self._unnamed()):
            raise _lacking("a KEK from a file wrapped this data key, and none is configured here")
        raise unreadable()

    async def _tried(self, body: bytes, binding: bytes) -> tuple[str, bytes] | None:
        """The KEK that opens what does not name its own, and what it finds. Its tag decides."""
        for kek in self._unnamed():
            try:
                return kek.kek_id, await kek.unwrap(body, binding)
            except ServiceError as error:
                if error.kind is not Kind.PERMANENT:
                    raise
        return None

    def _unnamed(self) -> Iterator[Kek]:
        return (kek for kek in self._keks.values() if kek.opens_unnamed)


def _parsed(wrapped: bytes) -> tuple[str | None, bytes]:
    """The id that it names, if it does, and what the KEK made."""
    kind = wrapped[:1]
    if kind == bytes((_UNNAMED,)):
        return None, wrapped[1:]
    if kind != bytes((_NAMED,)):
        raise permanent("key_unreadable", "a newer version wrote this data key; run that")
    end = 2 + (wrapped[1] if len(wrapped) > 1 else 0)
    kek_id = wrapped[2:end]
    if not kek_id or len(wrapped) <= end or not kek_id.isascii():
        raise permanent("key_unreadable", "this data key was cut short")
    return kek_id.decode(), wrapped[end:]


def unreadable() -> ServiceError:
    """The error for a wrapped key that its KEK does not open."""
    return permanent(
        "key_unreadable", "the KEK does not open this data key: it was altered or moved"
    )


def kek_missing(advice: str) -> ServiceError:
    """The error where there is no KEK at all."""
    return permanent("kek_missing", f"there is no key-encryption key: {advice}")


def _lacking(what: str) -> ServiceError:
    # RETRYABLE: as a PERMANENT one it would dead-letter deliveries for a setting that is missing.
    return ServiceError(
        Kind.RETRYABLE,
        "kek_unknown",
        f"{what}: add it to those that only open (TIDEWIRE_KEK_PREVIOUS_…) and start again",
    )
