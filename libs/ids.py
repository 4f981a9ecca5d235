"""Chance as an argument: ids that sort by time, countable ones for tests, and jitter."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Protocol

from libs.clock import Clock

# Crockford's base 32: no I, L, O or U, so that an id survives being read aloud. In ASCII order,
# so that ids sort as text in the order of their numbers.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26
_RANDOM_BITS = 80


Random = Callable[[], float]
"""A source of numbers in [0, 1)."""

system_random: Random = random.random
"""Good enough to spread retries over time; ids and secrets need better."""


RandomBits = Callable[[int], int]
"""A source of numbers of so many bits."""

system_random_bits: RandomBits = random.getrandbits
"""For trace ids, which only have to differ. Seeded anew after a fork, unlike one of our own."""


class Ids(Protocol):
    """What the suite asks of a maker of ids."""

    def new(self) -> str:
        """An id that this maker never gave before; legal as a NATS subject token."""


class RandomIds:
    """ULIDs: 26 characters, 48 bits of milliseconds and then 80 random ones.

    Ids of one maker strictly increase, also within a millisecond and when the clock steps back.
    """

    def __init__(
        self, clock: Clock, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._last = -1

    def new(self) -> str:
        drawn = int.from_bytes(self._random_bytes(_RANDOM_BITS // 8), "big")
        now_ms = self._clock.now_ns() // 1_000_000
        self._last = max((now_ms << _RANDOM_BITS) | drawn, self._last + 1)
        return _base32(self._last)


class SequentialIds:
    """`id-000001`, `id-000002` and so on: what a test can foretell."""

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:06d}"


def _base32(number: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))
