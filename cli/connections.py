"""`tidewire connections`: what is connected and how it is; and changing or ending it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.delivery import callee_of
from libs.errors import ServiceError
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import connection_service_pb2_grpc, health_pb2
from tidewire.connections.v1.connection_pb2 import Connection, ConnectionKind, ConnectionState

AUTH: Final = "127.0.0.1:9084"
"""Where `tidewire dev` has the token service."""

AuthAddress = Annotated[
    str, typer.Option("--address", envvar="TIDEWIRE_AUTH_ADDRESS", help="The token service.")
]
ConnectionId = Annotated[str, typer.Argument(help="Such as example.shopify.")]

_CALL_S: Final = 30.0

connections = typer.Typer(
    help="What is connected and how it is; pause, change and end it.",
    invoke_without_command=True,
)


@connections.callback()
def list_connections(
    context: typer.Context,
    shop: Annotated[str, typer.Option(help="Of this shop only.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    address: AuthAddress = AUTH,
) -> None:
    """Lists connections; exits 1 where one of them needs a person."""
    if context.invoked_subcommand is None:
        raise typer.Exit(asyncio.run(_listed(callee_of(address), shop, as_json=as_json)))


@connections.command()
def show(connection_id: ConnectionId, address: AuthAddress = AUTH) -> None:
    """One connection with its settings and health, as JSON."""

    async def ask(stub: Any) -> int:
        request = pb.GetConnectionRequest(connection_id=connection_id)
        _print_json((await call(stub.GetConnection, request, timeout_s=_CALL_S)).connection)
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command()
def pause(
    connection_id: ConnectionId,
    note: Annotated[str, typer.Option(help="Why; others will read it.")] = "",
    address: AuthAddress = AUTH,
) -> None:
    """Stops a connection; what is meant for it waits."""

    async def ask(stub: Any) -> int:
        request = pb.PauseConnectionRequest(connection_id=connection_id, note=note)
        await call(stub.PauseConnection, request, timeout_s=_CALL_S)
        print(f"{connection_id} is paused; tidewire connections resume {connection_id} ends that")
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command()
def resume(connection_id: ConnectionId, address: AuthAddress = AUTH) -> None:
    """Lets a connection go on, and has a token tried again that was believed dead."""

    async def ask(stub: Any) -> int:
        request = pb.ResumeConnectionRequest(connection_id=connection_id)
        answer = await call(stub.ResumeConnection, request, timeout_s=_CALL_S)
        print(f"{connection_id} is {_state(answer.connection)}")
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command()
def rotate(connection_id: ConnectionId, address: AuthAddress = AUTH) -> None:
    """Refreshes a connection's token now."""

    async def ask(stub: Any) -> int:
        request = pb.RotateConnectionRequest(connection_id=connection_id)
        answer = await call(stub.RotateConnection, request, timeout_s=_CALL_S)
        print(
            f"{connection_id} has a new token, until {_expiry(answer.connection) or 'further on'}"
        )
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command()
def revoke(
    connection_id: ConnectionId,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only told.")] = False,
    address: AuthAddress = AUTH,
) -> None:
    """Ends a connection for good: its tokens are revoked at the provider and deleted."""
    if not yes:
        print(f"would revoke and delete the tokens of {connection_id}; say --yes to do it")
        raise typer.Exit(0)

    async def ask(stub: Any) -> int:
        request = pb.RevokeConnectionRequest(connection_id=connection_id)
        answer = await call(stub.RevokeConnection, request, timeout_s=_CALL_S)
        print(f"{connection_id} is no more")
        if answer.upstream_error:
            print(f"the provider was not told: {answer.upstream_error}")
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command(name="set")
def set_settings(
    connection_id: ConnectionId,
    settings: Annotated[
        list[str], typer.Argument(help="FIELD=VALUE, such as tiktok_events.shadow=true.")
    ],
    address: AuthAddress = AUTH,
) -> None:
    """Changes settings of a connection; `show` has their names."""
    wanted = _wanted(connection_id, settings)

    async def ask(stub: Any) -> int:
        get = pb.GetConnectionRequest(connection_id=connection_id)
        known = (await call(stub.GetConnection, get, timeout_s=_CALL_S)).connection
        request = settings_change(known, wanted, [one.partition("=")[0] for one in settings])
        answer = await call(stub.UpdateSettings, request, timeout_s=_CALL_S)
        _print_json(answer.connection.connection)
        return 0

    raise typer.Exit(asked(address, ask))


