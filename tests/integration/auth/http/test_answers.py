"""What every answer is like, and requests that no honest browser makes."""

from __future__ import annotations

import hmac
from urllib.parse import urlencode

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from libs.errors import ServiceError
from services.auth.http import QUERY_BYTES_MAX, checked_public_url
from tests.fakes.provider import APP_SECRET, CODE
from tests.integration.auth.http.site import SHOP, Site, site_of

SHOP_DOMAIN = f"{SHOP}.myshopify.com"
PATHS = ("/sign-in", "/nowhere", "/connect/nothing", "/oauth/shopify/callback", "/shopify/install")


def install_query(site: Site, *, shop: str = SHOP_DOMAIN, secret: str = APP_SECRET) -> str:
    """As Shopify signs it; contracts of Shopify, section 5."""
    pairs = {"shop": shop, "timestamp": str(int(site.clock.now_s))}
    text = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
    signature = hmac.digest(secret.encode(), text.encode(), "sha256").hex()
    return urlencode({**pairs, "hmac": signature})


@pytest.mark.parametrize("path", PATHS)
async def test_every_page_is_kept_to_itself(site: Site, path: str) -> None:
    async with site.browser() as browser:
        page = await browser.get(path)

    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in page.headers["Server"]
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<script" not in page.text


async def test_cookies_are_out_of_reach_and_over_https_secure(nats: Client) -> None:
    async with site_of(nats, public_url="https://auth.example") as site, site.browser() as browser:
        flow_id = await site.begun()
        opened = await browser.get(f"/connect/{flow_id}", follow=False)
        form = await browser.get("/sign-in")

    [flow_cookie], [form_cookie] = opened.cookies, form.cookies
    assert flow_cookie.startswith(f"__Host-tidewire-flow-{flow_id}=")
    for cookie in (flow_cookie, form_cookie):
        assert {"HttpOnly", "Secure", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert "SameSite=Lax" in flow_cookie
    assert "SameSite=Strict" in form_cookie
    assert "Strict-Transport-Security" in form.headers
    assert site.provider.consents[0].redirect_uri == "https://auth.example/oauth/shopify/callback"


async def test_the_host_that_a_request_names_is_not_believed(site: Site) -> None:
    flow_id = await site.begun()
    async with site.browser() as browser:
        await browser.get(f"/connect/{flow_id}", follow=False, Host="evil.example")

    assert site.provider.consents[0].redirect_uri.startswith(site.url)


@pytest.mark.parametrize("path", ["/oauth/shopify/callback", "/sign-in", "/connect/x"])
async def test_a_query_that_is_too_long_is_refused(site: Site, path: str) -> None:
    async with site.browser() as browser:
        page = await browser.get(f"{path}?state={'x' * QUERY_BYTES_MAX}")
        longer = await browser.get(f"{path}?code={CODE}&state={'x' * 20_000}")
        fits = await browser.get(f"{path}?state={'x' * (QUERY_BYTES_MAX - 6)}")

    assert (page.status, longer.status) == (414, 414)
    assert fits.status != 414


async def test_a_request_that_cannot_be_read_is_told_of_by_its_kind_alone(nats: Client) -> None:
    with capture_logs() as lines:
        async with site_of(nats) as site, site.browser() as browser:
            answer = await browser.raw(f"/oauth/shopify/callback?code={CODE}&x={'y' * 100_000}")

    assert " 400 " in answer.partition("\r\n")[0]
    failed = [line for line in lines if line["event"] == "http_connection_failed"]
    assert [line["error"] for line in failed] == ["LineTooLong"]
    assert CODE not in str(lines)


@pytest.mark.parametrize(
    "query", ["code=%ff&state=%fe", "&".join(f"p{n}=1" for n in range(100)), "%00=%00", "state"]
)
async def test_a_query_that_makes_no_sense_is_refused(site: Site, query: str) -> None:
    async with site.browser() as browser:
        answer = await browser.raw(f"/oauth/shopify/callback?{query}")

    assert answer.startswith("HTTP/1.1 400")


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "//evil.example/sign-in", "/\\evil.example", "http://evil.example/nowhere"],
)
async def test_a_path_that_looks_like_a_host_leads_nowhere(site: Site, target: str) -> None:
    async with site.browser() as browser:
        answer = await browser.raw(target)

    assert "\r\nLocation: //" not in answer
    assert "evil" not in answer


@pytest.mark.parametrize("family", ["shopify-client-credentials", "nobody", "%2e%2e", "SHOPIFY"])
async def test_only_providers_with_a_dialogue_have_a_callback(site: Site, family: str) -> None:
    async with site.browser() as browser:
        page = await browser.get(f"/oauth/{family}/callback?code={CODE}&state=x")

    assert page.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_what_is_read_is_only_read(site: Site, method: str) -> None:
    async with site.browser() as browser:
        page = await browser.ask(method, "/oauth/shopify/callback", b"", "text/plain")

    assert page.status == 405
    assert page.headers["Allow"] == "GET"


async def test_an_install_that_nobody_began_is_off_unless_allowed(site: Site) -> None:
    async with site.browser() as browser:
        page = await browser.get(f"/shopify/install?{install_query(site)}", follow=False)

    assert page.status == 403
    assert site.provider.consents == []


async def test_an_install_that_shopify_signed_is_connected_where_allowed(nats: Client) -> None:
    async with site_of(nats, allow_installs=True) as site, site.browser() as browser:
        page = await browser.get(f"/shopify/install?{install_query(site)}")

    assert (page.status, page.path) == (200, "/oauth/shopify/callback")
    assert site.connected.made[0][0].shop == SHOP


async def test_an_install_that_shopify_did_not_sign_is_refused(nats: Client) -> None:
    async with site_of(nats, allow_installs=True) as site, site.browser() as browser:
        good = install_query(site)
        bad = (
            install_query(site, secret="another-secret"),
            good.replace("example", "examplf"),
            good.partition("&hmac")[0],
            install_query(site, shop="evil.com/.myshopify.com"),
            "",
        )
        pages = [await browser.get(f"/shopify/install?{query}", follow=False) for query in bad]
        site.clock.advance(91)
        old = await browser.get(f"/shopify/install?{good}", follow=False)

    assert [page.status for page in (*pages, old)] == [400] * 6
    assert site.provider.consents == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "auth.example",
        "ftp://auth.example",
        "https://auth.example/path",
        "https://user@auth.example",
        "https://auth.example?x",
        "http://auth.example",
        "http://localhost.evil.example",
        "https://auth.example\n",
    ],
)
def test_a_public_url_that_is_no_safe_origin_stops_the_start(url: str) -> None:
    with pytest.raises(ServiceError, match="public_url_unfit"):
        checked_public_url(url)


@pytest.mark.parametrize(
    "url", ["https://auth.example", "https://a.example:8443/", "http://127.0.0.1:1", "http://[::1]"]
)
def test_a_public_url_is_an_origin(url: str) -> None:
    assert checked_public_url(url) == url.rstrip("/")
