"""Sends what waits for one catalog: one submit at a time, and each is followed to its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.http import classify
from libs.ids import Random
from libs.retry import RetryPolicy
from libs.telemetry import Metrics, SpanKind, Tracer
from services.catalog.book import ShopBook
from services.catalog.comparing import Catalog, Outgoing
from services.catalog.domain import verdicts
from services.catalog.domain.answers import ONCE_A_MINUTE_S, SUBMIT_TOO_SOON, RefusedError
from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.fates import Fate, Sent, Settled
from services.catalog.domain.feed_log import Submitted
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import IssueSource
from services.catalog.domain.sync import SyncIssue
from services.catalog.domain.verdicts import Judgement
from services.catalog.domain.waiting import Act
from services.catalog.endings import Endings, kind_of
from services.catalog.flights import Flights, sent_of
from services.catalog.following import LogReader
from services.catalog.late import LateWords
from services.catalog.looking import ImageLook
from services.catalog.pauses import pause
from services.catalog.ports import Gatekeeper, Held, Images, TikTokCatalog
from services.catalog.records import Flight, Status
from services.catalog.search import Search
from services.catalog.searching import Searching
from services.catalog.store import SyncStore
from services.catalog.tally import Tally

_log = structlog.stdlib.get_logger()

_SETUP_WAITS_S: Final = (60.0, 300.0, 900.0, 3600.0)
"""How long a catalog that takes nothing is left alone: a person has to see to it."""

_NEVER_LEFT: Final = frozenset({classify.UNREACHABLE, classify.BUDGET_SPENT})
"""Failures before a request could arrive; after all others it may have been taken."""

_BACK_OFF: Final = RetryPolicy(attempts_max=1, base_s=1.0, cap_s=10.0)

_NOTHING_S: Final = 0.25
"""Where nothing was found to send although something waits: it is compared anew meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What senders of all catalogs share."""

    api: TikTokCatalog
    images: Images
    gatekeeper: Gatekeeper
    store: SyncStore
    clock: Clock
    random: Random
    tracer: Tracer
    metrics: Metrics
    log_poll_s: float
    log_patience_s: float
    late: LateWords
    is_owner: Callable[[], bool]
    """Whether this process still owns the catalog's lane."""


@dataclass(frozen=True, slots=True)
class _Aside:
    """A catalog that takes nothing as it is set up."""

    held: Held
    until_s: float
    settings: CatalogSettings
    """With other settings it is tried at once."""


