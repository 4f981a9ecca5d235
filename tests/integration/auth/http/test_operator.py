"""The operator's page: nothing without a session, and no session without the password."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

import pytest
from nats.aio.client import Client

from libs.errors import ServiceError
from services.auth.domain.sign_in import SESSION_S, Attempts
from tests.integration.auth.http.site import PASSWORD, Browser, Seen, Site, site_of
from tidewire.auth.v1.health_pb2 import ConnectionStatus, GrantHealth, VersionHealth, WebhookHealth
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    CONNECTION_STATE_ACTIVE,
    CONNECTION_STATE_NEEDS_REAUTHORIZATION,
    Connection,
    ConnectionState,
)

FORM = "application/x-www-form-urlencoded"
WELL = "a-shop.store"
ILL = "z-shop.store"


def status_of(
    connection_id: str, state: ConnectionState.ValueType = CONNECTION_STATE_ACTIVE
) -> ConnectionStatus:
    connection = Connection(
        connection_id=connection_id,
        shop=connection_id.partition(".")[0],
        kind=CONNECTION_KIND_SHOPIFY,
        state=state,
    )
    return ConnectionStatus(connection=connection)


def token_of(page: Seen) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


async def signed_in(browser: Browser, password: str = PASSWORD, *, follow: bool = True) -> Seen:
    token = token_of(await browser.get("/sign-in"))
    return await browser.post("/sign-in", follow=follow, password=password, form_token=token)


def session_in(page: Seen) -> str:
    [cookie] = [one for one in page.cookies if "session=" in one and "Max-Age=0" not in one]
    return cookie.partition(";")[0]


async def test_the_right_password_shows_the_connections(site: Site) -> None:
    ill = status_of(ILL, CONNECTION_STATE_NEEDS_REAUTHORIZATION)
    ill.grant.CopyFrom(
        GrantHealth(
            failures=3,
            error_code="grant_revoked",
            error_message="connect it <again>",
            missing_scopes=["read_orders"],
        )
    )
    ill.webhooks.CopyFrom(WebhookHealth(in_place=8, healed=2, problems=["no orders/paid"]))
    ill.version.CopyFrom(VersionHealth(asked="2026-10", served="2026-07"))
    well = status_of(WELL)
    well.grant.access_expires_at.FromJsonString("2026-11-27T21:00:00Z")
    site.overview.statuses = [well, ill]
    async with site.browser() as browser:
        page = await signed_in(browser)

    assert (page.status, page.path) == (200, "/")
    # Who needs somebody comes first, whatever its name.
    assert page.text.index(ILL) < page.text.index(WELL)
    assert "2026-11-27 21:00 UTC" in page.text
    for words in (
        "needs reauthorization",
        "grant_revoked (3 in a row): connect it &lt;again&gt;",
        "not granted: read_orders",
        "8 in place, 2 healed",
        "no orders/paid",
        "asked for API version 2026-10, served 2026-07",
    ):
        assert words in page.text


async def test_without_a_session_nothing_is_shown(site: Site) -> None:
    site.overview.statuses = [status_of(WELL)]
    async with site.browser() as browser:
        page = await browser.get("/")

    assert page.path == "/sign-in"
    assert WELL not in page.text


async def test_a_wrong_password_gives_no_session(site: Site) -> None:
    site.overview.statuses = [status_of(WELL)]
    async with site.browser() as browser:
        page = await signed_in(browser, PASSWORD[:-1])
        after = await browser.get("/")

    assert page.status == 403
    assert "not the password" in page.text
    assert not any("session" in cookie for cookie in page.cookies)
    assert WELL not in after.text


@pytest.mark.parametrize("token", ["", "&form_token=", "&form_token=AAAA"])
async def test_a_form_that_is_not_ours_gives_no_session(site: Site, token: str) -> None:
    form = f"password={quote_plus(PASSWORD)}{token}".encode()
    async with site.browser() as browser:
        await browser.get("/sign-in")
        page = await browser.ask("POST", "/sign-in", form, FORM)

    assert page.status == 403
    assert not any("session" in cookie for cookie in page.cookies)


@pytest.mark.parametrize(("site_says", "path"), [("cross-site", "/sign-in"), ("same-origin", "/")])
async def test_a_form_that_another_site_sends_gives_no_session(
    site: Site, site_says: str, path: str
) -> None:
    async with site.browser() as browser:
        token = token_of(await browser.get("/sign-in"))
        browser.sends = {"Sec-Fetch-Site": site_says}
        page = await browser.post("/sign-in", password=PASSWORD, form_token=token)

    assert page.path == path


async def test_a_forms_token_is_worth_nothing_in_another_browser(site: Site) -> None:
    async with site.browser() as browser, site.browser() as other:
        token = token_of(await browser.get("/sign-in"))
        await other.get("/sign-in")
        page = await other.post("/sign-in", password=PASSWORD, form_token=token)

    assert page.status == 403


async def test_a_session_that_was_tampered_with_shows_nothing(site: Site) -> None:
    site.overview.statuses = [status_of(WELL)]
    async with site.browser() as browser, site.browser() as other:
        name, _, session = session_in(await signed_in(browser, follow=False)).partition("=")
        expires, _, rest = session.partition(".")
        own = await other.get("/", follow=False, Cookie=f"{name}={session}")
        tampered = [
            await other.get("/", follow=False, Cookie=f"{name}={forged}")
            for forged in (f"{int(expires) + 1}.{rest}", session[:-2], f"{session}A", "", "x.y.z")
        ]

    assert own.status == 200
    assert [page.status for page in tampered] == [303] * 5


async def test_a_session_ends_by_itself(site: Site) -> None:
    async with site.browser() as browser:
        during = await signed_in(browser)
        site.clock.advance(SESSION_S)
        after = await browser.get("/")

    assert (during.path, after.path) == ("/", "/sign-in")


async def test_who_signs_out_is_out(site: Site) -> None:
    async with site.browser() as browser:
        page = await signed_in(browser)
        forged = await browser.post("/sign-out", form_token="AAAA")
        still = await browser.get("/")
        out = await browser.post("/sign-out", form_token=token_of(page))
        after = await browser.get("/")

    assert (forged.status, still.path) == (403, "/")
    assert (out.path, after.path) == ("/sign-in", "/sign-in")


async def test_too_many_wrong_passwords_are_slowed_even_for_the_right_one(site: Site) -> None:
    async with site.browser() as browser:
        for _ in range(Attempts.BURST):
            await signed_in(browser, "wrong wrong wrong")
        slowed = await signed_in(browser)
        site.clock.advance(Attempts.EVERY_S)
        later = await signed_in(browser)

    assert slowed.status == 429
    assert int(slowed.headers["Retry-After"]) == Attempts.EVERY_S
    assert later.path == "/"


async def test_a_new_password_ends_all_sessions(nats: Client) -> None:
    async with site_of(nats, secret=b"same") as old, old.browser() as browser:
        cookie = session_in(await signed_in(browser, follow=False))
    async with site_of(nats, secret=b"same") as same, same.browser() as browser:
        kept = await browser.get("/", follow=False, Cookie=cookie)
    async with (
        site_of(nats, secret=b"same", password=PASSWORD + "2") as new,
        new.browser() as browser,
    ):
        ended = await browser.get("/", follow=False, Cookie=cookie)

    assert (kept.status, ended.status) == (200, 303)


async def test_without_a_password_the_page_is_off(nats: Client) -> None:
    async with site_of(nats, password=None) as site, site.browser() as browser:
        site.overview.statuses = [status_of(WELL)]
        pages = [await browser.get("/"), await browser.get("/sign-in")]
        pages.append(await browser.post("/sign-in", password=""))

    assert [page.status for page in pages] == [404] * 3
    assert all("Switched off" in page.text for page in pages)
    assert not any(WELL in page.text for page in pages)


async def test_a_password_that_can_be_guessed_stops_the_start(nats: Client) -> None:
    with pytest.raises(ServiceError, match="operator_password_weak"):
        async with site_of(nats, password="short"):
            pass


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/json"])
async def test_only_a_plain_form_is_read(site: Site, content_type: str) -> None:
    async with site.browser() as browser:
        page = await browser.ask("POST", "/sign-in", b"--x\r\n", content_type)

    assert page.status == 415


async def test_a_form_larger_than_ours_is_refused(site: Site) -> None:
    form = b"password=" + b"x" * 5000
    async with site.browser() as browser:
        page = await browser.ask("POST", "/sign-in", form, FORM)

    assert page.status == 413
