"""`tidewire ledger`: what was received, how it ended, and whether anything is missing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.clock import Clock, SystemClock
from libs.errors import ServiceError
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.delivery.v1 import ledger_service_pb2 as pb
from tidewire.delivery.v1 import ledger_service_pb2_grpc

QUIET_S: Final = 60.0
"""What is found nowhere for so long is lost; what has not moved for so long is not waited for."""

_ASK_EVERY_S: Final = 2.0
_CALL_S: Final = 30.0
_PIPED_CELLS: Final = 160

Found = pb.LedgerServiceGetResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for."""

    shop: str = ""
    sink: str = ""
    day: str = ""
    rows: bool = False
    as_json: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Waited:
    """How long the ledger has been watched, in seconds of our clock."""

    since_start_s: float = 0.0
    since_moved_s: float = 0.0


def verdict(found: Found, waited: Waited, wait_s: float) -> int | None:
    """The exit code, or None where it is worth to wait: 0 balanced, 1 not.

    What is unaccounted may still turn up, until it was missed for `QUIET_S`. What is on its way is
    waited for as long as `wait_s`, unless nothing has moved for `QUIET_S`.
    """
    if not found.balanced:
        missed_s = (found.read_at.ToNanoseconds() - found.unbalanced_since.ToNanoseconds()) / 1e9
        known = found.HasField("unbalanced_since")
        lost = max(waited.since_moved_s, missed_s if known else 0.0) >= QUIET_S
        return 1 if lost or waited.since_start_s >= max(wait_s, 2 * QUIET_S) else None
    on_its_way = found.unnormalised_segments + sum(found.total.in_flight.values())
    over = waited.since_start_s >= wait_s or waited.since_moved_s >= QUIET_S
    return 0 if over or not on_its_way else None


async def show_ledger(wish: Wish, callee: Callee, *, clock: Clock | None = None) -> int:
    """Asks, waits where that is worth it, prints; 0 balanced, 1 not, 2 where it cannot be asked."""
    try:
        code, found = await _watch(callee, wish, clock or SystemClock())
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _print(found, wish)
    return code


async def _watch(callee: Callee, wish: Wish, clock: Clock) -> tuple[int, Found]:
    request = pb.LedgerServiceGetRequest(
        shop=wish.shop, sink=wish.sink, day=wish.day, rows=wish.rows
    )
    began_s = moved_s = clock.monotonic_s()
    before: object = None
    async with channel(callee.address, callee.identity) as opened:
        stub: Any = ledger_service_pb2_grpc.LedgerServiceStub(opened)
        while True:
            try:
                found: Found = await call(stub.Get, request, timeout_s=_CALL_S)
            except ServiceError as error:
                patient = clock.monotonic_s() - began_s < max(wish.wait_s, QUIET_S)
                if error.code != "ledger_not_read" or not patient:
                    raise
                await clock.sleep(_ASK_EVERY_S)
                continue
            now_s = clock.monotonic_s()
            state = (found.total.SerializeToString(deterministic=True), found.unnormalised_segments)
            moved_s = moved_s if state == before else now_s
            before = state
            code = verdict(found, Waited(now_s - began_s, now_s - moved_s), wish.wait_s)
            if code is not None:
                return code, found
            await clock.sleep(_ASK_EVERY_S)


def as_dict(found: Found) -> dict[str, Any]:
    """The answer as data: the sum at the top, rows below it where they were asked for."""
    made = {
        **_figures(found.total),
        "balanced": found.balanced,
        "unnormalised_segments": found.unnormalised_segments,
        "parked_deliveries": found.parked_deliveries,
        "read_at": _instant(found.read_at),
        "known_since": _instant(found.known_since),
        "unbalanced_since": (
            _instant(found.unbalanced_since) if found.HasField("unbalanced_since") else None
        ),
    }
    if found.rows:
        made["rows"] = [
            {"shop": row.shop, "sink": row.sink, "day": row.day, **_figures(row)}
            for row in found.rows
        ]
    return made


def _figures(row: pb.LedgerRow) -> dict[str, Any]:
    return {
        "received": row.received,
        "delivered": row.delivered,
        "delivered_uncertain": row.delivered_uncertain,
        "ignored": dict(sorted(row.ignored.items())),
        "dead": dict(sorted(row.dead.items())),
        "in_flight": sum(row.in_flight.values()),
        "in_flight_by_place": dict(sorted(row.in_flight.items())),
        "unaccounted": row.unaccounted,
        "deliveries": row.deliveries,
    }


def _instant(moment: Timestamp) -> str:
    return str(moment.ToJsonString())


def _print(found: Found, wish: Wish) -> None:
    if wish.as_json:
        print(msgspec.json.format(msgspec.json.encode(as_dict(found)), indent=2).decode())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=_PIPED_CELLS, highlight=False)
    console.print(_total_table(found))
    if wish.rows:
        console.print(_rows_table(found))
    if found.balanced:
        console.print("[bold green]balanced[/]: every unit has ended or was found")
    else:
        since = _instant(found.unbalanced_since)
        console.print(
            f"[bold red]not balanced[/] since {since}: {found.total.unaccounted:,} units have not"
            " ended and were found nowhere (docs/runbooks/ledger-unbalanced.md)"
        )


def _total_table(found: Found) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"Units received since {_instant(found.known_since)[:10]}", no_wrap=True)
    table.add_column("units", justify="right")
    total = found.total
    table.add_row("received", f"{total.received:,}", style="bold")
    table.add_row("delivered", f"{total.delivered:,}")
    table.add_row("delivered, uncertain", f"{total.delivered_uncertain:,}")
    for kind, counts in (
        ("ignored", total.ignored),
        ("dead", total.dead),
        ("in flight", total.in_flight),
    ):
        for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            table.add_row(f"{kind}: {escape(reason)}", f"{count:,}")
    table.add_row("unaccounted", f"{total.unaccounted:,}", style="red" if total.unaccounted else "")
    table.add_section()
    table.add_row("distinct deliveries", f"{total.deliveries:,}", style="dim")
    table.add_row("segments not normalised", f"{found.unnormalised_segments:,}", style="dim")
    table.add_row("parked deliveries of unknown shops", f"{found.parked_deliveries:,}", style="dim")
    return table


def _rows_table(found: Found) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("shop", "sink", "day"):
        table.add_column(name, no_wrap=True)
    numbers = ("received", "delivered", "uncertain", "ignored", "dead", "in flight", "unaccounted")
    for name in numbers:
        table.add_column(name, justify="right")
    for row in found.rows:
        counts = (
            row.received,
            row.delivered,
            row.delivered_uncertain,
            *(sum(one.values()) for one in (row.ignored, row.dead, row.in_flight)),
            row.unaccounted,
        )
        table.add_row(
            escape(row.shop), escape(row.sink), row.day, *(f"{count:,}" for count in counts)
        )
    return table
