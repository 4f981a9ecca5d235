"""`tidewire keys`: which KEK wraps which data keys, and wrapping them anew."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

keys = typer.Typer(
    help="Data keys, and the key-encryption keys (KEK) that wrap them.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys.command("status")
def keys_status(as_json: Json = False) -> None:
    """Counts data keys by KEK; exits 1 while any needs another KEK than the one that wraps."""
    from cli import data_keys as work  # noqa: PLC0415

    raise typer.Exit(asyncio.run(work.show_status(os.environ, as_json=as_json)))


@keys.command("rewrap")
def keys_rewrap(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Wraps every data key by the KEK that wraps now, while the services run; may be run again."""
    from cli import data_keys as work  # noqa: PLC0415

    raise typer.Exit(asyncio.run(work.rewrap(os.environ, dry_run=dry_run, as_json=as_json)))


@keys.command("rotate")
def keys_rotate(
    scope: Annotated[
        str, typer.Argument(help="A shop's handle, or connection.<id> of a connection.")
    ],
) -> None:
    """Has what is stored of a shop or connection from now on sealed with a new data key."""
    from cli import data_keys as work  # noqa: PLC0415

    raise typer.Exit(asyncio.run(work.rotate(os.environ, scope)))


@keys.command("create-kek")
def keys_create_kek(
    path: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
) -> None:
    """Writes a new KEK to a file that only its owner can read. Keep a copy somewhere safe."""
    from cli import data_keys as work  # noqa: PLC0415

    raise typer.Exit(work.create(path))
