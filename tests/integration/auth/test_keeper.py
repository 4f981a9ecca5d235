"""Stores are kept connected: over HTTP, against a store that behaves as Shopify does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from libs.bus.commit_log import Entry, MemoryLog
from libs.bus.lease import Lease
from libs.clock import Clock, FakeClock, SystemClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.metric_names import SHOPIFY_NOTICES, STORE_LOOKS, WEBHOOK_SUBSCRIPTIONS
from libs.settings import Secret
from libs.shopify.admin import ShopifyAdmin
from libs.telemetry import Metrics
from services.auth.adapters.shopify_subscriptions import ShopifyStores
from services.auth.care import ShopifyCare
from services.auth.domain.scopes import Use, scopes_to_ask
from services.auth.domain.subscriptions import wanted_topics
from services.auth.keeper import LEASE_NAME, LEASE_S, Keeper
from services.auth.ports import KeptStore, Place
from tests.integration.auth.store_admin import TOKEN, FakeStore, OneToken, admin_of, serving
from tidewire.auth.v1 import health_pb2
from tidewire.connections.v1.connection_pb2 import Connection

OURS = "https://hooks.example/webhooks/shopify"
FOREIGN = "https://elsewhere.example/hooks"
EVENTS = frozenset({Use.EVENTS})
NAMES = sorted(one.name for one in wanted_topics(EVENTS))
CARE = ShopifyCare(address=OURS, api_version="2026-10")


@dataclass
class Noted:
    """`KeptStores` in memory."""

    known: dict[str, KeptStore] = field(default_factory=dict)
    missing: dict[str, Sequence[str]] = field(default_factory=dict)
    granted: dict[str, Sequence[str]] = field(default_factory=dict)
    versions: dict[str, health_pb2.VersionHealth] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def connect(self, shop: str, uses: frozenset[Use] = EVENTS) -> None:
        self.known[shop] = KeptStore(Connection(connection_id=f"{shop}.shopify", shop=shop), uses)

    async def stores(self) -> Sequence[KeptStore]:
        return list(self.known.values())

    async def store(self, shop: str) -> KeptStore | None:
        return self.known.get(shop)

    async def note(
        self,
        connection_id: str,
        *,
        webhooks: health_pb2.WebhookHealth,
        version: health_pb2.VersionHealth,
        granted_scopes: Sequence[str],
        missing_scopes: Sequence[str],
    ) -> None:
        shop = connection_id.partition(".")[0]
        self.known[shop] = replace(self.known[shop], webhooks=webhooks)
        self.missing[shop], self.granted[shop] = missing_scopes, granted_scopes
        self.versions[shop] = version
        self.changed.set()

    def health(self, shop: str = "example") -> health_pb2.WebhookHealth:
        found = self.known[shop].webhooks
        assert found is not None
        return found


@dataclass
class Bench:
    stores: dict[str, FakeStore]
    kept: Noted
    admin: ShopifyAdmin
    tokens: OneToken
    metrics: Metrics
    clock: FakeClock
    lease_log: MemoryLog

    @property
    def store(self) -> FakeStore:
        return self.stores["example"]

    def keeper(
        self, care: ShopifyCare = CARE, *, owner: str = "a", clock: Clock | None = None
    ) -> Keeper:
        clock = clock or self.clock

        async def release() -> None:
            self.lease_log.newest.clear()

        return Keeper(
            kept=self.kept,
            stores=ShopifyStores(self.admin),
            lease=Lease(self.lease_log, clock, LEASE_NAME, owner, lasts_s=LEASE_S),
            release=release,
            metrics=self.metrics,
            clock=clock,
            care=care,
        )

    async def looked(self, care: ShopifyCare = CARE) -> Keeper:
        keeper = self.keeper(care)
        assert await keeper.look("example")
        return keeper

    def counted(self, name: str) -> Mapping[str, float]:
        return {
            next(value for _, value in labels): getattr(one, "value", 0)
            for found, _, series in self.metrics.series()
            if found == name
            for labels, one in series
        }


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    stores = {name: FakeStore(list(scopes_to_ask(EVENTS))) for name in ("example", "other")}
    metrics = Metrics()
    async with serving(stores) as template, http_session() as session:
        tokens = OneToken()
        admin = admin_of(template, session, metrics, tokens)
        kept = Noted()
        kept.connect("example")
        yield Bench(stores, kept, admin, tokens, metrics, FakeClock(), MemoryLog())


async def test_a_store_that_was_just_connected_gets_all_subscriptions(bench: Bench) -> None:
    await bench.looked()

    assert bench.store.topics(OURS) == NAMES
    health = bench.kept.health()
    assert (health.in_place, health.healed, list(health.problems)) == (len(NAMES), 0, [])
    assert health.checked_at.ToNanoseconds() == bench.clock.now_ns()
    assert bench.counted(WEBHOOK_SUBSCRIPTIONS) == {"made": len(NAMES)}
    assert bench.counted(STORE_LOOKS) == {"ok": 1}


async def test_a_subscription_asks_for_the_whole_body_without_filter(bench: Bench) -> None:
    await bench.looked()

    asked = {
        (one["format"], one["filter"], *one["includeFields"])
        for one in bench.store.subscriptions.values()
    }
    assert asked == {("JSON", None)}


async def test_a_store_that_is_as_it_should_be_is_only_read(bench: Bench) -> None:
    keeper = await bench.looked()
    bench.store.asked.clear()

    await keeper.look("example")

    assert bench.store.asked == ["StoreInstallation"]


async def test_one_that_was_deleted_behind_our_back_is_made_again_and_counted(
    bench: Bench,
) -> None:
    keeper = await bench.looked()
    bench.store.drop("ORDERS_PAID")

    await keeper.look("example")
    await keeper.look("example")

    assert bench.store.topics(OURS) == NAMES
    assert bench.kept.health().healed == 1
    assert bench.counted(WEBHOOK_SUBSCRIPTIONS) == {"made": len(NAMES), "healed": 1}


async def test_what_is_wanted_since_a_new_connection_is_made_and_not_healed(
    bench: Bench,
) -> None:
    keeper = await bench.looked()
    bench.kept.known["example"] = replace(
        bench.kept.known["example"], uses=frozenset({Use.EVENTS, Use.CATALOG})
    )

    await keeper.look("example")

    assert "PRODUCTS_UPDATE" in bench.store.topics(OURS)
    assert bench.kept.health().healed == 0


async def test_an_altered_and_a_doubled_one_are_set_right_on_every_page(bench: Bench) -> None:
    keeper = await bench.looked()
    bench.store.page = 2
    last = list(bench.store.subscriptions.values())[-1]
    last["filter"] = "id:1"
    bench.store.put("ORDERS_PAID", OURS, includeFields=["id"])

    await keeper.look("example")

    assert bench.store.topics(OURS) == NAMES
    assert last["filter"] is None
    assert sorted(bench.store.writes()[-2:]) == ["CorrectSubscription", "UnsubscribeStore"]
    assert bench.kept.health().healed == 1


async def test_a_foreign_subscription_is_left_as_it_is(bench: Bench) -> None:
    foreign = bench.store.put("ORDERS_PAID", FOREIGN, filter="id:1", format="XML")
    before = dict(bench.store.subscriptions[foreign])

    await bench.looked()

    assert bench.store.subscriptions[foreign] == before
    assert bench.store.topics(OURS) == NAMES


async def test_a_missing_scope_is_named_with_the_way_to_grant_it_and_its_topics_not_tried(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.store.scopes = ["read_products", "read_inventory", "read_customers"]

    keeper = await bench.looked()
    await keeper.look("example")

    assert bench.kept.missing["example"] == ("read_orders",)
    (problem,) = bench.kept.health().problems
    assert problem.startswith("read_orders is not granted")
    assert "orders/paid" in problem
    assert "tidewire connect shopify --shop example.myshopify.com" in problem
    assert bench.store.topics(OURS) == ["APP_SCOPES_UPDATE", "APP_UNINSTALLED", "SHOP_UPDATE"]
    assert bench.counted(STORE_LOOKS) == {"problems": 2}
    assert capsys.readouterr().out.count("store_has_problems") == 1


async def test_a_scope_that_was_granted_later_brings_its_topics(bench: Bench) -> None:
    bench.store.scopes = []
    keeper = await bench.looked()
    bench.store.scopes = ["write_orders", *scopes_to_ask(EVENTS)]

    await keeper.look("example")

    assert bench.store.topics(OURS) == NAMES
    assert bench.kept.granted["example"] == sorted(bench.store.scopes)
    assert bench.kept.missing["example"] == ()


async def test_a_topic_that_is_refused_is_told_and_the_others_are_made(bench: Bench) -> None:
    bench.store.refused = {"ORDERS_PAID"}

    await bench.looked()

    assert bench.store.topics(OURS) == [name for name in NAMES if name != "ORDERS_PAID"]
    assert list(bench.kept.health().problems) == ["orders/paid: Not this topic"]
    assert bench.counted(WEBHOOK_SUBSCRIPTIONS)["refused"] == 1


async def test_what_trouble_broke_off_is_still_due_and_goes_on_from_there(bench: Bench) -> None:
    bench.store.down = {"SubscribeStore"}
    keeper = bench.keeper()
    assert not await keeper.look("example")
    assert not bench.kept.health().HasField("checked_at")

    bench.store.down = set()
    bench.clock.advance(10)
    await keeper.round()

    assert bench.store.topics(OURS) == NAMES
    assert bench.kept.health().healed == 0
    assert bench.counted(STORE_LOOKS) == {"retryable": 1, "ok": 1}


async def test_where_the_app_itself_subscribes_ours_at_the_store_go(bench: Bench) -> None:
    await bench.looked()
    bench.store.put("ORDERS_PAID", FOREIGN)

    await bench.looked(replace(CARE, topics_in_app=True))

    assert bench.store.topics(OURS) == []
    assert bench.store.topics(FOREIGN) == ["ORDERS_PAID"]


async def test_without_a_public_address_nothing_is_touched_and_that_is_said(
    bench: Bench,
) -> None:
    await bench.looked(replace(CARE, address=""))

    assert bench.store.writes() == []
    assert "no public address" in bench.kept.health().problems[0]


async def test_a_refused_token_is_reported_and_not_tried_again(bench: Bench) -> None:
    bench.store.token = "shpat_another"

    assert await bench.keeper().look("example")

    assert bench.tokens.reported == [("example.shopify", Secret(TOKEN))]
    assert len(bench.store.asked) == 1
    assert bench.counted(STORE_LOOKS) == {"auth": 1}


async def test_a_version_that_another_one_serves_is_warned_of_once_for_all_stores(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.kept.connect("other")
    for store in bench.stores.values():
        store.served, store.deprecation = "2027-01", "https://shopify.dev/x"
    keeper = bench.keeper()

    for shop in ("example", "other", "example"):
        await keeper.look(shop)

    found = bench.kept.versions["other"]
    assert (found.asked, found.served) == ("2026-10", "2027-01")
    assert found.deprecation == "https://shopify.dev/x"
    printed = capsys.readouterr().out
    assert printed.count("2026-10 was served as 2027-01") == 1
    assert printed.count("https://shopify.dev/x") == 1
    notices = bench.counted(SHOPIFY_NOTICES)
    assert notices["version_fell_forward"] == notices["deprecated"] > 3


async def test_webhooks_of_another_version_are_a_problem_and_are_not_made_again(
    bench: Bench,
) -> None:
    keeper = await bench.looked()
    bench.store.webhook_version = "2026-04"

    await keeper.look("example")

    assert "written in version 2026-04, not 2026-10" in bench.kept.health().problems[0]
    assert len(bench.store.writes()) == len(NAMES)


async def test_a_round_looks_at_each_store_about_once_an_hour(bench: Bench) -> None:
    keeper = bench.keeper()
    looks = []
    for _ in range(6 * 24):
        before = len(bench.store.asked)
        await keeper.round()
        looks.append(len(bench.store.asked) > before)
        bench.clock.advance(600)
        bench.lease_log.newest.clear()  # as its time to live would, between two rounds

    assert 21 <= sum(looks) <= 27


async def test_of_two_replicas_one_goes_round(bench: Bench) -> None:
    first, second = bench.keeper(owner="a"), bench.keeper(owner="b")

    await first.round()
    asked = len(bench.store.asked)
    bench.clock.advance(2 * 3600)
    await second.round()

    assert len(bench.store.asked) == asked > 0


class SlowLog(MemoryLog):
    """Lets others go on while it writes, as a network does."""

    async def commit(self, entries: Sequence[Entry]) -> int:
        await asyncio.sleep(0)
        return await super().commit(entries)


async def test_who_takes_the_lease_twice_at_once_does_not_lose_it_to_itself(bench: Bench) -> None:
    bench.lease_log = SlowLog()
    keeper = bench.keeper()
    await asyncio.gather(keeper.round(), keeper.round())
    asked = len(bench.store.asked)

    bench.clock.advance(2 * 3600)
    await keeper.round()

    assert len(bench.store.asked) == asked + 1


async def test_a_store_that_fails_leaves_the_others_alone(bench: Bench) -> None:
    bench.kept.connect("other")
    bench.store.down = {"StoreInstallation"}

    await bench.keeper().round()

    assert bench.stores["other"].topics(OURS) == NAMES


async def test_who_is_asked_for_is_looked_at_at_once_by_whoever_was_asked(bench: Bench) -> None:
    # Somebody else goes round.
    assert await Lease(bench.lease_log, bench.clock, LEASE_NAME, "b", lasts_s=LEASE_S).hold()
    keeper = bench.keeper(clock=SystemClock())
    running = asyncio.create_task(keeper.run(lambda: None))

    keeper.soon("example")
    async with asyncio.timeout(10):
        await bench.kept.changed.wait()
    keeper.stop()
    await running

    assert bench.store.topics(OURS) == NAMES


async def test_a_store_says_where_it_is(bench: Bench) -> None:
    assert await ShopifyStores(bench.admin).place("example") == Place("GB", "GBP")


@pytest.mark.parametrize(
    ("change", "alive"),
    [(lambda _: None, True), (lambda store: setattr(store, "token", "shpat_new"), False)],
)
async def test_whether_a_grant_lives_is_asked_of_the_store(
    bench: Bench,
    change: Callable[[Any], None],
    alive: bool,  # noqa: FBT001
) -> None:
    change(bench.store)

    assert await ShopifyStores(bench.admin).is_alive("example") is alive


async def test_a_store_that_is_down_does_not_count_as_one_that_left(bench: Bench) -> None:
    bench.store.down = {"StoreScopes"}

    with pytest.raises(ServiceError) as raised:
        await ShopifyStores(bench.admin).is_alive("example")

    assert raised.value.kind is Kind.RETRYABLE
