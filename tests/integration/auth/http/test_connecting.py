"""Connecting in a browser, and each way in which somebody else may try to."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from libs.bus import subjects
from libs.bus.scan import scan
from libs.errors import Kind, ServiceError, permanent
from libs.settings import Secret
from services.auth.adapters.flows import signing_secret
from services.auth.domain.flows import FLOW_UNKNOWN, LIFETIME_S, SPEC_UNFIT
from services.auth.domain.grants import App, Family
from services.auth.ports import CODE_REFUSED, CONSENT_REFUSED
from tests.fakes.provider import CODE, TOKEN
from tests.integration.auth.http.site import CODE_FLOW, SHOP, STORE, Seen, Site, site_of
from tidewire.auth.v1.connection_service_pb2 import (
    FLOW_STATE_BEGUN,
    FLOW_STATE_CONNECTED,
    FLOW_STATE_FAILED,
    FLOW_STATE_OPENED,
    ConnectionSpec,
    GrantFlow,
    OwnApp,
)
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    CONNECTION_KIND_TIKTOK_CATALOG,
    CONNECTION_KIND_TIKTOK_EVENTS,
    CONNECTION_KIND_TIKTOK_SHOP,
    EventsSettings,
)

CALLBACK = "/oauth/shopify/callback"
OWN_SECRET = "own-secret-that-nobody-prints"
DOWN = ServiceError(Kind.RETRYABLE, "shopify_unavailable", "Shopify does not answer")


def state_of(opened: Seen) -> str:
    return parse_qs(urlsplit(opened.headers["Location"]).query)["state"][0]


def answered(state: str, code: str = CODE, **more: str) -> str:
    return f"{CALLBACK}?{urlencode({'code': code, 'state': state, **more})}"


async def all_stored(nats: Client) -> bytes:
    """Every byte of the attempts that are kept, and of where they are kept."""
    stream = subjects.bucket_stream(subjects.FLOWS)
    return b"".join([one.subject.encode() + one.data async for one in scan(nats, stream, ">")])


async def test_a_person_who_agrees_is_connected(site: Site) -> None:
    begun = await site.connecting.begin(STORE, CODE_FLOW)
    async with site.browser() as browser:
        page = await browser.get(begun.url)

    assert (page.status, page.path) == (200, CALLBACK)
    assert "Your Shopify store is connected." in page.text
    [(app, consent, code)] = site.provider.exchanges
    assert (app.client_id, code) == ("app-at-shopify", CODE)
    assert consent.shop == "example.myshopify.com"
    assert consent.redirect_uri == f"{site.url}{CALLBACK}"
    assert consent.scopes == ("read_products", "read_orders")
    [(spec, grant)] = site.connected.made
    assert (spec.shop, grant.access_token.reveal()) == (SHOP, TOKEN)
    flow = await site.flow(begun.flow_id)
    assert (flow.state, flow.connection_id) == (FLOW_STATE_CONNECTED, "example.store")


async def test_a_flow_is_begun_then_opened_then_connected(site: Site) -> None:
    flow_id = await site.begun()
    states = [(await site.flow(flow_id)).state]
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        states.append((await site.flow(flow_id)).state)
        await browser.get(answered(state_of(opened)))
    states.append((await site.flow(flow_id)).state)

    assert states == [FLOW_STATE_BEGUN, FLOW_STATE_OPENED, FLOW_STATE_CONNECTED]


async def test_a_state_that_comes_twice_connects_once(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        # The cookie is put back: whoever replays is taken to have kept it.
        cookie = opened.cookies[0].partition(";")[0]
        await browser.get(answered(state_of(opened)))
        again = await browser.get(answered(state_of(opened)), Cookie=cookie)

    assert again.status == 409
    assert len(site.provider.exchanges) == len(site.connected.made) == 1
    assert (await site.flow(flow_id)).state == FLOW_STATE_CONNECTED


async def test_of_two_answers_at_once_one_is_exchanged(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        pages = await asyncio.gather(*(browser.get(answered(state_of(opened))) for _ in range(5)))

    assert sum(page.status == 200 for page in pages) == 1
    assert len(site.provider.exchanges) == 1


async def test_an_answer_that_comes_again_during_the_exchange_is_not_exchanged(site: Site) -> None:
    site.provider.gate = asyncio.Event()
    flow_id = await site.begun()
    async with site.browser() as browser, asyncio.timeout(10), asyncio.TaskGroup() as group:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        first = group.create_task(browser.get(answered(state_of(opened))))
        await site.provider.reached.wait()
        again = await browser.get(answered(state_of(opened)))
        reopened = await browser.get(f"/connect/{flow_id}", follow=False)
        site.provider.gate.set()

    assert (again.status, reopened.status, first.result().status) == (409, 409, 200)
    assert len(site.provider.exchanges) == 1


async def test_only_the_state_of_the_last_opening_is_taken(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        again = await browser.get(f"/connect/{flow_id}", follow=False)
        older = await browser.get(answered(state_of(opened)))
        newest = await browser.get(answered(state_of(again)))

    assert (older.status, newest.status) == (400, 200)


async def test_an_answer_in_another_browser_connects_nothing_and_spoils_nothing(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser, site.browser() as other:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        foreign = await other.get(answered(state_of(opened)))
        exchanged = len(site.provider.exchanges)
        own = await browser.get(answered(state_of(opened)))

    assert (foreign.status, exchanged) == (403, 0)
    assert "another browser" in foreign.text
    assert own.status == 200


async def test_the_state_of_another_flow_of_the_same_browser_is_refused(site: Site) -> None:
    first, second = await site.begun(), await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{first}", follow=False)
        await browser.get(f"/connect/{second}", follow=False)
        mixed = state_of(opened).replace(first, second, 1)
        page = await browser.get(answered(mixed))

    assert page.status == 400
    assert site.provider.exchanges == []


async def test_an_altered_state_is_refused(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        state = state_of(opened)
        page = await browser.get(answered(state[:-1] + ("A" if state[-1] != "A" else "B")))

    assert page.status == 400
    assert (await site.flow(flow_id)).state == FLOW_STATE_OPENED
    assert site.provider.exchanges == []


async def test_a_state_of_one_provider_is_refused_at_anothers_door(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        query = urlencode({"code": CODE, "state": state_of(opened)})
        page = await browser.get(f"/oauth/tiktok-business/callback?{query}")

    assert page.status == 400
    assert site.provider.exchanges == []


async def test_a_flow_is_over_after_its_time(site: Site) -> None:
    unopened, flow_id = await site.begun(), await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        site.clock.advance(LIFETIME_S)
        late = await browser.get(answered(state_of(opened)))
        never = await browser.get(f"/connect/{unopened}", follow=False)
        site.clock.advance(60)

    assert (late.status, never.status) == (410, 410)
    assert "no longer works" in late.text
    assert site.provider.exchanges == []
    with pytest.raises(ServiceError, match=FLOW_UNKNOWN):
        await site.flow(unopened)


async def test_only_the_first_browser_may_open_a_flow(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser, site.browser() as other:
        await browser.get(f"/connect/{flow_id}", follow=False)
        second = await other.get(f"/connect/{flow_id}", follow=False)
        again = await browser.get(f"/connect/{flow_id}", follow=False)
        page = await browser.get(answered(state_of(again)))

    assert second.status == 403
    assert "Begin again" in second.text or "begin again" in second.text
    assert second.cookies == ()
    assert (again.status, page.status) == (303, 200)


async def test_of_many_browsers_at_once_one_gets_the_flow(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as one, site.browser() as two, site.browser() as three:
        pages = await asyncio.gather(
            *(browser.get(f"/connect/{flow_id}", follow=False) for browser in (one, two, three))
        )

    assert sorted(page.status for page in pages) == [303, 403, 403]


async def test_a_look_ahead_does_not_use_a_link_up(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        ahead = await browser.get(
            f"/connect/{flow_id}", follow=False, **{"Sec-Purpose": "prefetch;prerender"}
        )
        head = await browser.ask("HEAD", f"/connect/{flow_id}", b"", "text/plain")

    assert (ahead.status, head.status) == (503, 405)
    assert (await site.flow(flow_id)).state == FLOW_STATE_BEGUN


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (permanent(CODE_REFUSED, "used"), 400, "no longer takes this answer"),
        (DOWN, 503, "could not be asked"),
        (ServiceError(Kind.THROTTLED, "busy", "later"), 503, "could not be asked"),
        (RuntimeError(f"a bug that says {TOKEN}"), 500, "Something went wrong"),
    ],
    ids=["refused", "down", "throttled", "unforeseen"],
)
async def test_an_exchange_that_fails_fails_the_flow_and_says_what_to_do(
    site: Site, failure: Exception, status: int, says: str
) -> None:
    site.provider.failure = failure
    flow_id = await site.begun()
    async with site.browser() as browser:
        page = await browser.get(f"/connect/{flow_id}")
        again = await browser.get(f"/connect/{flow_id}", follow=False)

    assert page.status == status
    assert says in page.text
    assert "Begin again" in page.text
    assert again.status == 409
    flow = await site.flow(flow_id)
    code = failure.code if isinstance(failure, ServiceError) else "internal"
    assert (flow.state, flow.error_code) == (FLOW_STATE_FAILED, code)
    assert TOKEN not in flow.error_message


async def test_what_stands_in_a_connections_way_is_told(site: Site) -> None:
    site.connected.failure = permanent("shop_unlike", "this pixel belongs to another shop")
    flow_id = await site.begun()
    async with site.browser() as browser:
        page = await browser.get(f"/connect/{flow_id}")

    assert page.status == 400
    assert "this pixel belongs to another shop" in page.text
    assert (await site.flow(flow_id)).error_code == "shop_unlike"


async def test_markup_in_a_providers_words_is_shown_as_text(site: Site) -> None:
    evil = "<script>alert(1)</script>\u202e" + "x" * 1000
    site.provider.answers = {"error": "access_denied", "error_description": evil}
    flow_id = await site.begun()
    async with site.browser() as browser:
        page = await browser.get(f"/connect/{flow_id}")

    assert page.status == 400
    assert "did not give permission" in page.text
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "\u202e" not in page.text
    assert "x" * 301 not in page.text
    assert (await site.flow(flow_id)).error_code == CONSENT_REFUSED


async def test_who_comes_from_the_seller_center_is_told_how_to_begin(site: Site) -> None:
    async with site.browser() as browser:
        page = await browser.get(f"/oauth/tiktok-shop/callback?app_key=k&code={CODE}&locale=en")

    assert page.status == 400
    assert "tidewire connect" in page.text
    assert "TikTok Shop sent you here" in page.text
    assert site.provider.exchanges == []


@pytest.mark.parametrize(
    ("spec", "flow"),
    [
        (ConnectionSpec(shop="evil.com/.myshopify.com", kind=CONNECTION_KIND_SHOPIFY), 0),
        (ConnectionSpec(shop="a.myshopify.com\n", kind=CONNECTION_KIND_SHOPIFY), 0),
        (ConnectionSpec(shop="a.myshopify.com.evil.com", kind=CONNECTION_KIND_SHOPIFY), 0),
        (ConnectionSpec(shop="", kind=CONNECTION_KIND_SHOPIFY), 0),
        (ConnectionSpec(shop=SHOP), 0),
        (STORE, GrantFlow.GRANT_FLOW_CLIENT_CREDENTIALS),
        (STORE, GrantFlow.GRANT_FLOW_ACCOUNT_HOLDER),
        (ConnectionSpec(shop=SHOP, kind=CONNECTION_KIND_TIKTOK_EVENTS), 0),
        (
            ConnectionSpec(
                shop=SHOP,
                kind=CONNECTION_KIND_TIKTOK_CATALOG,
                tiktok_events=EventsSettings(pixel_code="C1"),
            ),
            0,
        ),
        (
            ConnectionSpec(
                shop=SHOP, kind=CONNECTION_KIND_TIKTOK_SHOP, app=OwnApp(client_id="own")
            ),
            0,
        ),
    ],
)
async def test_what_cannot_be_connected_is_not_begun(
    site: Site, spec: ConnectionSpec, flow: GrantFlow.ValueType
) -> None:
    with pytest.raises(ServiceError) as raised:
        await site.connecting.begin(spec, flow)

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, SPEC_UNFIT)


async def test_a_kind_is_connected_through_its_own_provider(site: Site) -> None:
    spec = ConnectionSpec(
        shop="Example.myshopify.com",
        kind=CONNECTION_KIND_TIKTOK_EVENTS,
        tiktok_events=EventsSettings(pixel_code="C123"),
    )
    begun = await site.connecting.begin(spec, GrantFlow.GRANT_FLOW_ACCOUNT_HOLDER)
    async with site.browser() as browser:
        page = await browser.get(begun.url)

    assert page.path == "/oauth/tiktok-account/callback"
    assert "Your TikTok pixel is connected." in page.text
    assert site.provider.exchanges[0][0].client_id == f"app-at-{Family.TIKTOK_ACCOUNT}"
    assert site.connected.made[0][0].tiktok_events.pixel_code == "C123"


async def test_an_own_app_is_used_and_its_secret_stored_sealed_only(
    site: Site, nats: Client
) -> None:
    spec = ConnectionSpec(
        shop=SHOP,
        kind=CONNECTION_KIND_SHOPIFY,
        app=OwnApp(client_id="own", client_secret=OWN_SECRET),
    )
    flow_id = await site.begun(spec)
    stored = await all_stored(nats)
    async with site.browser() as browser:
        await browser.get(f"/connect/{flow_id}")
    stored += await all_stored(nats)

    [(app, _, _)] = site.provider.exchanges
    assert app == App("own", Secret(OWN_SECRET))
    assert site.connected.made[0][1].app == app
    assert b"example" in stored
    assert OWN_SECRET.encode() not in stored
    assert not any(OWN_SECRET in text for text in site.shown)


async def test_who_reads_the_store_learns_no_link(site: Site, nats: Client) -> None:
    flow_ids = [await site.begun() for _ in range(3)]
    async with site.browser() as browser:
        await browser.get(f"/connect/{flow_ids[0]}")

    stored = await all_stored(nats)

    assert stored.count(b"$KV.flows.flow.") >= 3
    assert not any(flow_id.encode() in stored for flow_id in flow_ids)


async def test_a_flow_of_an_app_that_nobody_set_up_is_not_begun(nats: Client) -> None:
    async with site_of(nats, families=(Family.TIKTOK_SHOP,)) as site:
        with pytest.raises(ServiceError, match="app_missing"):
            await site.begun()


async def test_the_logs_tell_each_step_and_not_the_link(nats: Client) -> None:
    with capture_logs() as lines:
        async with site_of(nats) as site:
            flow_id = await site.begun()
            async with site.browser() as browser:
                await browser.get(f"/connect/{flow_id}")

    steps = [line["step"] for line in lines if line["event"] == "flow_step"]
    assert steps == ["begun", "opened", "connected"]
    assert flow_id not in str(lines)


async def test_all_replicas_sign_with_one_secret(site: Site) -> None:
    found = await asyncio.gather(*(signing_secret(site.log, site.keys) for _ in range(4)))

    assert len(set(found)) == 1
    assert len(found[0]) == 32


@pytest.mark.parametrize("name", ["return_to", "redirect", "redirect_uri", "next"])
@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example/"])
async def test_nothing_in_a_request_decides_where_a_browser_is_sent(
    site: Site, name: str, where: str
) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        opened = await browser.get(f"/connect/{flow_id}?{name}={quote(where)}", follow=False)
        page = await browser.get(answered(state_of(opened), **{name: where}), follow=False)

    assert opened.headers["Location"].startswith(site.provider.base_url)
    assert "evil" not in opened.headers["Location"]
    assert (page.status, "Location" in page.headers) == (200, False)
    assert "evil" not in page.text
