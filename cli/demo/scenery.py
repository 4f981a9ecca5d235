"""What the demo plays with: its shops, their pixels, and the folder of real payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from libs.errors import permanent
from sandbox.shopify.model import Shop

CORPUS_SHOP: Final = Shop(
    "corpus-shop.myshopify.com",
    ("shpss_corpus",),
    "US",
    "USD",
    # Recorded payloads are years old: age is to be the only reason for not reporting one.
    datetime(2010, 1, 1, tzinfo=UTC),
)
OLDEST_S: Final = 28 * 86_400
"""The most that a connection may ask for as `max_event_age_s`."""

_OLDER_DIALECT_SHOP: Final = 1
_TWO_PIXELS_SHOP: Final = 0
_BESIDE_PROJECT: Final = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """One pixel of the demo: whose it is, and what it calls a purchase."""

    code: str
    shop: str
    """The shop's domain."""

    dialect: str = "event_track"

    @property
    def purchase_event(self) -> str:
        return "Purchase" if self.dialect == "event_track" else "CompletePayment"


def plan_pixels(shops: Sequence[Shop]) -> tuple[PixelPlan, ...]:
    """A pixel for each shop; the first has two, the second speaks the older dialect."""
    return tuple(_pixels(shops))


def _pixels(shops: Sequence[Shop]) -> Iterator[PixelPlan]:
    for place, shop in enumerate(shops):
        dialect = "pixel_track" if place == _OLDER_DIALECT_SHOP else "event_track"
        for number in range(2 if place == _TWO_PIXELS_SHOP else 1):
            yield PixelPlan(f"CDEMO{place:04d}{number}", shop.domain, dialect)


def connections_yaml(shops: Sequence[Shop], pixels: Sequence[PixelPlan]) -> str:
    """The connections file of these shops."""
    entries = [_entry(shop, [p for p in pixels if p.shop == shop.domain]) for shop in shops]
    return yaml.safe_dump({"connections": entries}, sort_keys=False)


def _entry(shop: Shop, pixels: Sequence[PixelPlan]) -> dict[str, Any]:
    return {
        "shop": shop.domain,
        "country": shop.country,
        "currency": shop.currency,
        "active_since": shop.active_since.isoformat(),
        "shopify": {"webhook_secrets": list(shop.secrets)},
        "tiktok_events": [
            {
                "access_token": f"demo-token-of-{pixel.code}",
                "pixel_code": pixel.code,
                "dialect": pixel.dialect,
                **({"max_event_age_s": OLDEST_S} if shop is CORPUS_SHOP else {}),
            }
            for pixel in pixels
        ],
    }


def corpus_root(chosen: Path | None, scratch: Path) -> Path | None:
    """The folder whose `webhooks/<topic>/*.json` are sent; None where nobody has any.

    `chosen` may be that folder, its `webhooks`, or any other folder of topic folders, which is then
    reached through a link in `scratch`. Without one, the folder beside the project is taken.

    Raises:
        ServiceError: PERMANENT, `no_payloads`, where `chosen` holds none.
    """
    if chosen is None:
        return _BESIDE_PROJECT if _has_payloads(_BESIDE_PROJECT / "webhooks") else None
    for folder in (chosen / "webhooks", chosen):
        if _has_payloads(folder):
            return folder.parent if folder.name == "webhooks" else _linked(folder, scratch)
    raise permanent("no_payloads", f"{chosen} has no <topic>/*.json: name a folder that has")


def _has_payloads(folder: Path) -> bool:
    return any(folder.glob("*/*.json"))


def _linked(folder: Path, scratch: Path) -> Path:
    root = scratch / "corpus"
    root.mkdir(parents=True)
    (root / "webhooks").symlink_to(folder.resolve(), target_is_directory=True)
    return root
