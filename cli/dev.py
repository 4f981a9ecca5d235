"""`tidewire dev`: the suite on this machine, on the ports that the documentation names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cli.stack import SERVICES, Ports, Stack
from libs.clock import SystemClock
from libs.errors import ServiceError

_LIVE_URL: Final = "https://business-api.tiktok.com"
_LIVE_SETTING: Final = "TIDEWIRE_TIKTOK_API_BASE_URL"
_SHOP: Final = "example.myshopify.com"
_SECOND_SHOP: Final = "another-store"
_ORDER_ID: Final = 5501
_CLOCK: Final = SystemClock()

_CONNECTIONS: Final = """\
# Shops and where their events go. Saved changes are taken up at once; the sandbox learns of new
# pixels when it is started again. Every field: docs/connections.md.
connections:
  - shop: {shop}
    country: US                    # where phone numbers without a country code are from
    currency: USD
    active_since: {active_since}  # nothing older is reported
    shopify:
      webhook_secrets: [dev-secret]  # the app's client secret; several while you rotate it
    tiktok_events:                 # one entry for each pixel
      - access_token: dev-token      # from TikTok Events Manager
        pixel_code: C4EXAMPLE0001
        dialect: event_track         # or pixel_track, the older shape
        # test_event_code: TEST12345 # shows events under Test Events instead of counting them
        # shadow: true               # maps and records, sends nothing
"""


def dev_ports() -> Ports:
    """The fixed ports: 8080 webhooks, 908x gRPC, 918x metrics, 9300 sandbox, 4222 NATS."""
    return Ports(
        webhooks=8080,
        sandbox=9300,
        pages=8081,
        # The normalizer serves no gRPC; it is given a port that nobody opens.
        grpc={
            "ingest-http": 9080,
            "events": 9081,
            "ingest-normalizer": 9082,
            "delivery": 9083,
            "auth": 9084,
            "catalog": 9085,
        },
        metrics={
            "ingest-http": 9180,
            "events": 9181,
            "ingest-normalizer": 9182,
            "delivery": 9183,
            "auth": 9184,
            "catalog": 9185,
        },
        nats=4222,
        nats_monitor=8222,
    )


async def run_dev(directory: Path, environ: Mapping[str, str], *, live: bool) -> int:
    """Runs everything below `directory` until SIGINT or SIGTERM; the exit code.

    `live` leaves the sandbox out and sends to TikTok, or to where `TIDEWIRE_TIKTOK_API_BASE_URL`
    points. What ends is told of and not started again. 1 says that something did not come up, 2
    that its port is taken.
    """
    stopping = _stop_event()
    ports = dev_ports()
    taken = _taken(_wanted_ports(ports, live=live))
    if taken:
        _say(f"already in use on 127.0.0.1: {', '.join(map(str, taken))}. Is another one running?")
        return 2
    url = environ.get(_LIVE_SETTING, _LIVE_URL) if live else None
    async with Stack(directory, environ, ports=ports, tiktok_url=url, live=live) as stack:
        if not live:
            # Real services would be asked about a store that does not exist.
            _write_example(stack, datetime.fromtimestamp(_CLOCK.now_ns() / 1e9, UTC))
        _say(f"starting NATS, services{'' if live else ' and sandbox'} in {stack.directory}")
        names = [name for name in SERVICES if not (live and name == "sandbox")]
        starting = asyncio.create_task(stack.start_all(names))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if not await _came_up(starting):
                return 0 if stopping.is_set() else 1
            _say(welcome(stack, live=live))
            await _until_stopped(stack, stopped)
        finally:
            stopped.cancel()
    _say("stopped; what was stored stays and is taken up at the next start")
    return 0


async def _came_up(starting: asyncio.Task[None]) -> bool:
    """Whether all is ready; False where that was broken off or failed, which is told."""
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return False
    except (ServiceError, RuntimeError) as error:
        _say(str(error))
        return False
    return True


async def _until_stopped(stack: Stack, stopped: asyncio.Task[bool]) -> None:
    told: set[str] = set()
    while not stopped.done():
        for name in set(stack.ended()) - told:
            told.add(name)
            _say(f"{name} has ended; the rest goes on without it. The end of its log:")
            _say(stack.log_tail(name))
        await asyncio.wait({stopped}, timeout=1.0)


def welcome(stack: Stack, *, live: bool) -> str:
    """Where everything is, and what to try next."""
    ports, directory = stack.ports, _shown(stack.directory)
    judge = f"  sandbox      {stack.sandbox_url}/_sandbox/ledger   what TikTok received\n"
    real = f"  TikTok       {stack.tiktok_url}   the real one: put real tokens into the file\n"
    tidewire = _command()
    look = f"  curl -s {stack.sandbox_url}/_sandbox/ledger\n" if not live else ""
    goods = _goods(stack) if not live else ""
    return f"""\
