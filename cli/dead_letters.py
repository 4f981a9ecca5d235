"""What `tidewire dlq` does: calls the delivery service, asks before it acts, prints."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Concatenate, Final, ParamSpec

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc

P = ParamSpec("P")

_TIMEOUT_S: Final = 120.0
"""A dry run by filter reads every letter that fits."""
_PAGE: Final = 500
_SHOWN_OF_A_PLAN: Final = 20
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NONE_FIT: Final = "no dead letters fit"
_FAILED: Final = frozenset({"not_found", "not_replayable"})


@dataclass(slots=True, kw_only=True)
class View:
    """How results are shown."""

    as_json: bool = False
    console: Console = field(default_factory=Console)
    ask: Callable[[str], bool] | None = None
    """Asks a person; None where there is nobody to ask."""

    def __post_init__(self) -> None:
        if self.ask is None and not self.as_json and sys.stdin.isatty():
            self.ask = typer.confirm

    def json(self, value: object) -> None:
        self.console.print_json(json.dumps(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done with which letters: dropped where there is a `because`, else replayed."""

    selection: pb.DeadLetterSelection
    yes: bool = False
    dry_run: bool = False
    because: str = ""


class Service:
    """The service's calls."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def page(self, request: pb.DeadLetterServiceListRequest) -> Any:
        return await self._call("List", request)

    async def letter(self, request: pb.DeadLetterServiceGetRequest) -> Any:
        return await self._call("Get", request)

    async def do(self, plan: Plan, *, dry_run: bool, token: str, page_token: str, size: int) -> Any:
        common: dict[str, Any] = {
            "selection": plan.selection,
            "dry_run": dry_run,
            "plan_token": token,
            "page_token": page_token,
            "page_size": size,
        }
        if plan.because:
            return await self._call("Drop", pb.DropRequest(**common, reason=plan.because))
        return await self._call("Replay", pb.ReplayRequest(**common))

    async def _call(self, method: str, request: Message) -> Any:
        return await call(getattr(self._stub, method), request, timeout_s=_TIMEOUT_S)


async def at(
    callee: Callee,
    view: View,
    work: Callable[Concatenate[Service, View, P], Awaitable[int]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> int:
    """What `work` returns with the service at `callee`; 2 where the service says no."""
    async with channel(callee.address, callee.identity) as opened:
        stub = dead_letter_service_pb2_grpc.DeadLetterServiceStub(opened)
        try:
            return await work(Service(stub), view, *args, **kwargs)
        except ServiceError as error:
            sys.stderr.write(f"{error}\n")
            return 2


# -- what is asked for ---------------------------------------------------------------------------


def wanted(
    shop: str,
    reason: str,
    code: str,
    service: str,
    sink: str,
    since: str,
    *,
    settled: bool = False,
) -> pb.DeadLetterFilter:
    """The filter that the options mean."""
    found = pb.DeadLetterFilter(
        shop=shop.removesuffix(".myshopify.com"),
        reason_class=reason.rstrip("/"),
        code=code,
        service=service,
        sink=sink,
        include_settled=settled,
    )
    if since:
        found.since.CopyFrom(_instant(since, SystemClock().now_ns()))
    return found


def selection(ids: Sequence[str], fitting: pb.DeadLetterFilter) -> pb.DeadLetterSelection:
    """Letters by id, or all that fit; not all that there are, unless something is said of them.

    Raises:
        typer.BadParameter: both or neither were given.
    """
    narrowed = bool(fitting.ListFields())
    if bool(ids) == narrowed:
        raise typer.BadParameter("give ids, or say which: --shop, --reason, --code, …; not both")
    if ids:
        return pb.DeadLetterSelection(ids=pb.DeadLetterIds(ids=ids))
    return pb.DeadLetterSelection(filter=fitting)


def get_request(letter_id: str, *, original: bool, reveal: bool) -> pb.DeadLetterServiceGetRequest:
    """What `show` asks for; to reveal the original is to ask for it."""
    return pb.DeadLetterServiceGetRequest(
        dead_letter_id=letter_id, include_original=original or reveal, reveal=reveal
    )


def _instant(text: str, now_ns: int) -> Timestamp:
    """`6h` as so long ago; else a time of ISO 8601, UTC where it names no zone.

    Raises:
        typer.BadParameter: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return Timestamp(seconds=now_ns // 1_000_000_000 - int(span[1]) * _UNIT_S[span[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("--since takes 30m, 6h, 2d, or 2026-11-27T12:00") from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Timestamp(seconds=int(aware.timestamp()))


# -- what is done --------------------------------------------------------------------------------


async def list_letters(
    service: Service, view: View, fitting: pb.DeadLetterFilter, limit: int
) -> int:
    """Prints at most `limit` letters that fit."""
    found: list[pb.DeadLetterSummary] = []
    token = ""
    while len(found) < limit:
        page = await service.page(
            pb.DeadLetterServiceListRequest(
                filter=fitting, page_size=min(_PAGE, limit - len(found)), page_token=token
            )
        )
        found += page.letters
        token = page.next_page_token
        if not token:
            break
    if view.as_json:
        view.json([MessageToDict(one) for one in found])
        return 0
    view.console.print(_letters_table(found) if found else _NONE_FIT)
    if token:
        view.console.print(f"there are more: --limit {2 * limit} shows them")
    return 0


async def show_letter(service: Service, view: View, request: pb.DeadLetterServiceGetRequest) -> int:
    """Prints one letter."""
    answer = await service.letter(request)
    shown = MessageToDict(answer.summary)
    if answer.original_json:
        shown["original"] = json.loads(answer.original_json)
    view.json(shown)
    return 0


async def act(service: Service, view: View, plan: Plan) -> int:
    """Makes the dry run, asks, and does it page by page; 1 where a letter could not be done."""
    dry = await service.do(plan, dry_run=True, token="", page_token="", size=_PAGE)
    matched = dry.matched or len(plan.selection.ids.ids) or len(dry.actions)
    if plan.dry_run or not plan.yes or not matched:
        _show_plan(view, dry, matched)
    if plan.dry_run or not matched:
        return 0
    verb = "drop" if plan.because else "replay"
    if not plan.yes and not (view.ask and view.ask(f"{verb} {matched}?")):
        sys.stderr.write("nothing was done; --yes does it without asking\n")
        return 1
    done: list[pb.DeadLetterAction] = []
    token, first = "", True
    while first or token:
        page = await service.do(
            plan, dry_run=False, token=dry.plan_token, page_token=token, size=_PAGE
        )
        done += page.actions
        token, first = page.next_page_token, False
    _show_done(view, done)
    return 1 if any(action.result in _FAILED for action in done) else 0


def _show_plan(view: View, dry: Any, matched: int) -> None:
    if view.as_json:
        view.json({"matched": matched, "actions": [MessageToDict(one) for one in dry.actions]})
        return
    if matched:
        view.console.print(_actions_table(dry.actions[:_SHOWN_OF_A_PLAN]))
    view.console.print(f"{matched} in all; nothing is done yet" if matched else _NONE_FIT)


def _show_done(view: View, done: Sequence[pb.DeadLetterAction]) -> None:
    counts = Counter(action.result for action in done)
    if view.as_json:
        view.json({"results": dict(counts), "actions": [MessageToDict(one) for one in done]})
        return
    failed = [action for action in done if action.result in _FAILED]
    if failed:
        view.console.print(_actions_table(failed[:_SHOWN_OF_A_PLAN]))
    view.console.print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())))


# -- tables --------------------------------------------------------------------------------------


def _letters_table(letters: Sequence[pb.DeadLetterSummary]) -> Table:
    table = Table("given up", "letter", "reason", "what happened", "state", box=box.SIMPLE)
    for one in letters:
        letter = one.letter
        state = pb.DeadLetterState.Name(one.state).removeprefix("DEAD_LETTER_STATE_").lower()
        table.add_row(
            letter.died_at.ToDatetime().isoformat(sep=" ", timespec="seconds"),
            escape(letter.dead_letter_id),
            escape(f"{letter.reason_class}/{letter.code}"),
            escape(" ".join(filter(None, (letter.path, letter.message)))),
            state,
        )
    return table


def _actions_table(actions: Sequence[pb.DeadLetterAction]) -> Table:
    table = Table("letter", "result", "becomes", "why", box=box.SIMPLE)
    for action in actions:
        table.add_row(
            escape(action.dead_letter_id),
            action.result,
            escape(action.replayed_as),
            escape(action.reason),
        )
    return table
