"""Shops as many as are asked for, of any lane, with a pixel each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cli.demo.scenery import PixelPlan, connections_yaml
from libs.bus import subjects
from sandbox.shopify.model import Shop

COUNTRY: Final = "US"
CURRENCY: Final = "USD"


def bench_shop(handle: str, now: datetime) -> Shop:
    """The shop of a handle; its secret follows from that."""
    domain = f"{handle}.myshopify.com"
    return Shop(domain, (f"shpss_{handle}",), COUNTRY, CURRENCY, now - timedelta(days=30))


def bench_shops(count: int, now: datetime, *, lane: int | None = None) -> tuple[Shop, ...]:
    """`count` shops of one kind; with `lane`, all of that lane."""
    names = (f"bench-{number:05d}" for number in itertools.count())
    fitting = (name for name in names if lane is None or subjects.lane(name) == lane)
    return tuple(bench_shop(name, now) for name in itertools.islice(fitting, count))


def handle_of(shop: Shop) -> str:
    """What subjects call the shop."""
    return shop.domain.partition(".")[0]


def pixel_of(shop: Shop) -> str:
    """The code of the shop's one pixel."""
    return f"C{handle_of(shop).upper().replace('-', '')}"


def connections_of(shops: Sequence[Shop]) -> str:
    """The connections file: a pixel for each shop."""
    pixels = [PixelPlan(pixel_of(shop), shop.domain) for shop in shops]
    return connections_yaml(shops, pixels)
