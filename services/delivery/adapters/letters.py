"""Dead letters as they stand in their stream, with what was decided about each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api, refused
from libs.bus.commit_log import ENTRIES_MAX, CommitLog, ConflictError, Entry, Stored
from libs.bus.dead_letters import places_of
from libs.bus.scan import first_at, page, scan
from libs.errors import Kind, ServiceError
from services.delivery.ports import Letter, LetterPage
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import outcome_pb2

_EXAMINED_MAX: Final = 2_000
"""Letters that one page is looked for in; one that finds fewer than asked still has a next page."""
_AT_ONCE: Final = 250
_PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Letters hold their originals: a page of large ones is a short one."""
_TRIES_MAX: Final = 8
_CLOCKS_APART_NS: Final = 60_000_000_000
"""How much the clock of who gave up may be ahead of the stream's."""


class LetterStore:
    """Reads DEAD_LETTERS; keeps decisions in OUTCOMES through `log`."""

    def __init__(
        self, nats: Client, log: CommitLog, *, page_bytes_max: int = _PAGE_BYTES_MAX
    ) -> None:
        self._page_bytes_max = page_bytes_max
        self._nats = nats
        self._log = log

    async def last_sequence(self) -> int:
        """Where the stream ends now."""
        try:
            info = await js_api(self._nats, f"STREAM.INFO.{subjects.DEAD_LETTERS}")
        except ApiError as error:
            raise refused(error) from error
        return int(info["state"]["last_seq"])

    async def page(
        self, wanted: pb.DeadLetterFilter, *, after: int, until: int, limit: int
    ) -> LetterPage:
        """At most `limit` letters that fit, behind sequence `after` and not behind `until`."""
        pattern = subjects.dead_letters(
            service=wanted.service, reason=wanted.code, shop=wanted.shop
        )
        place = max(after, await self._start(wanted, until))
        letters: list[Letter] = []
        held_bytes = 0
        for _ in range(_EXAMINED_MAX // _AT_ONCE):
            stored = await page(
                self._nats, subjects.DEAD_LETTERS, pattern, after=place, limit=_AT_ONCE
            )
            fitting = [one for one in _read(stored) if one.sequence <= until and _fits(one, wanted)]
            for letter in await self._with_fates(fitting):
                if wanted.include_settled or not letter.settled:
                    letters.append(letter)
                    held_bytes += letter.letter.ByteSize()
                if len(letters) == limit or held_bytes > self._page_bytes_max:
                    return LetterPage(letters, letter.sequence)
            if not stored or stored[-1].sequence >= until:
                return LetterPage(letters, None)
            place = stored[-1].sequence
        return LetterPage(letters, place)

    async def by_id(self, ids: Iterable[str]) -> dict[str, Letter]:
        """Those of these letters that the stream still holds."""
        missing = set(ids)
        found: list[Letter] = []
        for pattern in sorted({places_of(letter_id) for letter_id in missing}):
            if not missing:
                break
            async for stored in scan(self._nats, subjects.DEAD_LETTERS, pattern):
                fresh = [one for one in _read([stored]) if one.letter.dead_letter_id in missing]
                found += fresh
                missing -= {one.letter.dead_letter_id for one in fresh}
                if not missing:
                    break
        return {one.letter.dead_letter_id: one for one in await self._with_fates(found)}

    async def decide(
        self, letters: Sequence[Letter], fates: Sequence[pb.DeadLetterFate]
    ) -> list[bool]:
        """Records each fate whose letter has none; says for each whether this call decided."""
        names = [_fate_subject(one.letter) for one in letters]
        # A letter that was stored twice has one fate.
        wanted = dict(zip(names, fates, strict=True))
        known: dict[str, pb.DeadLetterFate] = {}
        for part in _parts(list(wanted)):
            known |= await self._decide({name: wanted[name] for name in part})
        ours = {name for name, fate in known.items() if fate is wanted[name]}
        told = []
        for name, letter in zip(names, letters, strict=True):
            letter.fate = known[name]
            told.append(name in ours)
            ours.discard(name)
        return told

    async def carried_out(self, letters: Sequence[Letter]) -> None:
        """Records that what was decided of each is done as well.

        Whoever else completes the same at the same time writes the same.
        """
        for letter in letters:
            if letter.fate is not None:
                letter.fate.carried_out = True
        done = {_fate_subject(one.letter): one.fate for one in letters if one.fate is not None}
        for part in _parts(list(done)):
            await self._log.commit([Entry(name, done[name].SerializeToString()) for name in part])

    async def _decide(
        self, wanted: Mapping[str, pb.DeadLetterFate]
    ) -> dict[str, pb.DeadLetterFate]:
        known: dict[str, pb.DeadLetterFate] = {}
        for _ in range(_TRIES_MAX):
            fresh = {name: fate for name, fate in wanted.items() if name not in known}
            if not fresh:
                return known
            try:
                await self._log.commit(
                    [
                        Entry(name, fate.SerializeToString(), expected=0)
                        for name, fate in fresh.items()
                    ]
                )
            except ConflictError:
                taken = await self._log.read_fresh(list(fresh))
                known |= {
                    name: pb.DeadLetterFate.FromString(one.data) for name, one in taken.items()
                }
            else:
                return known | fresh
        raise ServiceError(Kind.RETRYABLE, "contended", "others were always quicker")

    async def _start(self, wanted: pb.DeadLetterFilter, until: int) -> int:
        if not wanted.HasField("since"):
            return 0
        since_ns = wanted.since.ToNanoseconds() - _CLOCKS_APART_NS
        return await first_at(self._nats, subjects.DEAD_LETTERS, since_ns, until)

    async def _with_fates(self, letters: Sequence[Letter]) -> Sequence[Letter]:
        if not letters:
            return letters
        stored = await self._log.read(list({_fate_subject(one.letter) for one in letters}))
        for one in letters:
            found = stored.get(_fate_subject(one.letter))
            if found is not None:
                one.fate = pb.DeadLetterFate.FromString(found.data)
        return letters


def _fate_subject(letter: outcome_pb2.DeadLetter) -> str:
    return subjects.letter_fate(letter.shop, letter.dead_letter_id)


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), ENTRIES_MAX):
        yield names[start : start + ENTRIES_MAX]


def _read(stored: Iterable[Stored]) -> list[Letter]:
    letters = []
    for one in stored:
        try:
            letter = outcome_pb2.DeadLetter.FromString(one.data)
        except DecodeError:
            continue
        letters.append(Letter(letter, one.sequence))
    return letters


def _fits(one: Letter, wanted: pb.DeadLetterFilter) -> bool:
    """What the subject does not say; service, code and shop it does."""
    letter = one.letter
    died_ns = letter.died_at.ToNanoseconds()
    return (
        wanted.reason_class in ("", letter.reason_class)
        and wanted.sink in ("", letter.sink)
        and not (wanted.HasField("since") and died_ns < wanted.since.ToNanoseconds())
        and not (wanted.HasField("until") and died_ns >= wanted.until.ToNanoseconds())
    )
