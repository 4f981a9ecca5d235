"""`tidewire serve`: one service, or one role of it, as a process.

Each service is imported by its own process alone: together they cost a second of every start.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import uvloop

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import CommonSettings, foundation, ground, serve
from libs.settings import SettingsError, load
from libs.telemetry import Telemetry, get_logger, setup_telemetry
from services.ingest.settings import Role
from services.ingest.settings import Settings as IngestSettings

_log = get_logger(__name__)

S = TypeVar("S", bound=CommonSettings)


def serve_service(service: str, role: Role, environ: Mapping[str, str]) -> int:
    """Runs a service until it is told to stop; the exit code of the process.

    2 says that its settings or what it stands on are not fit; the log says what to do.
    """
    # A crash would write what memory holds, keys and tokens too. Workers inherit it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if service == "ingest":
        settings = _loaded(IngestSettings, environ)
        if settings is None:
            return 2
        if settings.workers > 1 and role is Role.HTTP:
            return _workers(settings.workers, environ)
        return _run(service, settings, environ, lambda t: _ingest(settings, t, role))
    begin = _OTHERS.get(service)
    if begin is None:
        known = ", ".join(("ingest", *_OTHERS))
        sys.stderr.write(f"there is no service {service!r}: use one of {known}\n")
        return 2
    return begin(environ)


def _loaded(cls: type[S], environ: Mapping[str, str]) -> S | None:
    try:
        return load(cls, environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return None


def _run(
    service: str,
    settings: CommonSettings,
    environ: Mapping[str, str],
    body: Callable[[Telemetry], Awaitable[int]],
) -> int:
    with setup_telemetry(service, environ, state_dir=settings.state_dir) as telemetry:
        try:
            return uvloop.run(_awaited(body(telemetry)))
        except ServiceError as error:
            _log.error("cannot_start", code=error.code, reason=error.message)
            return 2


async def _awaited(body: Awaitable[int]) -> int:
    return await body


async def _ingest(settings: IngestSettings, telemetry: Telemetry, role: Role) -> int:
    from services.ingest.wiring import ingest

    async with (
        foundation(
            settings, telemetry, SystemClock(settings.clock_offset_s), webhook_secrets=True
        ) as base,
        ingest(settings, base, role) as parts,
    ):
        return await serve(parts, base, settings.grace_s)


def _events(environ: Mapping[str, str]) -> int:
    from services.events.settings import Settings
    from services.events.wiring import events

    async def body(settings: Settings, telemetry: Telemetry) -> int:
        async with (
            foundation(settings, telemetry, SystemClock(settings.clock_offset_s)) as base,
            events(settings, base) as parts,
        ):
            return await serve(parts, base, settings.grace_s)

    return _begun("events", _loaded(Settings, environ), environ, body)


def _catalog(environ: Mapping[str, str]) -> int:
    from services.catalog.settings import Settings
    from services.catalog.wiring import catalog

    async def body(settings: Settings, telemetry: Telemetry) -> int:
        async with (
            foundation(settings, telemetry, SystemClock(settings.clock_offset_s)) as base,
            catalog(settings, base) as parts,
        ):
            return await serve(parts, base, settings.grace_s)

    return _begun("catalog", _loaded(Settings, environ), environ, body)


def _delivery(environ: Mapping[str, str]) -> int:
    from services.delivery.settings import Settings
    from services.delivery.wiring import delivery

    async def body(settings: Settings, telemetry: Telemetry) -> int:
        clock = SystemClock(settings.clock_offset_s)
        async with foundation(settings, telemetry, clock, tokens=False) as base:
            return await serve(delivery(settings, base), base, settings.grace_s)

    return _begun("delivery", _loaded(Settings, environ), environ, body)


def _auth(environ: Mapping[str, str]) -> int:
    from services.auth.settings import Settings
    from services.auth.wiring import auth

    async def body(settings: Settings, telemetry: Telemetry) -> int:
        async with (
            ground(settings, telemetry, SystemClock(settings.clock_offset_s)) as base,
            auth(settings, base) as parts,
        ):
            return await serve(parts, base, settings.grace_s)

    return _begun("auth", _loaded(Settings, environ), environ, body)


def _begun(
    service: str,
    settings: S | None,
    environ: Mapping[str, str],
    body: Callable[[S, Telemetry], Awaitable[int]],
) -> int:
    """Runs a service whose settings could be read."""
    if settings is None:
        return 2
    return _run(service, settings, environ, lambda telemetry: body(settings, telemetry))


_OTHERS: Final[Mapping[str, Callable[[Mapping[str, str]], int]]] = {
    "events": _events,
    "catalog": _catalog,
    "delivery": _delivery,
    "auth": _auth,
}


def _workers(count: int, environ: Mapping[str, str]) -> int:
    """Runs several processes on one port.

    One that ends takes the others with it: an orchestrator restarts them all, and no port is left
    half served.
    """
    return asyncio.run(_supervised(count, environ))


async def _supervised(count: int, environ: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "cli", "serve", "ingest", "--role", "http"]
    processes = [
        await asyncio.create_subprocess_exec(
            *command,
            env={**environ, **_own_ports(number, environ)},
        )
        for number in range(count)
    ]
    waits = [asyncio.create_task(process.wait()) for process in processes]
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (2, 15):
        loop.add_signal_handler(signal_number, stopping.set)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({*waits, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for process in processes:
        if process.returncode is None:
            process.terminate()
    codes = await asyncio.gather(*waits)
    stopped.cancel()
    return max(codes) if stopping.is_set() else 1


def _own_ports(number: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Only the webhook port is shared: each further worker has ports of its own for the rest."""
    ports: dict[str, str] = {"TIDEWIRE_INGEST_REUSE_PORT": "true", "TIDEWIRE_INGEST_WORKERS": "1"}
    if number == 0:
        return ports
    defaults = {"GRPC": "127.0.0.1:9080", "METRICS": "127.0.0.1:9180"}
    for name, default in defaults.items():
        key = f"TIDEWIRE_INGEST_{name}_ADDRESS"
        host, _, port = environ.get(key, default).rpartition(":")
        ports[key] = f"{host}:{int(port) + 10 * number if int(port) else 0}"
    return ports


def environment() -> Mapping[str, str]:
    """The process's environment; read here and nowhere else."""
    return os.environ