@connections.command(name="import")
def import_token(
    kind: Annotated[
        str, typer.Argument(help="shopify, tiktok-events, tiktok-catalog or tiktok-shop.")
    ],
    shop: Annotated[str, typer.Option(help="Domain or handle of the shop.")],
    token_file: Annotated[Path, typer.Option(help="Holds the access token.", exists=True)],
    expires_at: Annotated[
        str, typer.Option(help="When it expires, such as 2026-12-01T12:00:00Z; without: never.")
    ] = "",
    refresh_token_file: Annotated[
        Path | None, typer.Option(help="Holds the token that refreshes it.", exists=True)
    ] = None,
    refresh_expires_at: Annotated[str, typer.Option(help="When that one expires.")] = "",
    account_holder: Annotated[
        bool, typer.Option("--account-holder", help="TikTok: an account's token.")
    ] = False,
    cipher_file: Annotated[
        Path | None, typer.Option(help="TikTok Shop: holds the shop's cipher.", exists=True)
    ] = None,
    webhook_secret_file: Annotated[
        Path | None,
        typer.Option(help="Shopify: holds the secret that signs webhooks.", exists=True),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE, as in `set`.")
    ] = None,
    country: Annotated[str, typer.Option(help="ISO 3166-1, such as US.")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217, such as USD.")] = "",
    address: AuthAddress = AUTH,
) -> None:
    """Connects with a token that exists already, such as a custom app's."""
    wanted = _wanted("", settings or [])
    spec = pb.ConnectionSpec(shop=shop, kind=kind_of(kind), country=country, currency=currency)
    chosen = wanted.WhichOneof("settings")
    if chosen is not None:
        getattr(spec, chosen).CopyFrom(getattr(wanted, chosen))
    secret = _held(webhook_secret_file)
    request = pb.ImportConnectionRequest(
        spec=spec,
        access_token=_held(token_file),
        expires_at=_instant("--expires-at", expires_at),
        refresh_token=_held(refresh_token_file),
        refresh_expires_at=_instant("--refresh-expires-at", refresh_expires_at),
        shop_cipher=_held(cipher_file),
        webhook_secrets=[secret] if secret else [],
        flow=flow_of(account_holder=account_holder),
    )

    async def ask(stub: Any) -> int:
        answer = await call(stub.ImportConnection, request, timeout_s=_CALL_S)
        print(f"{answer.connection.connection.connection_id} is connected")
        return 0

    raise typer.Exit(asked(address, ask))


def settings_change(
    known: health_pb2.ConnectionStatus, wanted: Connection, paths: Sequence[str]
) -> pb.UpdateSettingsRequest:
    """The request that makes `known` be as `wanted` at `paths`; refused if it has changed since.

    The rest is sent as it is known: by its schema a connection is whole.
    """
    request = pb.UpdateSettingsRequest(
        connection=known.connection,
        update_mask=FieldMask(paths=paths),
        expected_revision=known.revision,
    )
    request.update_mask.MergeMessage(
        wanted, request.connection, replace_message_field=True, replace_repeated_field=True
    )
    return request


def asked(address: str, ask: Callable[[Any], Awaitable[int]]) -> int:
    """What `ask` comes to with ConnectionService; 2 where it is refused or not answered."""
    return asyncio.run(_asked(callee_of(address), ask))


async def _asked(callee: Callee, ask: Callable[[Any], Awaitable[int]]) -> int:
    try:
        async with channel(callee.address, callee.identity) as opened:
            return await ask(connection_service_pb2_grpc.ConnectionServiceStub(opened))
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _listed(callee: Callee, shop: str, *, as_json: bool) -> int:
    found: list[health_pb2.ConnectionStatus] = []

    async def ask(stub: Any) -> int:
        token = ""
        while True:
            request = pb.ListConnectionsRequest(shop=shop, page_token=token)
            page = await call(stub.ListConnections, request, timeout_s=_CALL_S)
            found.extend(page.connections)
            token = page.next_page_token
            if not token:
                return 0

    code = await _asked(callee, ask)
    if code:
        return code
    if as_json:
        _print_json(pb.ListConnectionsResponse(connections=found))
    else:
        Console(highlight=False).print(_table(found))
    return 1 if any(_state(one) == "needs reauthorization" for one in found) else 0


def _table(found: Sequence[health_pb2.ConnectionStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("connection", "kind", "state", "token until", "webhooks", "to do"):
        table.add_column(title, overflow="fold")
    for one in found:
        kind = ConnectionKind.Name(one.connection.kind).removeprefix("CONNECTION_KIND_")
        webhooks = str(one.webhooks.in_place) if one.webhooks.HasField("checked_at") else ""
        # As text: what a provider says may hold brackets, which would be taken for markup.
        table.add_row(
            Text(one.connection.connection_id),
            kind.lower(),
            _state(one),
            _expiry(one) or "no expiry",
            webhooks,
            Text("; ".join(_to_do(one))),
        )
    if not table.row_count:
        table.caption = "nothing is connected: `tidewire connect shopify --shop …` begins"
    return table


def _to_do(status: health_pb2.ConnectionStatus) -> list[str]:
    found = []
    if _state(status) == "needs reauthorization":
        found.append(f"connect it again ({status.grant.error_code or 'no grant'})")
    elif status.grant.error_code:
        found.append(f"{status.grant.error_code}: {status.grant.error_message}".rstrip(": "))
    found += [f"grant {one}" for one in status.grant.missing_scopes]
    return found + list(status.webhooks.problems)


def _state(status: health_pb2.ConnectionStatus) -> str:
    name = ConnectionState.Name(status.connection.state)
    return name.removeprefix("CONNECTION_STATE_").lower().replace("_", " ")


def _expiry(status: health_pb2.ConnectionStatus) -> str:
    if not status.grant.HasField("access_expires_at"):
        return ""
    return str(status.grant.access_expires_at.ToJsonString())[:19] + "Z"


def kind_of(text: str) -> ConnectionKind.ValueType:
    """The kind that a person calls `tiktok-events`.

    Raises:
        typer.BadParameter: there is none of that name.
    """
    try:
        return ConnectionKind.Value(f"CONNECTION_KIND_{text.upper().replace('-', '_')}")
    except ValueError:
        raise typer.BadParameter(
            f"{text}: use shopify, tiktok-events, tiktok-catalog or tiktok-shop"
        ) from None


def flow_of(*, account_holder: bool) -> pb.GrantFlow.ValueType:
    """Who agreed: a TikTok account, or whoever is usual."""
    return pb.GRANT_FLOW_ACCOUNT_HOLDER if account_holder else pb.GRANT_FLOW_UNSPECIFIED


def _held(file: Path | None) -> str:
    return file.read_text().strip() if file is not None else ""


def _instant(option: str, text: str) -> Timestamp | None:
    """The time that an option gives; None where it gives none.

    Raises:
        typer.BadParameter: it is no time, or one without a zone.
    """
    if not text:
        return None
    found = Timestamp()
    try:
        found.FromJsonString(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} takes a time such as 2026-12-01T12:00:00Z") from error
    return found


def _wanted(connection_id: str, settings: Sequence[str]) -> Connection:
    """A connection of nothing but the settings that were named."""
    tree: dict[str, Any] = {"connection_id": connection_id}
    for one in settings:
        path, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{one}: write FIELD=VALUE")
        *heads, last = path.split(".")
        place = tree
        for head in heads:
            place = place.setdefault(head, {})
        place[last] = _value(one, value)
    try:
        return json_format.ParseDict(tree, Connection())
    except json_format.ParseError as error:
        raise typer.BadParameter(str(error)) from error


def _value(setting: str, text: str) -> object:
    """`true` and `false` as they are meant, a list as JSON has it, and anything else as text."""
    if not text.startswith("["):
        return {"true": True, "false": False}.get(text, text)
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f'{setting}: write a list as ["a", "b"]') from error


def _print_json(message: Any) -> None:
    print(json_format.MessageToJson(message, preserving_proto_field_name=True))
