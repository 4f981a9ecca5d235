"""Everything of the demo is connected as a person would: in a browser, by OAuth, through `auth`.

No token is written anywhere here. The browser is an HTTP client with a cookie jar that clicks on
"allow" wherever the simulators ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any, Final

import aiohttp
import msgspec

from cli.demo.scenery import CORPUS_SHOP, OLDEST_S, PixelPlan
from cli.demo.shelves import BRAND, BUSINESS_CENTER, SPACING_S, CatalogChoice
from cli.stack import Stack
from libs.errors import permanent
from libs.rpc.client import call, channel
from libs.settings import Address
from sandbox.oauth.apps import SHOPIFY_SCOPES
from sandbox.shopify.model import Shop
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import connection_service_pb2_grpc
from tidewire.connections.v1 import connection_pb2

_CALL_S: Final = 30.0
_AT_ONCE: Final = 4
_REDIRECTS_MAX: Final = 5


async def connect_all(stack: Stack, shops: Sequence[Shop], pixels: Sequence[PixelPlan]) -> int:
    """Connects every shop and then every pixel; how many connections that makes.

    Raises:
        ServiceError: PERMANENT, `not_connected`: where, and what the page said.
    """
    await _register_apps(stack, shops)
    address = Address("127.0.0.1", stack.ports.grpc["auth"])
    async with channel(address, stack.operator) as opened:
        stub = connection_service_pb2_grpc.ConnectionServiceStub(opened)
        for specs in ([_store(one) for one in shops], [_pixel(one, shops) for one in pixels]):
            room = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(_connected(stub, spec, room) for spec in specs))
    return len(shops) + len(pixels)


async def connect_catalogs(stack: Stack, catalogs: Sequence[CatalogChoice]) -> int:
    """Connects catalogs of stores that are connected; how many.

    Raises:
        ServiceError: as `connect_all` does.
    """
    address = Address("127.0.0.1", stack.ports.grpc["auth"])
    async with channel(address, stack.operator) as opened:
        stub = connection_service_pb2_grpc.ConnectionServiceStub(opened)
        room = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(_connected(stub, _catalog(one), room) for one in catalogs))
    return len(catalogs)


async def _register_apps(stack: Stack, shops: Sequence[Shop]) -> None:
    """Tells the simulator of the app that each shop has made for itself."""
    apps = [
        {
            "provider": "shopify",
            "id": _app_id(shop),
            "secret": shop.secrets[0],
            "name": f"App of {shop.domain}",
            "scopes": SHOPIFY_SCOPES,
            "loopback_webhooks": True,
        }
        for shop in shops
    ]
    url = f"{stack.sandbox_url}/_sandbox/apps"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=msgspec.json.encode(apps)) as answer,
    ):
        if answer.status != 200:
            raise permanent("no_apps", f"the sandbox refused the apps: {await answer.text()}")


async def _connected(stub: Any, spec: pb.ConnectionSpec, room: asyncio.Semaphore) -> None:
    async with room:
        begun = await call(
            stub.BeginConnection, pb.BeginConnectionRequest(spec=spec), timeout_s=_CALL_S
        )
        page = await agree(begun.url)
        flow = await call(stub.GetFlow, pb.GetFlowRequest(flow_id=begun.flow_id), timeout_s=_CALL_S)
    if flow.state != pb.FLOW_STATE_CONNECTED:
        raise permanent("not_connected", f"{spec.shop}: {flow.error_message or page[:300]}")


async def agree(url: str) -> str:
    """What a browser shows in the end that opens `url` and allows what it is asked for."""
    # By default a jar keeps no cookies of hosts that are IP addresses.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        async with browser.get(url, max_redirects=_REDIRECTS_MAX) as answer:
            consent, asked_at = await answer.text(), answer.url
        form = _Form()
        form.feed(consent)
        if not form.fields:
            return consent
        fields = {**form.fields, "decision": "allow"}
        async with browser.post(
            asked_at.with_query(None), data=fields, max_redirects=_REDIRECTS_MAX
        ) as answer:
            return await answer.text()


class _Form(HTMLParser):
    """The hidden fields of the one form on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "input" and known.get("type") == "hidden" and known.get("name"):
            self.fields[str(known["name"])] = known.get("value") or ""


def _store(shop: Shop) -> pb.ConnectionSpec:
    spec = pb.ConnectionSpec(
        shop=shop.domain,
        kind=connection_pb2.CONNECTION_KIND_SHOPIFY,
        country=shop.country,
        currency=shop.currency,
        app=pb.OwnApp(
            client_id=_app_id(shop),
            client_secret=shop.secrets[0],
            former_secrets=shop.secrets[1:],
        ),
    )
    spec.active_since.FromDatetime(shop.active_since)
    return spec


def _pixel(pixel: PixelPlan, shops: Sequence[Shop]) -> pb.ConnectionSpec:
    shop = next(one for one in shops if one.domain == pixel.shop)
    dialect = f"EVENTS_DIALECT_{pixel.dialect.upper()}"
    spec = pb.ConnectionSpec(
        shop=pixel.shop,
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
        tiktok_events=connection_pb2.EventsSettings(
            pixel_code=pixel.code,
            dialect=connection_pb2.EventsDialect.Value(dialect),
            max_event_age_s=OLDEST_S if shop is CORPUS_SHOP else 0,
        ),
    )
    spec.active_since.FromDatetime(shop.active_since)
    return spec


def _catalog(choice: CatalogChoice) -> pb.ConnectionSpec:
    return pb.ConnectionSpec(
        shop=choice.shop,
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG,
        tiktok_catalog=connection_pb2.CatalogSettings(
            business_center_id=BUSINESS_CENTER,
            catalog_id=choice.catalog_id,
            dialect=choice.dialect,
            country=choice.country,
            currency=choice.currency,
            language=choice.language,
            brand=BRAND,
            submit_spacing_s=SPACING_S,
        ),
    )


def _app_id(shop: Shop) -> str:
    return f"app-of-{shop.domain.partition('.')[0]}"
