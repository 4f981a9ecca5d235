"""`tidewire send`: posts captured webhooks, signed as Shopify signs them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox.shopify.corpus import signed_delivery, topic_of_folder, unwrapped
from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import Manners, Sent, send_all

_HEADERS_SUFFIX = ".headers.json"


def send_command(
    directory: Path,
    shop: str,
    url: str,
    secret: str | None,
    *,
    topic: str | None = None,
    console: Console | None = None,
) -> int:
    """Posts every `*.json` under `directory` and prints the answers; the exit code.

    A file's topic is `topic`, else that of `<name>.headers.json` beside it, else of the request
    recorded with it, else of its folder's name. Without a secret deliveries go unsigned.

    Returns 0 if all were answered as they should be, 1 if any was not, 2 if there was nothing to
    send.
    """
    console = console or Console()
    if not directory.is_dir():
        console.print(f"{directory} is not a directory", markup=False)
        return 2
    sources = [path for path in sorted(directory.rglob("*.json")) if _is_payload(path)]
    if not sources:
        console.print(f"no webhook bodies (*.json) under {directory}", markup=False)
        return 2
    deliveries = {
        delivery.webhook_id: (path, delivery)
        for path in sources
        for delivery in [delivery_of(path, directory, shop, secret, topic)]
    }
    manners = Manners(connections=8, retries=2)
    sendings = (delivery for _, delivery in deliveries.values())
    report = asyncio.run(send_all(url, sendings, manners))
    answers = {sent.delivery.webhook_id: sent for sent in report.sent}
    rows = [(path, answers[webhook_id]) for webhook_id, (path, _) in deliveries.items()]
    console.print(_table(rows, directory))
    return 0 if all(_is_as_expected(sent) for _, sent in rows) else 1


def delivery_of(
    path: Path, root: Path, shop: str, secret: str | None, topic: str | None = None
) -> Delivery:
    """The delivery of one captured file; the same file gives the same webhook id each time."""
    body, recorded = unwrapped(path.read_bytes())
    recorded |= _sidecar(path)
    found = topic or recorded.get("x-shopify-topic") or topic_of_folder(path.absolute().parent.name)
    source = path.relative_to(root).as_posix()
    return signed_delivery(shop, secret, found, body, source, recorded)


def _is_payload(path: Path) -> bool:
    return path.is_file() and not path.name.endswith(_HEADERS_SUFFIX)


def _sidecar(path: Path) -> dict[str, str]:
    """Headers kept beside a body, names in lower case; empty where there are none."""
    beside = path.with_name(path.stem + _HEADERS_SUFFIX)
    if not beside.is_file():
        return {}
    found: object = json.loads(beside.read_bytes())
    if not isinstance(found, dict):
        return {}
    return {str(name).lower(): str(value) for name, value in found.items()}


def _is_as_expected(sent: Sent) -> bool:
    return sent.status is not None and 200 <= sent.status < 300


def _table(rows: list[tuple[Path, Sent]], root: Path) -> Table:
    table = Table(title=f"{len(rows)} deliveries")
    for column in ("file", "topic", "bytes", "answer", "tries", "ms"):
        table.add_column(column, justify="left" if column in {"file", "topic"} else "right")
    for path, sent in rows:
        status = "no answer" if sent.status is None else str(sent.status)
        style = "green" if _is_as_expected(sent) else "red"
        table.add_row(
            escape(path.relative_to(root).as_posix()),
            escape(sent.delivery.topic),
            str(len(sent.delivery.body)),
            f"[{style}]{status}[/]",
            str(sent.attempts),
            f"{sent.latency_s * 1000:.0f}",
        )
    return table
