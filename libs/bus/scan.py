"""Reads of many messages in stream order, in pages, without a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.aio.client import Client

from libs.bus.api import TIMEOUT_S, UNREACHABLE, ApiError, refused, unavailable
from libs.bus.commit_log import Stored

_PAGE: Final = 256


async def page(
    nats: Client, stream: str, subject_filter: str, *, after: int = 0, limit: int = _PAGE
) -> list[Stored]:
    """At most `limit` messages behind sequence `after` whose subject fits the filter, in order.

    An empty list means that there are no more now. The stream needs `allow_direct`.

    Raises:
        ServiceError: RETRYABLE, where NATS did not answer.
    """
    inbox = nats.new_inbox()
    subscription = await nats.subscribe(inbox)
    request = {"seq": after + 1, "next_by_subj": subject_filter, "batch": limit}
    try:
        await nats.publish(
            f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox
        )
        found: list[Stored] = []
        while True:
            message = await subscription.next_msg(timeout=TIMEOUT_S)
            headers = message.headers or {}
            status = headers.get("Status")
            if status in {"204", "404"}:
                return found
            if status is not None:
                raise refused(
                    ApiError(f"a scan of {stream}", int(status), headers.get("Description", ""))
                )
            found.append(_stored(headers, message.data))
    except UNREACHABLE as error:
        raise unavailable(f"a scan of {stream}", error) from error
    finally:
        await subscription.unsubscribe()


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
    nats: Client, stream: str, subject_filter: str, *, after: int = 0, limit: int = _PAGE
) -> AsyncIterator[Stored]:
    """Every message behind `after` whose subject fits, as the stream is while it is read.

    It is read in pages of `limit`: larger ones are faster and hold more in memory.
    """
    while True:
        stored = await page(nats, stream, subject_filter, after=after, limit=limit)
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
