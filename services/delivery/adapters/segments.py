"""Deliveries that go back into WEBHOOKS."""

from __future__ import annotations

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.publisher import publish
from tidewire.ingest.v1 import delivery_pb2

_SOURCE = "replay"


class SegmentStore:
    """Stores segments as ingest does, one at a time."""

    def __init__(self, nats: Client) -> None:
        self._nats = nats

    async def store(self, segment: delivery_pb2.DeliverySegment) -> None:
        """Returns when it is durable; the same one within two minutes is kept once.

        Later than that, the normalizer finds by the id that it has dealt with the delivery.

        Raises:
            ServiceError: RETRYABLE.
        """
        await publish(
            self._nats,
            subjects.webhook(_SOURCE),
            segment.SerializeToString(),
            message_id=segment.segment_id,
        )
