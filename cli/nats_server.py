"""The embedded nats-server: on loopback, with a store of its own, started, killed and restarted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

_READY_WITHIN_S: Final = 20.0
_STOPPED_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.02
_LOG_TAIL_LINES: Final = 20


class NatsServer:
    """One server with JetStream; `with NatsServer() as server:` starts it and cleans up after it.

    The system chooses the ports that are -1 at the first start; later starts keep them, and the
    store with them. `sync_interval` is `always` unless the test is about a weaker one (`"2m"`; None
    leaves the server's default). `extra` is appended to the configuration as it is. Without a
    `directory` the store is temporary and deleted by `close`.

    Raises:
        RuntimeError: the server ended or was not ready in 20 s; the end of its log is in the text.
        FileNotFoundError: there is no `nats-server` to run.
    """

    def __init__(
        self,
        *,
        sync_interval: str | None = "always",
        max_payload: str = "8MB",
        name: str = "embedded",
        extra: str = "",
        directory: Path | None = None,
        port: int = -1,
        monitor_port: int = -1,
    ) -> None:
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="tidewire-nats-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_path = self.directory / "server.log"
        self.store_dir = self.directory / "store"
        self._sync_interval = sync_interval
        self._max_payload = max_payload
        self._name = name
        self._extra = extra
        self._port = port
        self._monitor_port = monitor_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitor_url(self) -> str:
        """Base of `/healthz`, `/varz`, `/jsz`."""
        return f"http://127.0.0.1:{self._monitor_port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts the server and returns when JetStream is ready; nothing happens if it runs."""
        if self.running:
            return self
        config = self.directory / "server.conf"
        config.write_text(self._config(), encoding="utf-8")
        # Its log goes to a file: a full pipe would stop it one day.
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a binary that we look up ourselves
                [_binary(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to whoever started it, who ends it last.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Asks the server to end and waits for it; its store stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed; its store stays."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stops and starts it on the same ports and store."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the server, and deletes its store if it is a temporary one."""
        if self._temporary:
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            self.stop()

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _config(self) -> str:
        sync = f"sync_interval: {self._sync_interval}" if self._sync_interval else ""
        return "\n".join(
            (
                f"server_name: {self._name}",
                f'listen: "127.0.0.1:{self._port}"',
                f'http: "127.0.0.1:{self._monitor_port}"',
                f'ports_file_dir: "{self.directory}"',
                f"max_payload: {self._max_payload}",
                f'jetstream {{ store_dir: "{self.store_dir}"\n{sync} }}',
                self._extra,
            )
        )

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not (self._ports_known() and self._healthy()):
            if not self.running:
                raise RuntimeError(f"nats-server ended at its start:\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"nats-server not ready in 20 s:\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def _ports_known(self) -> bool:
        # The server writes this file once it listens: no port is picked that another may take.
        found = self.directory / f"nats-server_{self.pid}.ports"
        try:
            ports = json.loads(found.read_text(encoding="utf-8"))
            self._port = _port_of(ports["nats"][0])
            self._monitor_port = _port_of(ports["monitoring"][0])
        except (FileNotFoundError, json.JSONDecodeError, KeyError, IndexError):
            return False
        return True

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(  # noqa: S310 - always http
                f"{self.monitor_url}/healthz", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            # A paused process acts on SIGTERM only after this.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _binary() -> str:
    beside_python = Path(sys.executable).with_name("nats-server")
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("no nats-server: install the project's dev dependencies")
    return found


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise KeyError(url)
    return port
