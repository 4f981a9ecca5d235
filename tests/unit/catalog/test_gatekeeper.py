"""What may be sent to catalogs: pauses, dead tokens, outages, and how each of them ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from nats.aio.client import Client

from libs.bus.commit_log import MemoryLog
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.gates import GateBook, connection_gate
from libs.telemetry import Metrics
from libs.tiktok import return_code
from services.catalog.domain.answers import RefusedError
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.feed_log import CatalogFacts, FeedLog, Review, Submitted
from services.catalog.domain.settings import CatalogSettings
from services.catalog.gatekeeper import SINK, TikTokGatekeeper
from tests.fakes.until import until
from tidewire.delivery.v1 import gate_pb2

UNREACHABLE = ServiceError(Kind.RETRYABLE, "upstream_unreachable")
TIMEOUT = ServiceError(Kind.RETRYABLE, "upstream_timeout")


def code(number: int) -> RefusedError:
    """TikTok's refusal with a code."""
    row = return_code(number)
    kind = row.action.kind
    assert kind is not None
    return RefusedError(kind, number, row.meaning, scope=row.scope)


def catalog(number: int = 1) -> CatalogSettings:
    return CatalogSettings(
        connection_id=f"example.catalog.{number}",
        shop="example",
        catalog_id=str(number),
        business_center_id="6001",
    )


