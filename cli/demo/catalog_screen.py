"""What the demo shows of catalogs: how each came to be equal, and the story of one item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.catalog_words import shortened, state_word
from cli.demo.catalog_verdict import CatalogEvidence, ShopEvidence
from cli.demo.screen import numbers_table
from cli.demo.shelves import SPACING_S
from tidewire.catalog.v1 import catalog_service_pb2 as pb

_TOLD: Final = ("title", "availability", "price", "sale_price", "price_info.price",
                "price_info.sale_price", "landing_page.landing_page_url", "link")  # fmt: skip
"""The fields of a story that are shown here."""

_SHOWN_CHARS: Final = 48


def catalogs_table(shops: Sequence[ShopEvidence]) -> Table:
    """A row a catalog: what it holds, what it took to get there."""
    table = numbers_table(
        "Shopify's products in TikTok's catalogs",
        *("sold", "at TikTok", "taken", "warned", "refused", "submits", "items sent", "seeded in"),
        *("change p50", "p99"),
    )
    for one in (catalog for shop in shops for catalog in shop.catalogs):
        choice, counts = one.choice, one.summary
        table.add_row(
            f"{escape(choice.connection_id)}  {choice.dialect}  {choice.market}",
            f"{one.against['expected']:,}",
            f"{counts['items']:,}",
            f"{one.taken() - _count(one, pb.ITEM_STATE_WARNED):,}",
            f"{_count(one, pb.ITEM_STATE_WARNED):,}",
            f"{len(one.refused):,}",
            f"{counts['submits']:,}",
            f"{counts['items_submitted']:,}",
            _seconds(one.seed_s),
            _seconds(one.wait_s(0.5)),
            _seconds(one.wait_s(0.99)),
        )
    return table


def changes_line(kinds: Mapping[str, int], shops: Sequence[ShopEvidence]) -> str:
    """What was changed in the shops meanwhile."""
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    measured = sum(len(one.waits_s) for shop in shops for one in shop.catalogs)
    return (
        f"{sum(kinds.values()):,} changes in the shops meanwhile ({told}). From a change to the"
        f" submit: measured on {measured:,} items; {SPACING_S} s lie between two submits"
        " (at TikTok 60)."
    )


def print_story(console: Console, shop: ShopEvidence) -> None:
    """One item from Shopify to TikTok, a few of its fields."""
    name = escape(shop.item)
    console.print(f"[bold]One item: tidewire catalog explain {name} --shop {shop.shelf.handle}[/]")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("TikTok", "", "Shopify", "", "rule"):
        table.add_column(column, overflow="fold")
    for one in shop.story.explanations:
        state = state_word(one.status.state).replace("_", " ")
        current = "TikTok has what would be sent now" if one.is_current else "not what TikTok has"
        table.add_section()
        table.add_row(escape(one.status.connection_id), f"{state}: {current}", style="cyan")
        for row in _rows(one):
            table.add_row(*map(escape, row))
    console.print(table)


def _rows(story: pb.Explanation) -> Iterator[tuple[str, str, str, str, str]]:
    for one in story.fields:
        if one.field in _TOLD and one.value:
            yield (
                one.field,
                _short(one.value),
                one.source,
                _short(one.source_value),
                one.rule,
            )


def _short(text: str) -> str:
    found = shortened(text)
    return found if len(found) <= _SHOWN_CHARS else f"{found[:_SHOWN_CHARS]}…"


def _count(catalog: CatalogEvidence, state: int) -> int:
    return int(catalog.status.items.get(state, 0))


def _seconds(found: float | None) -> str:
    return "?" if found is None else f"{found:.1f} s"
