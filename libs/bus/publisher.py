"""One message, stored: publishing that returns when the stream has it on disk."""

from __future__ import annotations

from nats.aio.client import Client

from libs.bus.api import TIMEOUT_S, UNREACHABLE, ApiError, answer_of, unavailable
from libs.errors import Kind, ServiceError


async def publish(
    nats: Client, subject: str, data: bytes, *, message_id: str, timeout_s: float = TIMEOUT_S
) -> int:
    """The sequence under which the message is stored.

    The same `message_id` within the stream's duplicate window is stored once.

    Raises:
        ServiceError: RETRYABLE; it may nevertheless be stored.
    """
    try:
        answer = await nats.request(
            subject, data, timeout=timeout_s, headers={"Nats-Msg-Id": message_id}
        )
        return int(answer_of(subject, answer.data)["seq"])
    except ApiError as error:
        raise ServiceError(Kind.RETRYABLE, "refused_by_nats", error.description) from error
    except UNREACHABLE as error:
        raise unavailable(subject, error) from error
