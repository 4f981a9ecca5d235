"""TikTok Shops are kept connected, against the simulator and with a grant that it gave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from libs.bus.commit_log import MemoryLog
from libs.bus.lease import Lease
from libs.clock import SystemClock
from libs.http.session import http_session
from libs.keys import MemoryKeySource
from libs.metric_names import STORE_LOOKS, WEBHOOK_SUBSCRIPTIONS
from libs.settings import Secret
from libs.telemetry import Metrics
from libs.vault import Vault
from sandbox.oauth.apps import App as Registered
from sandbox.oauth.apps import SellerShop
from sandbox.oauth.desk import Desk
from sandbox.tiktok_shop.app import TikTokShopSandbox
from services.auth.adapters.grants import GrantStore
from services.auth.adapters.providers import Endpoints, providers
from services.auth.adapters.providers.calls import Caller
from services.auth.adapters.records import connection_records
from services.auth.adapters.shop_webhooks import TikTokShops
from services.auth.attention import KeepersAttention
from services.auth.book import Book
from services.auth.care import Care, ShopifyCare, TikTokShopCare
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.domain.shop_webhooks import EVENTS, SCOPES
from services.auth.keeper import LEASE_S, SHOP_LEASE_NAME, Keeper
from services.auth.kept_stores import BookedShops
from services.auth.linking import Linking
from services.auth.ports import KeptStores, Provider
from services.auth.refresher import Refresher
from services.auth.tokens import Tokens
from tests.integration.auth.test_keeper import Noted
from tests.unit.auth.replicas import PlayedLiveness
from tests.unit.auth.test_connected_again import Nobody, Open
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import health_pb2
from tidewire.connections.v1 import connection_pb2

OURS = "https://hooks.example.com/webhooks/tiktok-shop"
ELSEWHERE = "https://elsewhere.example.com/hooks"
NAMES = sorted(one.name for one in EVENTS)
CIPHER = "a-cipher"
APP = App("1234567", Secret("a-secret-of-the-sandbox"), service_id="service-7")
CONSENT = Consent(shop="example.myshopify.com", state="s", redirect_uri="http://127.0.0.1:9/back")


class OneProvider:
    """`Providers` of which only TikTok Shop is asked."""

    def __init__(self, table: Mapping[Family, Provider]) -> None:
        self._table = table

    def of(self, family: Family) -> Provider:
        return self._table[family]

    def app(self, family: Family) -> App | None:
        return APP

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        return False


class House:
    """The token service's inside in memory, and the simulator that it calls."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, sandbox: TikTokShopSandbox
    ) -> None:
        self.url, self.session, self.sandbox = url, session, sandbox
        self.log, self.metrics = MemoryLog(), Metrics()
        where = Endpoints(tiktok_shop_auth_url=url, tiktok_shop_api_url=url)
        clock = SystemClock()
        self.provider = providers(where, session, clock)[Family.TIKTOK_SHOP]
        table = OneProvider({Family.TIKTOK_SHOP: self.provider})
        self.records = connection_records(self.log)
        self.grants = GrantStore(self.log, Vault(MemoryKeySource()))
        liveness = PlayedLiveness("a", set())
        refresher = Refresher(
            self.grants, table, liveness, clock, self.metrics, ended=lambda _: None
        )
        self.tokens = Tokens(self.grants, refresher, table, clock)
        self.book = Book(self.records, self.grants, Open())
        self.attention = KeepersAttention()
        nobody = Nobody()
        self.linking = Linking(
            book=self.book,
            records=self.records,
            grants=self.grants,
            providers=table,
            places=nobody,
            forgetting=nobody,
            clock=clock,
            attention=self.attention,
            told=lambda *_: None,
        )
        self.kept = BookedShops(self.book, self.linking, self.tokens)

    def keeper(self, address: str = OURS) -> Keeper:
        stores = self.stores(asks=bool(address))
        return self._keeper(self.kept, stores, TikTokShopCare(address=address))

    def stores(self, *, asks: bool = True) -> TikTokShops:
        return TikTokShops(
            Caller("tiktok-shop", self.session, SystemClock()),
            api_url=self.url,
            tokens=self.tokens,
            grants=self.grants,
            asks=asks,
        )

    def idle_keeper(self) -> Keeper:
        """Of Shopify's stores, of which this house has none that can be called."""
        care = ShopifyCare(address="", api_version="2026-10")
        return self._keeper(Noted(), self.stores(asks=False), care)

    def _keeper(self, kept: KeptStores, stores: TikTokShops, care: Care) -> Keeper:
        async def release() -> None:
            return

        return Keeper(
            kept=kept,
            stores=stores,
            lease=Lease(self.log, SystemClock(), SHOP_LEASE_NAME, "a", lasts_s=LEASE_S),
            release=release,
            metrics=self.metrics,
            clock=SystemClock(),
            care=care,
        )

    async def agreed(self) -> Grant:
        """What a seller grants in a browser."""
        page = f"{self.url}/open/authorize?service_id={APP.service_id}&state=s"
        form = {"service_id": APP.service_id, "state": "s", "decision": "allow"}
        async with self.session.post(page, data=form, allow_redirects=False) as sent_on:
            query = URL(sent_on.headers["Location"]).query
        answer = Answer(query=tuple(query.items()), received_at=datetime.now(UTC))
        code = self.provider.code(APP, CONSENT, answer)
        return await self.provider.exchange(APP, CONSENT, code)

    async def connect(self) -> str:
        """Connects the store, and then the TikTok Shop; the id of the latter."""
        store = pb.ConnectionSpec(
            shop="example",
            kind=connection_pb2.CONNECTION_KIND_SHOPIFY,
            country="US",
            currency="USD",
        )
        await self.linking.connect(
            store, pb.GRANT_FLOW_UNSPECIFIED, Grant(access_token=Secret("shpat"))
        )
        shop = pb.ConnectionSpec(shop="example", kind=connection_pb2.CONNECTION_KIND_TIKTOK_SHOP)
        return await self.linking.connect(shop, pb.GRANT_FLOW_UNSPECIFIED, await self.agreed())

    async def connected(self) -> tuple[str, Keeper]:
        """A shop that was looked at once."""
        key, keeper = await self.connect(), self.keeper()
        assert await keeper.look(key)
        return key, keeper

    def held(self) -> dict[str, Any]:
        """The simulator's addresses, by kind of event."""
        return self.sandbox.hooks._held.setdefault((APP.client_id, CIPHER), {})

    def addresses(self) -> dict[str, str]:
        return {name: one["address"] for name, one in self.held().items()}

    async def delete(self, event_type: str) -> None:
        """Ends an address behind everybody's back."""
        wish = {"cipher": CIPHER, "event_type": event_type}
        path = f"{self.url}/_sandbox/tiktok-shop/webhooks/delete"
        async with self.session.post(path, json=wish) as answer:
            assert await answer.json() == {"deleted": 1}

    async def sandbox_post(self, path: str, **body: Any) -> None:
        async with self.session.post(f"{self.url}/_sandbox/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()

    def status(self, key: str) -> health_pb2.ConnectionStatus:
        return self.book.status(key)

    def counted(self, name: str) -> Mapping[str, float]:
        return {
            next(value for _, value in labels): getattr(one, "value", 0)
            for found, _, series in self.metrics.series()
            if found == name
            for labels, one in series
        }


@pytest.fixture
async def house() -> AsyncIterator[House]:
    app = Registered(
        provider="tiktok-shop",
        id=APP.client_id,
        secret=APP.secret.reveal(),
        service_id=APP.service_id,
        redirect_uris=[CONSENT.redirect_uri],
        scopes=list(SCOPES),
        open_id="seller-1",
        shops=[SellerShop(id="7494049642642441621", cipher=CIPHER)],
    )
    sandbox = TikTokShopSandbox(Desk(SystemClock(), [app]))
    served = web.Application()
    sandbox.add_routes(served)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with http_session() as session:
        yield House("http://{}:{}".format(*runner.addresses[0][:2]), session, sandbox)
    await runner.cleanup()


async def test_a_shop_that_is_connected_is_looked_at_at_once(house: House) -> None:
    # Somebody else goes round.
    assert await Lease(house.log, SystemClock(), SHOP_LEASE_NAME, "b", lasts_s=LEASE_S).hold()
    keeper = house.keeper()
    house.attention.begin(house.idle_keeper(), keeper, house.kept)
    looked = asyncio.Event()
    house.records.subscribe(
        lambda one: looked.set() if house.book.existing(one).record.HasField("webhooks") else None
    )
    running = asyncio.create_task(keeper.run(lambda: None))

    key = await house.connect()
    async with asyncio.timeout(10):
        await looked.wait()
    keeper.stop()
    await running

    assert house.addresses() == dict.fromkeys(NAMES, OURS)
    status = house.status(key)
    assert (status.webhooks.in_place, list(status.webhooks.problems)) == (len(NAMES), [])
    assert (status.version.asked, list(status.grant.missing_scopes)) == ("202309", [])
    assert house.counted(WEBHOOK_SUBSCRIPTIONS) == {"made": len(NAMES)}


async def test_one_that_was_deleted_behind_our_back_is_healed_and_counted(house: House) -> None:
    key, keeper = await house.connected()
    await house.delete("ORDER_STATUS_CHANGE")

    await keeper.look(key)
    await keeper.look(key)

    assert house.addresses() == dict.fromkeys(NAMES, OURS)
    assert house.status(key).webhooks.healed == 1
    assert house.counted(WEBHOOK_SUBSCRIPTIONS) == {"made": len(NAMES), "healed": 1}


async def test_a_wrong_address_is_set_right_and_foreign_kinds_are_left(house: House) -> None:
    key, keeper = await house.connected()
    house.held()["PACKAGE_UPDATE"]["address"] = ELSEWHERE
    foreign = {"event_type": "NEW_MESSAGE", "address": ELSEWHERE}
    house.held()["NEW_MESSAGE"] = dict(foreign)
    house.held()["PRODUCT_CREATION"] = {"event_type": "PRODUCT_CREATION", "address": OURS}

    await keeper.look(key)

    assert house.addresses() == dict.fromkeys(NAMES, OURS) | {"NEW_MESSAGE": ELSEWHERE}
    assert house.held()["NEW_MESSAGE"] == foreign
    assert house.status(key).webhooks.healed == 1
    assert house.counted(WEBHOOK_SUBSCRIPTIONS)["deleted"] == 1


async def test_a_round_looks_at_a_shop_when_it_is_due(house: House) -> None:
    await house.connect()
    keeper = house.keeper()

    await keeper.round()
    await keeper.round()

    assert house.addresses() == dict.fromkeys(NAMES, OURS)
    assert house.counted(STORE_LOOKS) == {"ok": 1}


async def test_a_missing_scope_is_named_with_the_way_to_grant_it(house: House) -> None:
    granted = [one for one in SCOPES if one != "seller.order.info"]
    await house.sandbox_post("apps", provider="tiktok-shop", id=APP.client_id, scopes=granted)

    key, _ = await house.connected()

    status = house.status(key)
    (problem,) = status.webhooks.problems
    assert problem.startswith("seller.order.info is not granted")
    assert "tidewire connect tiktok-shop --shop example" in problem
    assert list(status.grant.missing_scopes) == ["seller.order.info"]
    assert "ORDER_STATUS_CHANGE" not in house.addresses()
    assert "SELLER_DEAUTHORIZATION" in house.addresses()


async def test_subscriptions_that_may_not_be_read_are_told_of_and_not_changed(
    house: House,
) -> None:
    refused = {"code": 105005, "message": f"Access denied for {CIPHER}"}
    key = await house.connect()
    await house.sandbox_post(
        "oauth/faults",
        match={"endpoint": "webhooks"},
        effect={"kind": "answer", "status": 403, "body": refused},
    )

    assert await house.keeper().look(key)

    (problem,) = house.status(key).webhooks.problems
    assert problem.startswith("webhooks: 105005 Access denied for …: enable seller.authorization")
    assert house.addresses() == {}


async def test_an_address_that_is_refused_is_told_with_what_the_shop_says(house: House) -> None:
    key = await house.connect()

    await house.keeper("https://203.0.113.7/hooks").look(key)

    found = list(house.status(key).webhooks.problems)
    assert found[0] == "SELLER_DEAUTHORIZATION: 36009004 Invalid address"
    assert house.counted(WEBHOOK_SUBSCRIPTIONS) == {"refused": len(NAMES)}


async def test_a_token_that_was_ended_is_refreshed_and_the_look_goes_on(house: House) -> None:
    key = await house.connect()
    await house.sandbox_post(
        "oauth/expire", provider="tiktok-shop", app=APP.client_id, account="seller-1"
    )

    assert await house.keeper().look(key)

    assert house.addresses() == dict.fromkeys(NAMES, OURS)
    assert house.book.revision(key) == 2


async def test_a_grant_that_was_revoked_ends_in_a_call_for_a_person(house: House) -> None:
    key, keeper = await house.connected()
    await house.sandbox_post(
        "oauth/revoke", provider="tiktok-shop", app=APP.client_id, account="seller-1"
    )

    assert await keeper.look(key)

    assert house.counted(STORE_LOOKS) == {"ok": 1, "auth": 1}
    reauthorize = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
    assert house.status(key).connection.state == reauthorize
    assert await house.kept.store(key) is None


async def test_without_an_address_nothing_is_asked_and_scopes_are_compared(house: House) -> None:
    granted = [one for one in SCOPES if one != "seller.order.info"]
    await house.sandbox_post("apps", provider="tiktok-shop", id=APP.client_id, scopes=granted)
    key = await house.connect()
    await house.sandbox_post(
        "oauth/revoke", provider="tiktok-shop", app=APP.client_id, account="seller-1"
    )

    assert await house.keeper("").look(key)

    assert list(house.status(key).grant.missing_scopes) == ["seller.order.info"]
    assert house.counted(STORE_LOOKS) == {"problems": 1}
