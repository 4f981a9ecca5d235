"""The normalizer and its commit protocol on a real nats-server."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from random import Random

import aiohttp
import pytest

from libs.bus import subjects
from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.sealing import DataKey, unseal
from services.ingest.batch import BatchProcessor, ReadDelivery
from services.ingest.parked import ParkedDeliveries
from services.ingest.work import Job
from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import (
    OTHER,
    SECRETS,
    SHOP,
    STRANGER,
    Door,
    HookedLog,
    Suite,
    door_of,
    eventually,
    job_of,
    opened_order,
    order_body,
    running,
    signature,
    write_connections,
)
from tidewire.commerce.v1 import fact_pb2, record_pb2

# -- the server goes away ------------------------------------------------------------------------


async def test_nats_may_be_killed_in_the_middle(suite: Suite, nats_server: NatsServer) -> None:
    deliveries = await suite.orders(400)
    for start in range(0, 400, 20):
        await suite.store(deliveries[start : start + 20])

    async with running(suite.normalizer()):

        async def begun() -> bool:
            return len(await suite.seen()) > 0

        await eventually(begun, "something is committed")
        nats_server.kill()
        nats_server.start()
        await eventually(suite.all_acknowledged, "every segment is acknowledged")

    assert len(await suite.seen()) == 400
    assert len(await suite.facts()) == 400
    assert await suite.overwritten() == 0


# -- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"", b"\x5a\x01x"], ids=["bytes", "empty", "another message"]
)
async def test_a_segment_that_nobody_can_read_is_buried_and_its_neighbours_are_not(
    suite: Suite, data: bytes
) -> None:
    before, after = await suite.orders(2)
    await suite.store([before])
    await suite.store_bytes(data)
    await suite.store([after])

    async with running(suite.normalizer()):
        await eventually(suite.all_acknowledged, "every segment is acknowledged")

    (letter,) = await suite.dead_letters()
    assert (letter.code, letter.original.data) == ("segment_unreadable", data)
    assert set(await suite.seen()) == {"w1", "w2"}
    assert len(await suite.facts()) == 2


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"<html>we are moving</html>", "not_json", "$"),
        (b"", "not_json", "$"),
        (b"\xff\xfe{}", "not_utf8", "$"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep", "$"),
        (b"null", "not_an_object", "$"),
        (order_body(id=None, admin_graphql_api_id=None), "wrong_shape", "$.id"),
    ],
    ids=["html", "empty", "not utf-8", "nested", "null", "no id"],
)
async def test_a_body_that_nobody_can_read_is_buried_with_its_path_and_loses_no_neighbour(
    suite: Suite, body: bytes, code: str, path: str
) -> None:
    before, after = await suite.orders(2)
    bad = await suite.delivery("bad", body)
    await suite.store([before, bad, after])

    async with running(suite.normalizer()):
        await eventually(suite.all_acknowledged, "the segment is acknowledged")

    (letter,) = await suite.dead_letters()
    seen = await suite.seen()
    assert (letter.code, letter.path, letter.delivery_id) == (code, path, "bad")
    assert await suite.vault.open_bytes(letter.original, SHOP) == body
    assert (seen["bad"].result, seen["bad"].reason) == (record_pb2.SEEN_RESULT_DEAD, code)
    assert len(await suite.facts()) == 2


# -- unknown shops -------------------------------------------------------------------------------


async def send_order(door: Door, shop: str) -> int:
    """The answer to an order `w1` that claims to be of `shop`, signed with the secret of `SHOP`."""
    body = order_body()
    headers = {
        "X-Shopify-Topic": "orders/paid",
        "X-Shopify-Shop-Domain": f"{shop}.myshopify.com",
        "X-Shopify-Webhook-Id": "w1",
        "X-Shopify-Hmac-Sha256": signature(body),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(door.url, data=body, headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    ("own_secret", "code"), [(SECRETS[SHOP][0], ""), ("its-own", "signed_for_another_shop")]
)
async def test_an_unknown_shop_is_parked_until_the_connections_have_it(
    suite: Suite, own_secret: str, code: str
) -> None:
    """Once known, its own secret decides whether what came before was really its own."""
    (neighbour,) = await suite.orders(1, first=2)
    async with door_of(suite) as door:
        assert (await send_order(door, STRANGER)) == 200
    await suite.store([neighbour])
    normalizer = suite.normalizer()
    parking = ParkedDeliveries(suite.nats, suite.connections, normalizer, SystemClock())

    async with running(normalizer), running(parking):
        await eventually(suite.all_acknowledged, "the segment is acknowledged")
        waiting = [one.delivery_id for one in await suite.parked()]
        before = set(await suite.seen())
        write_connections(suite.connections_file, {**SECRETS, STRANGER: (own_secret,)})
        await suite.connections.refresh()

        async def taken_up() -> bool:
            return await suite.parked() == []

        await eventually(taken_up, "the parked delivery is taken up")

    assert (waiting, before) == (["w1"], {"w2"})
    seen = await suite.seen()
    assert set(seen) == {"w1", "w2"}
    assert seen["w1"].reason == code
    assert [letter.code for letter in await suite.dead_letters()] == ([code] if code else [])
    assert len(await suite.facts()) == (1 if code else 2)


# -- when a segment is done, and how large a batch may be ------------------------------------------


class HeldProcessor(BatchProcessor):
    """Commits nothing of one shop until it is told to let go."""

    let_go: asyncio.Event

    async def commit(self, read: Sequence[ReadDelivery]) -> list[Job]:
        if any(one.prepared.delivery.shop == OTHER for one in read):
            await self.let_go.wait()
        return await super().commit(read)


async def test_a_segment_is_acknowledged_only_when_all_its_deliveries_are_settled(
    suite: Suite,
) -> None:
    (quick,), (slow,) = await suite.orders(1), await suite.orders(1, shop=OTHER, first=2)
    processor = suite.processor(kind=HeldProcessor)
    assert isinstance(processor, HeldProcessor)
    processor.let_go = asyncio.Event()
    await suite.store([quick, slow])
    normalizer = suite.normalizer(processor, batch_deliveries=1)

    async with running(normalizer):

        async def quick_is_settled() -> bool:
            return "w1" in await suite.seen() and normalizer.in_hand <= 1

        await eventually(quick_is_settled, "one of the two is settled")
        held = await suite.unacknowledged()
        processor.let_go.set()
        await eventually(suite.all_acknowledged, "the segment is acknowledged")

    assert held == 1
    assert set(await suite.seen()) == {"w1", "w2"}


async def test_what_is_too_much_for_one_batch_is_committed_in_several(suite: Suite) -> None:
    jobs = [job_of(delivery) for delivery in await suite.orders(400)]
    log = HookedLog(suite.log)

    await suite.processor(log).process(jobs)

    assert max(log.sizes) <= 500
    assert sum(log.sizes) > 1000
    assert len(await suite.seen()) == 400
    assert len(await suite.facts()) == 400


async def test_one_delivery_may_be_larger_than_a_batch_and_holds_up_nobody(suite: Suite) -> None:
    """Text that does not compress, of nearly the size that the door lets in."""
    noise = b64encode(Random(1).randbytes(4_400_000)).decode()
    large = await suite.delivery(
        "large", order_body(note_attributes=[{"name": "x", "value": noise}])
    )
    before, after = await suite.orders(2)
    await suite.store([before])
    await suite.store([large])
    await suite.store([after])

    async with running(suite.normalizer()):
        await eventually(suite.all_acknowledged, "every segment is acknowledged")

    assert set(await suite.seen()) == {"w1", "large", "w2"}
    assert len(await suite.facts()) == 3
    order = await opened_order(suite, "1001")
    assert [one.value for one in order.note_attributes] == [noise]


# -- what lies on the disk -----------------------------------------------------------------------

SECRET_TEXTS = (b"grace.hopper@example.com", b"2025550187", b"Hopper", b"77 Hidden Lane")


async def test_nobody_is_named_in_clear_on_the_disk(suite: Suite, nats_server: NatsServer) -> None:
    person = {"first_name": "Grace", "last_name": "Hopper", "phone": "+12025550187"}
    body = order_body(
        email="grace.hopper@example.com",
        contact_email="grace.hopper@example.com",
        phone="+12025550187",
        customer={"id": 77, "email": "grace.hopper@example.com", **person},
        shipping_address={**person, "address1": "77 Hidden Lane", "country_code": "US"},
        billing_address=None,
    )
    deliveries = [
        await suite.delivery("good", body),
        await suite.delivery("dead", body[:-1]),
        await suite.delivery("parked", body, shop=STRANGER),
    ]
    await suite.store(deliveries)
    async with running(suite.normalizer()):
        await eventually(suite.all_acknowledged, "the segment is acknowledged")

    on_disk = b"".join(path.read_bytes() for path in nats_server.store_dir.rglob("*.blk"))
    assert STRANGER.encode() in on_disk, "what is in clear is found: the search works"
    assert [text for text in SECRET_TEXTS if text in on_disk] == []
    assert len(await suite.dead_letters()) == len(await suite.parked()) == 1


async def test_what_is_stored_opens_with_its_shops_key_and_with_no_other(suite: Suite) -> None:
    (delivery,) = await suite.orders(1)
    await suite.processor().process([job_of(delivery)])
    state = await suite.state("order", "1")
    (stored,) = await suite.stored(subjects.COMMERCE, "commerce.fact.order_paid.>")
    fact = record_pb2.FactRecord.FromString(stored.data)
    stranger = DataKey("any", bytes(32))

    paid = fact_pb2.Fact.FromString(await suite.vault.open_bytes(fact.payload, SHOP)).order_paid
    assert paid.order.email == (await opened_order(suite, "1")).email == "ada@example.com"
    for payload in (state.payload, fact.payload):
        assert payload.key_id
        with pytest.raises(ServiceError, match="unsealing_failed"):
            unseal(payload, lambda _: stranger, associated=SHOP.encode())
        with pytest.raises(ServiceError):
            await suite.vault.open_bytes(payload, OTHER)
