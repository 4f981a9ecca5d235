"""Sends what waits for one catalog: one submit at a time, and each is followed to its end."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from libs import metric_names
from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.http import classify
from libs.ids import Random
from libs.retry import RetryPolicy
from libs.telemetry import Metrics, SpanKind, Tracer
from services.catalog import keys, records
from services.catalog.book import Catalog, Outgoing, ShopBook
from services.catalog.domain import verdicts
from services.catalog.domain.answers import ONCE_A_MINUTE_S, SUBMIT_TOO_SOON, RefusedError
from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.feed_log import FeedLog, Submitted
from services.catalog.domain.isolation import parts_after_refusal
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import IssueSource
from services.catalog.domain.sync import Fate, Sent, Settled, SyncIssue
from services.catalog.domain.verdicts import Judgement, SubmitKind, Verdict
from services.catalog.domain.waiting import Act
from services.catalog.ports import Gatekeeper, Held, Images, TikTokCatalog
from services.catalog.records import Flight, FlightItem, Status
from services.catalog.store import SyncStore

_log = structlog.stdlib.get_logger()

_POLL_MOST_S: Final = 10.0
_POLL_SLOWER: Final = 1.5
_SETUP_WAITS_S: Final = (60.0, 300.0, 900.0, 3600.0)
"""How long a catalog that takes nothing is left alone: a person has to see to it."""

_UNKNOWN_MAX: Final = 5
"""So often is an item sent again of which TikTok does not say what became of it."""

_NEVER_LEFT: Final = frozenset({classify.UNREACHABLE, classify.BUDGET_SPENT})
"""Failures before a request could arrive; after all others it may have been taken."""

_BACK_OFF: Final = RetryPolicy(attempts_max=1, base_s=1.0, cap_s=10.0)


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
    is_owner: Callable[[], bool]
    """Whether this process still owns the catalog's lane."""