class Sender:
    """One catalog's submits."""

    def __init__(self, book: ShopBook, catalog: Catalog, means: Means) -> None:
        self._book = book
        self._catalog = catalog
        self._means = means
        self._flights = Flights(book.handle, catalog.settings.connection_id, means.store)
        self._logs = LogReader(
            means.api,
            means.gatekeeper,
            means.clock,
            poll_s=means.log_poll_s,
            patience_s=means.log_patience_s,
        )
        self._images = ImageLook(means.images, means.clock)
        self._took_off_s = 0.0
        self._last_submit_ns = 0
        self._learnt_spacing_s = 0.0
        self._searching = Searching(book, catalog, means.store)
        self._tally = Tally(means.metrics)
        self._endings = Endings()
        self._fruitless = 0
        """Submits in a row of which nothing could be told."""
        self._not_before_s = 0.0
        self._held: Held | None = None
        self._aside: _Aside | None = None
        self._silences = 0
        self._failures = 0
        self._sent_late: deque[Flight] = deque()
        """What others have sent after this process had taken the lane over."""

    # -- how it is -----------------------------------------------------------------------------

    def is_at_rest(self, since_s: float) -> bool:
        """Whether nothing waits that waited at `since_s` and could be sent, or is on its way.

        What only a person can get out of the way keeps nobody waiting; an outage passes.
        """
        if self._held is not None and self._held.reason != "outage":
            return True
        if self._flights.under_way is not None and self._took_off_s <= since_s:
            return False
        oldest_s = self._catalog.waiting.oldest_s
        return oldest_s is None or oldest_s > since_s

    @property
    def is_held(self) -> bool:
        """Whether something is in the way that only time or a person removes."""
        return self._held is not None

    def status(self, *, next_resend_ns: int = 0) -> Status:
        """How the catalog is, to be shown."""
        waiting = self._catalog.waiting
        next_ns = 0
        flight = self._flights.under_way
        if flight is None and waiting.pending() and self._spacing_left_s() > 0:
            next_ns = self._means.clock.now_ns() + int(self._spacing_left_s() * 1e9)
        held = self._held
        return Status(
            states={state: count for state, count in waiting.states.items() if count},
            waiting=waiting.pending(),
            in_flight=len(flight.items) if flight else 0,
            last_submit_ns=self._last_submit_ns,
            next_submit_ns=next_ns,
            spacing_s=self._learnt_spacing_s,
            held_by=held.reason if held else "",
            held_note=held.note if held else "",
            next_resend_ns=next_resend_ns,
        )

    def sent_late(self, flight: Flight) -> None:
        """Somebody who owned the lane before has sent this only now, over what is newer perhaps."""
        if not flight.over:
            self._sent_late.append(flight)
            self._catalog.woken.set()

    # -- the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Sends for as long as it is not cancelled.

        Raises:
            ServiceError: RETRYABLE, `not_the_owner`: somebody else sends for this catalog.
        """
        try:
            while not await self._patiently(self._open):
                pass
            while True:
                await self._patiently(self._step)
        finally:
            self._images.end()

    async def _patiently(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was done; what fails is to be tried again, and a while has passed."""
        try:
            await act()
        except ServiceError as error:
            if error.code == "not_the_owner":
                raise
            self._failures += 1
            wait_s = error.retry_after_s
            if wait_s is None:
                wait_s = _BACK_OFF.delay_s(self._failures, self._means.random)
            _log.info(
                "catalog_waits", connection=self._id, reason=error.code, wait_s=round(wait_s, 1)
            )
            await self._means.clock.sleep(max(0.05, wait_s))
            return False
        self._failures = 0
        return True

    async def _open(self) -> None:
        """Takes up what the owner before has left."""
        late = await self._flights.read_late()
        if late is not None:
            self._sent_late.append(late)
        flight = await self._flights.read()
        if flight is None:
            return
        self._last_submit_ns = flight.sent_ns
        if not flight.over and not flight.feed_log_id:
            await self._doubt(flight)

    async def _doubt(self, flight: Flight) -> None:
        """Whoever wrote it was lost around its request, or its answer: it may have left."""
        await self._book.doubt(self._id, sent_of(flight))
        await self._flights.land(self._last_submit_ns)

    async def _step(self) -> None:
        flight = self._flights.under_way
        if flight is not None:
            if flight.feed_log_id:
                await self._follow(flight)
            else:
                await self._doubt(flight)
            return
        if self._sent_late:
            # After what was under way: its end says nothing of what came behind it.
            late = self._sent_late[0]
            await self._book.doubt(self._id, sent_of(late))
            self._sent_late.popleft()
            await self._flights.late_seen_to(late)
            return
        await self._tell_found()
        self._held = self._in_the_way()
        if self._held is not None:
            await self._sleep(self._held.wait_s)
            return
        wait_s = self._wait_s()
        if wait_s is None or wait_s > 0:
            await self._sleep(wait_s)
            return
        await self._send_next()

    def _in_the_way(self) -> Held | None:
        """Why nothing may be sent now; None where it may."""
        held = self._means.gatekeeper.may_send(self._settings)
        if held is not None:
            if held.reason == "operator":
                # Whoever lets it go on again wants to see whether it works.
                self._aside = None
            return held
        aside = self._aside
        if aside is None:
            return None
        left_s = aside.until_s - self._means.clock.monotonic_s()
        if left_s <= 0 or aside.settings != self._settings:
            self._aside = None
            return None
        return replace(aside.held, wait_s=left_s)

    def _wait_s(self) -> float | None:
        """Seconds until the next submit; None: until something changes."""
        now_s = self._means.clock.monotonic_s()
        dialect = dialect_of(self._settings.dialect)
        waiting = self._catalog.waiting
        ready_s = (
            0.0 if self._searching.search.is_on else waiting.ready_in_s(now_s, dialect.uploads_max)
        )
        if ready_s is None:
            return None
        return max(ready_s, self._spacing_left_s(), self._not_before_s - now_s)

    def _spacing_left_s(self) -> float:
        spacing_s = max(self._settings.spacing_s, self._learnt_spacing_s)
        since_s = (self._means.clock.now_ns() - self._last_submit_ns) / 1e9
        return max(0.0, spacing_s - since_s)

    async def _sleep(self, wait_s: float | None) -> None:
        self._catalog.woken.clear()
        await pause(self._means.clock, wait_s, self._catalog.woken)

    # -- sending -------------------------------------------------------------------------------

    async def _send_next(self) -> None:
        act, items = await self._next()
        if not items:
            await self._means.clock.sleep(_NOTHING_S)
            return
        dialect = dialect_of(self._settings.dialect)
        if act is Act.UPLOAD:
            request = dialect.upload(self._settings, [one.body for one in items])
        else:
            request = dialect.delete(self._settings, [one.sent.sku_id for one in items])
        self._took_off_s = self._means.clock.monotonic_s()
        await self._flights.take_off(act, items, self._means.clock.now_ns())
        looks = self._settings.check_images and act is Act.UPLOAD
        self._images.begin(items if looks else ())
        if not self._means.is_owner():
            raise ServiceError(Kind.RETRYABLE, "not_the_owner", self._id)
        trace = self._means.tracer.start_trace()
        started_ns = self._means.tracer.now_ns()
        failure: ServiceError | None = None
        try:
            submitted = await self._means.api.submit(self._settings, request)
        except ServiceError as error:
            failure = error
        except asyncio.CancelledError:
            self._tell_if_late()
            raise
        self._means.tracer.emit(
            "tiktok catalog call",
            trace,
            parent=None,
            start_ns=started_ns,
            end_ns=self._means.tracer.now_ns(),
            kind=SpanKind.CLIENT,
            attributes={
                "upstream": "tiktok",
                "url.path": request.path,
                "batch_size": len(items),
                "dialect": self._settings.dialect.value,
                "connection": self._id,
            },
            links=[],
            error=failure,
        )
        await self._means.gatekeeper.ended(self._settings, failure)
        self._tally.submit(act, failure)
        if self._tell_if_late():
            raise ServiceError(Kind.RETRYABLE, "not_the_owner", self._id)
        if failure is not None:
            await self._not_submitted(act, items, failure)
            return
        self._last_submit_ns = self._means.clock.now_ns()
        self._tally.delays(items, self._catalog.waiting, self._means.clock.monotonic_s())
        if act is Act.UPLOAD:
            self._searching.search.taken()
        await self._submitted(act, items, submitted)

    def _tell_if_late(self) -> bool:
        """Whether somebody else may own the lane by now, who is then told what has left."""
        flight = self._flights.under_way
        if self._means.is_owner() or flight is None:
            return False
        self._means.late.tell(self._book.handle, self._id, flight)
        return True

    async def _next(self) -> tuple[Act, list[Outgoing]]:
        part = await self._searching.next()
        if part is not None:
            return part
        await self._tell_found()
        waiting = self._catalog.waiting
        dialect = dialect_of(self._settings.dialect)
        act = waiting.next_act()
        if act is None:
            return Act.UPLOAD, []
        most = dialect.uploads_max if act is Act.UPLOAD else dialect.deletes_max
        items = await self._book.outgoing(self._id, act, most)
        waiting.chosen(act)
        return act, items

    async def _submitted(self, act: Act, items: Sequence[Outgoing], submitted: Submitted) -> None:
        if submitted.feed_log_id:
            await self._flights.answered(submitted.feed_log_id, self._last_submit_ns)
            return
        sku_ids = [one.sent.sku_id for one in items]
        await self._settle(
            act,
            [one.sent for one in items],
            verdicts.judge_answer(kind_of(act), sku_ids, submitted),
        )

    async def _not_submitted(
        self, act: Act, items: Sequence[Outgoing], error: ServiceError
    ) -> None:
        """What a submit that was not taken, or perhaps was, means for its items."""
        if error.kind is Kind.PERMANENT:
            await self._refused(act, items, error)
            return
        if error.code == SUBMIT_TOO_SOON:
            self._learnt_spacing_s = max(self._learnt_spacing_s, ONCE_A_MINUTE_S)
            self._last_submit_ns = self._means.clock.now_ns()
        elif error.kind is Kind.RETRYABLE and error.code not in _NEVER_LEFT:
            # It may have been taken: then a second one within the minute would be dropped.
            self._last_submit_ns = self._means.clock.now_ns()
            await self._book.doubt(self._id, [one.sent for one in items])
        await self._flights.land(self._last_submit_ns)
        raise error

    async def _refused(self, act: Act, items: Sequence[Outgoing], error: ServiceError) -> None:
        """TikTok refused the request whole: the item at fault is looked for."""
        divisible = isinstance(error, RefusedError) and error.divisible
        words = error.words if isinstance(error, RefusedError) else error.message
        if not divisible:
            await self._flights.land(self._last_submit_ns)
            self._set_aside(words or error.code)
            return
        if len(items) > 1:
            has_taken = self._catalog.waiting.has_taken
            self._searching.search.divide(act, items, words, has_taken=has_taken)
        else:
            issue = SyncIssue(IssueSource.TIKTOK, True, error.code, "", words)  # noqa: FBT003  # a row
            fate = Fate.REFUSED if act is Act.UPLOAD else Fate.KEPT
            await self._refused_alone(act, Settled(items[0].sent, fate, (issue,)), words)
        await self._flights.land(self._last_submit_ns)

    async def _refused_alone(self, act: Act, end: Settled, words: str) -> None:
        if act is Act.DELETE:
            await self._record([end])
            return
        self._searching.search.found(end, words)
        if self._searching.search.is_shared:
            self._set_aside(words or end.issues[0].code)
            self._searching.search = Search(self._silences)

    async def _tell_found(self) -> None:
        """Records what the search is sure of."""
        ends = self._searching.search.ends()
        if ends:
            await self._record(ends)
            self._searching.search.told()

    async def _record(self, ends: Sequence[Settled]) -> None:
        await self._book.settle(self._id, ends)
        self._tally.ended(ends)

    def _set_aside(self, note: str) -> None:
        """The catalog takes nothing: it is left alone until a person may have seen to it."""
        wait_s = _SETUP_WAITS_S[min(self._silences, len(_SETUP_WAITS_S) - 1)]
        self._silences += 1
        until_s = self._means.clock.monotonic_s() + wait_s
        self._aside = _Aside(Held("tiktok", note, wait_s), until_s, self._settings)
        _log.warning("catalog_held", connection=self._id, note=note, wait_s=wait_s)

    # -- what became of it ---------------------------------------------------------------------

    async def _follow(self, flight: Flight) -> None:
        """Reads the log of a submit until it has ended, and records what became of each item."""
        act = Act(flight.act)
        log = await self._logs.ended(lambda: self._settings, flight, refused=self._credentials)
        sent = sent_of(flight)
        judged = verdicts.judge(kind_of(act), [one.sku_id for one in sent], log)
        await self._settle(act, sent, judged)

    def _credentials(self, are_refused: bool) -> None:  # noqa: FBT001  # what it is told
        self._held = self._means.gatekeeper.may_send(self._settings) if are_refused else None

    async def _settle(self, act: Act, sent: Sequence[Sent], judged: Judgement) -> None:
        found = await self._images.issues()
        ends = self._endings.of(act, sent, judged, found)
        await self._book.settle(self._id, ends)
        await self._flights.land(self._last_submit_ns)
        self._tally.ended(ends)
        if judged.spacing_s:
            self._learnt_spacing_s = max(self._learnt_spacing_s, judged.spacing_s)
        if judged.advice:
            self._set_aside(judged.advice)
            return
        self._silences = 0
        self._wait_longer(is_fruitless=all(end.fate is Fate.UNKNOWN for end in ends))

    def _wait_longer(self, *, is_fruitless: bool) -> None:
        """What TikTok tells nothing of is not sent again and again at once."""
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        if is_fruitless:
            wait_s = max(1.0, _BACK_OFF.delay_s(self._fruitless, self._means.random))
            self._not_before_s = self._means.clock.monotonic_s() + wait_s

    @property
    def _settings(self) -> CatalogSettings:
        return self._catalog.settings

    @property
    def _id(self) -> str:
        return self._catalog.settings.connection_id
