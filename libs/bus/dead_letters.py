"""Dead letters in their stream."""

from __future__ import annotations

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.publisher import publish
from tidewire.delivery.v1 import outcome_pb2


class DeadLetterStore:
    """Stores dead letters; the same one twice within the stream's window is kept once."""

    def __init__(self, nats: Client) -> None:
        self._nats = nats

    async def store(self, letter: outcome_pb2.DeadLetter) -> None:
        """Returns when the letter is durable.

        Raises:
            ServiceError: RETRYABLE.
        """
        await publish(
            self._nats,
            subjects.dead_letter(letter.service, letter.code, letter.shop or "_unknown"),
            letter.SerializeToString(),
            message_id=letter.dead_letter_id,
        )
