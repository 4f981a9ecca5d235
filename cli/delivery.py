"""Where the delivery service listens, for the commands that ask it."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from libs.settings import Address

DELIVERY: Final = "127.0.0.1:9083"
"""Where `tidewire dev` has it."""

DeliveryAddress = Annotated[
    str,
    typer.Option(
        "--address", envvar="TIDEWIRE_DELIVERY_GRPC_ADDRESS", help="The delivery service."
    ),
]


def address_of(text: str) -> Address:
    """`HOST:PORT` as an address; else the command line's own error that names the option."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}", param_hint="--address") from error
