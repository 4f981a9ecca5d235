"""What the events service does with facts: map, send, record the outcome; then the fact is done."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from libs import metric_names
from libs.bus.consumer import GivenUp, Unit
from libs.errors import Kind, ServiceError, permanent
from libs.limits import Priority
from libs.telemetry import SpanRef
from libs.turnstile import Turnstile
from services.events.gatekeeper import is_shared
from services.events.ports import Known, Pair
from services.events.reading import Reader
from services.events.records import (
    attempt_of,
    corrected_note,
    letter_of,
    outcome_of,
    reason_of,
    reference_of,
)
from services.events.sender import Errand, Outgoing
from services.events.shares import HELD_BACK, Piece, Sent, Share, Task, pixel_of, worst
from services.events.surroundings import Surroundings
from services.events.units import connection_id_of, part_of, priority_of, record_of
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

_log = structlog.stdlib.get_logger()

_AT_A_STRETCH: Final = 8
"""Units that are read, mapped or recorded before others may: less than 5 ms."""

_OUR_FAULT: Final = frozenset({"mapping", "permanent", "exhausted"})
"""Classes of reason that may mean that something is wrong with us."""


class Handlers:
    """Handles units of one shop at a time, in order."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._turnstile = Turnstile(_AT_A_STRETCH)
        self._reader = Reader(around, self._turnstile)

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """Maps and sends; a unit has ended when all its pixels have their outcome.

        What is meant for a connection that is shut, or that others wait for already, is parked.
        """
        return await self._handle(units, only=None)

    async def drain(self, units: Sequence[Unit], sink: str) -> Sequence[ServiceError | None]:
        """As `handle`, for what was parked: at one pixel, and nothing is parked again."""
        return await self._handle(units, only=sink)

    async def set_aside(self, units: Sequence[Unit]) -> None:
        """Parks units of shops that have too many in hand; they come in order, after those."""
        parked: list[tuple[Task, Share]] = []
        for unit in units:
            record = record_of(unit)
            known = {pixel.sink: pixel for pixel in self._around.pixels.of_shop(record.shop)}
            task = Task(unit, record, None, None, SpanRef(0, 0, sampled=False), 0)
            for sink in record.sinks or known:
                share = Share(sink, connection_id_of(record.shop, sink, known), parked="backlog")
                parked.append((task, share))
        await self._park_now(parked)

    async def bury(self, given_up: GivenUp, *, only: str | None = None) -> None:
        """Stores dead letters and outcomes for every pixel at which the unit has not ended.

        What belongs with its connection has not been tried there: it is parked, perhaps once more,
        for nobody knows whether it is already.
        """
        tasks, known = await self._reader.prepared([given_up.unit], only, may_park=only is None)
        await self._park_now([(t, s) for t in tasks for s in t.shares if s.parked])
        for task in tasks:
            for share in task.shares:
                if not share.parked:
                    await self._end(task, share, given_up, known)

    async def lose(self, reference: gate_pb2.ParkedUnit) -> None:
        """Ends a parked unit whose fact has expired: there is nothing left to send."""
        fact_id = reference.unit.partition(".")[2]
        record = record_pb2.FactRecord(
            kind=reference.unit.partition(".")[0], shop=reference.shop, fact_id=fact_id
        )
        record.sinks.append(reference.sink)
        unit = Unit(
            reference.subject, reference.sequence, record.SerializeToString(), 0, redelivered=True
        )
        error = permanent("expired_while_parked", "its connection was shut for longer than 30 days")
        await self.bury(GivenUp(unit, f"expired/{error.code}", error), only=reference.sink)

    async def _handle(
        self, units: Sequence[Unit], *, only: str | None
    ) -> Sequence[ServiceError | None]:
        tasks, known = await self._reader.prepared(units, only, may_park=only is None)
        known |= await self._send_all(tasks, known)
        # What went well is recorded first: a letter or a reference that cannot be stored must not
        # send it again.
        await self._record(tasks, known, refused=False)
        held_back = await self._bury_refused(tasks)
        await self._correct_notes(held_back, known)
        await self._record(tasks, known, refused=True)
        if only is None:
            await self._park(tasks)
        for task in tasks:
            self._trace(task)
        return [self._result(task) for task in tasks]

    def _result(self, task: Task) -> ServiceError | None:
        error = task.result()
        if error is not None and (error.kind is Kind.RETRYABLE or is_shared(error)):
            # The failure that shut the sink costs no attempt either.
            return self._around.gatekeeper.shut_error() or error
        return error

    # -- waiting elsewhere -----------------------------------------------------------------------

    async def _park(self, tasks: Sequence[Task]) -> None:
        """Moves on what waits for its connection, so that its lane need not wait with it."""
        parked: list[tuple[Task, Share]] = []
        for task in tasks:
            for share in task.shares:
                error = share.unended()
                if error is not None and error.kind is Kind.AUTH and not is_shared(error):
                    share.parked = error.code
                elif error is not None and error.kind is Kind.RETRYABLE:
                    # Its connection was shut by this very failure.
                    share.parked = self._around.gatekeeper.parks(share.connection_id)
                if share.parked:
                    parked.append((task, share))
        await self._park_now(parked)

    async def _park_now(self, parked: Sequence[tuple[Task, Share]]) -> None:
        if not parked:
            return
        now_ns = self._around.clock.now_ns()
        references = [reference_of(task, share, now_ns=now_ns) for task, share in parked]
        await self._around.parking.park(references)
        for reason, count in Counter(share.parked for _, share in parked).items():
            name = metric_names.EVENTS_PARKED
            self._around.metrics.counter(name, reason=reason).value += count

    # -- sending ---------------------------------------------------------------------------------

    async def _send_all(
        self, tasks: Sequence[Task], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        """Sends what is to be sent; what is now recorded of it."""
        ready = [(task, share) for task in tasks for share in task.shares if share.is_to_send]
        if not ready:
            return {}
        refused = self._around.gatekeeper.refuses()
        if refused is not None:
            for _, share in ready:
                share.failed = refused
            return {}
        pieces = [(*pair, one) for pair in ready for one in pair[1].unsettled()]
        groups: dict[tuple[str, str, Priority, int], list[Piece]] = {}
        for place, piece in enumerate(pieces):
            task, share, _ = piece
            dialect = pixel_of(share).settings.dialect.value
            part = part_of(place, len(pieces), task.unit.attempts)
            key = (share.sink, dialect, priority_of(task.unit), part)
            groups.setdefault(key, []).append(piece)
        noted: dict[Pair, Known] = {}
        noting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        results: dict[int, Sent] = {}
        # Each pixel on its own: one that hangs holds up no other of the shop.
        for found in await asyncio.gather(
            *(
                self._send(key[2], group, known, noted, noting[key[0]])
                for key, group in groups.items()
            )
        ):
            results |= found
        for _, share in ready:
            share.take(results)
        return noted | await self._correct_notes(ready, {**known, **noted})

    async def _send(
        self,
        priority: Priority,
        pieces: Sequence[Piece],
        known: Mapping[Pair, Known],
        noted: dict[Pair, Known],
        noting: asyncio.Lock,
    ) -> dict[int, Sent]:
        """What became of each conversion, by its identity."""

        async def leaving() -> None:
            # Events of one unit may leave in several requests: its try is noted once.
            async with noting:
                pairs = {id(share): (task, share) for task, share, _ in pieces}.values()
                fresh = [(t, s) for t, s in pairs if (s.sink, t.name) not in noted]
                noted.update(await self._note_attempts(fresh, known))

        outgoing = [Outgoing(conversion, task.span) for task, _, conversion in pieces]
        errand = Errand(pixel_of(pieces[0][1]), pieces[0][0].record.shop, priority)
        sent = await self._around.sender.send(errand, outgoing, leaving=leaving)
        return {id(piece[2]): one for piece, one in zip(pieces, sent, strict=True)}

    async def _note_attempts(
        self, ready: Sequence[tuple[Task, Share]], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        """Records that requests are about to leave, durably before they do.

        After a crash this tells what may have been sent from what was not.
        """
        fresh = [(task, share) for task, share in ready if share.first_attempt_s is None]
        if not fresh:
            return {}
        now_ns = self._around.clock.now_ns()
        outcomes = []
        for number, (task, share) in enumerate(fresh):
            await self._turnstile.before(number)
            outcomes.append(attempt_of(task, share, now_ns=now_ns))
        # What another process has ended meanwhile is not in the answer. It is sent all the same:
        # TikTok drops it, and the outcome that stands stays.
        return await self._around.outcomes.attempt(outcomes, known)

    async def _correct_notes(
        self, tried: Sequence[tuple[Task, Share]], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        """Notes what is known by now of tries that are not the end of their unit.

        What certainly did not arrive may wait for long; what TikTok has answered is not sent again.
        """
        corrected = [
            note
            for task, share in tried
            if (pair := (share.sink, task.name)) in known
            and (note := corrected_note(task, share, known[pair].outcome))
        ]
        try:
            return await self._around.outcomes.attempt(corrected, known) if corrected else {}
        except ServiceError as error:
            # What ended well must be recorded all the same; these are tried again either way.
            _log.info("notes_not_corrected", reason=error.code)
            return {}

    # -- ending ----------------------------------------------------------------------------------

    async def _record(
        self, tasks: Sequence[Task], known: Mapping[Pair, Known], *, refused: bool
    ) -> None:
        ended = [
            (task, share)
            for task in tasks
            for share in task.shares
            if not share.parked
            and share.unended() is None
            and (share.refusal() is not None) is refused
        ]
        outcomes = []
        for number, (task, share) in enumerate(ended):
            await self._turnstile.before(number)
            outcomes.append(self._ended(task, share, known, well=not refused))
        if outcomes:
            await self._around.outcomes.record(outcomes, known)

    async def _bury_refused(self, tasks: Sequence[Task]) -> list[tuple[Task, Share]]:
        """What TikTok or the mapping refused for good: the letter is stored before the outcome.

        What is held back instead is in the answer.
        """
        held_back = []
        for task in tasks:
            for share in task.shares:
                error = share.refusal()
                if error is None or share.parked or share.unended() is not None:
                    continue
                if self._around.burials.allowance(0) == 0 and not task.record.replay_of:
                    # So much was given up that it is no longer the unit's own fault.
                    share.failed = HELD_BACK
                    held_back.append((task, share))
                else:
                    await self._bury(task, share, error, reason_of(share, error))
        return held_back

    async def _end(
        self, task: Task, share: Share, given_up: GivenUp, known: Mapping[Pair, Known]
    ) -> None:
        reason = given_up.reason
        if not share.ignored:
            share.give_up(given_up.error)
            share.failed = None if share.conversions else (share.failed or given_up.error)
            share.class_ = reason.partition("/")[0]
            await self._bury(task, share, given_up.error, reason)
        outcome = self._ended(task, share, known, well=bool(share.ignored))
        if not share.ignored:
            outcome.kind = outcome_pb2.OUTCOME_KIND_DEAD
            outcome.reason = reason
        await self._around.outcomes.record([outcome], known)

    async def _bury(self, task: Task, share: Share, error: ServiceError, reason: str) -> None:
        letter = letter_of(task, share, error, reason, now_ns=self._around.clock.now_ns())
        await self._around.dead_letters.store(letter)
        # A replay is somebody's experiment, and what was lost to time is no deploy's fault.
        if letter.reason_class in _OUR_FAULT and not letter.replay_of:
            self._around.burials.buried(letter.fact_kind, letter.shop, letter.reason_class)
        self._around.metrics.counter(
            metric_names.DEAD_LETTERS, service="events", reason=letter.reason_class
        ).value += 1

    def _ended(
        self, task: Task, share: Share, known: Mapping[Pair, Known], *, well: bool
    ) -> outcome_pb2.Outcome:
        if well and not task.record.replay_of:
            self._around.burials.ended_well(task.record.kind)
        if share.ignored:
            name = metric_names.EVENTS_IGNORED
            self._around.metrics.counter(name, reason=share.ignored).value += 1
        noted = known.get((share.sink, task.name))
        attempt = noted.outcome if noted is not None else None
        return outcome_of(task, share, attempt, now_ns=self._around.clock.now_ns())

    def _trace(self, task: Task) -> None:
        if not task.span.sampled:
            return
        ignored = next((share.ignored for share in task.shares if share.ignored), "")
        parked = next((share.parked for share in task.shares if share.parked), "")
        attributes: Mapping[str, str | int] = {
            "fact_id": task.record.fact_id,
            "kind": task.record.kind,
            "shop": task.record.shop,
            "attempt": task.unit.attempts + 1,
            **({"reason": ignored or parked} if ignored or parked else {}),
            **({"verdict": "parked"} if parked else {}),
        }
        self._around.tracer.emit(
            "fact consumed",
            task.span,
            parent=SpanRef.parse(task.record.traceparent),
            start_ns=task.started_ns,
            end_ns=self._around.clock.now_ns(),
            attributes=attributes,
            error=worst(error for share in task.shares if (error := share.unended())),
        )
