"""The commit log on one JetStream stream: atomic batches and many-subject direct reads."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus.api import (
    TIMEOUT_S,
    UNREACHABLE,
    ApiError,
    answer_of,
    js_api,
    refused,
    unavailable,
)
from libs.bus.commit_log import ConflictError, Entry, Stored
from libs.ids import Ids

_WRONG_LAST_SEQUENCE: Final = 10071
_WRONG_LAST_SEQUENCE_CONSTANT: Final = 10164
_MESSAGE_NOT_FOUND: Final = 10037
_SUBJECTS_PER_READ: Final = 500
"""The server's own bound on subjects that one many-subject read may match is 1,024."""

_AT_A_STRETCH: Final = 100
"""Entries of a batch that are published before others may: about 5 ms."""


class JetStreamLog:
    """`CommitLog` on the stream `stream`, which needs `allow_atomic` and `allow_direct`.

    Each question to the server is given up after `timeout_s`.
    """

    def __init__(
        self, nats: Client, stream: str, ids: Ids, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._nats = nats
        self._stream = stream
        self._ids = ids
        self._timeout_s = timeout_s

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for part in _parts(subjects):
            found.update(await self._read_part(part))
        return found

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        # A direct read may be answered by a follower that lags; this API call never is.
        answers = await asyncio.gather(*(self._read_from_leader(name) for name in subjects))
        return {stored.subject: stored for stored in answers if stored is not None}

    async def commit(self, entries: Sequence[Entry]) -> int:
        last = entries[-1]
        headers = _headers(last)
        if len(entries) > 1:
            # One entry needs no batch to be atomic, and the server's way of staging one costs 11 ms
            # (a plain write: 0.6 ms, each synced).
            batch_id = self._ids.new()
            for number, entry in enumerate(entries[:-1], start=1):
                if number % _AT_A_STRETCH == 0:
                    # To publish waits for nothing, and five hundred take 20 ms.
                    await asyncio.sleep(0)
                await self._nats.publish(
                    entry.subject,
                    entry.data,
                    headers=_headers(entry) | _in_batch(batch_id, number),
                )
            headers |= _in_batch(batch_id, len(entries)) | {"Nats-Batch-Commit": "1"}
        try:
            message = await self._nats.request(
                last.subject, last.data, timeout=self._timeout_s, headers=headers
            )
        except UNREACHABLE as error:
            raise unavailable(f"a batch of {self._stream}", error) from error
        return _committed(self._stream, message)

    async def _read_part(self, subjects: Sequence[str]) -> dict[str, Stored]:
        inbox = self._nats.new_inbox()
        subscription = await self._nats.subscribe(inbox)
        try:
            await self._nats.publish(
                f"$JS.API.DIRECT.GET.{self._stream}",
                msgspec.json.encode({"multi_last": subjects}),
                reply=inbox,
            )
            found: dict[str, Stored] = {}
            while True:
                message = await subscription.next_msg(timeout=self._timeout_s)
                headers = message.headers or {}
                if "Status" in headers:
                    _check_end(self._stream, headers)
                    break
                name = headers["Nats-Subject"]
                found[name] = Stored(name, int(headers["Nats-Sequence"]), message.data)
        except UNREACHABLE as error:
            raise unavailable(f"a read of {self._stream}", error) from error
        finally:
            await subscription.unsubscribe()
        if headers.get("Nats-Num-Pending", "0") == "0" or len(subjects) == 1:
            return found
        # The answer was cut at the server's bound on bytes: ask for less at once.
        middle = len(subjects) // 2
        first = await self._read_part(subjects[:middle])
        return first | await self._read_part(subjects[middle:])

    async def _read_from_leader(self, subject: str) -> Stored | None:
        try:
            answer = await js_api(
                self._nats,
                f"STREAM.MSG.GET.{self._stream}",
                {"last_by_subj": subject},
                timeout_s=self._timeout_s,
            )
        except ApiError as error:
            if error.err_code == _MESSAGE_NOT_FOUND:
                return None
            raise refused(error) from error
        message = answer["message"]
        return Stored(subject, message["seq"], base64.b64decode(message.get("data", "")))


def _parts(subjects: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(subjects), _SUBJECTS_PER_READ):
        yield subjects[start : start + _SUBJECTS_PER_READ]


def _in_batch(batch_id: str, number: int) -> dict[str, str]:
    return {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}


def _headers(entry: Entry) -> dict[str, str]:
    headers = {}
    if entry.expected is not None:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(entry.expected)
    if entry.ttl_s is not None:
        headers["Nats-TTL"] = f"{entry.ttl_s}s"
    return headers


def _check_end(stream: str, headers: dict[str, str]) -> None:
    """204 ends a read, 404 says that nothing matched; all else is a refusal."""
    status = headers["Status"]
    if status not in {"204", "404"}:
        raise refused(ApiError(f"a read of {stream}", int(status), headers.get("Description", "")))


def _committed(stream: str, message: Msg) -> int:
    try:
        return int(answer_of(f"a batch of {stream}", message.data)["seq"])
    except ApiError as error:
        if error.err_code in {_WRONG_LAST_SEQUENCE, _WRONG_LAST_SEQUENCE_CONSTANT}:
            last = error.description.rpartition(":")[2].strip()
            raise ConflictError(int(last) if last.isdigit() else 0) from error
        raise refused(error) from error
