"""`tidewire dlq`: dead letters listed, looked at, replayed and dropped, over gRPC."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cli.delivery import DELIVERY, DeliveryAddress, callee_of

dlq = typer.Typer(
    help="What was given up: look at it, have it tried again, or drop it.", no_args_is_help=True
)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters; else all that fit.")]
Shop = Annotated[str, typer.Option("--shop", help="The shop's handle.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Class of the reason: mapping, permanent, exhausted.")
]
Code = Annotated[str, typer.Option("--code", help="The code, such as upstream_40002.")]
Service = Annotated[str, typer.Option("--service", help="Who gave up: ingest, events.")]
Sink = Annotated[str, typer.Option("--sink", help="For which sink, such as events.C123.")]
Since = Annotated[str, typer.Option("--since", help="Given up since: 30m, 6h, 2d, or a time.")]
Settled = Annotated[
    bool, typer.Option("--settled", help="Also those that were replayed or dropped.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@dlq.command("list")
def list_letters(
    shop: Shop = "",
    reason: Reason = "",
    code: Code = "",
    service: Service = "",
    sink: Sink = "",
    since: Since = "",
    settled: Settled = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: Json = False,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """Letters that fit, the oldest first."""
    from cli import dead_letters as work  # noqa: PLC0415

    wanted = work.wanted(shop, reason, code, service, sink, since, settled=settled)
    view = work.View(as_json=as_json)
    raise typer.Exit(
        asyncio.run(work.at(callee_of(address), view, work.list_letters, wanted, limit))
    )


@dlq.command("show")
def show_letter(
    letter_id: Annotated[str, typer.Argument(help="The letter.")],
    original: Annotated[
        bool, typer.Option("--original", help="Also what it holds, masked.")
    ] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Do not mask it. The policy must permit that.")
    ] = False,
    as_json: Json = False,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """One letter."""
    from cli import dead_letters as work  # noqa: PLC0415

    request = work.get_request(letter_id, original=original, reveal=reveal)
    view = work.View(as_json=as_json)
    raise typer.Exit(asyncio.run(work.at(callee_of(address), view, work.show_letter, request)))


@dlq.command("replay")
def replay_letters(
    ids: Ids = None,
    shop: Shop = "",
    reason: Reason = "",
    code: Code = "",
    service: Service = "",
    sink: Sink = "",
    since: Since = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """Puts letters on their way again, once each; what had succeeded is not sent again."""
    from cli import dead_letters as work  # noqa: PLC0415

    wanted = work.wanted(shop, reason, code, service, sink, since)
    plan = work.Plan(selection=work.selection(ids or [], wanted), yes=yes, dry_run=dry_run)
    view = work.View(as_json=as_json)
    raise typer.Exit(asyncio.run(work.at(callee_of(address), view, work.act, plan)))


@dlq.command("drop")
def drop_letters(
    because: Annotated[str, typer.Option("--because", help="Why they are not needed.")],
    ids: Ids = None,
    shop: Shop = "",
    reason: Reason = "",
    code: Code = "",
    service: Service = "",
    sink: Sink = "",
    since: Since = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """Marks letters as not needed; they stay where they are until they expire."""
    from cli import dead_letters as work  # noqa: PLC0415

    wanted = work.wanted(shop, reason, code, service, sink, since)
    plan = work.Plan(
        selection=work.selection(ids or [], wanted), yes=yes, dry_run=dry_run, because=because
    )
    view = work.View(as_json=as_json)
    raise typer.Exit(asyncio.run(work.at(callee_of(address), view, work.act, plan)))
