"""Where the delivery service listens and as whom it is asked, for the commands that ask it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from libs.rpc.identity import Callee, Identity
from libs.settings import Address, SettingsError, env, load

DELIVERY: Final = "127.0.0.1:9083"
"""Where `tidewire dev` has it."""

CERTIFICATES: Final = Path(".state/dev/certificates")
"""Where `tidewire dev` puts those of the suite; `operator` is whoever types commands."""

DeliveryAddress = Annotated[
    str,
    typer.Option(
        "--address", envvar="TIDEWIRE_DELIVERY_GRPC_ADDRESS", help="The delivery service."
    ),
]


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    """As whom commands call the services. Read once, from `TIDEWIRE_…`."""

    ca_file: Path = env(
        "RPC_CA_FILE", "certificates that vouch for the services", default=CERTIFICATES / "ca.crt"
    )
    cert_file: Path = env(
        "RPC_CERT_FILE", "the operator's certificate", default=CERTIFICATES / "operator.crt"
    )
    key_file: Path = env("RPC_KEY_FILE", "its key", default=CERTIFICATES / "operator.key")
    token_file: Path | None = env(
        "RPC_TOKEN_FILE", "a token to show instead of a certificate", default=None
    )

    def identity(self) -> Identity:
        """What a command calls with."""
        if self.token_file is not None:
            return Identity(ca_file=self.ca_file, token_file=self.token_file)
        return Identity(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file)


def callee_of(text: str) -> Callee:
    """The service at `HOST:PORT`, called as the environment says.

    Raises:
        typer.BadParameter: the address or a setting cannot be used.
    """
    try:
        return Callee(Address.parse(text), load(OperatorSettings, os.environ).identity())
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}", param_hint="--address") from error
