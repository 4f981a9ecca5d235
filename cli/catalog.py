"""`tidewire catalog`: products in TikTok's catalogs, what TikTok says of them, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Final

import typer

from cli import catalog_calls as calls
from cli.catalog_calls import Service, View
from cli.delivery import callee_of
from libs.connections import shop_handle
from tidewire.catalog.v1 import catalog_service_pb2 as pb

CATALOG: Final = "127.0.0.1:9085"
"""Where `tidewire dev` has the catalog service."""

CatalogAddress = Annotated[
    str,
    typer.Option("--address", envvar="TIDEWIRE_CATALOG_GRPC_ADDRESS", help="The catalog service."),
]
ConnectionId = Annotated[str, typer.Argument(help="Such as example.catalog.7000000000000000002.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]

catalog = typer.Typer(
    help="Products in TikTok's catalogs: sync them, see how they are and why.",
    no_args_is_help=True,
)


class Kind(StrEnum):
    """Why all of a shop is looked at."""

    FULL = "full"
    REMAP = "remap"
    RESEND = "resend"


_KINDS: Final = {
    Kind.FULL: pb.SYNC_KIND_FULL,
    Kind.REMAP: pb.SYNC_KIND_REMAP,
    Kind.RESEND: pb.SYNC_KIND_RESEND,
}


@catalog.command()
def sync(
    shop: Annotated[str, typer.Argument(help="Handle or domain of the shop.")],
    kind: Annotated[
        Kind,
        typer.Option(
            help="full: read all from Shopify; remap: map what is known again;"
            " resend: as remap, and send everything again."
        ),
    ] = Kind.FULL,
    take_out_many: Annotated[
        bool,
        typer.Option(
            "--take-out-many",
            help="What is gone from the shop is taken out even where that is most of it.",
        ),
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only begin it, do not follow it.")
    ] = False,
    as_json: Json = False,
    address: CatalogAddress = CATALOG,
) -> None:
    """Compares a whole shop with its catalogs and sends what differs; exits 1 where that failed."""
    from cli.catalog_sync import Wish  # noqa: PLC0415
    from cli.catalog_sync import sync as begin  # noqa: PLC0415

    wish = Wish(
        shop=_handle(shop), kind=_KINDS[kind], wait=not no_wait, take_out_many=take_out_many
    )
    view = View(as_json=as_json)
    _do(address, lambda service: begin(service, view, wish))


@catalog.command()
def status(
    shop: Annotated[str, typer.Argument(help="Handle or domain; else all shops.")] = "",
    as_json: Json = False,
    address: CatalogAddress = CATALOG,
) -> None:
    """How catalogs are: items by state, what waits and for what; exits 1 where it needs you."""
    from cli.catalog_items import status as show  # noqa: PLC0415

    handle = _handle(shop) if shop else ""
    view = View(as_json=as_json)
    _do(address, lambda service: show(service, view, handle))


@catalog.command()
def explain(
    item: Annotated[str, typer.Argument(help="Id in a catalog, SKU, or number of a variant.")],
    shop: Annotated[str, typer.Option(help="Handle or domain of the shop.")],
    connection: Annotated[str, typer.Option(help="Only in this catalog, by its connection.")] = "",
    as_json: Json = False,
    address: CatalogAddress = CATALOG,
) -> None:
    """The whole story of one item: Shopify's fields, the rules, TikTok's fields and answer."""
    from cli.catalog_items import explain as show  # noqa: PLC0415

    request = pb.ExplainItemRequest(shop=_handle(shop), item=item, connection_id=connection)
    view = View(as_json=as_json)
    _do(address, lambda service: show(service, view, request))


@catalog.command()
def refused(
    of: Annotated[
        str, typer.Argument(metavar="[SHOP|CONNECTION]", help="Of what; else of all shops.")
    ] = "",
    limit: Annotated[int, typer.Option(help="At most so many of a catalog.", min=1)] = 10_000,
    as_json: Json = False,
    address: CatalogAddress = CATALOG,
) -> None:
    """Items that TikTok turned down or would, by reason, with what to do about it."""
    from cli.catalog_items import refused as show  # noqa: PLC0415

    view = View(as_json=as_json)
    _do(address, lambda service: show(service, view, of, limit))


@catalog.command()
def pause(
    connection: ConnectionId,
    note: Annotated[str, typer.Option(help="Why; others will read it.")] = "",
    address: CatalogAddress = CATALOG,
) -> None:
    """Stops a catalog; what changes meanwhile is sent afterwards."""
    _do(address, lambda service: calls.pause(service, View(), connection, note))


@catalog.command()
def resume(connection: ConnectionId, address: CatalogAddress = CATALOG) -> None:
    """Lets a catalog go on, whatever had stopped it."""
    _do(address, lambda service: calls.resume(service, View(), connection))


@catalog.command()
def bind(
    connection: ConnectionId,
    advertiser: Annotated[str, typer.Option(help="Id of the advertiser that owns the pixel.")],
    pixel: Annotated[str, typer.Option(help="Code of the pixel.")],
    address: CatalogAddress = CATALOG,
) -> None:
    """Has TikTok match a catalog's items with the events of a pixel."""
    request = pb.BindEventSourceRequest(
        connection_id=connection, advertiser_id=advertiser, pixel_code=pixel
    )
    _do(address, lambda service: calls.bind(service, View(), request))


def _do(address: str, work: Callable[[Service], Awaitable[int]]) -> None:
    raise typer.Exit(asyncio.run(calls.at(callee_of(address), work)))


def _handle(text: str) -> str:
    found = shop_handle(text, bare=True)
    if found is None:
        raise typer.BadParameter(f"{text}: give a handle, or a domain such as x.myshopify.com")
    return found
