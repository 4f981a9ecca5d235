"""`tidewire catalog` against the service: what it prints, and with what it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from cli import catalog_calls as calls
from cli import catalog_items as items
from cli.catalog_calls import Service, View, at
from cli.catalog_sync import Wish, sync
from libs.clock import FakeClock
from libs.rpc.client import channel
from services.catalog.domain.states import ItemState, SyncKind, SyncPhase
from services.catalog.views import ShopSync
from tests.fakes import callers
from tests.fakes.catalog_views import (
    CA,
    NOW_NS,
    OTHER,
    STORY,
    THEIRS,
    US,
    FakeCatalogViews,
    catalog,
    item,
    served_catalogs,
)
from tests.fakes.catalog_views import sync as a_sync
from tests.fakes.until import until
from tidewire.catalog.v1 import catalog_service_pb2 as pb
from tidewire.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub

# One loop for all: grpc.aio has one queue of events for the process.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW_S = NOW_NS // 1_000_000_000
S_NS = 1_000_000_000


class Terminal:
    """The service, and a terminal of 80 columns."""

    def __init__(self, service: Service, port: int, views: FakeCatalogViews) -> None:
        self.service = service
        self.port = port
        self.views = views
        self.clock = FakeClock(NOW_S)

    def view(self, *, as_json: bool = False, terminal: bool = False) -> View:
        console = Console(
            file=StringIO(), width=80, height=40, highlight=False, force_terminal=terminal,
            color_system=None, legacy_windows=False,
        )  # fmt: skip
        return View(as_json=as_json, console=console, clock=self.clock)


def printed(view: View) -> str:
    assert isinstance(view.console.file, StringIO)
    return view.console.file.getvalue()


def flat(view: View) -> str:
    """What was printed, whatever the line ends."""
    return " ".join(printed(view).split())


@pytest_asyncio.fixture(loop_scope="module")
async def terminal() -> AsyncIterator[Terminal]:
    async with served_catalogs() as served:
        callee = callers.callee(served.port)
        async with channel(callee.address, callee.identity) as opened:
            yield Terminal(Service(CatalogServiceStub(opened)), served.port, served.views)


# -- status ----------------------------------------------------------------------------------------


async def test_status_tells_states_waits_and_what_holds_a_catalog(terminal: Terminal) -> None:
    terminal.views.catalogs[US] = catalog(
        US, waiting=12, in_flight=3, next_submit_ns=(NOW_S + 41) * S_NS + 1
    )
    terminal.views.catalogs[CA] = catalog(
        CA, waiting=2, next_submit_ns=NOW_NS, held_by="credentials", held_note="connect it again"
    )
    terminal.views.progress["acme"] = a_sync(SyncPhase.DONE)
    view = terminal.view()

    code = await items.status(terminal.service, view, "acme")

    told = printed(view)
    assert code == 1
    assert "acme: full sync done 2026-11-18" in told
    assert "4 of 40 items changed, 1 gone" in told
    assert "refused 2 · live 7" in told
    assert "12 waiting, 3 of them at TikTok, next submit in 42 s" in told
    assert "2 waiting; held by credentials: connect it again" in told
    assert "tidewire catalog refused acme" in told


@pytest.mark.parametrize(
    ("held_by", "phase", "code"),
    [
        ("", SyncPhase.DONE, 0),
        ("operator", SyncPhase.DONE, 0),
        ("outage", SyncPhase.COMPARING, 0),
        ("catalog_unknown", SyncPhase.DONE, 1),
        ("", SyncPhase.FAILED, 1),
    ],
)
async def test_status_ends_with_one_where_somebody_has_to_act(
    terminal: Terminal, held_by: str, phase: SyncPhase, code: int
) -> None:
    terminal.views.catalogs[US] = catalog(US, held_by=held_by)
    terminal.views.progress["acme"] = a_sync(phase)

    assert await items.status(terminal.service, terminal.view(), "acme") == code


async def test_status_as_json_has_names_numbers_and_times(terminal: Terminal) -> None:
    terminal.views.progress["acme"] = a_sync(SyncPhase.SENDING)
    view = terminal.view(as_json=True)

    await items.status(terminal.service, view, "")

    acme, other = json.loads(printed(view))["shops"]
    assert acme["progress"]["phase"] == "sending"
    assert acme["progress"]["products_done"] == 20
    assert acme["progress"]["ended_at"] is None
    assert acme["catalogs"][0]["items"] == {"refused": 2, "live": 7}
    assert acme["catalogs"][0]["last_submit_at"].startswith("2026-11-18T")
    assert (other["shop"], other["progress"]) == ("other", None)


async def test_a_shop_that_was_never_compared_is_told_how(terminal: Terminal) -> None:
    view = terminal.view()

    await items.status(terminal.service, view, "other")

    assert "other: never compared; tidewire catalog sync other does it" in printed(view)


# -- refused ---------------------------------------------------------------------------------------


async def test_refusals_are_grouped_by_reason_with_field_words_and_advice(
    terminal: Terminal,
) -> None:
    terminal.views.held += [item(number, ItemState.REFUSED, THEIRS) for number in range(20, 27)]
    terminal.views.held.append(item(30, ItemState.REJECTED))
    view = terminal.view()

    code = await items.refused(terminal.service, view, "acme", 100)

    told = printed(view)
    assert code == 0
    assert f"{US}: 10 refused" in told
    assert told.index("8 items, image_url, said by TikTok") < told.index("1 item, vendor")
    assert "Image link [red] is too small" in told
    assert "To do: Use an image of 500x500 or more" in told
    assert "1 item, vendor (brand_missing), found before sending" in told
    assert "SKU-1, SKU-20, SKU-21, SKU-22, SKU-23 and 3 more" in told
    assert "no reason was given" in told


async def test_refusals_of_one_catalog_come_over_all_pages_to_the_limit(
    terminal: Terminal,
) -> None:
    terminal.views.held = [item(number, ItemState.REFUSED, THEIRS) for number in range(1_105)]
    all_of_it, some = terminal.view(as_json=True), terminal.view()

    await items.refused(terminal.service, all_of_it, US, 10_000)
    await items.refused(terminal.service, some, US, 1_050)

    [found] = json.loads(printed(all_of_it))["catalogs"]
    assert (found["connection_id"], len(found["items"])) == (US, 1_105)
    assert found["there_are_more"] is False
    [reason] = found["reasons"]
    assert (reason["items"], reason["field"], reason["source"]) == (1_105, "image_url", "tiktok")
    assert "1,050 refused" in printed(some)
    assert "there are more; --limit 2100 shows them" in printed(some)


async def test_where_nothing_is_refused_it_says_so(terminal: Terminal) -> None:
    view = terminal.view()

    assert await items.refused(terminal.service, view, "other.myshopify.com", 10) == 0
    assert printed(view) == "nothing is refused\n"


# -- explain ---------------------------------------------------------------------------------------


def explain_request() -> pb.ExplainItemRequest:
    return pb.ExplainItemRequest(shop="acme", item="SKU-1")


async def test_an_items_whole_story_fits_eighty_columns(terminal: Terminal) -> None:
    first, second = STORY.explanations
    [price] = first.fields
    long = replace(price, source="body_html", source_value="word " * 2_000, rule="HTML stripped")
    story = replace(first, fields=(price, long), is_current=False)
    terminal.views.story = replace(STORY, explanations=(story, second))
    view = terminal.view(terminal=True)

    code = await items.explain(terminal.service, view, explain_request())

    told = printed(view)
    assert code == 0
    assert max(map(len, told.splitlines())) <= 80
    words = flat(view)
    for part in (
        "product 100, variant 1001",
        f"SKU-1 in {US}",
        "refused since 2026-11-18",
        "error, said by TikTok: image_url: Image link [red] is too small To do: Use an image",
        "error, found before sending: vendor (brand_missing): The product has no vendor",
        "TikTok does not have it",
        "variants.price",
        "price_info.price",
        "as it is",
        "(10,000",
        f"SKU-1 in {CA}",
        "the product is not for sale there: not_active",
    ):
        assert part in words


async def test_a_story_as_json_holds_all_and_what_is_sent_as_an_object(
    terminal: Terminal,
) -> None:
    view = terminal.view(as_json=True)

    await items.explain(terminal.service, view, explain_request())

    found = json.loads(printed(view))
    first, second = found["explanations"]
    assert first["item"] == {"sku_id": "SKU-1"}
    assert first["status"]["issues"][0]["source"] == "tiktok"
    assert first["fields"][0]["source_value"] == "19.50"
    assert (second["item"], second["excluded"]) == (None, "not_active")


async def test_what_others_wrote_does_nothing_to_the_terminal(terminal: Terminal) -> None:
    first, _ = STORY.explanations
    [price] = first.fields
    evil = replace(price, source_value="[bold]\x1b]0;owned\x07", rule="\x1b[2J")
    terminal.views.story = replace(STORY, explanations=(replace(first, fields=(evil,)),))
    view = terminal.view()

    await items.explain(terminal.service, view, explain_request())

    assert "\x1b" not in printed(view)
    assert "[bold]" in printed(view)


# -- sync ------------------------------------------------------------------------------------------


def news(phase: SyncPhase, **catalog_says: Any) -> ShopSync:
    return ShopSync(shop="acme", catalogs=(catalog(US, **catalog_says),), progress=a_sync(phase))


def wish(*, wait: bool = True) -> Wish:
    return Wish(shop="acme", kind=pb.SYNC_KIND_REMAP, wait=wait)


async def test_a_sync_is_followed_line_by_line_where_there_is_no_terminal(
    terminal: Terminal,
) -> None:
    terminal.views.upcoming = [
        news(SyncPhase.EXPORTING),
        news(SyncPhase.EXPORTING),
        news(SyncPhase.SENDING, waiting=4, next_submit_ns=(NOW_S + 60) * S_NS),
        news(SyncPhase.SENDING, waiting=3, next_submit_ns=(NOW_S + 60) * S_NS),
        news(SyncPhase.DONE),
    ]
    view = terminal.view()

    code = await sync(terminal.service, view, wish())

    assert code == 0
    assert terminal.views.calls == [("start", "acme", SyncKind.REMAP)]
    assert printed(view).splitlines() == [
        "acme: exporting, 40 items, 4 changed, 1 gone",
        f"acme: sending, 40 items, 4 changed, 1 gone; {US}: 4 waiting, next submit in 60 s",
        "acme: done, 40 items, 4 changed, 1 gone",
        "2 refused; tidewire catalog refused acme says why",
    ]


async def test_a_sync_is_drawn_on_a_terminal_to_its_end(terminal: Terminal) -> None:
    terminal.views.upcoming = [news(SyncPhase.COMPARING), news(SyncPhase.DONE)]
    view = terminal.view(terminal=True)

    assert await sync(terminal.service, view, wish()) == 0
    assert "20 of 20 products" in printed(view)
    assert "done" in printed(view)


async def test_a_sync_that_is_not_waited_for_is_only_begun(terminal: Terminal) -> None:
    plain, as_json = terminal.view(), terminal.view(as_json=True)

    assert await sync(terminal.service, plain, wish(wait=False)) == 0
    terminal.views.progress["acme"] = a_sync(SyncPhase.COMPARING)
    assert await sync(terminal.service, as_json, wish(wait=False)) == 0

    assert flat(plain).startswith("a remap sync of acme has begun; tidewire catalog status acme")
    assert json.loads(printed(as_json))["joined"] is True
    assert not terminal.views.left.is_set()


async def test_that_most_of_a_shop_may_be_taken_out_is_said_with_the_sync(
    terminal: Terminal,
) -> None:
    much = Wish(shop="acme", kind=pb.SYNC_KIND_FULL, wait=False, take_out_many=True)

    assert await sync(terminal.service, terminal.view(), much) == 0

    assert ("start", "acme", SyncKind.FULL, "take_out_many") in terminal.views.calls


async def test_a_sync_that_was_given_up_ends_with_one_and_why(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = a_sync(SyncPhase.FAILED, error="grant read_products and start it again")
    terminal.views.upcoming = [ShopSync(shop="acme", catalogs=(), progress=failed)]

    assert await sync(terminal.service, terminal.view(), wish()) == 1
    assert "given up: grant read_products and start it again" in capsys.readouterr().err


async def test_a_watch_that_breaks_off_is_taken_up_again(terminal: Terminal) -> None:
    terminal.views.breaks = 2
    terminal.views.upcoming = [news(SyncPhase.DONE)]
    view = terminal.view()

    assert await sync(terminal.service, view, wish()) == 0
    assert "no answer (nats_away); asking again" in printed(view)
    assert "acme: done" in printed(view)


async def test_a_service_that_is_silent_for_a_minute_is_not_waited_for(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.views.breaks = 1_000

    code = await at(
        callers.callee(terminal.port), lambda service: sync(service, terminal.view(), wish())
    )

    assert code == 2
    assert 900 < terminal.views.breaks < 960
    assert "nats_away" in capsys.readouterr().err


async def test_who_stops_watching_a_sync_is_told_that_it_goes_on(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.views.upcoming = [news(SyncPhase.SENDING)]
    terminal.views.endless = True
    view = terminal.view()
    watching = asyncio.create_task(sync(terminal.service, view, wish()))
    await until(lambda: "sending" in printed(view))

    watching.cancel()

    assert await watching == 1
    assert "the sync goes on; tidewire catalog status acme" in capsys.readouterr().err


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda service: items.status(service, View(), "stranger"), "connect a catalog first"),
        (lambda service: items.refused(service, View(), "acme.events.C1", 5), "no catalog's"),
        (
            lambda service: items.explain(
                service, View(), pb.ExplainItemRequest(shop="acme", item="?")
            ),
            "acme has no such item: try its SKU",
        ),
    ],
)
async def test_what_the_service_refuses_ends_with_two_and_says_what_to_do(
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
    work: Callable[[Service], Awaitable[int]],
    words: str,
) -> None:
    assert await at(callers.callee(terminal.port), work) == 2
    assert words in capsys.readouterr().err


async def test_where_no_service_answers_it_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = await at(callers.callee(1), lambda service: items.status(service, View(), ""))

    assert code == 2
    assert "start it, or say where it is with --address" in capsys.readouterr().err


# -- changes ---------------------------------------------------------------------------------------


async def test_a_catalog_is_paused_and_goes_on(terminal: Terminal) -> None:
    terminal.views.catalogs[US] = catalog(US, waiting=1_200)
    view = terminal.view()

    assert await calls.pause(terminal.service, view, US, "stocktaking") == 0
    assert await calls.resume(terminal.service, view, US) == 0

    assert terminal.views.calls == [("pause", US, "stocktaking"), ("resume", US)]
    assert printed(view).splitlines() == [
        f"{US} is paused; tidewire catalog resume {US} ends that",
        f"{US} goes on; 1,200 items wait to be sent",
    ]


async def test_a_pixel_is_bound(terminal: Terminal) -> None:
    request = pb.BindEventSourceRequest(connection_id=OTHER, advertiser_id="71", pixel_code="C1")
    view = terminal.view()

    assert await calls.bind(terminal.service, view, request) == 0
    assert terminal.views.calls == [("bind", OTHER, "71", "C1")]
    assert printed(view) == f"{OTHER} is matched with the events of C1\n"
