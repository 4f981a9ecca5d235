"""JetStream's JSON API by raw request: what nats-py has no call for, and errors as types."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, NoRespondersError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeoutError

from libs.errors import Kind, ServiceError

TIMEOUT_S: Final = 5.0

UNREACHABLE: Final = (
    NatsTimeoutError,
    NoRespondersError,
    ConnectionClosedError,
    OutboundBufferLimitError,
    OSError,
    EOFError,
)
"""What nats-py raises where the server did not answer; nobody knows whether it has acted."""


class ApiError(Exception):
    """A refusal by the server; `err_code` is its own number for the reason."""

    def __init__(self, subject: str, err_code: int, description: str) -> None:
        super().__init__(f"{subject}: {err_code} {description}")
        self.err_code = err_code
        self.description = description


def refused(error: ApiError) -> ServiceError:
    """The error of a server that answered no for reasons of its own: full, or without a leader."""
    return ServiceError(Kind.RETRYABLE, "refused_by_nats", f"{error.err_code}: {error.description}")


def unavailable(subject: str, error: BaseException) -> ServiceError:
    """The error of a server that did not answer."""
    return ServiceError(
        Kind.RETRYABLE,
        "nats_unavailable",
        f"no answer on {subject} ({type(error).__name__}): check that NATS runs and has a leader",
    )


def answer_of(subject: str, data: bytes) -> dict[str, Any]:
    """The decoded answer.

    Raises:
        ApiError: the server refused.
    """
    answer: dict[str, Any] = msgspec.json.decode(data)
    error = answer.get("error")
    if error:
        raise ApiError(subject, int(error.get("err_code", 0)), str(error.get("description", "")))
    return answer


async def js_api(
    nats: Client, name: str, body: object = None, *, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The answer of one API call, such as `STREAM.INFO.COMMERCE`.

    Raises:
        ApiError: the server refused.
        ServiceError: RETRYABLE, `nats_unavailable`, where nothing answered in time.
    """
    subject = f"$JS.API.{name}"
    payload = b"" if body is None else msgspec.json.encode(body)
    try:
        message = await nats.request(subject, payload, timeout=timeout_s)
    except UNREACHABLE as error:
        raise unavailable(subject, error) from error
    return answer_of(subject, message.data)
