"""Dead letters in their stream, and how their ids say where they are."""

from __future__ import annotations

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.publisher import publish
from tidewire.delivery.v1 import outcome_pb2

INGEST = "ingest"


def delivery_letter_id(shop: str, delivery_id: str) -> str:
    """The id of the letter of a delivery that could not be normalised."""
    return f"{INGEST}.{shop}.{delivery_id}"


def unit_letter_id(sink: str, shop: str, unit: str) -> str:
    """The id of the letter of a unit that a sink, such as `events.C123`, gave up."""
    return f"{sink}.{shop}.{unit}"


def places_of(letter_id: str) -> str:
    """A filter on the subjects at which a letter of this id can stand, as narrow as can be.

    A handle of a shop holds no dot, and a sink one: so the id itself says whose the letter is. All
    letters fit where it does not.
    """
    parts = letter_id.split(".")
    match parts:
        case [service, shop, _, *_] if service == INGEST:
            return subjects.dead_letters(service=service, shop=shop)
        case [service, _, shop, _, *_]:
            return subjects.dead_letters(service=service, shop=shop)
        case _:
            return subjects.dead_letters()


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
            subjects.dead_letter(letter.service, letter.code, letter.shop or subjects.NO_SHOP),
            letter.SerializeToString(),
            message_id=letter.dead_letter_id,
        )