class Sender:
    """One catalog's submits."""

    def __init__(self, book: ShopBook, catalog: Catalog, means: Means) -> None:
        self._book = book
        self._catalog = catalog
        self._means = means
        self._flight: Flight | None = None
        self._flight_sequence = 0
        self._last_submit_ns = 0
        self._learnt_spacing_s = 0.0
        self._parts: deque[tuple[Act, list[Outgoing]]] = deque()
        self._follows_words = False
        """Whether what is sent now is a part that TikTok's words led to."""
        self._unknown: Counter[str] = Counter()
        self._held: Held | None = None
        self._silences = 0
        self._failures = 0
        self._looking: asyncio.Task[Mapping[str, str]] | None = None
        self._image_of: dict[str, str] = {}

    # -- how it is -----------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing that could be sent waits, and nothing is under way."""
        if self._held is not None:
            return True
        return self._flight is None and self._catalog.waiting.pending() == 0

    @property
    def is_held(self) -> bool:
        """Whether something is in the way that only time or a person removes."""
        return self._held is not None

    def status(self, *, next_resend_ns: int = 0) -> Status:
        """How the catalog is, to be shown."""
        waiting = self._catalog.waiting
        next_ns = 0
        if self._flight is None and waiting.pending() and self._spacing_left_s() > 0:
            next_ns = self._means.clock.now_ns() + int(self._spacing_left_s() * 1e9)
        held = self._held
        return Status(
            states={state: count for state, count in waiting.states.items() if count},
            waiting=waiting.pending(),
            in_flight=len(self._flight.items) if self._flight else 0,
            last_submit_ns=self._last_submit_ns,
            next_submit_ns=next_ns,
            spacing_s=self._learnt_spacing_s,
            held_by=held.reason if held else "",
            held_note=held.note if held else "",
            next_resend_ns=next_resend_ns,
        )

    # -- the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Sends for as long as it is not cancelled.

        Raises:
            ServiceError: RETRYABLE, `not_the_owner`: somebody else sends for this catalog.
        """
        await self._patiently(self._open)
        while True:
            await self._patiently(self._step)

    async def _patiently(self, act: Callable[[], Awaitable[None]]) -> None:
        """Does it; what fails is tried again after a while."""
        try:
            await act()
            self._failures = 0
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

    async def _open(self) -> None:
        """Takes up what the owner before has left."""
        stored = await self._means.store.read(keys.flight(self._book.handle, self._id))
        if stored is None:
            return
        self._flight_sequence = stored.sequence
        flight = records.flight(stored.data)
        self._last_submit_ns = flight.sent_ns
        if flight.over:
            return
        self._flight = flight
        if not flight.feed_log_id:
            # Whoever wrote it was lost around its request: it may have left.
            await self._book.doubt(self._id, _sent_of(flight))
            await self._land()

    async def _step(self) -> None:
        if self._flight is not None:
            await self._follow(self._flight)
            return
        self._held = self._means.gatekeeper.may_send(self._settings)
        if self._held is not None:
            await self._sleep(self._held.wait_s)
            return
        wait_s = self._wait_s()
        if wait_s is None or wait_s > 0:
            await self._sleep(wait_s)
            return
        await self._send_next()

    def _wait_s(self) -> float | None:
        """Seconds until the next submit; None: until something changes."""
        now_s = self._means.clock.monotonic_s()
        dialect = dialect_of(self._settings.dialect)
        ready_s = (
            0.0 if self._parts else self._catalog.waiting.ready_in_s(now_s, dialect.uploads_max)
        )
        return None if ready_s is None else max(ready_s, self._spacing_left_s())

    def _spacing_left_s(self) -> float:
        spacing_s = max(self._settings.spacing_s, self._learnt_spacing_s)
        since_s = (self._means.clock.now_ns() - self._last_submit_ns) / 1e9
        return max(0.0, spacing_s - since_s)

    async def _sleep(self, wait_s: float | None) -> None:
        self._catalog.woken.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._catalog.woken.wait(), wait_s)

    # -- sending -------------------------------------------------------------------------------

    async def _send_next(self) -> None:
        act, items = await self._next()
        if not items:
            return
        dialect = dialect_of(self._settings.dialect)
        if act is Act.UPLOAD:
            request = dialect.upload(self._settings, [one.body for one in items])
        else:
            request = dialect.delete(self._settings, [one.sent.sku_id for one in items])
        await self._take_off(act, items)
        self._look_at_images(act, items)
        if not self._means.is_owner():
            raise ServiceError(Kind.RETRYABLE, "not_the_owner", self._id)
        trace = self._means.tracer.start_trace()
        started_ns = self._means.tracer.now_ns()
        failure: ServiceError | None = None
        try:
            submitted = await self._means.api.submit(self._settings, request)
        except ServiceError as error:
            failure = error
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
        self._count_submit(act, failure)
        if failure is not None:
            await self._not_submitted(act, items, failure)
            return
        self._last_submit_ns = self._means.clock.now_ns()
        self._count_delays(items)
        await self._submitted(act, items, submitted)

    async def _next(self) -> tuple[Act, list[Outgoing]]:
        if self._parts:
            return self._parts.popleft()
        self._follows_words = False
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
            if self._flight is None:
                raise AssertionError("what was submitted is in flight")
            self._flight = Flight(
                act=act,
                items=self._flight.items,
                sent_ns=self._last_submit_ns,
                feed_log_id=submitted.feed_log_id,
            )
            await self._write_flight(self._flight)
            return
        sku_ids = [one.sent.sku_id for one in items]
        await self._settle(
            act, [one.sent for one in items], verdicts.judge_answer(_kind(act), sku_ids, submitted)
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
        await self._land()
        raise error

    async def _refused(self, act: Act, items: Sequence[Outgoing], error: ServiceError) -> None:
        """TikTok refused the request whole: the item at fault is looked for."""
        divisible = isinstance(error, RefusedError) and error.divisible
        words = error.words if isinstance(error, RefusedError) else error.message
        if not divisible:
            await self._land()
            await self._hold(words or error.code)
            return
        if len(items) == 1:
            issue = SyncIssue(IssueSource.TIKTOK, True, error.code, "", words)  # noqa: FBT003  # a row
            fate = Fate.REFUSED if act is Act.UPLOAD else Fate.KEPT
            await self._book.settle(self._id, [Settled(items[0].sent, fate, (issue,))])
            self._count_items(Counter({fate.value: 1}))
            await self._land()
            return
        names = [one.sent.sku_id for one in items]
        # Words that led nowhere once are not followed again: nobody documents how it counts.
        parts = parts_after_refusal(items, names, "" if self._follows_words else words)
        self._follows_words = bool(words)
        self._parts.extendleft((act, list(part)) for part in reversed(parts))
        await self._land()

    async def _hold(self, note: str) -> None:
        wait_s = _SETUP_WAITS_S[min(self._silences, len(_SETUP_WAITS_S) - 1)]
        self._silences += 1
        self._held = Held("tiktok", note, wait_s)
        _log.warning("catalog_held", connection=self._id, note=note, wait_s=wait_s)
        await self._means.clock.sleep(wait_s)
        self._held = None

    # -- what became of it ---------------------------------------------------------------------

    async def _follow(self, flight: Flight) -> None:
        """Reads the log of a submit until it has ended, and records what became of each item."""
        act = Act(flight.act)
        log = await self._ended_log(flight)
        sent = _sent_of(flight)
        judged = verdicts.judge(_kind(act), [one.sku_id for one in sent], log)
        await self._settle(act, sent, judged)

    async def _ended_log(self, flight: Flight) -> FeedLog:
        clock, api = self._means.clock, self._means.api
        patience_ns = int(self._means.log_patience_s * 1e9)
        wait_s = self._means.log_poll_s
        while True:
            await clock.sleep(wait_s)
            try:
                log = await api.feed_log(self._settings, flight.feed_log_id)
            except ServiceError as error:
                await self._means.gatekeeper.ended(self._settings, error)
                if error.kind is Kind.PERMANENT:
                    _log.warning("feed_log_lost", connection=self._id, code=error.code)
                    return FeedLog(ended=False)
                if error.kind is Kind.AUTH:
                    self._held = self._means.gatekeeper.may_send(self._settings)
                wait_s = max(wait_s, error.retry_after_s or 0.0)
                log = FeedLog(ended=False)
            else:
                self._held = None
            if log.ended:
                return log
            if clock.now_ns() - flight.sent_ns > patience_ns:
                _log.warning("feed_log_endless", connection=self._id, log=flight.feed_log_id)
                return log
            wait_s = min(_POLL_MOST_S, wait_s * _POLL_SLOWER)

    async def _settle(self, act: Act, sent: Sequence[Sent], judged: Judgement) -> None:
        faults = await self._image_faults()
        ends = [
            self._end(act, one, judged.verdicts[one.sku_id], faults.get(one.sku_id)) for one in sent
        ]
        await self._book.settle(self._id, ends)
        await self._land()
        self._count_items(Counter(end.fate.value for end in ends))
        if judged.spacing_s:
            self._learnt_spacing_s = max(self._learnt_spacing_s, judged.spacing_s)
        if judged.advice:
            await self._hold(judged.advice)
        else:
            self._silences = 0

    def _end(self, act: Act, sent: Sent, verdict: Verdict, image_fault: str | None) -> Settled:
        issues = tuple(
            SyncIssue(IssueSource.TIKTOK, one.is_error, "", one.field, one.text, one.fix)
            for one in verdict.issues
        )
        if image_fault:
            issues = (*issues, _image_issue(image_fault))
        if verdict.fate is verdicts.Fate.AGAIN and verdict.reason is not verdicts.Reason.TOO_SOON:
            self._unknown[sent.sku_id] += 1
            if self._unknown[sent.sku_id] >= _UNKNOWN_MAX and act is Act.UPLOAD:
                del self._unknown[sent.sku_id]
                return Settled(sent, Fate.REFUSED, (*issues, _does_not_say(verdict)))
            return Settled(sent, Fate.UNKNOWN, issues)
        self._unknown.pop(sent.sku_id, None)
        return Settled(sent, _FATES[act][verdict.fate], issues)

    # -- images, for catalogs that want them looked at -------------------------------------------

    def _look_at_images(self, act: Act, items: Sequence[Outgoing]) -> None:
        """Begins while TikTok works: what is found is told with TikTok's answer."""
        self._image_of = {}
        if act is Act.DELETE or not self._settings.check_images:
            return
        self._image_of = {one.sent.sku_id: one.image_url for one in items if one.image_url}
        urls = list(dict.fromkeys(self._image_of.values()))
        self._looking = asyncio.create_task(self._means.images.faults(urls), name="images")

    async def _image_faults(self) -> Mapping[str, str]:
        """What is wrong with the image of each item, by the item's id."""
        looking, self._looking = self._looking, None
        if looking is None:
            return {}
        faults = await looking
        return {sku_id: faults[url] for sku_id, url in self._image_of.items() if url in faults}

    # -- the record of what is under way -------------------------------------------------------

    async def _take_off(self, act: Act, items: Sequence[Outgoing]) -> None:
        flight = Flight(
            act=act,
            items=tuple(
                FlightItem(
                    one.sent.product_id, one.sent.sku_id, one.sent.digest, one.sent.availability
                )
                for one in items
            ),
            sent_ns=self._means.clock.now_ns(),
        )
        await self._write_flight(flight)
        self._flight = flight

    async def _land(self) -> None:
        if self._flight is None:
            return
        act = self._flight.act
        await self._write_flight(Flight(act=act, items=(), sent_ns=self._last_submit_ns, over=True))
        self._flight = None

    async def _write_flight(self, flight: Flight) -> None:
        name = keys.flight(self._book.handle, self._id)
        try:
            self._flight_sequence = await self._means.store.put(
                name, records.encode(flight), self._flight_sequence
            )
        except ConflictError as error:
            raise ServiceError(
                Kind.RETRYABLE, "not_the_owner", f"somebody else sends to {self._id}"
            ) from error

    # -- counting ------------------------------------------------------------------------------

    def _count_submit(self, act: Act, failure: ServiceError | None) -> None:
        self._means.metrics.counter(
            metric_names.CATALOG_SUBMITS,
            act=act.value,
            result=failure.kind.value if failure else "ok",
        ).value += 1

    def _count_delays(self, items: Sequence[Outgoing]) -> None:
        now_s = self._means.clock.monotonic_s()
        for product_id in dict.fromkeys(one.sent.product_id for one in items):
            delay = self._catalog.waiting.delay_of(product_id, now_s)
            if delay is not None:
                urgency = "urgent" if delay[1] else "ordinary"
                self._means.metrics.histogram(metric_names.CATALOG_DELAY, urgency=urgency).observe(
                    delay[0]
                )

    def _count_items(self, fates: Mapping[str, int]) -> None:
        for fate, count in fates.items():
            self._means.metrics.counter(metric_names.CATALOG_ITEMS, result=fate).value += count

    @property
    def _settings(self) -> CatalogSettings:
        return self._catalog.settings

    @property
    def _id(self) -> str:
        return self._catalog.settings.connection_id


