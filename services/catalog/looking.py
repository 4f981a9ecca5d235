"""Looks at the images of a submit's items while TikTok works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from services.catalog.comparing import Outgoing
from services.catalog.domain.states import IssueSource
from services.catalog.domain.sync import SyncIssue
from services.catalog.ports import Images

_FAULTS: Final = {
    "unreachable": "the image cannot be fetched: TikTok will not show the item",
    "not_an_image": "what is at the image's address is no JPG or PNG",
    "too_small": "the image has less than 500 by 500 pixels",
    "too_large": "the image is too large to be fetched",
}


class ImageLook:
    """One submit's images; what is found is told with TikTok's answer."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._looking: asyncio.Task[Mapping[str, str]] | None = None
        self._image_of: dict[str, str] = {}

    def begin(self, items: Sequence[Outgoing]) -> None:
        """Begins with these, whatever was looked at before."""
        self.end()
        self._image_of = {one.sent.sku_id: one.image_url for one in items if one.image_url}
        urls = list(dict.fromkeys(self._image_of.values()))
        if urls:
            self._looking = asyncio.create_task(self._images.faults(urls), name="images")

    def end(self) -> None:
        """Looks no further."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    async def issues(self) -> Mapping[str, SyncIssue]:
        """What is wrong with the image of each item, by the item's id, once all are looked at."""
        looking, self._looking = self._looking, None
        if looking is None:
            return {}
        faults = await looking
        return {
            sku_id: _issue(faults[url]) for sku_id, url in self._image_of.items() if url in faults
        }


def _issue(fault: str) -> SyncIssue:
    text = _FAULTS.get(fault, fault)
    fix = "replace the image in Shopify"
    return SyncIssue(IssueSource.MAPPING, False, f"image_{fault}", "images", text, fix)  # noqa: FBT003  # a row
