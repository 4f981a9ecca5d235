"""What benchmarks run on: NATS in a given fsync mode, one node or three, and processes of ours."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from cli.demo.scenery import connections_yaml, plan_pixels
from cli.nats_server import NatsServer
from libs.bus.api import ApiError, js_api
from libs.clock import SystemClock
from libs.foundation import connected
from libs.keys import create_kek
from libs.rpc.certificates import make_certificates
from sandbox.shopify.storm import default_shops
from tests.bench.options import ROOT, environment

STREAM_SCALE_MIB: Final = 512
_READY_WITHIN_S: Final = 60.0
_STOPPED_WITHIN_S: Final = 30.0
_STREAM_NOT_FOUND: Final = 10059


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once so that none comes twice."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Child:
    """A process of the bench's own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self._process = process
        self.url = url
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], url: str, log: Path
    ) -> Self:
        """Starts `command`; what it writes goes to `log`. `url` is where it will serve."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return cls(process, url, log)

    async def answers(self, url: str) -> None:
        """Returns once `url` is answered with 200.

        Raises:
            RuntimeError: the process ended, or a minute passed; the end of its log is in the text.
        """
        deadline_s = asyncio.get_running_loop().time() + _READY_WITHIN_S
        async with aiohttp.ClientSession() as session:
            while not await _is_answered(session, url):
                late = asyncio.get_running_loop().time() > deadline_s
                if self._process.returncode is not None or late:
                    raise RuntimeError(f"a process did not come up:\n{self.log_tail()}")
                await asyncio.sleep(0.02)

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    async def stop(self) -> None:
        """Asks it to end, and makes it end."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _STOPPED_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Nodes:
    """One nats-server, or three on this machine that agree on each write."""

    def __init__(self, directory: Path, *, sync_interval: str, count: int = 1) -> None:
        self.count = count
        ports = free_ports(count)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self._servers = [
            NatsServer(
                directory=directory / f"node-{number}",
                name=f"bench-{number}",
                sync_interval=sync_interval,
                extra=f'cluster {{ name: bench, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
                if count > 1
                else "",
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """Where clients connect, all nodes of it."""
        return ",".join(server.url for server in self._servers)

    @property
    def monitor_url(self) -> str:
        """The monitoring endpoints of all nodes."""
        return ",".join(server.monitor_url for server in self._servers)

    @property
    def pids(self) -> list[int]:
        return [server.pid for server in self._servers]

    def start(self) -> None:
        """Returns when all are ready; none is before it has met the others."""
        with ThreadPoolExecutor(self.count) as pool:
            for started in [pool.submit(server.start) for server in self._servers]:
                started.result()

    def close(self) -> None:
        """Ends all, those too that never came up."""
        for server in self._servers:
            server.close()


class Bed:
    """One NATS and all that the services need beside it. `with Bed(directory, now) as bed:`."""

    def __init__(
        self,
        directory: Path,
        now: datetime,
        *,
        sync_interval: str = "always",
        nodes: int = 1,
        connections: str | None = None,
    ) -> None:
        """`connections` is the text of the connections file; by default the demo's shops."""
        self.directory = directory
        self.nats = Nodes(directory / "nats", sync_interval=sync_interval, count=nodes)
        self._weak_fsync = sync_interval != "always"
        self._connections = directory / "connections.yaml"
        self.kek_file = directory / "kek"
        directory.mkdir(parents=True, exist_ok=True)
        if connections is None:
            shops = default_shops(now)
            connections = connections_yaml(shops, plan_pixels(shops))
        self._connections.write_text(connections, encoding="utf-8")
        create_kek(self.kek_file)
        self.certificates = make_certificates(directory / "certificates", SystemClock())

    def __enter__(self) -> Self:
        try:
            self.nats.start()
        except BaseException:
            self.nats.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.nats.close()

    async def serve(self, role: str, *, auth: Child | None = None) -> Child:
        """`tidewire serve ingest --role …` with nothing set but where things are.

        With an `auth` it has secrets and keys from there, and none from files.
        """
        webhooks, grpc, metrics = free_ports(3)
        child = await Child.start(
            [sys.executable, "-m", "cli", "serve", "ingest", "--role", role],
            {
                **self._service_environment(),
                "TIDEWIRE_INGEST_HTTP_ADDRESS": f"127.0.0.1:{webhooks}",
                "TIDEWIRE_INGEST_GRPC_ADDRESS": f"127.0.0.1:{grpc}",
                "TIDEWIRE_INGEST_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
                **(self._of_auth("ingest", auth) if auth is not None else {}),
            },
            f"http://127.0.0.1:{webhooks}/webhooks/shopify",
            self.directory / "logs" / f"{role}-{webhooks}.log",
        )
        return await _once_answering(child, f"http://127.0.0.1:{metrics}/readyz")

    async def serve_events(self, tiktok_url: str) -> Child:
        """`tidewire serve events`, which sends to `tiktok_url`."""
        grpc, metrics = free_ports(2)
        child = await Child.start(
            [sys.executable, "-m", "cli", "serve", "events"],
            {
                **self._service_environment(),
                "TIDEWIRE_TIKTOK_API_BASE_URL": tiktok_url,
                "TIDEWIRE_EVENTS_GRPC_ADDRESS": f"127.0.0.1:{grpc}",
                "TIDEWIRE_EVENTS_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
            },
            f"http://127.0.0.1:{metrics}",
            self.directory / "logs" / f"events-{metrics}.log",
        )
        return await _once_answering(child, f"http://127.0.0.1:{metrics}/readyz")

    async def serve_auth(self) -> Child:
        """`tidewire serve auth`; its `url` is the address of its gRPC."""
        grpc, metrics, pages = free_ports(3)
        child = await Child.start(
            [sys.executable, "-m", "cli", "serve", "auth"],
            {
                **self._service_environment(),
                **self.certificates.environment("auth"),
                "TIDEWIRE_AUTH_GRPC_ADDRESS": f"127.0.0.1:{grpc}",
                "TIDEWIRE_AUTH_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
                "TIDEWIRE_AUTH_HTTP_ADDRESS": f"127.0.0.1:{pages}",
                "TIDEWIRE_AUTH_PUBLIC_URL": f"http://127.0.0.1:{pages}",
            },
            f"127.0.0.1:{grpc}",
            self.directory / "logs" / f"auth-{grpc}.log",
        )
        return await _once_answering(child, f"http://127.0.0.1:{metrics}/readyz")

    async def sandbox(self, latency_ms: int) -> Child:
        """A simulated TikTok that knows the pixels of this bed."""
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        child = await Child.start(
            [sys.executable, "-m", "cli", "sandbox"],
            {
                **self._service_environment(),
                "TIDEWIRE_SANDBOX_ADDRESS": f"127.0.0.1:{port}",
                "TIDEWIRE_SANDBOX_LATENCY_MS": str(latency_ms),
            },
            url,
            self.directory / "logs" / "sandbox.log",
        )
        return await _once_answering(child, f"{url}/_sandbox/ledger")

    def _of_auth(self, name: str, auth: Child) -> dict[str, str]:
        return {**self.certificates.environment(name), "TIDEWIRE_AUTH_ADDRESS": auth.url}

    def _service_environment(self) -> dict[str, str]:
        """Where everything of this bed is."""
        return {
            **environment(),
            "TIDEWIRE_NATS_URL": self.nats.url,
            "TIDEWIRE_NATS_MONITOR_URL": self.nats.monitor_url,
            "TIDEWIRE_NATS_REPLICAS": str(self.nats.count),
            "TIDEWIRE_ALLOW_WEAK_FSYNC": str(self._weak_fsync).lower(),
            "TIDEWIRE_STREAM_SCALE_MIB": str(STREAM_SCALE_MIB),
            "TIDEWIRE_CONNECTIONS_FILE": str(self._connections),
            **self.certificates.environment("operator"),
            "TIDEWIRE_RPC_POLICY_FILE": str(ROOT / "deploy" / "policy.yaml"),
            "TIDEWIRE_KEK_FILE": str(self.kek_file),
            "TIDEWIRE_STATE_DIR": str(self.directory / "state"),
        }

    async def bare(self, mode: str) -> Child:
        """One of the handlers that ours is compared with (`bare.py`), storing here."""
        arguments = ["--nats", self.nats.url, "--replicas", str(self.nats.count)]
        return await bare_server(mode, arguments, self.directory / "logs" / f"bare-{mode}.log")

    async def api(self, subject: str, request: Mapping[str, object]) -> dict[str, Any]:
        """One call of JetStream's API, on a connection of its own."""
        client = await connected(self.nats.url)
        try:
            return await js_api(client, subject, dict(request))
        finally:
            await client.close()

    async def purge(self, *streams: str) -> None:
        """Empties streams, so that no round meets what an earlier one stored."""
        for stream in streams:
            try:
                await self.api(f"STREAM.PURGE.{stream}", {})
            except ApiError as error:
                if error.err_code != _STREAM_NOT_FOUND:
                    raise


async def bare_server(mode: str, arguments: Sequence[str], log: Path) -> Child:
    """A handler of `bare.py` as a process, once it answers."""
    (port,) = free_ports(1)
    child = await Child.start(
        [sys.executable, "-m", "tests.bench.bare", mode, "--port", str(port), *arguments],
        environment(),
        f"http://127.0.0.1:{port}/webhooks/shopify",
        log,
    )
    return await _once_answering(child, f"http://127.0.0.1:{port}/readyz")


async def _once_answering(child: Child, url: str) -> Child:
    try:
        await child.answers(url)
    except BaseException:
        await child.stop()
        raise
    return child


async def _is_answered(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
