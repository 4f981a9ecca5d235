"""Looks for secrets where they must not be: in all that a stack has written, shown and said."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from nats.aio.client import Client

from cli.stack import SERVICES, Stack, service_of
from libs.bus import subjects
from libs.bus.api import js_api
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.scan import scan
from libs.clock import SystemClock
from libs.ids import RandomIds
from libs.keys import KvKeySource, load_kek
from libs.vault import Vault
from services.auth.adapters.flows import signing_secret
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Grant

LEAST_BYTES: Final = 12
"""What is shorter is no secret, and would be found by chance."""

_CORE_LIMIT: Final = "Max core file size"

Secrets = Mapping[str, bytes]
"""By what they are; two may be the same."""


def forms(secret: bytes) -> set[bytes]:
    """As a secret may stand somewhere: itself, in hex, in base64 wherever it begins, in a URL."""
    found = {secret, secret.hex().encode(), quote_from_bytes(secret, safe="").encode()}
    for ahead in range(3):
        # Whole groups of three bytes that are the secret's alone.
        part = secret[(3 - ahead) % 3 :]
        part = part[: len(part) // 3 * 3]
        found |= {base64.b64encode(part), base64.urlsafe_b64encode(part)}
    return found


def leaks(places: Iterable[tuple[str, bytes]], secrets: Secrets) -> list[tuple[str, str]]:
    """Where which secret stands."""
    wanted = [(what, form) for what, secret in secrets.items() for form in forms(secret)]
    return sorted({(name, what) for name, data in places for what, form in wanted if form in data})


def files_below(directory: Path, *, but: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, but for those that are there to hold a secret."""
    holders = tuple(but)
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not any(path.is_relative_to(one) for one in holders):
            yield str(path.relative_to(directory)), path.read_bytes()


async def messages(nats: Client) -> AsyncIterator[tuple[str, bytes]]:
    """What every stream holds that can be read at once; of the others there are the files."""
    for stream in (await js_api(nats, "STREAM.LIST", {}))["streams"]:
        config = stream["config"]
        if not config.get("allow_direct"):
            continue
        name: str = config["name"]
        async for one in scan(nats, name, ">"):
            yield f"{name} {one.sequence}", one.subject.encode() + b" " + one.data


def commands_of(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """What anybody on the machine sees of a stack's processes."""
    for name, process in stack.processes.items():
        if process.returncode is None:
            yield f"command of {name}", Path(f"/proc/{process.pid}/cmdline").read_bytes()


def environments_of(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """What the owner of a stack's processes sees of them."""
    for name, process in stack.processes.items():
        if process.returncode is None:
            yield f"environment of {name}", Path(f"/proc/{process.pid}/environ").read_bytes()


def core_limits_of(stack: Stack) -> Iterator[tuple[str, list[str]]]:
    """How much each of our services would write of its memory if it crashed: now, and at most."""
    for name, process in stack.processes.items():
        if process.returncode is None and "serve" in SERVICES.get(service_of(name), ()):
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            line = next(one for one in limits.splitlines() if one.startswith(_CORE_LIMIT))
            yield name, line.removeprefix(_CORE_LIMIT).split()[:2]


async def vault_of(nats: Client, kek_file: Path) -> dict[str, bytes]:
    """What only the holder of the KEK can read: data keys, the signing secret, every grant."""
    ids = RandomIds(SystemClock())
    kek = load_kek(kek_file)
    keys = await KvKeySource.open(nats.jetstream(), kek)
    found = {"KEK": kek}
    bucket = await nats.jetstream().key_value("keys")
    for name in await bucket.keys():
        scope, _, key_id = map(subjects.text_of, name.rpartition("."))
        if scope and key_id not in {"", "current"}:
            found[f"data key {key_id} of {scope}"] = (await keys.by_id(scope, key_id)).reveal()
    flows = JetStreamLog(nats, subjects.bucket_stream(subjects.FLOWS), ids)
    found["signing secret"] = await signing_secret(flows, keys)
    stream = subjects.bucket_stream(subjects.TOKENS)
    grants = GrantStore(JetStreamLog(nats, stream, ids), Vault(keys))
    async for one in scan(nats, stream, ">"):
        grants.take(one)
    for kept in grants.all():
        if kept.record.HasField("grant"):
            found |= _of_grant(kept.connection_id, await grants.open(kept))
    return found


def _of_grant(connection_id: str, grant: Grant) -> dict[str, bytes]:
    named = {
        "access token": grant.access_token,
        "refresh token": grant.refresh_token,
        "cipher": grant.shop_cipher,
        "app secret": grant.app.secret if grant.app is not None else None,
        **{f"webhook secret {n}": one for n, one in enumerate(grant.webhook_secrets)},
    }
    return {
        f"{what} of {connection_id}": secret.reveal().encode()
        for what, secret in named.items()
        if secret
    }
