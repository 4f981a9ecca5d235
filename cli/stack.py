"""The whole suite on one machine: NATS, services and sandbox as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp

from cli.nats_server import NatsServer
from libs.clock import SystemClock
from libs.errors import permanent
from libs.keys import create_kek
from libs.rpc.certificates import NAMES, make_certificates
from libs.rpc.identity import Identity

_READY_WITHIN_S: Final = 60.0
_STOPPED_WITHIN_S: Final = 30.0

_POLICY: Final = Path(__file__).resolve().parents[1] / "deploy" / "policy.yaml"
_POLICY_SETTING: Final = "TIDEWIRE_RPC_POLICY_FILE"

_SANDBOX_APPS: Final = {
    "TIDEWIRE_AUTH_SHOPIFY_CLIENT_ID": "sandbox-shopify-app",
    "TIDEWIRE_AUTH_SHOPIFY_CLIENT_SECRET": "sandbox-shopify-secret",
    "TIDEWIRE_AUTH_TIKTOK_BUSINESS_APP_ID": "7000000000000000001",
    "TIDEWIRE_AUTH_TIKTOK_BUSINESS_SECRET": "sandbox-tiktok-secret",
    "TIDEWIRE_AUTH_TIKTOK_ACCOUNT_CLIENT_ID": "sandbox-account-app",
    "TIDEWIRE_AUTH_TIKTOK_ACCOUNT_CLIENT_SECRET": "sandbox-account-secret",
    "TIDEWIRE_AUTH_TIKTOK_SHOP_APP_KEY": "sandbox-shop-key",
    "TIDEWIRE_AUTH_TIKTOK_SHOP_APP_SECRET": "sandbox-shop-secret",
    "TIDEWIRE_AUTH_TIKTOK_SHOP_SERVICE_ID": "7000000000000000021",
}
"""The apps that the simulators know from the start: made up, and secret from nobody."""

SERVICES: Final[Mapping[str, Sequence[str]]] = {
    "sandbox": ("sandbox",),
    "auth": ("serve", "auth"),
    "ingest-http": ("serve", "ingest", "--role", "http"),
    "ingest-normalizer": ("serve", "ingest", "--role", "normalizer"),
    "events": ("serve", "events"),
    "catalog": ("serve", "catalog"),
    "delivery": ("serve", "delivery"),
}
"""The processes besides NATS, by the arguments of `tidewire` that start them."""


class Nats(Protocol):
    """What a stack asks of its NATS: one server, or several that stand for one."""

    @property
    def url(self) -> str: ...

    @property
    def monitor_url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> Self: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...

    def log_tail(self) -> str: ...


@dataclass(slots=True)
class Ports:
    """Where everything listens; 0 is replaced by a free port."""

    webhooks: int = 0
    sandbox: int = 0
    pages: int = 0
    more_pages: dict[str, int] = field(default_factory=dict)
    """Of the second and further processes of `auth`."""

    grpc: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    nats: int = 0
    nats_monitor: int = 0


class Stack:
    """Starts, kills and restarts the suite. `async with Stack(directory) as stack:`.

    Everything lives below `directory`: NATS's store, keys, certificates, logs, spans. The
    connections file must be there before the services start. Events go to the sandbox, or to
    `tiktok_url`; `nats` is one embedded server unless another is given. A second process of a
    service is called by its name and a number, `events#2`.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        *,
        ports: Ports | None = None,
        tiktok_url: str | None = None,
        nats: Nats | None = None,
        live: bool = False,
    ) -> None:
        """`live`: the providers are those of the settings, the real ones unless they say other."""
        self.directory = directory.absolute()
        self._environ = dict(environ)
        self._tiktok_url = tiktok_url
        self._live = live
        self.ports = ports or Ports()
        self.nats: Nats = nats or NatsServer(
            directory=self.directory / "nats",
            port=self.ports.nats or -1,
            monitor_port=self.ports.nats_monitor or -1,
        )
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._nats_starting: asyncio.Task[Nats] | None = None
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.kek_file.exists():
            create_kek(self.kek_file)
        self.certificates = make_certificates(self.directory / "certificates", SystemClock())
        """Throw-away ones, new with each stack."""

    @property
    def operator(self) -> Identity:
        """Who a person at the command line is."""
        return self.certificates.identity("operator")

    @property
    def connections_file(self) -> Path:
        """The shops of this stack."""
        return self.directory / "connections.yaml"

    @property
    def kek_file(self) -> Path:
        """The key that wraps all data keys."""
        return self.directory / "kek"

    @property
    def state_dir(self) -> Path:
        """Where the services write their spans."""
        return self.directory / "state"

    @property
    def webhooks_url(self) -> str:
        """Where Shopify's webhooks go."""
        return f"http://127.0.0.1:{self.ports.webhooks}/webhooks/shopify"

    @property
    def sandbox_url(self) -> str:
        """The simulators."""
        return f"http://127.0.0.1:{self.ports.sandbox}"

    @property
    def pages_url(self) -> str:
        """Where a person connects a store."""
        return f"http://127.0.0.1:{self.ports.pages}"

    @property
    def tiktok_url(self) -> str:
        """Where events go."""
        return self._tiktok_url or self.sandbox_url

    def environment(self, name: str = "") -> dict[str, str]:
        """What a process of this stack is told."""
        grpc = self.ports.grpc.get(name, 0)
        metrics = self.ports.metrics.get(name, 0)
        kind = service_of(name)
        who = kind.partition("-")[0]
        who = who if who in NAMES else "operator"
        service = "INGEST" if who == "operator" else who.upper()
        return {
            **self._environ,
            **self.certificates.environment(who),
            _POLICY_SETTING: self._environ.get(_POLICY_SETTING, str(_POLICY)),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TIDEWIRE_NATS_URL": self.nats.url,
            "TIDEWIRE_NATS_MONITOR_URL": self.nats.monitor_url,
            "TIDEWIRE_CONNECTIONS_FILE": str(self.connections_file),
            "TIDEWIRE_KEK_FILE": str(self.kek_file),
            "TIDEWIRE_STATE_DIR": str(self.state_dir),
            "TIDEWIRE_STREAM_SCALE_MIB": self._environ.get("TIDEWIRE_STREAM_SCALE_MIB", "256"),
            "TIDEWIRE_TIKTOK_API_BASE_URL": self.tiktok_url,
            **self._shopify_environment(),
            "TIDEWIRE_INGEST_HTTP_ADDRESS": f"127.0.0.1:{self.ports.webhooks}",
            **self._auth_environment(name, kind),
            f"TIDEWIRE_{service}_GRPC_ADDRESS": f"127.0.0.1:{grpc}",
            f"TIDEWIRE_{service}_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
            "TIDEWIRE_SANDBOX_ADDRESS": f"127.0.0.1:{self.ports.sandbox}",
        }

    def _shopify_environment(self) -> dict[str, str]:
        if self._live:
            return {}
        return {"TIDEWIRE_SHOPIFY_BASE_URL": f"{self.sandbox_url}/shopify/{{shop}}"}

    def _auth_environment(self, name: str, kind: str) -> dict[str, str]:
        """What the token service is told, and where the others find it if it is among them."""
        if kind != "auth":
            port = self.ports.grpc.get("auth")
            return {"TIDEWIRE_AUTH_ADDRESS": f"127.0.0.1:{port}"} if port else {}
        place = f"127.0.0.1:{self.ports.more_pages.get(name, self.ports.pages)}"
        pages = {"TIDEWIRE_AUTH_HTTP_ADDRESS": place}
        if self._live:
            return pages
        sandbox = self.sandbox_url
        return {
            **pages,
            # Its own: there is nothing in front of several that would spread requests.
            "TIDEWIRE_AUTH_PUBLIC_URL": f"http://{place}",
            "TIDEWIRE_AUTH_WEBHOOKS_URL": self.webhooks_url,
            **_SANDBOX_APPS,
            "TIDEWIRE_TIKTOK_CONSENT_URL": f"{sandbox}/portal/auth",
            "TIDEWIRE_TIKTOK_ACCOUNT_CONSENT_URL": f"{sandbox}/v2/auth/authorize/",
            "TIDEWIRE_TIKTOK_SHOP_AUTH_BASE_URL": sandbox,
            "TIDEWIRE_TIKTOK_SHOP_API_BASE_URL": sandbox,
            "TIDEWIRE_TIKTOK_SHOP_CONSENT_URL": f"{sandbox}/open/authorize",
        }

    async def start_all(self, names: Sequence[str] = tuple(SERVICES)) -> None:
        """Starts NATS and the processes, and returns when all are ready.

        Raises:
            ServiceError: PERMANENT, `not_ready`, with the end of the log of what did not come up.
        """
        # Waited for by `stop_all` as well: broken off here, the thread would still start a server.
        self._nats_starting = asyncio.create_task(asyncio.to_thread(self.nats.start))
        await asyncio.shield(self._nats_starting)
        self._choose_ports(names)
        for name in names:
            await self.start(name)
        await asyncio.gather(*(self.wait_ready(name) for name in names))

    async def start(self, name: str) -> None:
        """Starts one process."""
        self._choose_ports([name])
        log = self.log_path(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "cli",
                *SERVICES[service_of(name)],
                env=self.environment(name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C goes to us alone: we end them in an order in which each can finish.
                start_new_session=True,
            )

    async def wait_ready(self, name: str, within_s: float = _READY_WITHIN_S) -> None:
        """Returns when `/readyz` of a process says so."""
        process = self.processes[name]
        deadline_s = time.monotonic() + within_s
        async with aiohttp.ClientSession() as session:
            while not await _is_ready(session, self._ready_url(name)):
                if process.returncode is not None or time.monotonic() > deadline_s:
                    raise permanent("not_ready", f"{name} did not come up:\n{self.log_tail(name)}")
                await asyncio.sleep(0.05)

    async def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends one process, `nats` included, and waits until it is gone."""
        if name == "nats":
            await asyncio.to_thread(self.nats.kill if how == signal.SIGKILL else self.nats.stop)
            return
        process = self.processes[name]
        if process.returncode is None:
            process.send_signal(how)
        await process.wait()

    async def restart(self, name: str) -> None:
        """Starts a process that was killed, and returns when it is ready."""
        if name == "nats":
            await asyncio.to_thread(self.nats.start)
            return
        await self.start(name)
        await self.wait_ready(name)

    def ended(self) -> list[str]:
        """Processes that are started and no longer run, whoever ended them."""
        return [name for name, one in self.processes.items() if one.returncode is not None] + (
            [] if self.nats.running else ["nats"]
        )

    def rss_bytes(self) -> dict[str, int]:
        """Resident memory of each process now, with those that it has begun."""
        pids = {name: process.pid for name, process in self.processes.items()}
        if self.nats.running:
            pids["nats"] = self.nats.pid
        return {name: _rss_bytes(pid) for name, pid in pids.items()}

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines that a process wrote."""
        if name == "nats":
            return self.nats.log_tail()
        with contextlib.suppress(FileNotFoundError):
            text = self.log_path(name).read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return "(no log)"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_all()

    async def stop_all(self) -> None:
        """Ends everything, politely first."""
        living = [p for p in self.processes.values() if p.returncode is None]
        for process in reversed(living):
            process.terminate()
        for process in living:
            try:
                await asyncio.wait_for(process.wait(), _STOPPED_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._nats_starting is not None:
            await asyncio.wait({self._nats_starting})
        await asyncio.to_thread(self.nats.close)

    def _choose_ports(self, names: Sequence[str]) -> None:
        names = [name for name in names if name != "sandbox"]
        wanted = 3 + 3 * len(names)
        free = iter(_free_ports(wanted))
        self.ports.webhooks = self.ports.webhooks or next(free)
        self.ports.sandbox = self.ports.sandbox or next(free)
        self.ports.pages = self.ports.pages or next(free)
        for name in names:
            self.ports.grpc.setdefault(name, next(free))
            self.ports.metrics.setdefault(name, next(free))
            if name.startswith("auth#"):
                self.ports.more_pages.setdefault(name, next(free))

    def _ready_url(self, name: str) -> str:
        if name == "sandbox":
            return f"{self.sandbox_url}/_sandbox/ledger"
        return f"http://127.0.0.1:{self.ports.metrics[name]}/readyz"

    def log_path(self, name: str) -> Path:
        """What a service or the sandbox has written to stdout and stderr."""
        return self.directory / "logs" / f"{name}.log"


def service_of(name: str) -> str:
    """Which of `SERVICES` a process is one of."""
    return name.partition("#")[0]


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once so that none comes twice."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def children_of(pid: int) -> list[int]:
    """Processes that a process has begun and that are there still."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _rss_bytes(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    own = int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    return own + sum(map(_rss_bytes, children_of(pid)))