up and ready:
  webhooks     {stack.webhooks_url}
  gRPC         127.0.0.1:{ports.grpc["ingest-http"]} ingest, :{ports.grpc["events"]} events, \
:{ports.grpc["delivery"]} delivery, :{ports.grpc["auth"]} auth, :{ports.grpc["catalog"]} catalog
  pages        {stack.pages_url}   where stores and accounts are connected
  metrics      127.0.0.1:{ports.metrics["ingest-http"]} ingest, \
:{ports.metrics["ingest-normalizer"]} normalizer, :{ports.metrics["events"]} events, \
:{ports.metrics["delivery"]} delivery, :{ports.metrics["auth"]} auth, \
:{ports.metrics["catalog"]} catalog: /livez /readyz /metrics
  NATS         {stack.nats.url}, monitoring {stack.nats.monitor_url}
{real if live else judge}\
  connections  {directory}/connections.yaml
  logs         {directory}/logs

try:
  {tidewire} send {directory}/example --shop {_SHOP} --connections {directory}/connections.yaml
  {tidewire} connect shopify --shop {_SECOND_SHOP}
  {tidewire} connections
  {tidewire} trace {_ORDER_ID} --directory {directory}/state
{look}{goods}
Ctrl-C ends it."""


def _goods(stack: Stack) -> str:
    """How to give a connected shop something to sell, and a catalog to sell it through."""
    tidewire = _command()
    url = f"{stack.sandbox_url}/_sandbox/shopify/catalog"
    plan = f'{{"shop": "{_SECOND_SHOP}.myshopify.com", "variants": 500}}'
    return f"""\
  curl -s -X POST {url} -d '{plan}'
  {tidewire} connect tiktok-catalog --shop {_SECOND_SHOP} --business-center 1 --catalog 7001
  {tidewire} catalog status
"""


def example_order(now: datetime) -> dict[str, object]:
    """A small paid order, placed a moment before `now`, that becomes a purchase."""
    placed = (now - timedelta(seconds=1)).replace(microsecond=0).isoformat()
    price = {"amount": "24.00", "currency_code": "USD"}
    total = {"shop_money": price, "presentment_money": price}
    return {
        "id": _ORDER_ID,
        "name": "#1001",
        "email": "shopper@example.com",
        "created_at": placed,
        "processed_at": placed,
        "updated_at": placed,
        "currency": "USD",
        "presentment_currency": "USD",
        "financial_status": "paid",
        "source_name": "web",
        "test": False,
        "total_price": "24.00",
        "total_price_set": total,
        "landing_site": "/?ttclid=E.C.P.example",
        "client_details": {"browser_ip": "203.0.113.7", "user_agent": "Mozilla/5.0"},
        "line_items": [
            {
                "id": 1,
                "product_id": 11,
                "variant_id": 111,
                "title": "Beeswax candle",
                "sku": "CANDLE-1",
                "quantity": 2,
                "price": "12.00",
                "price_set": {
                    "shop_money": {**price, "amount": "12.00"},
                    "presentment_money": {**price, "amount": "12.00"},
                },
            }
        ],
    }


def _write_example(stack: Stack, now: datetime) -> None:
    """A connections file and an order to send; neither where there is a file already."""
    if stack.connections_file.exists():
        return
    active_since = (now - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = _CONNECTIONS.format(shop=_SHOP, active_since=active_since)
    stack.connections_file.write_text(text, encoding="utf-8")
    order = stack.directory / "example" / "orders_paid" / "order.json"
    order.parent.mkdir(parents=True, exist_ok=True)
    order.write_text(json.dumps(example_order(now), indent=2), encoding="utf-8")


def _wanted_ports(ports: Ports, *, live: bool) -> list[int]:
    grpc = [port for name, port in ports.grpc.items() if name != "ingest-normalizer"]
    services = [*grpc, *ports.metrics.values()]
    sandbox = [] if live else [ports.sandbox]
    return [ports.webhooks, ports.pages, ports.nats, ports.nats_monitor, *services, *sandbox]


def _taken(wanted: Sequence[int]) -> list[int]:
    return sorted(port for port in wanted if not _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        # As servers do: a port whose last owner has just ended is free.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _stop_event() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _command() -> str:
    """What was typed to get here, so that what we print can be typed as well."""
    typed = sys.argv[0]
    return typed if Path(typed).name == "tidewire" else "tidewire"


def _shown(directory: Path) -> str:
    """The folder as one would type it from here."""
    with contextlib.suppress(ValueError):
        return str(directory.relative_to(Path.cwd()))
    return str(directory)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