@dataclass
class FakeApi:
    """A TikTok that only says what a catalog is."""

    trouble: ServiceError | None = None
    asked: list[str] = field(default_factory=list)

    async def facts(self, catalog: CatalogSettings) -> CatalogFacts:
        self.asked.append(catalog.catalog_id)
        if self.trouble is not None:
            raise self.trouble
        return CatalogFacts("DE", "EUR", "CLIENT")

    async def submit(self, catalog: CatalogSettings, request: HttpRequest) -> Submitted:
        raise NotImplementedError

    async def feed_log(self, catalog: CatalogSettings, feed_log_id: str) -> FeedLog:
        raise NotImplementedError

    async def reviews(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> Sequence[Review]:
        raise NotImplementedError

    async def bind_event_source(
        self, catalog: CatalogSettings, *, advertiser_id: str, pixel_code: str
    ) -> None:
        raise NotImplementedError


@dataclass
class FixedMarks:
    marks: dict[str, str] = field(default_factory=dict)

    async def mark(self, connection_id: str) -> str:
        return self.marks.get(connection_id, "m1")


class House:
    """A gatekeeper and all that is around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.gates = GateBook(Client(), MemoryLog(), self.clock, Metrics())
        self.api = FakeApi()
        self.marks = FixedMarks()
        self.keeper = TikTokGatekeeper(self.gates, self.marks, self.api, self.clock)

    def held(self, number: int = 1) -> str:
        """Why a catalog is held; empty where it is not."""
        held = self.keeper.may_send(catalog(number))
        return "" if held is None else held.reason

    async def ended(self, error: ServiceError | None, number: int = 1, times: int = 1) -> None:
        for _ in range(times):
            await self.keeper.ended(catalog(number), error)

    async def asked(self, number: int = 1) -> str:
        """Why a catalog is held once the gatekeeper has asked TikTok, if it wants to."""
        self.held(number)
        await self.keeper.ask_for_all()
        await self.keeper.ask_each()
        return self.held(number)

    async def asked_later(self, by_s: float, number: int = 1) -> str:
        self.clock.advance(by_s)
        return await self.asked(number)


# -- a person ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [SINK, connection_gate("example.catalog.1")])
async def test_what_a_person_shuts_only_a_person_opens(gate: str) -> None:
    house = House()
    await house.gates.close(gate, gate_pb2.GATE_REASON_OPERATOR, note="stock take")

    held = house.keeper.may_send(catalog())
    await house.ended(None)

    assert held is not None
    assert (held.reason, held.note) == ("operator", "stock take")
    assert await house.asked_later(3600) == "operator"
    assert house.api.asked == []
    await house.gates.reopen(gate, by_operator=True)
    assert house.held() == ""


async def test_a_pause_of_one_catalog_is_none_of_another() -> None:
    house = House()
    await house.gates.close(connection_gate("example.catalog.1"), gate_pb2.GATE_REASON_OPERATOR)

    assert (house.held(1), house.held(2)) == ("operator", "")


# -- tokens --------------------------------------------------------------------------------------


async def test_a_dead_token_holds_its_catalog_and_no_other() -> None:
    house = House()
    await house.ended(code(40105), 1)

    held = house.keeper.may_send(catalog(1))

    assert held is not None
    assert held.reason == "credentials"
    assert "connect the TikTok account again" in held.note
    assert house.held(2) == ""


async def test_a_new_token_opens_at_once_and_without_asking() -> None:
    house = House()
    await house.ended(code(40105))
    house.marks.marks["example.catalog.1"] = "m2"

    assert await house.asked() == ""
    assert house.api.asked == []


async def test_the_same_token_opens_once_tiktok_takes_it_again() -> None:
    house = House()
    await house.ended(code(40105))
    house.api.trouble = code(40105)
    still = await house.asked_later(1)
    house.api.trouble = None

    assert (still, await house.asked_later(20)) == ("credentials", "")


async def test_a_token_that_is_missing_is_not_asked_with() -> None:
    house = House()
    house.marks.marks["example.catalog.1"] = ""
    await house.ended(ServiceError(Kind.AUTH, "access_token_missing"))

    assert await house.asked_later(60) == "credentials"
    assert house.api.asked == []
    house.marks.marks["example.catalog.1"] = "m2"
    assert await house.asked() == ""


async def test_a_right_to_write_that_is_missing_is_not_tried_every_second() -> None:
    house = House()
    writes_at: list[float] = []
    for second in range(1200):
        if await house.asked_later(1) == "":
            writes_at.append(second)
            await house.ended(code(40001))

    gaps = [later - sooner for sooner, later in itertools.pairwise(writes_at)]
    assert len(writes_at) < 9
    assert all(sooner <= later + 20 for sooner, later in itertools.pairwise(gaps))
    assert max(gaps) <= 330
    held = house.keeper.may_send(catalog())
    assert held is not None
    assert "Catalog Management" in held.note


async def test_a_write_that_works_ends_the_growing_of_the_waits() -> None:
    house = House()
    for _ in range(6):
        await house.ended(code(40001))
    await house.ended(None)
    await house.ended(code(40001))

    found = [await house.asked_later(1) for _ in range(45)]

    assert found[-1] == ""


async def test_a_write_that_works_opens_its_catalog() -> None:
    house = House()
    await house.ended(code(40001))
    await house.ended(None)

    assert house.held() == ""


async def test_an_app_that_is_refused_holds_all_catalogs() -> None:
    house = House()
    await house.ended(code(40113), 1)

    assert (house.held(1), house.held(2)) == ("outage", "outage")


# -- outages -------------------------------------------------------------------------------------


async def test_a_host_that_nobody_reaches_holds_all_catalogs() -> None:
    house = House()
    await house.ended(UNREACHABLE, times=4)
    before = house.held()
    await house.ended(UNREACHABLE)

    assert (before, house.held(1), house.held(2)) == ("", "outage", "outage")


@pytest.mark.parametrize("error", [TIMEOUT, code(50000), code(50002)], ids=str)
async def test_silence_towards_one_catalog_is_its_own(error: ServiceError) -> None:
    house = House()
    await house.ended(error, 1, times=3)

    assert (house.held(1), house.held(2)) == ("outage", "")


@pytest.mark.parametrize("error", [TIMEOUT, code(50000)], ids=str)
async def test_silence_towards_several_is_an_outage(error: ServiceError) -> None:
    house = House()
    for number in (1, 2, 3, 1, 2):
        await house.ended(error, number)

    assert house.held(9) == "outage"


@pytest.mark.parametrize(
    "error",
    [
        code(40002),
        code(40100),
        code(40201),
        ServiceError(Kind.RETRYABLE, "submit_unconfirmed"),
        ServiceError(Kind.THROTTLED, "limit_busy"),
        ServiceError(Kind.RETRYABLE, "upstream_budget_spent"),
        ServiceError(Kind.PERMANENT, "limit_undeclared"),
    ],
    ids=str,
)
async def test_what_tiktok_answers_for_one_submit_holds_nobody(error: ServiceError) -> None:
    house = House()
    for number in (1, 2, 3) * 5:
        await house.ended(error, number)

    assert house.held() == ""


async def test_a_success_between_failures_shows_that_tiktok_works() -> None:
    house = House()
    for _ in range(4):
        await house.ended(UNREACHABLE, 1, times=4)
        await house.ended(None, 2)

    assert house.held() == ""


@pytest.mark.parametrize("answer", [None, code(40105), code(40007)], ids=str)
async def test_any_answer_of_tiktoks_own_ends_an_outage(answer: ServiceError | None) -> None:
    house = House()
    await house.ended(UNREACHABLE, times=5)
    house.api.trouble = answer

    assert await house.asked_later(1) == ""


@pytest.mark.parametrize(
    "answer",
    [UNREACHABLE, code(50002), code(40100), ServiceError(Kind.AUTH, "access_token_missing")],
    ids=str,
)
async def test_an_outage_goes_on_while_nothing_answers(answer: ServiceError) -> None:
    house = House()
    await house.ended(UNREACHABLE, times=5)
    house.api.trouble = answer

    assert await house.asked_later(1) == "outage"
    assert await house.asked() == "outage"
    assert len(house.api.asked) == 1


async def test_all_catalogs_are_at_full_speed_soon_after_an_outage() -> None:
    house = House()
    for number in range(5):
        await house.ended(UNREACHABLE, number)
    house.api.trouble = UNREACHABLE
    asks_at: list[int] = []
    free_at = 0
    for second in range(400):
        if second == 300:
            house.api.trouble = None
        house.clock.advance(1)
        free = [number for number in range(20) if not house.held(number)]
        if len(free) == 20:
            free_at = second
            break
        await house.keeper.ask_for_all()
        asks_at.extend([second] * (len(house.api.asked) - len(asks_at)))

    late = [at for at in asks_at if 60 < at < 300]
    assert 300 < free_at <= 311
    assert min(later - sooner for sooner, later in itertools.pairwise(late)) >= 10


async def test_who_asks_and_does_not_send_takes_no_try_from_others() -> None:
    house = House()
    await house.ended(UNREACHABLE, times=5)
    house.clock.advance(1)
    for _ in range(10):
        house.held(7)

    assert await house.asked(1) == ""


async def test_what_another_replica_has_just_asked_is_not_asked_again() -> None:
    house = House()
    await house.ended(UNREACHABLE, times=5)
    house.clock.advance(1)
    house.held()
    await house.gates.probe_failed(SINK)
    await house.keeper.ask_for_all()

    assert house.api.asked == []


async def test_nobody_is_asked_while_nobody_waits() -> None:
    house = House()
    await house.ended(UNREACHABLE, times=5)
    house.clock.advance(60)
    await house.keeper.ask_for_all()

    assert house.api.asked == []


async def test_as_a_part_it_asks_by_itself_and_ends_when_told() -> None:
    house = House()
    running = asyncio.create_task(house.keeper.run(lambda: None))
    await house.ended(UNREACHABLE, 1, times=5)
    await house.ended(code(40105), 2)
    house.clock.advance(1)

    await until(lambda: not house.held(1))
    house.clock.advance(20)
    await until(lambda: not house.held(2))
    house.keeper.stop()
    await running

    assert house.api.asked == ["1", "2"]
