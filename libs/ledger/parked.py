"""Which units are parked: the references in PARKED, followed as they come and go."""

from __future__ import annotations

from collections import Counter
from typing import Final

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api, refused
from libs.bus.commit_log import Stored
from libs.bus.scan import page, scan
from libs.ledger.books import UnitKey
from tidewire.delivery.v1 import gate_pb2

REFERENCES: Final = "parked.events.*"
"""What is parked for connections. `parked.ingest.<shop>` holds whole deliveries of shops
that nobody has connected: they have no sink, so they are no units."""


class ParkedUnits:
    """The parked units. About 300 bytes a reference, beside what is known of the unit itself.

    References are added at the end and, when a connection resumes, taken from the front. So new
    ones are followed by sequence, and one question a round (how many each connection has) tells
    whether any were taken away; only then is that connection read again.
    """

    def __init__(self, nats: Client) -> None:
        self._nats = nats
        self._after = 0
        self._by_subject: dict[str, dict[int, UnitKey]] = {}
        self._references: Counter[UnitKey] = Counter()
        self.deliveries = 0
        """Whole deliveries that wait for their shop to be connected."""

    def __contains__(self, key: object) -> bool:
        return key in self._references

    async def refresh(self) -> None:
        """Brings it up to what PARKED holds now.

        Raises:
            ServiceError: RETRYABLE.
        """
        await self._follow()
        before = {subject: len(kept) for subject, kept in self._by_subject.items()}
        counts, messages = await self._counts()
        self.deliveries = messages - sum(counts.values())
        # What was parked between the two readings is no reason to read all again.
        await self._follow()
        for subject in set(self._by_subject) | set(counts):
            kept = len(self._by_subject.get(subject, ()))
            if not before.get(subject, 0) <= counts.get(subject, 0) <= kept:
                await self._catch_up(subject, counts.get(subject, 0))

    async def _follow(self) -> None:
        async for stored in scan(self._nats, subjects.PARKED, REFERENCES, after=self._after):
            self._add(stored)
            self._after = stored.sequence

    async def _counts(self) -> tuple[dict[str, int], int]:
        """References by subject, and all messages of the stream."""
        request = {"subjects_filter": REFERENCES}
        try:
            info = await js_api(self._nats, f"STREAM.INFO.{subjects.PARKED}", request)
        except ApiError as error:
            raise refused(error) from error
        state = info["state"]
        return dict(state.get("subjects") or {}), int(state["messages"])

    async def _catch_up(self, subject: str, count: int) -> None:
        """Drops what was taken from the front; where that is not all, reads the whole subject."""
        kept = self._by_subject.get(subject, {})
        first = await page(self._nats, subjects.PARKED, subject, limit=1)
        begins = first[0].sequence if first else None
        for sequence in [one for one in kept if begins is None or one < begins]:
            self._drop(subject, sequence)
        if len(self._by_subject.get(subject, ())) == count:
            return
        for sequence in list(self._by_subject.get(subject, ())):
            self._drop(subject, sequence)
        async for stored in scan(self._nats, subjects.PARKED, subject):
            self._add(stored)

    def _add(self, stored: Stored) -> None:
        kept = self._by_subject.setdefault(stored.subject, {})
        if stored.sequence in kept:
            return
        unit = gate_pb2.ParkedUnit.FromString(stored.data)
        key = UnitKey(unit.shop, unit.sink, unit.unit)
        kept[stored.sequence] = key
        self._references[key] += 1

    def _drop(self, subject: str, sequence: int) -> None:
        kept = self._by_subject[subject]
        key = kept.pop(sequence)
        self._references[key] -= 1
        if not self._references[key]:
            del self._references[key]
        if not kept:
            del self._by_subject[subject]
