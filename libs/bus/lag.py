"""How far behind the durable consumers are, as a metric for autoscalers and alerts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client

from libs import metric_names
from libs.bus.api import ApiError, js_api
from libs.errors import ServiceError
from libs.telemetry import Metrics

_EVERY_S: Final = 5.0


class LagWatch:
    """Asks the server for the lag of some durables of one stream, now and then."""

    def __init__(
        self, nats: Client, stream: str, durables: Sequence[str], metrics: Metrics
    ) -> None:
        self._nats = nats
        self._stream = stream
        self._lag = dict.fromkeys(durables, 0)
        self._stopping = asyncio.Event()
        for durable in durables:
            metrics.gauge(
                metric_names.CONSUMER_LAG,
                lambda durable=durable: float(self._lag[durable]),  # type: ignore[misc]
                durable=durable,
            )

    async def run(self, ready: Callable[[], None]) -> None:
        """Asks until `stop`. What does not answer keeps its last value."""
        ready()
        while not self._stopping.is_set():
            for durable in self._lag:
                await self._ask(durable)
            try:
                await asyncio.wait_for(self._stopping.wait(), _EVERY_S)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def _ask(self, durable: str) -> None:
        try:
            info = await js_api(self._nats, f"CONSUMER.INFO.{self._stream}.{durable}")
        except (ApiError, ServiceError):
            return
        self._lag[durable] = int(info["num_pending"]) + int(info["num_ack_pending"])
