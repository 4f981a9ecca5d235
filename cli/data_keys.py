"""The work of `tidewire keys`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from nats.js import JetStreamContext
from rich import box
from rich.console import Console
from rich.table import Table

from libs.errors import ServiceError
from libs.foundation import CommonSettings, connected
from libs.keys import (
    KekRing,
    KeysStatus,
    KvKeySource,
    LocalKek,
    Rewrapped,
    Rewrapper,
    create_kek,
    open_ring,
)
from libs.settings import SettingsError, load

Act = Callable[[JetStreamContext, KekRing], Awaitable[int]]


async def show_status(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Prints what wraps what; 0 where only the primary KEK is needed, 1 else, 2 on an error."""

    async def act(js: JetStreamContext, ring: KekRing) -> int:
        status = await Rewrapper(js, ring).status()
        _show(status, as_json=as_json)
        return 0 if status.is_settled else 1

    return await _with_ring(environ, act)


async def rewrap(environ: Mapping[str, str], *, dry_run: bool, as_json: bool) -> int:
    """Wraps all anew and prints what was done; 1 where some keys could not be, 2 on an error."""

    async def act(js: JetStreamContext, ring: KekRing) -> int:
        rewrapper = Rewrapper(js, ring)
        if dry_run:
            status = await rewrapper.status()
            print(f"would wrap {status.old:,} data keys by {status.primary}")
            return 0
        done = await rewrapper.rewrap(None if as_json else _progress)
        status = await rewrapper.status()
        if as_json:
            _print_json(_done_as_dict(done) | {"status": as_dict(status)})
        else:
            _tell(done)
            _show(status, as_json=False)
        return 0 if status.is_settled else 1

    return await _with_ring(environ, act)


async def rotate(environ: Mapping[str, str], scope: str) -> int:
    """Makes a new data key for a scope and prints its id."""

    async def act(js: JetStreamContext, ring: KekRing) -> int:
        key = await (await KvKeySource.open(js, ring)).rotate(scope)
        print(f"{scope} is sealed with {key.key_id} from now on; older keys stay for reading")
        return 0

    return await _with_ring(environ, act)


def create(path: Path) -> int:
    """Writes a new KEK and prints its id."""
    try:
        kek = create_kek(path)
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written ({error.strerror})\n")
        return 2
    print(f"{path} holds KEK {LocalKek(kek).kek_id}; keep a copy apart from the data")
    return 0


def as_dict(status: KeysStatus) -> dict[str, Any]:
    """The status as data."""
    return {
        "primary": status.primary,
        "configured": list(status.configured),
        "in_use": list(status.in_use),
        "by_kek": dict(status.by_kek),
        "unreadable": list(status.unreadable),
        "settled": status.is_settled,
    }


async def _with_ring(environ: Mapping[str, str], act: Act) -> int:
    try:
        settings = load(CommonSettings, environ)
        ring = await open_ring(settings)
        client = await connected(settings.nats_url)
        try:
            return await act(client.jetstream(), ring)
        finally:
            await client.close()
    except (ServiceError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _show(status: KeysStatus, *, as_json: bool) -> None:
    if as_json:
        _print_json(as_dict(status))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("KEK", "here", "needed to start"):
        table.add_column(title)
    table.add_column("data keys", justify="right")
    for kek_id in sorted({*status.configured, *status.in_use, *status.by_kek}):
        here = "yes" if kek_id in status.configured else "NO"
        table.add_row(
            kek_id,
            "wraps" if kek_id == status.primary else here,
            "yes" if kek_id in status.in_use else "",
            f"{status.by_kek.get(kek_id, 0):,}",
        )
    Console(highlight=False).print(table)
    for name in status.unreadable:
        print(f"{name} is no wrapped key: restore it from a backup of the bucket")
    if status.is_settled:
        print("Nothing needs another KEK than the one that wraps.")
    else:
        print("Other KEKs are still needed; `tidewire keys rewrap` changes that.")


def _progress(done: Rewrapped) -> None:
    count = done.wrapped + done.already + done.gone + len(done.failed)
    sys.stderr.write(f"  {count:,} data keys seen, {done.wrapped:,} wrapped anew\n")


def _tell(done: Rewrapped) -> None:
    print(
        f"{done.wrapped:,} wrapped anew, {done.already:,} already were, {done.gone:,} were deleted"
    )
    for name, code in sorted(done.failed.items()):
        print(f"{name} could not be opened: {code}")


def _done_as_dict(done: Rewrapped) -> dict[str, Any]:
    return {
        "wrapped": done.wrapped,
        "already": done.already,
        "gone": done.gone,
        "failed": done.failed,
    }


def _print_json(data: Mapping[str, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
