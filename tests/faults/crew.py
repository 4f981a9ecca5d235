"""The processes of a running suite, and what a fault does to them."""

from __future__ import annotations

import signal

from tests.faults.site import SiteStack


class Crew:
    """Kills, stops and starts processes, and knows which it has touched."""

    def __init__(self, stack: SiteStack) -> None:
        self.stack = stack
        self.touched: set[str] = set()
        """Processes that the fault kills, or that are its own."""

        self._stopped: set[str] = set()
        self._strangers: set[str] = set()

    async def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends a process and returns when it is gone."""
        self.touched.add(name)
        await self.stack.kill(name, how)

    async def start(self, name: str, **told: str) -> None:
        """Starts a process that was ended, or one more of a service; not waiting for it."""
        self.touched.add(name)
        self.stack.told_to[name] = told
        if name == "nats":
            await self.stack.restart(name)
        else:
            await self.stack.start(name)

    async def joined_by(self, name: str, **told: str) -> None:
        """Starts one more process of a service and waits until it works; it ends with the scene."""
        self._strangers.add(name)
        await self.start(name, **told)
        await self.stack.wait_ready(name)

    def stop(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and its work, and does nothing."""
        self._stopped.add(name)
        self.stack.processes[name].send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """SIGCONT after `stop`."""
        self._stopped.discard(name)
        self.stack.processes[name].send_signal(signal.SIGCONT)

    def all_go_on(self) -> None:
        """SIGCONT for whoever is still stopped."""
        for name in tuple(self._stopped):
            self.go_on(name)

    async def as_before(self) -> None:
        """Everybody who was there at first runs as at first, and nobody else."""
        for name in self._strangers:
            await self.stack.kill(name, signal.SIGTERM)
            del self.stack.processes[name]
        if not self.stack.nats.running:
            await self.stack.restart("nats")
        for name in sorted(self.touched - self._strangers):
            told, self.stack.told_to[name] = self.stack.told_to.get(name), {}
            if name == "nats":
                continue
            process = self.stack.processes[name]
            if told and process.returncode is None:
                await self.stack.kill(name, signal.SIGTERM)
            if process.returncode is not None:
                await self.stack.start(name)
            await self.stack.wait_ready(name)
