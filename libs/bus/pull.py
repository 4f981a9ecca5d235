"""Messages of one durable consumer, pulled as fast as they are taken and no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from libs.bus.api import UNREACHABLE, ApiError, js_api, refused
from libs.errors import ServiceError

_log = structlog.stdlib.get_logger()

_EXPIRES_S: Final = 5.0
"""A pull stays outstanding so long. 64 idle durables then cost a hundredth of a core; at 0.2 s they
would cost a tenth."""

_SILENCE_S: Final = _EXPIRES_S + 3.0
"""A server that says nothing for so long, not even that a pull has expired, has lost it."""

_AFTER_TROUBLE_S: Final = 0.5
_LOOK_AGAIN_S: Final = 0.25
"""How soon a change of the allowance is noticed where nothing else happens."""
_DRAIN_S: Final = 2.0
"""How long an end waits for the server to hear of it."""

PRIORITY_GROUP: Final = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """A durable consumer, as it must be."""

    stream: str
    durable: str
    filters: tuple[str, ...] = ()
    ack_wait_s: float = 15.0
    max_ack_pending: int = 1000
    pinned: bool = False
    """One active puller at a time: what keeps a lane's messages in order over several replicas."""

    def config(self) -> dict[str, Any]:
        """The server's configuration of this consumer."""
        config: dict[str, Any] = {
            "durable_name": self.durable,
            "ack_policy": "explicit",
            "ack_wait": int(self.ack_wait_s * 1e9),
            "deliver_policy": "all",
            # Attempts are counted by unit: after `max_deliver` the server would just forget it.
            "max_deliver": -1,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": 64,
        }
        if self.filters:
            config["filter_subjects"] = list(self.filters)
        if self.pinned:
            config["priority_groups"] = [PRIORITY_GROUP]
            config["priority_policy"] = "pinned_client"
            config["priority_timeout"] = int(_EXPIRES_S * 1e9)
        return config


async def ensure_consumer(nats: Client, settings: ConsumerSettings) -> None:
    """Creates the durable, or brings an existing one to these settings.

    Raises:
        ServiceError: RETRYABLE, where the server refuses or does not answer.
    """
    try:
        await js_api(
            nats,
            f"CONSUMER.CREATE.{settings.stream}.{settings.durable}",
            {"stream_name": settings.stream, "config": settings.config(), "action": ""},
        )
    except ApiError as error:
        raise refused(error) from error


class Puller:
    """Keeps up to `capacity` messages at hand. Use as an async context manager."""

    def __init__(
        self,
        nats: Client,
        settings: ConsumerSettings,
        *,
        capacity: int,
        allowance: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._nats = nats
        self._settings = settings
        self._capacity = capacity
        self._allowance = allowance
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._pull_over = asyncio.Event()
        self._asked = 0
        self._refused = False
        self._ended = False
        self._pin_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._inbox = self._nats.new_inbox()
        self._subscription = await self._nats.subscribe(self._inbox, cb=self._receive)
        self._task = asyncio.create_task(
            self._keep_pulling(), name=f"pull {self._settings.durable}"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        # What is on its way is let in, and what nobody took is given back at once: else it would
        # come again only after `ack_wait`.
        with suppress(NatsError, OSError, TimeoutError):
            await asyncio.wait_for(self._stop_listening(), _DRAIN_S)
        self._ended = True
        await self._give_back()

    async def _stop_listening(self) -> None:
        """Returns when the server sends nothing more, and all that it sent is in the queue.

        Nothing but the loss of interest ends a pull before its time. Where another server of a
        cluster leads the consumer, it hears of that later than ours, by the way between the two:
        what it sends meanwhile reaches nobody, and comes again only after `ack_wait`.
        """
        # `drain` alone says nothing: its PING goes past an UNSUB that is still in the client's
        # buffer, and what comes between their answers is dropped. A request stays behind the UNSUB,
        # and its answer behind all that was sent before.
        await self._nats._send_unsubscribe(self._subscription._id)  # noqa: SLF001
        with suppress(NoRespondersError):
            await self._nats.request(self._inbox, timeout=_DRAIN_S)
        await self._subscription.drain()  # type: ignore[no-untyped-call]

    async def _give_back(self) -> None:
        with suppress(NatsError, OSError):
            while not self._queue.empty():
                await self._queue.get_nowait().nak()

    @property
    def waiting(self) -> int:
        """Messages at hand that nobody has taken."""
        return self._queue.qsize()

    async def take(self) -> Msg:
        """The next message; waits for one."""
        message = await self._queue.get()
        self._taken.set()
        return message

    def take_now(self) -> Msg | None:
        """The next message if one is at hand."""
        if self._queue.empty():
            return None
        self._taken.set()
        return self._queue.get_nowait()

    async def _receive(self, message: Msg) -> None:
        headers = message.headers or {}
        if not message.reply and "Status" in headers:
            self._end_pull(headers)
            return
        self._pin_id = headers.get("Nats-Pin-Id", self._pin_id)
        self._asked -= 1
        self._queue.put_nowait(message)
        if self._asked <= 0:
            self._pull_over.set()
        if self._ended:
            # The server heard of the end later than we waited.
            await self._give_back()

    def _end_pull(self, headers: Mapping[str, str]) -> None:
        status = headers["Status"]
        if status == "100":
            return
        if status == "423":
            # Another replica holds the pin; without an id this one may be given it next.
            self._pin_id = None
        # 404 and 408 are how a pull ends that found no more. All else (no such consumer, no leader,
        # shutting down) would be answered the same at once, and again, as fast as we can ask.
        self._refused = status not in {"404", "408", "423"}
        self._pull_over.set()

    async def _keep_pulling(self) -> None:
        while True:
            allowed = self._allowance()
            capacity = self._capacity if allowed is None else min(allowed, self._capacity)
            room = capacity - self._queue.qsize()
            if room <= capacity // 2:
                self._taken.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._taken.wait(), _LOOK_AGAIN_S)
                continue
            try:
                await self._pull(room)
                if self._refused:
                    await ensure_consumer(self._nats, self._settings)
                    await asyncio.sleep(_AFTER_TROUBLE_S)
            except UNREACHABLE as error:
                _log.info(
                    "pull_failed", durable=self._settings.durable, reason=type(error).__name__
                )
                await asyncio.sleep(_AFTER_TROUBLE_S)
            except ServiceError as error:
                _log.warning(
                    "consumer_not_there", durable=self._settings.durable, reason=str(error)
                )
                await asyncio.sleep(_AFTER_TROUBLE_S)

    async def _pull(self, batch: int) -> None:
        request: dict[str, Any] = {"batch": batch, "expires": int(_EXPIRES_S * 1e9)}
        if self._settings.pinned:
            request["group"] = PRIORITY_GROUP
            if self._pin_id:
                request["id"] = self._pin_id
        self._asked = batch
        self._refused = False
        self._pull_over.clear()
        await self._nats.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._settings.stream}.{self._settings.durable}",
            msgspec.json.encode(request),
            reply=self._inbox,
        )
        try:
            await asyncio.wait_for(self._pull_over.wait(), _SILENCE_S)
        except TimeoutError:
            # Not even an expiry: the server was restarted, or the consumer is gone.
            self._refused = True
