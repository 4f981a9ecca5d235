"""Three nats-servers that stand for one: what a stack runs on where a leader is to be lost."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from cli.nats_server import NatsServer

_NODES: Final = 3


class NatsCluster:
    """A cluster on loopback, below `directory`, with the settings of deploy/nats/cluster.conf.

    All servers start at the same time: none is ready before a majority is there.
    """

    def __init__(self, directory: Path) -> None:
        ports = _free_ports(_NODES)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.nodes: Sequence[NatsServer] = [
            NatsServer(
                name=f"nats-{place}",
                directory=directory / f"nats-{place}",
                extra=f'cluster {{ name: tidewire\nlisten: "127.0.0.1:{port}"\n'
                f"routes: [{routes}] }}",
            )
            for place, port in enumerate(ports)
        ]

    def node(self, name: str) -> NatsServer:
        """The server that calls itself `name`, as a stream's leader is named."""
        return self.nodes[int(name.removeprefix("nats-"))]

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    @property
    def monitor_url(self) -> str:
        return ",".join(node.monitor_url for node in self.nodes)

    @property
    def pid(self) -> int:
        return self.nodes[0].pid

    @property
    def running(self) -> bool:
        return all(node.running for node in self.nodes)

    def start(self) -> Self:
        """Starts those that do not run, and returns when all are ready and up to date."""
        with ThreadPoolExecutor(_NODES) as pool:
            list(pool.map(NatsServer.start, self.nodes))
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def log_tail(self) -> str:
        return "\n".join(node.log_tail() for node in self.nodes)


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: each server must know the routes before any listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
