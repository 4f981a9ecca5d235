"""Calls to the suite's own services: a deadline always, and the server's ServiceError again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, TypeVar

import grpc

from libs.errors import ServiceError
from libs.rpc.channel import RenewingChannel
from libs.rpc.errors import error_of
from libs.rpc.identity import Identity
from libs.rpc.server import MESSAGE_BYTES_MAX
from libs.settings import Address

Req = TypeVar("Req")
Res = TypeVar("Res")

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The default backs off to two minutes; an outage's end is to be noticed soon.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Retries are the policy's, where they are counted.
    ("grpc.enable_retries", 0),
)


def channel(address: Address, identity: Identity) -> grpc.aio.Channel:
    """A channel to a service at `address`; connects when first used, close it in the end.

    A call raises what `RenewingChannel.current` does where `identity` has nothing to begin with.
    """
    return RenewingChannel(address, identity, _OPTIONS)


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Req, Res],
    request: Req,
    *,
    timeout_s: float,
    traceparent: str | None = None,
) -> Res:
    """The answer of a stub's `method` within `timeout_s` seconds.

    Raises:
        ServiceError: the one the server raised, with its kind, code, message, wait and path;
            `rpc_…` in lower case for a status that no server of ours set.
    """
    try:
        return await method(request, timeout=timeout_s, metadata=_metadata(traceparent))
    except grpc.aio.AioRpcError as error:
        raise _raised_again(error) from error


async def stream(
    method: grpc.aio.UnaryStreamMultiCallable[Req, Res],
    request: Req,
    *,
    timeout_s: float | None,
    traceparent: str | None = None,
) -> AsyncIterator[Res]:
    """The answers of a stub's streaming `method`; None lets it go on until one side ends it.

    Raises:
        ServiceError: as `call` does, also after some answers.
    """
    answers = method(request, timeout=timeout_s, metadata=_metadata(traceparent))
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise _raised_again(error) from error
    finally:
        answers.cancel()


def _metadata(traceparent: str | None) -> grpc.aio.Metadata | None:
    return grpc.aio.Metadata(("traceparent", traceparent)) if traceparent else None


def _raised_again(error: grpc.aio.AioRpcError) -> ServiceError:
    trailers = error.trailing_metadata() or grpc.aio.Metadata()
    return error_of(error.code(), error.details() or "", tuple(trailers))
