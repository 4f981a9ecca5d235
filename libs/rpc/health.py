"""The standard health service (`grpc.health.v1`), told by the readiness of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.lifecycle import Readiness

_Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """One state for the whole process and for each of its services: half a process serves none.

    The package's own servicer writes to the call by hand while it holds a lock; such a watch
    cannot be ended by the server without losing its status.
    """

    def __init__(self, readiness: Readiness, names: Iterable[str]) -> None:
        self._readiness = readiness
        self._names = frozenset(("", *names))

    async def Check(  # noqa: N802  the schema's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return _answer(is_ready=self._readiness.is_ready)

    async def Watch(  # noqa: N802  the schema's name
        self, request: health_pb2.HealthCheckRequest, _: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        if request.service not in self._names:
            yield _Answer(status=_Answer.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        async for is_ready in self._readiness.changes():
            yield _answer(is_ready=is_ready)


def _answer(*, is_ready: bool) -> health_pb2.HealthCheckResponse:
    return _Answer(status=_Answer.SERVING if is_ready else _Answer.NOT_SERVING)
