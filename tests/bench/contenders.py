"""The handlers that are measured side by side."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.shopify.storm import default_shops
from tests.bench import bare
from tests.bench.bed import Bed, Child, bare_server, free_ports
from tests.bench.options import Options

NULL: Final = "nothing (the generator's ceiling)"
HMAC: Final = "bare: HMAC, nothing stored"
BARE_DEFAULT: Final = "bare: one publish each, default fsync"
BARE_ALWAYS: Final = "bare: one publish each, always"
OURS_DEFAULT: Final = "ours, default fsync"
OURS_ALWAYS: Final = "ours, always (as shipped)"
RABBIT: Final = "FastAPI + RabbitMQ, confirms"

_WEBHOOKS: Final = "WEBHOOKS"
_NEEDED: Final = "import fastapi, uvicorn, uvloop, aio_pika"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under load, and where it stores."""

    name: str
    child: Child
    bed: Bed | None = None
    stream: str = ""

    @property
    def processes(self) -> dict[str, list[int]]:
        """Whose share of the processor is read."""
        nats = {"nats": self.bed.nats.pids} if self.bed else {}
        return {"server": [self.child.pid], **nats}

    async def empty(self) -> None:
        """Deletes what it has stored."""
        if self.bed is not None:
            await self.bed.purge(self.stream)


async def single_node(
    stack: AsyncExitStack, options: Options
) -> tuple[list[Contender], tuple[str, ...]]:
    """All contenders on a node for each fsync mode, in the order of the rounds, and notes."""
    beds = {
        mode: stack.enter_context(
            Bed(options.directory / f"ingest-{mode}", options.now, sync_interval=mode)
        )
        for mode in ("2m", "always")
    }
    logs = options.directory / "logs"
    found = [
        Contender(NULL, await _kept(stack, await bare_server("null", (), logs / "null.log"))),
        Contender(HMAC, await _kept(stack, await bare_server("hmac", (), logs / "hmac.log"))),
        await _bare(stack, beds["2m"], BARE_DEFAULT),
        await _bare(stack, beds["always"], BARE_ALWAYS),
        await _ours(stack, beds["2m"], OURS_DEFAULT),
        await _ours(stack, beds["always"], OURS_ALWAYS),
    ]
    missing = rabbit_missing(options)
    if missing:
        return found, (missing,)
    return [*found, await _rabbit(stack, options)], ()


async def three_nodes(stack: AsyncExitStack, options: Options) -> list[Contender]:
    """The bare handler and ours, each write agreed on by three nodes that sync it."""
    bed = stack.enter_context(Bed(options.directory / "ingest-r3", options.now, nodes=3))
    return [await _bare(stack, bed, BARE_ALWAYS), await _ours(stack, bed, OURS_ALWAYS)]


def rabbit_missing(options: Options) -> str:
    """Why FastAPI and RabbitMQ are not measured, and how they would be; empty if they can be."""
    advice = (
        "install the Debian package rabbitmq-server, make a venv elsewhere with"
        " `pip install fastapi uvicorn uvloop aio-pika`, and pass --fastapi-python VENV/bin/python"
        " --amqp amqp://guest:guest@127.0.0.1/"
    )
    if not options.fastapi_python or not options.amqp_url:
        return f"not measured: {RABBIT}. To have it beside the others, {advice}"
    probe = subprocess.run(  # noqa: S603 - the interpreter that the user named
        [options.fastapi_python, "-c", _NEEDED], capture_output=True, check=False
    )
    if probe.returncode:
        return f"not measured: {RABBIT}: {options.fastapi_python} lacks one of them; {advice}"
    return ""


async def _bare(stack: AsyncExitStack, bed: Bed, name: str) -> Contender:
    return Contender(name, await _kept(stack, await bed.bare("publish")), bed, bare.STREAM)


async def _ours(stack: AsyncExitStack, bed: Bed, name: str) -> Contender:
    return Contender(name, await _kept(stack, await bed.serve("http")), bed, _WEBHOOKS)


async def _rabbit(stack: AsyncExitStack, options: Options) -> Contender:
    assert options.fastapi_python is not None
    assert options.amqp_url is not None
    (port,) = free_ports(1)
    script = Path(__file__).with_name("fastapi_rabbit.py")
    child = await Child.start(
        [options.fastapi_python, str(script)],
        {
            "PATH": os.environ.get("PATH", ""),
            "AMQP_URL": options.amqp_url,
            "SECRETS": ",".join(default_shops(options.now)[0].secrets),
            "PORT": str(port),
        },
        f"http://127.0.0.1:{port}/webhooks/shopify",
        options.directory / "logs" / "fastapi.log",
    )
    await _kept(stack, child)
    await child.answers(f"http://127.0.0.1:{port}/readyz")
    return Contender(RABBIT, child)


async def _kept(stack: AsyncExitStack, child: Child) -> Child:
    stack.push_async_callback(child.stop)
    return child


def named(contenders: Sequence[Contender], name: str) -> Contender:
    """The contender of that name."""
    return next(one for one in contenders if one.name == name)
