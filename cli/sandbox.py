"""`tidewire sandbox`: the simulators as a process; who may call comes from the connections file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml

from libs.clock import SystemClock
from libs.settings import Address, env, load
from sandbox.tiktok.app import TikTokSandbox
from sandbox.tiktok.config import Grant, Rules, SandboxConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Read once, from `TIDEWIRE_…`."""

    address: Address = env(
        "SANDBOX_ADDRESS", "where the simulators listen", default=Address("127.0.0.1", 9300)
    )
    connections_file: Path = env(
        "CONNECTIONS_FILE", "shops and their connections", default=Path("connections.yaml")
    )
    latency_ms: float = env("SANDBOX_LATENCY_MS", "time each answer takes", default=0.0)


def grants_of(connections_file: Path) -> dict[str, Grant]:
    """Which token may report for which pixels, as the connections file has it."""
    document = yaml.safe_load(connections_file.read_text(encoding="utf-8"))
    pixels: dict[str, set[str]] = {}
    for shop in document["connections"]:
        for pixel in shop.get("tiktok_events", ()):
            pixels.setdefault(pixel["access_token"], set()).add(pixel["pixel_code"])
    return {token: Grant(pixels=frozenset(codes)) for token, codes in pixels.items()}


def serve_sandbox(environ: Mapping[str, str]) -> int:
    """Runs the simulators until they are told to stop."""
    uvloop.run(_serve(load(Settings, environ)))
    return 0


async def _serve(settings: Settings) -> None:
    config = SandboxConfig(
        tokens=grants_of(settings.connections_file),
        rules=Rules(accept_guide_lists=True),
        base_latency_ms=settings.latency_ms,
    )
    sandbox = TikTokSandbox(config, SystemClock())
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await sandbox.start(settings.address.host, settings.address.port)
    try:
        await stopping.wait()
    finally:
        await sandbox.stop()
