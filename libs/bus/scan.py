"""Reads of many messages in stream order, in pages, without a consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus.api import TIMEOUT_S, UNREACHABLE, ApiError, refused, unavailable
from libs.bus.commit_log import Stored

_PAGE: Final = 256
"""Larger pages are hardly faster, and whoever shares the process waits while one is taken in."""


async def page(
    nats: Client, stream: str, subject_filter: str, *, after: int = 0, limit: int = _PAGE
) -> list[Stored]:
    """At most `limit` messages behind sequence `after` whose subject fits the filter, in order.

    An empty list means that there are no more now. The stream needs `allow_direct`.

    Raises:
        ServiceError: RETRYABLE, where NATS did not answer.
    """
    inbox = nats.new_inbox()
    answers = _Answers()
    request = {"seq": after + 1, "next_by_subj": subject_filter, "batch": limit}
    # By callback: to await each message by itself costs three times as much.
    subscription = await nats.subscribe(inbox, cb=answers.take)
    try:
        await nats.publish(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox
        )
        end = await answers.end()
    except UNREACHABLE as error:
        raise unavailable(f"a scan of {stream}", error) from error
    finally:
        await subscription.unsubscribe()
    status = end.get("Status", "")
    if status not in {"204", "404"}:
        why = ApiError(f"a scan of {stream}", int(status), end.get("Description", ""))
        raise refused(why)
    return [_stored(message.headers or {}, message.data) for message in answers.messages]


class _Answers:
    """What comes back for one page: messages, then a status that says that it is over."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self._end: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def take(self, message: Msg) -> None:
        """Takes in what the server sent."""
        headers = message.headers or {}
        if "Status" not in headers:
            self.messages.append(message)
        elif not self._end.done():
            self._end.set_result(headers)

    async def end(self) -> Mapping[str, str]:
        """The headers of the last answer.

        Raises:
            TimeoutError: nothing came for `TIMEOUT_S`.
        """
        while True:
            before = len(self.messages)
            done, _ = await asyncio.wait({self._end}, timeout=TIMEOUT_S)
            if done:
                return self._end.result()
            if len(self.messages) == before:
                raise TimeoutError


def _stored(headers: Mapping[str, str], data: bytes) -> Stored:
    at = datetime.fromisoformat(headers["Nats-Time-Stamp"])
    return Stored(
        headers["Nats-Subject"],
        int(headers["Nats-Sequence"]),
        data,
        # A float of today's seconds is exact to a quarter of a microsecond.
        int(at.timestamp() * 1e9),
    )


async def scan(
    nats: Client, stream: str, subject_filter: str, *, after: int = 0
) -> AsyncIterator[Stored]:
    """Every message behind `after` whose subject fits, as the stream is while it is read."""
    while True:
        stored = await page(nats, stream, subject_filter, after=after)
        for one in stored:
            yield one
        if not stored:
            return
        after = stored[-1].sequence


async def first_at(nats: Client, stream: str, instant_ns: int, last: int) -> int:
    """The sequence just before the first message stored at or after `instant_ns`; else `last`."""
    start = datetime.fromtimestamp(instant_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")
    request = {"start_time": start, "next_by_subj": ">", "batch": 1}
    inbox = nats.new_inbox()
    subscription = await nats.subscribe(inbox)
    try:
        await nats.publish(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox
        )
        message = await subscription.next_msg(timeout=TIMEOUT_S)
    except UNREACHABLE as error:
        raise unavailable(f"a scan of {stream}", error) from error
    finally:
        await subscription.unsubscribe()
    headers = message.headers or {}
    return int(headers["Nats-Sequence"]) - 1 if "Nats-Sequence" in headers else last
