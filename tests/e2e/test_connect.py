"""Stores and accounts connected by a person in a browser; then everything lives on by itself."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from yarl import URL

from libs import metric_names
from libs.errors import ServiceError
from libs.settings import load
from services.auth.settings import Settings
from tests.e2e.house import (
    ACTIVE,
    NEEDS_PERSON,
    SHOPIFY_APP,
    TIKTOK_APP,
    House,
    domain,
    house_at,
    until,
)
from tests.e2e.leaks import (
    LEAST_BYTES,
    commands_of,
    core_limits_of,
    environments_of,
    files_below,
    forms,
    leaks,
    messages,
    vault_of,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

ORDERS = {"ORDERS_PAID", "ORDERS_CREATE", "APP_UNINSTALLED", "APP_SCOPES_UPDATE", "SHOP_UPDATE"}
KEPT = (
    ("healed-shop", "CHEALED"),
    ("narrow-shop", "CNARROW"),
    ("leaving-shop", "CLEAVING"),
)
"""Stores whose subscriptions are looked at."""
PASSWORD = "an operator's password"
SUBSCRIPTIONS = metric_names.WEBHOOK_SUBSCRIPTIONS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("connect")
    password = folder / "password"
    password.write_text(PASSWORD)
    environ = {"TIDEWIRE_AUTH_OPERATOR_PASSWORD_FILE": str(password)}
    async with house_at(folder / "stack", environ) as found:
        # Ahead, since the first look at a store waits for its turn: of a store that was never
        # called nobody knows how much it takes.
        for number, (shop, pixel) in enumerate(KEPT):
            await found.connect_store(shop)
            await found.connect_pixel(shop, pixel, f"700000000000000010{number}")
        yield found


async def subscribed(house: House, shop: str) -> None:
    async def holds() -> bool:
        return await house.topics(shop) >= ORDERS

    await until(holds, f"{shop} has its subscriptions")


async def test_a_person_connects_by_command_and_an_order_reaches_tiktok(house: House) -> None:
    store = await house.tidewire_connect(
        "shopify", "--shop", "first-shop", "--country", "US", "--currency", "USD"
    )
    pixel, seller = await asyncio.gather(
        house.tidewire_connect("tiktok", "--shop", "first-shop", "--pixel", "CFIRST"),
        house.tidewire_connect("tiktok-shop", "--shop", "first-shop"),
    )

    assert (store.code, pixel.code, seller.code) == (0, 0, 0), (store, pixel, seller)
    assert "first-shop.shopify is connected" in store.said
    assert "first-shop.events.CFIRST is connected" in pixel.said
    assert re.search(r"first-shop\.tiktok_shop\.\w+ is connected", seller.said)
    await subscribed(house, "first-shop")
    number = await house.buys("first-shop", by_subscription=True)
    await house.has_bought("CFIRST", [number])


async def test_what_vanishes_or_ages_at_a_store_is_put_right_or_told_once(house: House) -> None:
    await subscribed(house, "healed-shop")
    before = await house.metric("auth", SUBSCRIPTIONS, action="healed")
    fallen = metric_names.SHOPIFY_NOTICES
    assert await house.metric("auth", fallen, reason="version_fell_forward") == 0

    wish = {"shop": domain("healed-shop"), "topic": "ORDERS_PAID"}
    assert len((await house.tell("shopify/webhooks/delete", wish))["deleted"]) == 1
    version = {"shop": domain("healed-shop"), "serves": "2027-01", "deprecated": None}
    await house.tell("shopify/version", version)

    await subscribed(house, "healed-shop")

    async def counted() -> bool:
        healed = await house.metric("auth", SUBSCRIPTIONS, action="healed") - before
        notices = await house.metric("auth", fallen, reason="version_fell_forward")
        return healed >= 1 and notices >= 2

    await until(counted, "the repair and the version are counted")
    (told,) = house.logged("auth", "shopify_api_notice")
    assert (told["level"], told["notice"]) == ("warning", "2026-10 was served as 2027-01")

    async def noted() -> bool:
        status = await house.status("healed-shop.shopify")
        return status.webhooks.healed == 1 and status.version.served == "2027-01"

    await until(noted, "the connection's health has it")


async def test_a_scope_that_was_taken_away_is_named_with_the_way_to_grant_it(house: House) -> None:
    connection = "narrow-shop.shopify"
    await subscribed(house, "narrow-shop")

    wish = {"shop": domain("narrow-shop"), "app": SHOPIFY_APP, "scopes": ["read_products"]}
    (sent,) = (await house.tell("shopify/scopes", wish))["sent"]
    assert sent["status"] == 200

    async def noted() -> bool:
        return "read_orders" in (await house.status(connection)).grant.missing_scopes

    await until(noted, "the missing scope is known")
    listed = await house.tidewire("connections", "--shop", "narrow-shop")
    assert listed.code == 0, listed.said
    assert "grant read_orders" in listed.said
    assert f"tidewire connect shopify --shop {domain('narrow-shop')}" in listed.said


async def test_an_uninstalled_store_waits_and_goes_on_when_it_is_connected_again(
    house: House,
) -> None:
    store, pixel = "leaving-shop.shopify", "leaving-shop.events.CLEAVING"
    await subscribed(house, "leaving-shop")
    sent = [await house.buys("leaving-shop")]
    await house.has_bought("CLEAVING", sent)

    told = await house.tell("shopify/uninstall", {"shop": domain("leaving-shop")})
    assert [one["status"] for one in told["sent"]] == [200]
    await house.becomes(store, NEEDS_PERSON)
    await house.becomes(pixel, NEEDS_PERSON)
    status = await house.status(store)
    assert status.grant.error_code == "app_uninstalled"
    revoked = await house.granted("tiktok-business", TIKTOK_APP, "7000000000000000102")
    assert revoked["revocations"] == 1
    with pytest.raises(ServiceError, match="needs_reauthorization"):
        await house.token(store)
    waiting = [await house.buys("leaving-shop") for _ in range(2)]
    await house.parks(pixel, 2)
    listed = await house.tidewire("connections", "--shop", "leaving-shop")
    assert listed.code == 1
    assert listed.said.count("connect it again (app_uninstalled)") == 2

    async def accounted() -> bool:
        found = await house.ledger("leaving-shop")
        assert dict(found.total.dead) == {}
        return found.balanced and sum(found.total.in_flight.values()) == 2

    await until(accounted, "the ledger has what waits")
    await house.has_bought("CLEAVING", sent)

    assert await house.connect_store("leaving-shop") == store
    assert await house.connect_pixel("leaving-shop", "CLEAVING", "7000000000000000104") == pixel

    await house.has_bought("CLEAVING", sent + waiting)
    await house.becomes(store, ACTIVE)
    await subscribed(house, "leaving-shop")


async def test_a_token_that_tiktok_ends_stops_its_pixel_alone_until_it_is_connected_again(
    house: House,
) -> None:
    for shop, pixel, advertiser in (
        ("revoked-shop", "CREVOKED", "7000000000000000105"),
        ("calm-shop", "CCALM", "7000000000000000106"),
    ):
        await house.connect_store(shop)
        await house.connect_pixel(shop, pixel, advertiser)
    connection = "revoked-shop.events.CREVOKED"
    ended = await house.metric("auth", metric_names.GRANTS_ENDED)
    subject = {
        "provider": "tiktok-business", "app": TIKTOK_APP, "account": "7000000000000000105"
    }  # fmt: skip
    assert await house.tell("oauth/revoke", subject) == {"revoked": 1}

    waiting = [await house.buys("revoked-shop") for _ in range(3)]
    calm = [await house.buys("calm-shop")]

    await house.becomes(connection, NEEDS_PERSON)
    await house.has_bought("CCALM", calm)
    await house.parks(connection, 3)
    assert await house.metric("auth", metric_names.GRANTS_ENDED) == ended + 1

    async def told() -> bool:
        return await house.told_of(connection) == ["active", "needs_reauthorization"]

    await until(told, "its states were published")
    refused = (await house.granted("tiktok-business", *list(subject.values())[1:]))["calls_dead"]
    # One call finds it out, and whoever was under way with it.
    assert 1 <= sum(refused.values()) <= 4

    await house.connect_pixel("revoked-shop", "CREVOKED", "7000000000000000108")

    await house.has_bought("CREVOKED", waiting)
    assert not await house.is_shut(connection)
    assert "CCALM" in await house.purchases()


async def test_a_service_gets_no_token_of_another_kind_and_the_try_is_counted(
    house: House,
) -> None:
    connection = await house.connect_store("guarded-shop")
    refused = {"method": "tidewire.auth.v1.TokenService/GetToken"}
    before = await house.metric("auth", metric_names.RPC_REFUSED, **refused)

    for name, reason in (
        ("events", "connection_denied"),
        ("delivery", "method_denied"),
        ("operator", "method_denied"),
    ):
        with pytest.raises(ServiceError) as raised:
            await house.token(connection, who=name)
        assert raised.value.code == f"rpc_{reason}"
        assert await house.metric("auth", metric_names.RPC_REFUSED, reason=reason, **refused) >= 1

    assert await house.metric("auth", metric_names.RPC_REFUSED, **refused) == before + 3
    assert (await house.token(connection, who="ingest")).startswith("shpat_")


async def test_the_token_service_may_fall_and_the_others_go_on_from_memory(house: House) -> None:
    await house.connect_store("steady-shop")
    await house.connect_pixel("steady-shop", "CSTEADY", "7000000000000000107")
    sent = [await house.buys("steady-shop")]
    await house.has_bought("CSTEADY", sent)

    await house.stack.kill("auth")
    sent += [await house.buys("steady-shop") for _ in range(2)]
    await house.has_bought("CSTEADY", sent)

    await house.stack.kill("events")
    waiting = [await house.buys("steady-shop")]
    await asyncio.gather(house.stack.restart("auth"), house.stack.start("events"))
    await house.stack.wait_ready("events")

    bought = await house.has_bought("CSTEADY", sent + waiting, perhaps_twice=True)
    assert {f"purchase.{one}" for one in sent + waiting} == set(bought)
    await house.ends_lease("auth.keeper", "auth.shop_keeper", "events.drain")


async def test_two_processes_of_the_token_service_tell_the_same(house: House) -> None:
    await house.stack.start("auth#2")
    await house.stack.wait_ready("auth#2")
    connection = await house.connect_store("double-shop")

    async def known() -> bool:
        try:
            return (await house.status(connection, "auth#2")).connection.state == ACTIVE
        except ServiceError:
            return False

    await until(known, "the other process has heard")
    assert await house.token(connection, "auth") == await house.token(connection, "auth#2")
    old = await house.token(connection, "auth#2")
    await house.rotate(connection, "auth")

    async def renewed() -> bool:
        return await house.token(connection, "auth#2") != old

    await until(renewed, "the other process has the new token")
    assert await house.token(connection, "auth") == await house.token(connection, "auth#2")
    await house.stack.kill("auth#2", signal.SIGTERM)


async def test_nothing_secret_is_in_anything_that_was_written_or_said(house: House) -> None:
    store = await house.connect_store("sealed-shop")
    pixel = await house.connect_pixel("sealed-shop", "CSEALED", "7000000000000000109")
    await house.has_bought("CSEALED", [await house.buys("sealed-shop")])
    await house.rotate(store, "auth")
    await house.posts("sealed-shop", b"no JSON")
    assert pixel in await house.browser.sign_in(house.stack.pages_url, PASSWORD)
    commands = (["connections", "--json"], ["dlq", "list", "--json"], ["ledger", "--json"])
    said = await asyncio.gather(*(house.tidewire(*one) for one in commands))
    assert [store in one.said or "not_json" in one.said for one in said[:2]] == [True, True]

    secrets = await secrets_of(house)
    stack = house.stack
    holders = [stack.kek_file, stack.directory / "certificates"]

    def written() -> list[tuple[str, bytes]]:
        return list(files_below(stack.directory, but=holders))

    places = [*written(), *commands_of(stack), *await shown_by(house)]
    places += [one async for one in messages(house.nats)]
    assert leaks(places, secrets) == []
    # The settings of the token service are its environment, and no other process has them.
    settings = {what for what in secrets if what.startswith("TIDEWIRE_")}
    held = leaks(environments_of(stack), secrets)
    assert {name for name, _ in held} == {"environment of auth"}
    assert settings <= {what for _, what in held}

    # What shows that all this could fail: each kind, in each form, in a file among the others.
    planted = stack.directory / "logs" / "planted.log"
    try:
        for what, secret in secrets.items():
            for form in forms(secret):
                assert leaks([("planted", b"x" + form + b"y")], {what: secret})
        planted.write_bytes(b'{"event": "' + secrets["KEK"].hex().encode() + b'"}')
        assert ("logs/planted.log", "KEK") in leaks(written(), secrets)
    finally:
        planted.unlink()


async def test_no_service_leaves_a_core_dump(house: House) -> None:
    limits = dict(core_limits_of(house.stack))

    assert {"auth", "events"} <= limits.keys()
    assert [one for one in limits.items() if one[1] != ["0", "0"]] == []


async def secrets_of(house: House) -> dict[str, bytes]:
    """Everything that the stack knows and must keep to itself, by what it is."""
    found = await vault_of(house.nats, house.stack.kek_file)
    found["password"] = PASSWORD.encode()
    told = house.stack.environment("auth")
    found |= {k: v.encode() for k, v in told.items() if k.endswith("_SECRET")}
    issued: list[str] = await house.asked("oauth/texts")
    found |= {f"issued {n}": text.encode() for n, text in enumerate(issued)}
    seen = sorted(house.browser.seen)
    found |= {f"of the browser {n}": text.encode() for n, text in enumerate(seen)}
    assert len(issued) > 5
    assert len(seen) > 5
    return {what: secret for what, secret in found.items() if len(secret) >= LEAST_BYTES}


async def shown_by(house: House) -> list[tuple[str, bytes]]:
    """What processes have shown to people and to Prometheus."""
    stack = house.stack
    served = [name for name in stack.processes if name in stack.ports.metrics]
    running = [name for name in served if stack.processes[name].returncode is None]
    found = [(f"metrics of {name}", (await house.metrics(name)).encode()) for name in running]
    found += [(f"command {n}", one.encode()) for n, one in enumerate(house.said)]
    ours = URL(stack.pages_url).origin()
    found += [("page", page.encode()) for url, page in house.browser.pages if url == ours]
    settings = load(Settings, stack.environment("auth"))
    found.append(("settings", f"{settings!r} {settings}".encode()))
    return found
