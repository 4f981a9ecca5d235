"""`tidewire catalog status`, `refused` and `explain`: what is in the catalogs, what is not, why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from cli.catalog_calls import Service, View
from cli.catalog_sync import waiting
from cli.catalog_words import (
    TURNED_DOWN,
    counts,
    explained,
    instant,
    kind_word,
    line,
    phase_word,
    place,
    plain,
    shortened,
    source_word,
    state_word,
    turned_down,
)
from libs.connections import shop_handle
from tidewire.catalog.v1 import catalog_service_pb2 as pb

_PAGE: Final = 1000
_SHOWN_OF_A_REASON: Final = 5
_SELF_MENDING: Final = frozenset({"", "operator", "outage"})
"""What holds a catalog without anybody having to do something that is not known."""

_FINDERS: Final = {
    "mapping": "found before sending",
    "tiktok": "said by TikTok",
    "review": "said by TikTok's review",
}


# -- status --------------------------------------------------------------------------------------


async def status(service: Service, view: View, shop: str) -> int:
    """Prints how catalogs are; 1 where one of them needs a person."""
    answer: pb.GetStatusResponse = await service.ask("GetStatus", pb.GetStatusRequest(shop=shop))
    if view.as_json:
        view.json(plain(answer))
    else:
        _print_status(view, answer.shops)
    return int(any(map(_needs_a_person, answer.shops)))


def _needs_a_person(shop: pb.ShopStatus) -> bool:
    held = any(one.held_by not in _SELF_MENDING for one in shop.catalogs)
    return held or shop.progress.phase == pb.SYNC_PHASE_FAILED


def _print_status(view: View, shops: Sequence[pb.ShopStatus]) -> None:
    now_ns = view.clock.now_ns()
    for shop in shops:
        view.line(f"{shop.shop}: {_sync_line(shop)}", style="bold")
        if shop.progress.error:
            view.line(line(shop.progress.error), 2, "red")
        for one in shop.catalogs:
            view.line(f"{one.connection_id}  {place(one)}  {one.dialect}", 2)
            view.line(counts(one), 4)
            waits = waiting(one, now_ns)
            if waits:
                view.line(waits, 4, "yellow" if one.held_by else "")
            view.line(_times(one), 4)
        if turned_down(shop.catalogs):
            view.line(f"tidewire catalog refused {shop.shop} says why items are refused", 2)
    if not shops:
        view.line("no shop has a catalog; tidewire connect tiktok-catalog begins")


def _times(catalog: pb.CatalogStatus) -> str:
    told = []
    if catalog.HasField("last_submit_at"):
        told.append(f"last submit {instant(catalog.last_submit_at)}")
    if catalog.HasField("next_resend_at"):
        told.append(f"all sent again {instant(catalog.next_resend_at)}")
    return ", ".join(told) or "nothing was sent yet"


def _sync_line(shop: pb.ShopStatus) -> str:
    if not shop.HasField("progress"):
        return f"never compared; tidewire catalog sync {shop.shop} does it"
    progress = shop.progress
    when = (
        f" {instant(progress.ended_at)}"
        if progress.HasField("ended_at")
        else f", {progress.products_done:,} of {progress.products_total:,} products"
    )
    return (
        f"{kind_word(progress.kind)} sync {phase_word(progress.phase)}{when},"
        f" {progress.items_changed:,} of {progress.items:,} items changed,"
        f" {progress.items_deleted:,} gone"
    )


# -- refused -------------------------------------------------------------------------------------


class Reason(NamedTuple):
    """Why items are not in a catalog as they should be."""

    source: str
    """Who found it: `mapping`, `tiktok`, `review`."""
    code: str
    field: str
    text: str
    fix: str


@dataclass(slots=True)
class Refused:
    """Items of one catalog that were turned down, by reason."""

    connection_id: str
    items: list[pb.ItemStatus] = field(default_factory=list)
    more: bool = False

    def groups(self) -> Sequence[tuple[Reason, Sequence[str]]]:
        """Each reason with the ids of its items; the commonest first."""
        found: dict[Reason, list[str]] = {}
        for one in self.items:
            errors = [issue for issue in one.issues if issue.is_error] or list(one.issues)
            for reason in dict.fromkeys(map(_reason, errors or [pb.Issue()])):
                found.setdefault(reason, []).append(one.sku_id)
        return sorted(found.items(), key=lambda pair: -len(pair[1]))


def _reason(issue: pb.Issue) -> Reason:
    text = issue.text or "no reason was given"
    return Reason(source_word(issue.source), issue.code, issue.field, text, issue.fix)


async def refused(service: Service, view: View, of: str, limit: int) -> int:
    """Prints what was turned down and why, of one catalog, of a shop's, or of all."""
    found = [
        await _refused_of(service, connection_id, limit)
        for connection_id in await _catalogs(service, of)
    ]
    if view.as_json:
        view.json({"catalogs": [_as_data(one) for one in found]})
        return 0
    for one in found:
        _print_refused(view, one, limit)
    if not any(one.items for one in found):
        view.line("nothing is refused")
    return 0


