"""`tidewire catalog sync`: has a shop compared with its catalogs, and shows how far that is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.catalog_calls import Service, View
from cli.catalog_words import going, kind_word, line, phase_word, place, plain, span, turned_down
from libs.errors import Kind, ServiceError, permanent
from libs.rpc.client import stream
from tidewire.catalog.v1 import catalog_service_pb2 as pb

_STEPS: Final = (
    pb.SYNC_PHASE_QUEUED,
    pb.SYNC_PHASE_EXPORTING,
    pb.SYNC_PHASE_COMPARING,
    pb.SYNC_PHASE_SENDING,
    pb.SYNC_PHASE_DONE,
)
_ENDS: Final = frozenset({pb.SYNC_PHASE_DONE, pb.SYNC_PHASE_FAILED})
_BAR_CHARS: Final = 30
_REFRESH_PER_S: Final = 4
_AGAIN_S: Final = 1.0
_SILENCE_S_MAX: Final = 60.0
"""Without a word for so long, watching ends; the sync goes on without us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to begin, and whether to wait for it."""

    shop: str
    kind: pb.SyncKind.ValueType
    wait: bool
    take_out_many: bool = False


class Shown(Protocol):
    """Where news go."""

    def __call__(self, seen: pb.WatchSyncResponse, note: str) -> None:
        """Shows how it is; `note` says what is wrong with the news themselves."""


async def sync(service: Service, view: View, wish: Wish) -> int:
    """Starts a sync and follows it; 1 where it failed or was not seen to end."""
    request = pb.StartSyncRequest(shop=wish.shop, kind=wish.kind, take_out_many=wish.take_out_many)
    started: pb.StartSyncResponse = await service.ask("StartSync", request)
    if not wish.wait:
        _tell_started(view, wish.shop, started)
        return 0
    if started.joined and not view.as_json:
        kind = kind_word(started.progress.kind)
        view.line(f"a {kind} sync of {wish.shop} is under way already: this is it")
    last = pb.WatchSyncResponse(progress=started.progress)
    try:
        with _showing(view, wish.shop, last) as shown:
            last = await _followed(service, view, wish.shop, last, shown)
    except asyncio.CancelledError:
        _tell_left(wish.shop)
        return 1
    return _ended(view, wish.shop, last)


async def _followed(
    service: Service, view: View, shop: str, first: pb.WatchSyncResponse, shown: Shown
) -> pb.WatchSyncResponse:
    """What was said last: a sync that has come to rest.

    Raises:
        ServiceError: the service says no, or nothing for a minute, or knows of no sync.
    """
    heard_s, last = view.clock.monotonic_s(), first
    while last.progress.phase not in _ENDS:
        note = "the service ended the watch; asking again"
        watch = stream(service.stub.WatchSync, pb.WatchSyncRequest(shop=shop), timeout_s=None)
        try:
            async for seen in watch:
                heard_s, last = view.clock.monotonic_s(), seen
                shown(seen, "")
        except ServiceError as error:
            # A service that restarts, or a stream whose hour is over: the sync goes on.
            silent_s = view.clock.monotonic_s() - heard_s
            if error.kind is not Kind.RETRYABLE or silent_s > _SILENCE_S_MAX:
                raise
            note = f"no answer ({error.code}); asking again"
        if not last.HasField("progress"):
            raise permanent("sync_unknown", f"{shop} has no sync any more; start it again")
        if last.progress.phase not in _ENDS:
            shown(last, note)
            await view.clock.sleep(_AGAIN_S)
    return last


def _tell_started(view: View, shop: str, started: pb.StartSyncResponse) -> None:
    if view.as_json:
        view.json(plain(started))
        return
    kind = kind_word(started.progress.kind)
    how = "is under way already" if started.joined else "has begun"
    view.line(f"a {kind} sync of {shop} {how}; tidewire catalog status {shop} shows it")


def _tell_left(shop: str) -> None:
    sys.stderr.write(f"the sync goes on; tidewire catalog status {shop} shows it\n")


def _ended(view: View, shop: str, last: pb.WatchSyncResponse) -> int:
    failed = last.progress.phase == pb.SYNC_PHASE_FAILED
    if view.as_json:
        view.json(plain(last))
        return int(failed)
    if failed:
        sys.stderr.write(f"the sync was given up: {line(last.progress.error)}\n")
    refused = turned_down(last.catalogs)
    if refused:
        view.line(f"{refused:,} refused; tidewire catalog refused {shop} says why")
    return int(failed)


# -- what is drawn -------------------------------------------------------------------------------


@contextmanager
def _showing(view: View, shop: str, first: pb.WatchSyncResponse) -> Iterator[Shown]:
    """Draws on a terminal, and writes a line for each step elsewhere."""
    if view.as_json:
        yield lambda seen, note: None  # noqa: ARG005  nothing is shown before the end
        return
    if not view.console.is_terminal:
        yield _Lines(view, shop)
        return
    now: list[Any] = [first, ""]

    def shown(seen: pb.WatchSyncResponse, note: str) -> None:
        now[:] = [seen, note]

    def drawn() -> RenderableType:
        return drawing(shop, now[0], view.clock.now_ns(), now[1])

    with Live(console=view.console, get_renderable=drawn, refresh_per_second=_REFRESH_PER_S):
        yield shown


class _Lines:
    """One line for each phase, and for each wait that begins."""

    def __init__(self, view: View, shop: str) -> None:
        self._view = view
        self._shop = shop
        self._told: tuple[object, ...] = ()

    def __call__(self, seen: pb.WatchSyncResponse, note: str) -> None:
        waits = [
            f"{one.connection_id}: {held}"
            for one in seen.catalogs
            if (held := waiting(one, self._view.clock.now_ns()))
        ]
        told = (
            seen.progress.phase,
            note,
            *((one.next_submit_at.seconds, one.held_by) for one in seen.catalogs),
        )
        if told == self._told:
            return
        self._told = told
        text = "; ".join((_figures(seen.progress), *waits, *filter(None, (note,))))
        self._view.line(f"{self._shop}: {phase_word(seen.progress.phase)}, {text}")


def drawing(shop: str, seen: pb.WatchSyncResponse, now_ns: int, note: str = "") -> RenderableType:
    """A sync and its catalogs as they are at `now_ns`."""
    progress = seen.progress
    rows = Table.grid(padding=(0, 1))
    rows.add_row("compared", _bar(progress.products_done, progress.products_total), _of(
        progress.products_done, progress.products_total, "products"))  # fmt: skip
    changed = progress.items_changed + progress.items_deleted
    waits = sum(one.waiting for one in seen.catalogs)
    if changed or waits:
        total = max(changed, waits)
        rows.add_row("sent", _bar(total - waits, total), _of(total - waits, total, "items"))
    parts: list[RenderableType] = [
        Text(f"{shop}: {kind_word(progress.kind)} sync{_since(progress, now_ns)}"),
        _steps(progress.phase),
        rows,
        Text(_figures(progress)),
    ]
    for one in seen.catalogs:
        text = waiting(one, now_ns)
        if text:
            style = "yellow" if one.held_by else ""
            parts.append(Text(f"{one.connection_id} ({place(one)}): {text}", style))
    if note:
        parts.append(Text(note, "yellow"))
    return Group(*parts)


def waiting(catalog: pb.CatalogStatus, now_ns: int) -> str:
    """What a catalog waits for; empty where it does not."""
    held = ": ".join(filter(None, (f"held by {line(catalog.held_by)}", line(catalog.held_note))))
    return "; ".join(filter(None, (going(catalog, now_ns), held if catalog.held_by else "")))


def _steps(phase: int) -> Text:
    text = Text()
    here = _STEPS.index(phase) if phase in _STEPS else len(_STEPS)
    for number, step in enumerate(_STEPS):
        if number:
            text.append(" > ")
        style = "bold" if number == here else "green" if number < here else "dim"
        text.append(phase_word(step), style if phase in _STEPS else "dim")
    if phase not in _STEPS:
        text.append(f"  {phase_word(phase)}", "red")
    return text


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), width=_BAR_CHARS)


def _of(done: int, total: int, what: str) -> str:
    return f"{done:,} of {total:,} {what}" if total else f"no {what} yet"


def _figures(progress: pb.SyncProgress) -> str:
    return (
        f"{progress.items:,} items, {progress.items_changed:,} changed,"
        f" {progress.items_deleted:,} gone"
    )


def _since(progress: pb.SyncProgress, now_ns: int) -> str:
    if not progress.HasField("started_at"):
        return ""
    ended = progress.HasField("ended_at")
    until_ns = progress.ended_at.ToNanoseconds() if ended else now_ns
    took = span((until_ns - progress.started_at.ToNanoseconds()) / 1e9)
    return f", took {took}" if ended else f", {took} so far"
