"""gRPC in: `LimiterService`. Checks, translates, decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from grpc.aio import ServicerContext

from libs.errors import Kind, ServiceError, permanent
from libs.limits import BucketSeen, LimitedError, LimitSeen, Priority, SharedLimiter
from libs.limits.shopify import CALL_LIMIT_HEADER, rest_bucket
from tidewire.limiter.v1 import limiter_service_pb2 as pb
from tidewire.limiter.v1 import limiter_service_pb2_grpc

Context = ServicerContext[Any, Any]

OUTSTANDING_MAX: Final = 256
"""Requests of one stream without an answer that the caller has taken; more are not read."""

_WAIT_S: Final = 1.0
_WAIT_MAX_S: Final = 15.0
_MARGIN_S: Final = 0.02
"""Seconds of the caller's deadline that are left for the answer's way back."""

_PRIORITIES: Final = {
    pb.PRIORITY_UNSPECIFIED: Priority.LIVE,
    pb.PRIORITY_LIVE: Priority.LIVE,
    pb.PRIORITY_BACKFILL: Priority.BACKFILL,
    pb.PRIORITY_REPLAY: Priority.REPLAY,
}


class LimiterServer(limiter_service_pb2_grpc.LimiterServiceServicer):
    """Turns for callers of other processes, under the limits that all share."""

    def __init__(self, limiter: SharedLimiter) -> None:
        self._limiter = limiter

    async def Acquire(  # noqa: N802
        self, request: pb.AcquireRequest, context: Context
    ) -> pb.AcquireResponse:
        """Answers when the call may be made; RESOURCE_EXHAUSTED with the wait where it may not."""
        await self._turn(request, context)
        return pb.AcquireResponse(request_id=request.request_id, granted=True)

    async def AcquireStream(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.AcquireStreamRequest], context: Context
    ) -> AsyncIterator[pb.AcquireStreamResponse]:
        """Answers as turns come. What can never have a turn ends the stream with the reason.

        A stream that is ended by its caller gives up what it waits for; what it is given already
        and has not taken is lost.
        """
        answers: asyncio.Queue[pb.AcquireResponse | BaseException | None] = asyncio.Queue()
        room = asyncio.Semaphore(OUTSTANDING_MAX)
        reading = asyncio.create_task(self._read(request_iterator, context, answers, room))
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield pb.AcquireStreamResponse(acquired=answer)
                room.release()
        finally:
            reading.cancel()
            await asyncio.wait((reading,))

    async def Report(  # noqa: N802
        self,
        request: pb.ReportRequest,
        context: Context,
    ) -> pb.ReportResponse:
        """Slows every replica at once, and has them follow what the upstream told of its bucket."""
        seen = _observed(request)
        asked_s = _seconds(request.retry_after) if request.HasField("retry_after") else None
        if seen is None or request.code or asked_s is not None:
            await self._limiter.report(request.limits, retry_after_s=asked_s, code=request.code)
        # Last: how full it is counts by the pace to which the throttle slowed.
        if seen is not None:
            await self._limiter.observe(request.limits[0], seen)
        return pb.ReportResponse()

    async def Describe(  # noqa: N802
        self,
        request: pb.DescribeRequest,
        context: Context,
    ) -> pb.DescribeResponse:
        """Every window of the limits that were ever used."""
        found = await self._limiter.describe(request.prefix)
        return pb.DescribeResponse(limits=map(_status, found))

    async def _read(
        self,
        requests: AsyncIterator[pb.AcquireStreamRequest],
        context: Context,
        answers: asyncio.Queue[pb.AcquireResponse | BaseException | None],
        room: asyncio.Semaphore,
    ) -> None:
        """Puts an answer to each of `requests` into `answers`, then None; or what went wrong."""
        try:
            async with asyncio.TaskGroup() as turns:
                async for request in requests:
                    await room.acquire()
                    turns.create_task(self._answered(request.acquire, context, answers))
        except ExceptionGroup as group:
            answers.put_nowait(group.exceptions[0])
        except Exception as error:  # noqa: BLE001  the stream's own end tells of it
            answers.put_nowait(error)
        else:
            answers.put_nowait(None)

    async def _answered(
        self,
        request: pb.AcquireRequest,
        context: Context,
        answers: asyncio.Queue[pb.AcquireResponse | BaseException | None],
    ) -> None:
        answer = pb.AcquireResponse(request_id=request.request_id, granted=True)
        try:
            await self._turn(request, context)
        except ServiceError as error:
            if error.kind is not Kind.THROTTLED:
                raise
            answer = _refused(request, error)
        answers.put_nowait(answer)

    async def _turn(self, request: pb.AcquireRequest, context: Context) -> None:
        wait_s = _seconds(request.max_wait) if request.HasField("max_wait") else _WAIT_S
        left_s = context.time_remaining()
        if left_s is not None:
            wait_s = min(wait_s, left_s - _MARGIN_S)
        await self._limiter.turn(
            request.limits,
            weight=request.weight or 1,
            priority=_PRIORITIES[request.priority],
            shop=request.shop,
            max_wait_s=min(max(wait_s, 0.0), _WAIT_MAX_S),
        )


def _observed(request: pb.ReportRequest) -> BucketSeen | None:
    """The bucket that a report tells of; None where it tells of none.

    Raises:
        ServiceError: PERMANENT, where it cannot be read or is said of several limits.
    """
    told = request.WhichOneof("observed")
    if told is None:
        return None
    if len(request.limits) > 1:
        raise permanent("bucket_ambiguous", "name the bucket's limit alone", path="limits")
    if told == "bucket":
        bucket = request.bucket
        return BucketSeen(bucket.capacity, bucket.available, bucket.restore_per_s)
    seen = rest_bucket({CALL_LIMIT_HEADER: request.shopify_call_limit})
    if seen is None:
        advice = f"{CALL_LIMIT_HEADER} is such as 32/40: used, and what the bucket holds"
        raise permanent("call_limit_unreadable", advice, path="shopify_call_limit")
    return seen


def _refused(request: pb.AcquireRequest, error: ServiceError) -> pb.AcquireResponse:
    return pb.AcquireResponse(
        request_id=request.request_id,
        granted=False,
        retry_after=_duration(error.retry_after_s or 0.0),
        limit=error.limit if isinstance(error, LimitedError) else "",
    )


def _status(seen: LimitSeen) -> pb.LimitStatus:
    status = pb.LimitStatus(
        name=seen.name,
        limit=seen.units,
        window=_duration(seen.window_s),
        pace=seen.pace,
        used=seen.used,
        reserved_ahead=_duration(seen.reserved_ahead_s),
        waiters=seen.waiters,
        last_throttle_code=seen.code,
        granted=seen.granted,
    )
    if seen.throttled_ns:
        status.last_throttle.FromNanoseconds(seen.throttled_ns)
    return status


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