_FATES: Final[Mapping[Act, Mapping[verdicts.Fate, Fate]]] = {
    Act.UPLOAD: {
        verdicts.Fate.ACCEPTED: Fate.TAKEN,
        verdicts.Fate.WARNED: Fate.TAKEN,
        verdicts.Fate.REFUSED: Fate.REFUSED,
        verdicts.Fate.AGAIN: Fate.AGAIN,
        verdicts.Fate.NOT_INGESTED: Fate.AGAIN,
    },
    Act.DELETE: {
        verdicts.Fate.ACCEPTED: Fate.GONE,
        verdicts.Fate.WARNED: Fate.GONE,
        verdicts.Fate.REFUSED: Fate.KEPT,
        verdicts.Fate.AGAIN: Fate.AGAIN,
        verdicts.Fate.NOT_INGESTED: Fate.AGAIN,
    },
}


_IMAGE_FAULTS: Final = {
    "unreachable": "the image cannot be fetched: TikTok will not show the item",
    "not_an_image": "what is at the image's address is no JPG or PNG",
    "too_small": "the image has less than 500 by 500 pixels",
    "too_large": "the image is too large to be fetched",
}


def _image_issue(fault: str) -> SyncIssue:
    text = _IMAGE_FAULTS.get(fault, fault)
    fix = "replace the image in Shopify"
    return SyncIssue(IssueSource.MAPPING, False, f"image_{fault}", "images", text, fix)  # noqa: FBT003  # a row


def _kind(act: Act) -> SubmitKind:
    return SubmitKind(act.value)


def _sent_of(flight: Flight) -> list[Sent]:
    return [Sent(one.product_id, one.sku_id, one.digest, one.availability) for one in flight.items]


def _does_not_say(verdict: Verdict) -> SyncIssue:
    reason = verdict.reason.value if verdict.reason else "unknown"
    return SyncIssue(
        IssueSource.TIKTOK,
        True,  # noqa: FBT003  # a row
        "fate_unknown",
        "",
        f"TikTok has not said what became of it, {_UNKNOWN_MAX} times ({reason})",
        "look it up in TikTok's Catalog Manager; it is sent again when it changes",
    )
