"""gRPC in: `DeadLetterService`. Checks, translates, decides nothing."""

from __future__ import annotations

from typing import Any

import grpc
from grpc.aio import ServicerContext
from nats.aio.client import Client

from services.delivery.ports import Permissions
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc

Context = ServicerContext[Any, Any]


class DeadLetterServer(dead_letter_service_pb2_grpc.DeadLetterServiceServicer):
    """What was given up, and ways to have it tried again."""

    def __init__(self, *, nats: Client, permissions: Permissions) -> None:
        self._nats = nats
        self._permissions = permissions

    async def List(  # noqa: N802
        self, request: pb.DeadLetterServiceListRequest, context: Context
    ) -> pb.DeadLetterServiceListResponse:
        """Letters that fit a filter, page by page."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Get(  # noqa: N802
        self, request: pb.DeadLetterServiceGetRequest, context: Context
    ) -> pb.DeadLetterServiceGetResponse:
        """One letter, with its original where asked for."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Replay(  # noqa: N802
        self, request: pb.ReplayRequest, context: Context
    ) -> pb.ReplayResponse:
        """Puts letters on their way again."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def Drop(  # noqa: N802
        self, request: pb.DropRequest, context: Context
    ) -> pb.DropResponse:
        """Marks letters as not needed."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)
