"""Calls of the commands below `tidewire catalog`, and how what comes of them is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from libs.clock import Clock, SystemClock
from libs.errors import Kind, ServiceError
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.catalog.v1 import catalog_service_pb2 as pb
from tidewire.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub

_CALL_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How results are shown, and by which clock."""

    as_json: bool = False
    console: Console = field(default_factory=lambda: Console(highlight=False))
    clock: Clock = field(default_factory=SystemClock)

    def json(self, value: object) -> None:
        # Not through the console: on a narrow terminal it would break lines inside of texts.
        self.console.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def line(self, text: str, indent: int = 0, style: str = "") -> None:
        """One line; on a terminal that is too narrow, several below each other."""
        # As text: what TikTok and merchants say may hold brackets, which would be markup.
        shown = Text(text, style)
        if self.console.is_terminal:
            self.console.print(Padding(shown, (0, 0, 0, indent)))
        else:
            self.console.print(Text(" " * indent) + shown, soft_wrap=True)


class Service:
    """The service's calls."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def ask(self, method: str, request: Message) -> Any:
        """The answer of a method that has one.

        Raises:
            ServiceError: as `libs.rpc.client.call` does.
        """
        return await call(getattr(self.stub, method), request, timeout_s=_CALL_S)


async def at(callee: Callee, work: Callable[[Service], Awaitable[int]]) -> int:
    """What `work` returns with the service at `callee`; 2 where it says no or does not answer."""
    try:
        async with channel(callee.address, callee.identity) as opened:
            return await work(Service(CatalogServiceStub(opened)))
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        if error.kind is Kind.RETRYABLE and error.code == "rpc_unavailable":
            sys.stderr.write(
                f"no catalog service at {callee.address}: start it, or say where it is with"
                " --address\n"
            )
        return 2


async def pause(service: Service, view: View, connection_id: str, note: str) -> int:
    """Stops a catalog."""
    request = pb.SetPausedRequest(connection_id=connection_id, paused=True, note=note)
    await service.ask("SetPaused", request)
    view.line(f"{connection_id} is paused; tidewire catalog resume {connection_id} ends that")
    return 0


async def resume(service: Service, view: View, connection_id: str) -> int:
    """Lets a catalog go on, whatever had stopped it."""
    request = pb.SetPausedRequest(connection_id=connection_id, paused=False)
    answer: pb.SetPausedResponse = await service.ask("SetPaused", request)
    view.line(f"{connection_id} goes on; {answer.catalog.waiting:,} items wait to be sent")
    return 0


async def bind(service: Service, view: View, request: pb.BindEventSourceRequest) -> int:
    """Has TikTok match a catalog with the events of a pixel."""
    await service.ask("BindEventSource", request)
    view.line(f"{request.connection_id} is matched with the events of {request.pixel_code}")
    return 0