async def _catalogs(service: Service, of: str) -> Sequence[str]:
    shop = shop_handle(of, bare=True) if of else ""
    if shop is None:
        return [of]
    answer = await service.ask("GetStatus", pb.GetStatusRequest(shop=shop))
    return [one.connection_id for each in answer.shops for one in each.catalogs]


async def _refused_of(service: Service, connection_id: str, limit: int) -> Refused:
    found = Refused(connection_id)
    token = ""
    while len(found.items) < limit:
        request = pb.ListItemsRequest(
            connection_id=connection_id,
            states=TURNED_DOWN,
            page_size=min(_PAGE, limit - len(found.items)),
            page_token=token,
        )
        page = await service.ask("ListItems", request)
        found.items += page.items
        token = page.next_page_token
        if not token:
            return found
    found.more = True
    return found


def _as_data(found: Refused) -> dict[str, Any]:
    return {
        "connection_id": found.connection_id,
        "reasons": [
            {**reason._asdict(), "items": len(ids), "sku_ids": list(ids)}
            for reason, ids in found.groups()
        ],
        "items": [plain(one) for one in found.items],
        "there_are_more": found.more,
    }


def _print_refused(view: View, found: Refused, limit: int) -> None:
    if not found.items:
        return
    view.line(f"{found.connection_id}: {len(found.items):,} refused", style="bold")
    for reason, ids in found.groups():
        by = f", {_FINDERS[reason.source]}" if reason.source in _FINDERS else ""
        code = f" ({reason.code})" if reason.code else ""
        times = "item" if len(ids) == 1 else "items"
        view.line("")
        view.line(f"{len(ids):,} {times}, {reason.field or 'no field'}{code}{by}", 2, "yellow")
        view.line(line(reason.text), 4)
        if reason.fix:
            view.line(f"To do: {line(reason.fix)}", 4)
        view.line(_some(ids), 4, "dim")
    view.line("")
    if found.more:
        view.line(f"there are more; --limit {2 * limit} shows them", 2)


def _some(ids: Sequence[str]) -> str:
    rest = len(ids) - _SHOWN_OF_A_REASON
    shown = ", ".join(map(line, ids[:_SHOWN_OF_A_REASON]))
    return f"{shown} and {rest:,} more" if rest > 0 else shown


# -- explain -------------------------------------------------------------------------------------


async def explain(service: Service, view: View, request: pb.ExplainItemRequest) -> int:
    """Prints the whole story of one item."""
    answer: pb.ExplainItemResponse = await service.ask("ExplainItem", request)
    if view.as_json:
        view.json(explained(answer))
        return 0
    changed = f", changed {instant(answer.updated_at)}" if answer.HasField("updated_at") else ""
    view.line(f"product {answer.product_id}, variant {answer.variant_id}{changed}", style="bold")
    for one in answer.explanations:
        _print_explanation(view, one)
    if not answer.explanations:
        view.line("no catalog wants it")
    return 0


def _print_explanation(view: View, one: pb.Explanation) -> None:
    view.line("")
    view.line(f"{line(one.status.sku_id) or 'it'} in {one.status.connection_id}", style="bold")
    for text in _standing(one):
        view.line(text, 2)
    # What TikTok said comes with the status, what we say of it now beside it; once is enough.
    issues = {issue.SerializeToString(): issue for issue in (*one.status.issues, *one.issues)}
    for issue in issues.values():
        view.line(_issue_line(issue), 2, "red" if issue.is_error else "yellow")
    if one.fields:
        view.console.print(_fields_table(one.fields))


def _standing(one: pb.Explanation) -> Iterable[str]:
    word = state_word(one.status.state).replace("_", " ")
    since = f" since {instant(one.status.changed_at)}" if one.status.HasField("changed_at") else ""
    yield f"{word}{since}"
    if one.excluded:
        yield f"the product is not for sale there: {line(one.excluded)}"
    if one.status.HasField("accepted_at"):
        yield f"TikTok took it {instant(one.status.accepted_at)}"
    if one.is_current:
        yield "TikTok has what would be sent now"
    elif one.status.in_catalog:
        yield "TikTok has an older version"
    else:
        yield "TikTok does not have it"


def _issue_line(issue: pb.Issue) -> str:
    weight = "error" if issue.is_error else "warning"
    finder = _FINDERS.get(source_word(issue.source), "found")
    code = f"({issue.code})" if issue.code else ""
    where = " ".join(filter(None, (issue.field, code)))
    words = ": ".join(filter(None, (where, line(issue.text))))
    return f"{weight}, {finder}: {words}" + (f" To do: {line(issue.fix)}" if issue.fix else "")


def _fields_table(fields: Iterable[pb.ExplainedField]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("Shopify", overflow="fold", ratio=3)
    table.add_column("rule", overflow="fold", ratio=2)
    table.add_column("TikTok", overflow="fold", ratio=3)
    for one in fields:
        # As text: a title may hold brackets, which would be taken for markup.
        table.add_row(
            _named(line(one.source), shortened(one.source_value)),
            Text(line(one.rule)),
            _named(line(one.field), shortened(one.value) or "not sent"),
        )
    return table


def _named(name: str, value: str) -> Text:
    text = Text()
    if name:
        text.append(f"{name}\n", "cyan")
    text.append(value)
    return text
