"""How far each shop has been compared with Shopify, in the bucket `watermarks`."""

from __future__ import annotations

import msgspec

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, Entry
from services.ingest.domain.reconciling import Mark


class Watermarks:
    """One mark for each shop and kind. Whoever writes them holds the shop's lease."""

    def __init__(self, log: CommitLog) -> None:
        self._log = log

    async def load(self, shop: str, kind: str) -> Mark | None:
        """The mark; None where the shop was never compared.

        Raises:
            ServiceError: RETRYABLE, where NATS did not answer.
        """
        name = _subject(shop, kind)
        found = (await self._log.read([name])).get(name)
        return msgspec.json.decode(found.data, type=Mark) if found else None

    async def save(self, shop: str, kind: str, mark: Mark) -> None:
        """Stores the mark.

        Raises:
            ServiceError: RETRYABLE, where NATS did not answer.
        """
        await self._log.commit([Entry(_subject(shop, kind), msgspec.json.encode(mark))])


def _subject(shop: str, kind: str) -> str:
    return subjects.in_bucket(subjects.WATERMARKS, f"reconcile.{kind}.{subjects.token(shop)}")
