"""Looks at the images of a submit's items while TikTok works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from libs.clock import Clock
from services.catalog.comparing import Outgoing
from services.catalog.domain.states import IssueSource
from services.catalog.domain.sync import SyncIssue
from services.catalog.pauses import pause
from services.catalog.ports import Images

_FAULTS: Final = {
    "unreachable": "the image cannot be fetched: TikTok will not show the item",
    "not_an_image": "what is at the image's address is no JPG or PNG",
    "too_small": "the image has less than 500 by 500 pixels",
    "too_large": "the image is too large to be fetched",
}


PATIENCE_S: Final = 30.0
"""How long an answer waits for images, of which TikTok needs none: 5,000 dead addresses, 16 at once
and ten seconds each, would keep a catalog for 52 minutes."""


class ImageLook:
    """One submit's images; what is found is told with TikTok's answer."""

    def __init__(self, images: Images, clock: Clock) -> None:
        self._images = images
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()
        self._image_of: dict[str, str] = {}
        self._found: dict[str, str] = {}

    def begin(self, items: Sequence[Outgoing]) -> None:
        """Begins with these, whatever was looked at before."""
        self.end()
        self._image_of = {one.sent.sku_id: one.image_url for one in items if one.image_url}
        self._found = {}
        urls = list(dict.fromkeys(self._image_of.values()))
        if urls:
            looking = self._images.look(urls, self._found)
            self._is_over = asyncio.Event()
            self._looking = asyncio.create_task(looking, name="images")
            self._looking.add_done_callback(lambda _, over=self._is_over: over.set())  # type: ignore[misc]

    def end(self) -> None:
        """Looks no further."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    async def issues(self) -> Mapping[str, SyncIssue]:
        """What is wrong with the image of each item, by the item's id, as far as it is known.

        Waits once for those that are not looked at; asked again, it tells the same.
        """
        if self._looking is not None and not self._is_over.is_set():
            await pause(self._clock, PATIENCE_S, self._is_over)
        self.end()
        return {
            sku_id: _issue(self._found[url])
            for sku_id, url in self._image_of.items()
            if url in self._found
        }


def _issue(fault: str) -> SyncIssue:
    text = _FAULTS.get(fault, fault)
    fix = "replace the image in Shopify"
    return SyncIssue(IssueSource.MAPPING, False, f"image_{fault}", "images", text, fix)  # noqa: FBT003  # a row
