"""`tidewire limits`: how busy the shared limits are, live."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.limiter.v1 import limiter_service_pb2 as pb
from tidewire.limiter.v1.limiter_service_pb2_grpc import LimiterServiceStub

_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_USED_MUCH: Final = 0.8
_BAR_CHARS: Final = 20
_CLOCK: Final = SystemClock()


async def show_limits(callee: Callee, *, prefix: str, once: bool, as_json: bool) -> int:
    """Prints the limits, each second until Ctrl-C unless `once`; 2 if nobody answers at first."""
    async with channel(callee.address, callee.identity) as opened:
        stub: Any = LimiterServiceStub(opened)
        try:
            limits = await _asked(stub, prefix)
            if as_json:
                await _print_json(stub, prefix, limits, once=once)
            elif once:
                Console().print(limits_table(limits, _CLOCK.now_ns()))
            else:
                await _watch(stub, prefix, limits)
        except ServiceError as error:
            sys.stderr.write(f"no limiter at {callee.address} ({error.code}): {error.message}\n")
            return 2
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 0
    return 0


def limits_table(limits: list[pb.LimitStatus], now_ns: int, note: str = "") -> Table:
    """The limits as a table; `note` says what is wrong with it."""
    table = Table(title="Limits", caption=note or None, expand=False)
    table.add_column("limit", overflow="fold")
    for name in ("units", "used", "", "pace", "ahead", "waiters", "granted", "last throttle"):
        table.add_column(name, justify="left" if name in ("", "last throttle") else "right")
    for one in limits:
        table.add_row(*_cells(one, now_ns))
    if not limits:
        table.add_row("none was used yet")
    return table


def limits_json(limits: list[pb.LimitStatus]) -> str:
    """The limits as one line of JSON."""
    found = [
        MessageToDict(
            one, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for one in limits
    ]
    return msgspec.json.encode(found).decode()


async def _asked(stub: Any, prefix: str) -> list[pb.LimitStatus]:
    request = pb.DescribeRequest(prefix=prefix)
    answer: pb.DescribeResponse = await call(stub.Describe, request, timeout_s=_TIMEOUT_S)
    return list(answer.limits)


async def _print_json(stub: Any, prefix: str, limits: list[pb.LimitStatus], *, once: bool) -> None:
    print(limits_json(limits), flush=True)
    while not once:
        await asyncio.sleep(_EVERY_S)
        print(limits_json(await _asked(stub, prefix)), flush=True)


async def _watch(stub: Any, prefix: str, limits: list[pb.LimitStatus]) -> None:
    note = ""
    with Live(limits_table(limits, _CLOCK.now_ns()), auto_refresh=False) as live:
        while True:
            live.update(limits_table(limits, _CLOCK.now_ns(), note), refresh=True)
            await asyncio.sleep(_EVERY_S)
            try:
                limits, note = await _asked(stub, prefix), ""
            except ServiceError as error:
                # What is shown is old by now, and the screen says so; it may come back.
                note = f"no answer: {error.code}"


def _cells(one: pb.LimitStatus, now_ns: int) -> tuple[str, ...]:
    colour = "red" if one.used >= 1 else "yellow" if one.used >= _USED_MUCH else "green"
    filled = round(min(one.used, 1.0) * _BAR_CHARS)
    ahead_ms = one.reserved_ahead.ToNanoseconds() / 1e6
    return (
        escape(one.name),
        f"{one.limit:,.0f}",
        f"{one.used:.0%}",
        f"[{colour}]{'█' * filled}[/]{'·' * (_BAR_CHARS - filled)}",
        f"{one.pace:.0%}" if one.pace >= 1 else f"[yellow]{one.pace:.0%}[/]",
        f"{ahead_ms:,.0f} ms",
        f"{one.waiters:,}",
        f"{one.granted:,}",
        _last_throttle(one, now_ns),
    )


def _last_throttle(one: pb.LimitStatus, now_ns: int) -> str:
    if not one.HasField("last_throttle"):
        return ""
    ago_s = max(now_ns - one.last_throttle.ToNanoseconds(), 0) / 1e9
    ago = f"{ago_s:,.0f} s" if ago_s < 120 else f"{ago_s / 60:,.0f} min"
    return escape(f"{ago} ago, {one.last_throttle_code}")
