"""`tidewire`: what people and images run. It parses and prints; the work is elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.app_toml import shopify_app_toml
from cli.catalog import catalog
from cli.connect import connect
from cli.connections import connections
from cli.delivery import DELIVERY, DeliveryAddress, callee_of
from cli.dlq import dlq
from cli.keys import keys
from services.ingest.settings import Role

app = typer.Typer(
    name="tidewire",
    help="Shopify stores connected to TikTok.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
preview = typer.Typer(
    help="What a webhook would become, as JSON; no network.", no_args_is_help=True
)
streams = typer.Typer(help="The streams on the NATS server.", no_args_is_help=True)
gates = typer.Typer(help="Kill switches, and what is shut and why.", no_args_is_help=True)
app.add_typer(preview, name="preview")
app.add_typer(streams, name="streams")
app.add_typer(gates, name="gates")
app.add_typer(dlq, name="dlq")
app.add_typer(keys, name="keys")
app.add_typer(connections, name="connections")
app.add_typer(catalog, name="catalog")
app.add_typer(connect, name="connect")
app.command("shopify-app-toml")(shopify_app_toml)


class Service(StrEnum):
    """What can be served."""

    INGEST = "ingest"
    EVENTS = "events"
    CATALOG = "catalog"
    DELIVERY = "delivery"
    AUTH = "auth"


Topic = Annotated[str, typer.Option("--topic", help="Webhook topic, such as orders/paid.")]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="A connections file; its first shop is used.", exists=True),
]


GateName = Annotated[
    str, typer.Argument(help="A sink (events, catalog), or a connection, such as shop.events.C123.")
]


@app.command()
def serve(
    service: Annotated[Service, typer.Argument(help="Which service.")],
    role: Annotated[Role, typer.Option(help="Which half of ingest.")] = Role.ALL,
) -> None:
    """Runs one service until it is told to stop. Settings: TIDEWIRE_… (docs/settings.md)."""
    from cli.serve import serve_service  # noqa: PLC0415

    raise typer.Exit(serve_service(service.value, role, os.environ))


@app.command()
def sandbox() -> None:
    """Runs the simulators of TikTok, for the shops of the connections file."""
    from cli.sandbox import serve_sandbox  # noqa: PLC0415

    raise typer.Exit(serve_sandbox(os.environ))


@app.command()
def dev(
    directory: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".state/dev"),
    live: Annotated[
        bool, typer.Option("--live", help="Send to the real TikTok instead of the simulator.")
    ] = False,
) -> None:
    """Runs NATS, all services and the sandbox on this machine until Ctrl-C."""
    from cli.dev import run_dev  # noqa: PLC0415

    raise typer.Exit(asyncio.run(run_dev(directory, os.environ, live=live)))


@app.command()
def demo(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result here as well.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Folder of real webhook payloads to send too.")
    ] = None,
    deliveries: Annotated[int, typer.Option(help="Generated deliveries.")] = 5000,
    seed: Annotated[int, typer.Option(help="Of the generated storm.")] = 7,
    variants: Annotated[int, typer.Option(help="Of the shop that fills catalogs.")] = 10_000,
    keep: Annotated[
        Path | None, typer.Option(help="New folder for logs, streams and spans, to look into.")
    ] = None,
) -> None:
    """Starts everything, sends a storm, and shows that nothing was lost or sent twice."""
    from cli.demo import run_demo  # noqa: PLC0415

    raise typer.Exit(
        asyncio.run(
            run_demo(
                os.environ,
                json_file=json_file,
                corpus=corpus,
                size=deliveries,
                seed=seed,
                variants=variants,
                keep=keep,
            )
        )
    )


@app.command()
def send(
    directory: Annotated[Path, typer.Argument(help="Captured webhook bodies, *.json.")],
    shop: Annotated[str, typer.Option(help="Domain or handle of the shop.")],
    url: Annotated[
        str, typer.Option(help="Where to post.")
    ] = "http://127.0.0.1:8080/webhooks/shopify",
    topic: Annotated[str | None, typer.Option(help="Instead of the folder's name.")] = None,
    connections: Annotated[
        Path, typer.Option(help="Connections file that holds the shop's secret.")
    ] = Path("connections.yaml"),
) -> None:
    """Signs and posts captured webhooks."""
    from cli.send import send_command  # noqa: PLC0415
    from libs.connections import FileConnections, shop_handle  # noqa: PLC0415

    secrets = FileConnections(connections).webhook_secrets(shop_handle(shop) or shop)
    if not secrets:
        typer.echo(f"{connections} has no webhook secret of {shop}: add the shop to it", err=True)
        raise typer.Exit(2)
    domain = shop if "." in shop else f"{shop}.myshopify.com"
    raise typer.Exit(send_command(directory, domain, url, secrets[0].key.decode(), topic=topic))


@app.command()
def trace(
    id_text: Annotated[str, typer.Argument(help="Trace id, webhook id, order id or event id.")],
    directory: Annotated[
        Path, typer.Option(help="State directory of the services, where no collector is set.")
    ] = Path(".state/dev/state"),
) -> None:
    """Draws the way of one delivery, from webhook to TikTok."""
    from cli.trace import trace_command  # noqa: PLC0415
    from libs.telemetry import TRACES_FOLDER  # noqa: PLC0415

    raise typer.Exit(trace_command(id_text, directory / TRACES_FOLDER))


@gates.command("list")
def gates_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """What is shut, since when and why, and what waits."""
    from cli.gates import list_gates  # noqa: PLC0415

    raise typer.Exit(asyncio.run(list_gates(callee_of(address), as_json=as_json)))


@gates.command("pause")
def gates_pause(
    name: GateName,
    note: Annotated[str, typer.Option(help="Why; others will read it.")] = "",
    address: DeliveryAddress = DELIVERY,
) -> None:
    """Stops a sink or a connection until it is resumed; nothing is lost."""
    from cli.gates import pause  # noqa: PLC0415

    raise typer.Exit(asyncio.run(pause(callee_of(address), name, note)))


@gates.command("resume")
def gates_resume(name: GateName, address: DeliveryAddress = DELIVERY) -> None:
    """Lets a sink or a connection go on, whatever had shut it."""
    from cli.gates import resume  # noqa: PLC0415

    raise typer.Exit(asyncio.run(resume(callee_of(address), name)))


@app.command()
def ledger(
    shop: Annotated[str, typer.Option(help="Only this shop, by its handle.")] = "",
    day: Annotated[str, typer.Option(help="Only this UTC day of receipt, YYYY-MM-DD.")] = "",
    sink: Annotated[str, typer.Option(help="Only this sink, such as events.C123.")] = "",
    rows: Annotated[
        bool, typer.Option("--rows", help="A row for each shop, sink and day.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for what is on its way.", min=0)
    ] = 0.0,
    address: DeliveryAddress = DELIVERY,
) -> None:
    """Says how each unit ended; exits 1 where some are found nowhere for 60 s."""
    from cli.ledger import Wish, show_ledger  # noqa: PLC0415

    wish = Wish(shop=shop, sink=sink, day=day, rows=rows, as_json=as_json, wait_s=wait)
    raise typer.Exit(asyncio.run(show_ledger(wish, callee_of(address))))


@app.command()
def limits(
    address: DeliveryAddress = DELIVERY,
    prefix: Annotated[str, typer.Option(help="Only limits whose name begins so.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Show them once and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON instead.")] = False,
) -> None:
    """Shows how busy the shared limits are: use, waiters, last throttle; live until Ctrl-C."""
    from cli.limits import show_limits  # noqa: PLC0415

    raise typer.Exit(
        asyncio.run(show_limits(callee_of(address), prefix=prefix, once=once, as_json=as_json))
    )


@app.command()
def certificates(
    directory: Annotated[Path, typer.Argument(help="Where they are put.")],
) -> None:
    """Makes throw-away certificates for a suite on one machine; `dev` and `demo` do so anyway."""
    from cli.certificates import write_certificates  # noqa: PLC0415

    raise typer.Exit(write_certificates(directory))


@preview.command("normalize")
def preview_normalize(topic: Topic, settings: SettingsFile = None) -> None:
    """The protobuf messages that the webhook on standard input becomes."""
    from cli.preview import preview_normalize as show  # noqa: PLC0415

    raise typer.Exit(show(topic, sys.stdin.buffer.read(), settings))


@preview.command("event")
def preview_event(
    topic: Topic,
    settings: SettingsFile = None,
    dialect: Annotated[str | None, typer.Option(help="event_track or pixel_track.")] = None,
) -> None:
    """The requests that the webhook on standard input would cause at TikTok."""
    from cli.preview import preview_event as show  # noqa: PLC0415

    raise typer.Exit(show(topic, sys.stdin.buffer.read(), settings, dialect))


@preview.command("catalog")
def preview_catalog(
    topic: Topic,
    settings: SettingsFile = None,
    dialect: Annotated[str | None, typer.Option(help="product_upload or item_batch.")] = None,
) -> None:
    """The requests that the product on standard input would cause at TikTok's catalog."""
    from cli.preview import preview_catalog as show  # noqa: PLC0415

    raise typer.Exit(show(topic, sys.stdin.buffer.read(), settings, dialect))


@streams.command("apply")
def streams_apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Also take away replicas and room.")
    ] = False,
) -> None:
    """Creates and updates the streams."""
    from cli.streams import apply_streams  # noqa: PLC0415

    raise typer.Exit(asyncio.run(apply_streams(os.environ, dry_run=dry_run, shrink=shrink)))


@streams.command("check")
def streams_check() -> None:
    """Says whether the server is fit: streams, payload bound, sync of each write."""
    from cli.streams import check_streams  # noqa: PLC0415

    raise typer.Exit(asyncio.run(check_streams(os.environ)))


def main() -> None:
    """Entry point of the `tidewire` command."""
    app()


if __name__ == "__main__":
    main()
