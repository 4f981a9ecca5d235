"""One holder at a time among replicas: a key in the bucket `leases` that expires by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.bus.commit_log import CommitLog, ConflictError, Entry
from libs.clock import Clock
from libs.errors import ServiceError

LEASE_S: Final = 15
"""So long nobody works after a holder was killed: well within the 30 s of a recovery."""


class Lease:
    """The right to be the one who does something, for as long as it is renewed.

    It keeps replicas from doing the same work twice; it cannot stop a holder that was paused from
    finishing what it had begun. What is done under it must stand being done twice.
    """

    def __init__(
        self, log: CommitLog, clock: Clock, name: str, owner: str, *, lasts_s: int = LEASE_S
    ) -> None:
        self._log = log
        self._clock = clock
        self._subject = subjects.in_bucket(subjects.LEASES, name)
        self._owner = owner
        self._lasts_s = lasts_s
        self._sequence = 0
        self._until_s = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this process holds it now."""
        return self._sequence > 0 and self._clock.monotonic_s() < self._until_s

    async def hold(self) -> bool:
        """Takes the lease or renews it; False where somebody else has it or NATS is away.

        Call it at a third of `lasts_s` or oftener.
        """
        asked_s = self._clock.monotonic_s()
        try:
            await self._renew()
        except ConflictError:
            self._sequence = 0
            return False
        except (ServiceError, ApiError):
            # It may be renewed or not: it is ours until it would have run out.
            return self.is_held
        # From before the request: the server counts from later.
        self._until_s = asked_s + self._lasts_s
        return True

    async def _renew(self) -> None:
        """Writes it where it was last seen; there may be a write of ours that nobody heard of.

        Raises:
            ConflictError: somebody else has it.
            ServiceError: RETRYABLE: it may be written or not.
        """
        owner = self._owner.encode()
        try:
            self._sequence = await self._log.commit([self._entry(owner)])
        except ConflictError:
            found = (await self._log.read_fresh([self._subject])).get(self._subject)
            if found is None or found.data != owner:
                raise
            self._sequence = found.sequence
            self._sequence = await self._log.commit([self._entry(owner)])

    def _entry(self, owner: bytes) -> Entry:
        return Entry(self._subject, owner, expected=self._sequence, ttl_s=self._lasts_s)

    async def release(self, nats: Client) -> None:
        """Gives it up at once, so that nobody waits for it to run out."""
        if not self.is_held:
            return
        self._sequence = 0
        stream = subjects.bucket_stream(subjects.LEASES)
        with suppress(ServiceError, ApiError):
            await js_api(nats, f"STREAM.PURGE.{stream}", {"filter": self._subject})
