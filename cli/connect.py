"""`tidewire connect`: begins, opens the browser, and waits until the person there is done."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.connections import AUTH, AuthAddress, asked, flow_of
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.rpc.client import call
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.connections.v1 import connection_pb2

_CALL_S: Final = 30.0
_LOOK_S: Final = 0.5
_REFUSED: Final = ("_denied", "_unauthenticated")
"""How codes end of a caller that is not let in: waiting does not help."""

_WINDOWED: Final = ("darwin", "win32")
_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")

connect = typer.Typer(
    help="Connects a store or an account: a person agrees in a browser.", no_args_is_help=True
)

Shop = Annotated[str, typer.Option(help="Domain or handle of the shop.")]
Browser = Annotated[
    bool, typer.Option(help="Open the address here; without, it is printed to be opened elsewhere.")
]
Country = Annotated[str, typer.Option(help="ISO 3166-1, such as US; else as the store says.")]
Currency = Annotated[str, typer.Option(help="ISO 4217, such as USD; else as the store says.")]


@connect.command()
def shopify(
    shop: Shop,
    client_id: Annotated[
        str, typer.Option(help="Of an app of the store's own, instead of the service's.")
    ] = "",
    client_secret_file: Annotated[
        Path | None, typer.Option(help="Holds that app's secret.", exists=True)
    ] = None,
    client_credentials: Annotated[
        bool,
        typer.Option("--client-credentials", help="Without a browser: a store of your own."),
    ] = False,
    country: Country = "",
    currency: Currency = "",
    browser: Browser = True,
    address: AuthAddress = AUTH,
) -> None:
    """Connects a Shopify store."""
    spec = pb.ConnectionSpec(
        shop=shop,
        kind=connection_pb2.CONNECTION_KIND_SHOPIFY,
        country=country,
        currency=currency,
    )
    if client_id or client_secret_file:
        if not client_id or client_secret_file is None:
            raise typer.BadParameter("give both --client-id and --client-secret-file")
        spec.app.client_id = client_id
        spec.app.client_secret = client_secret_file.read_text().strip()
    if client_credentials:
        raise typer.Exit(asked(address, lambda stub: _completed(stub, spec)))
    raise typer.Exit(_connected(address, spec, browser=browser))


@connect.command()
def tiktok(
    shop: Shop,
    pixel: Annotated[str, typer.Option(help="The pixel's code, from TikTok Events Manager.")],
    dialect: Annotated[
        str, typer.Option(help="event_track or pixel_track; else as it was, or event_track.")
    ] = "",
    test_event_code: Annotated[
        str, typer.Option(help="Shows events under Test Events instead of counting them.")
    ] = "",
    account_holder: Annotated[
        bool, typer.Option("--account-holder", help="A TikTok account agrees, not an advertiser.")
    ] = False,
    browser: Browser = True,
    address: AuthAddress = AUTH,
) -> None:
    """Connects a TikTok pixel to a store that is connected."""
    spec = pb.ConnectionSpec(
        shop=shop,
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
        tiktok_events=connection_pb2.EventsSettings(
            pixel_code=pixel, dialect=_dialect(dialect), test_event_code=test_event_code
        ),
    )
    raise typer.Exit(
        _connected(address, spec, flow_of(account_holder=account_holder), browser=browser)
    )


@connect.command(name="tiktok-catalog")
def tiktok_catalog(
    shop: Shop,
    business_center: Annotated[str, typer.Option(help="Id of the Business Center.")],
    catalog: Annotated[str, typer.Option(help="Id of the catalog.")],
    country: Annotated[str, typer.Option(help="It sells in, such as US; else the shop's.")] = "",
    currency: Annotated[str, typer.Option(help="Of its prices; else the shop's.")] = "",
    language: Annotated[str, typer.Option(help="Of its texts, such as fr; else en.")] = "",
    dialect: Annotated[
        str, typer.Option(help="product_upload or item_batch; else product_upload.")
    ] = "",
    browser: Browser = True,
    address: AuthAddress = AUTH,
) -> None:
    """Connects a TikTok catalog to a store that is connected."""
    spec = pb.ConnectionSpec(
        shop=shop,
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG,
        tiktok_catalog=connection_pb2.CatalogSettings(
            business_center_id=business_center,
            catalog_id=catalog,
            country=country,
            currency=currency,
            language=language,
            dialect=dialect,
        ),
    )
    raise typer.Exit(_connected(address, spec, browser=browser))


@connect.command(name="tiktok-shop")
def tiktok_shop(
    shop: Shop,
    tiktok_shop_id: Annotated[
        str, typer.Option(help="Which one, where the seller has several.")
    ] = "",
    browser: Browser = True,
    address: AuthAddress = AUTH,
) -> None:
    """Connects a TikTok Shop to a store that is connected."""
    spec = pb.ConnectionSpec(
        shop=shop,
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_SHOP,
        tiktok_shop=connection_pb2.TikTokShopSettings(shop_id=tiktok_shop_id),
    )
    raise typer.Exit(_connected(address, spec, browser=browser))


def _dialect(name: str) -> connection_pb2.EventsDialect.ValueType:
    if not name:
        return connection_pb2.EVENTS_DIALECT_UNSPECIFIED
    try:
        return connection_pb2.EventsDialect.Value(f"EVENTS_DIALECT_{name.upper()}")
    except ValueError:
        raise typer.BadParameter(f"{name}: use event_track or pixel_track") from None


def shows_browsers(platform: str, environ: Mapping[str, str]) -> bool:
    """Whether a browser has a window to open; without, some would take the terminal over."""
    return platform in _WINDOWED or any(environ.get(name) for name in _DISPLAYS)


def _connected(
    address: str,
    spec: pb.ConnectionSpec,
    flow: pb.GrantFlow.ValueType = pb.GRANT_FLOW_UNSPECIFIED,
    *,
    browser: bool,
) -> int:
    return asked(address, lambda stub: _flown(stub, spec, flow, browser=browser))


async def _flown(
    stub: Any, spec: pb.ConnectionSpec, flow: pb.GrantFlow.ValueType, *, browser: bool
) -> int:
    """Begins, and waits for the end; 0 connected, 1 failed or too late."""
    begun = await call(
        stub.BeginConnection, pb.BeginConnectionRequest(spec=spec, flow=flow), timeout_s=_CALL_S
    )
    # Flushed: where it goes through a pipe, somebody waits at the other end to open it.
    print(f"open in a browser, within 15 minutes:\n\n  {begun.url}\n", flush=True)
    if browser and shows_browsers(sys.platform, os.environ):
        webbrowser.open(begun.url)
    print("waiting; Ctrl-C stops waiting, the address stays good")
    deadline_s = begun.expires_at.ToNanoseconds() / 1e9
    while SystemClock().now_ns() / 1e9 < deadline_s:
        answer = await _flow_now(stub, begun.flow_id)
        if answer.state == pb.FLOW_STATE_CONNECTED:
            print(f"{answer.connection_id} is connected")
            return 0
        if answer.state == pb.FLOW_STATE_FAILED:
            print(f"not connected ({answer.error_code}): {answer.error_message}")
            return 1
        await asyncio.sleep(_LOOK_S)
    print("nobody agreed in time: begin again")
    return 1


async def _flow_now(stub: Any, flow_id: str) -> pb.GetFlowResponse:
    """How the attempt stands; nothing said, where nobody answers now: a person may take minutes."""
    try:
        answer: pb.GetFlowResponse = await call(
            stub.GetFlow, pb.GetFlowRequest(flow_id=flow_id), timeout_s=_CALL_S
        )
    except ServiceError as error:
        if error.kind is not Kind.RETRYABLE or error.code.endswith(_REFUSED):
            raise
        return pb.GetFlowResponse()
    return answer


async def _completed(stub: Any, spec: pb.ConnectionSpec) -> int:
    request = pb.CompleteConnectionRequest(spec=spec, flow=pb.GRANT_FLOW_CLIENT_CREDENTIALS)
    answer = await call(stub.CompleteConnection, request, timeout_s=_CALL_S)
    print(f"{answer.connection.connection.connection_id} is connected")
    return 0
