"""Tokens in memory, over a real channel to a service that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from libs.auth.tokens import TokenCache
from libs.clock import FakeClock, SystemClock
from libs.errors import Kind, ServiceError
from libs.lifecycle import Readiness
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address, Secret
from tests.fakes import callers
from tests.fakes.until import until
from tidewire.auth.v1 import token_service_pb2 as pb
from tidewire.auth.v1 import token_service_pb2_grpc

ID: Final = "example.events.C1"
LIFE_S: Final = 1000.0
DOWN: Final = ServiceError(Kind.RETRYABLE, "down")
ENDED: Final = ServiceError(Kind.AUTH, "needs_reauthorization")


class Service(token_service_pb2_grpc.TokenServiceServicer):
    """Hands out `token-<revision>`, good for 1,000 s, to be used for 900 of them."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.revision = 1
        self.asked = 0
        self.expires = True
        self.trouble: ServiceError | None = None
        self.state = pb.TOKEN_STATE_USABLE
        self.reports: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def GetToken(self, request: Any, context: Any) -> pb.GetTokenResponse:  # noqa: N802
        self.asked += 1
        revision = self.revision
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        token = pb.Token(
            connection_id=request.connection_id,
            access_token=f"token-{revision}",
            revision=revision,
        )
        if self.expires:
            now_ns = self.clock.now_ns()
            token.expires_at.FromNanoseconds(now_ns + int(LIFE_S * 1e9))
            token.use_until.FromNanoseconds(now_ns + int(0.9 * LIFE_S * 1e9))
        return pb.GetTokenResponse(token=token)

    async def ReportInvalid(self, request: Any, context: Any) -> pb.ReportInvalidResponse:  # noqa: N802
        self.reports.append(request.revision)
        if self.trouble is not None:
            raise self.trouble
        return pb.ReportInvalidResponse(state=self.state, revision=self.revision)


class Bench:
    def __init__(self, service: Service, cache: TokenCache, clock: FakeClock) -> None:
        self.service, self.cache, self.clock = service, cache, clock

    async def token(self) -> str:
        return (await self.cache.access_token(ID)).reveal()

    async def until_asked(self, times: int) -> None:
        await until(lambda: self.service.asked >= times)

    def told(self, revision: int, *, usable: bool = True) -> None:
        state = pb.TOKEN_STATE_USABLE if usable else pb.TOKEN_STATE_NEEDS_REAUTHORIZATION
        self.cache.changed(pb.WatchTokensResponse(connection_id=ID, revision=revision, state=state))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = FakeClock()
    service = Service(clock)  # type: ignore[abstract]  # nobody calls the rest
    ready = asyncio.Event()
    added = RpcService(
        "tidewire.auth.v1.TokenService",
        lambda server: token_service_pb2_grpc.add_TokenServiceServicer_to_server(service, server),
    )
    server = RpcServer(
        address=Address("127.0.0.1", 0),
        services=[added],
        guard=callers.guard(),
        readiness=Readiness(),
        clock=SystemClock(),
    )
    running = asyncio.create_task(server.run(ready.set))
    await ready.wait()
    async with callers.channel_to(server.port, "events") as opened:
        yield Bench(service, TokenCache(opened, clock), clock)
    server.stop()
    await running


async def test_a_hundred_readers_at_once_cost_one_call_and_later_ones_none(bench: Bench) -> None:
    first = await asyncio.gather(*(bench.token() for _ in range(100)))
    later = [await bench.token() for _ in range(10)]

    assert {*first, *later} == {"token-1"}
    assert bench.service.asked == 1


async def test_a_reader_that_hangs_up_leaves_the_answer_to_the_others(bench: Bench) -> None:
    bench.service.open.clear()
    impatient = asyncio.create_task(bench.token())
    patient = asyncio.create_task(bench.token())
    await bench.until_asked(1)

    impatient.cancel()
    bench.service.open.set()

    assert await patient == "token-1"
    assert bench.service.asked == 1


async def test_a_token_is_asked_for_in_the_background_when_a_tenth_of_its_time_is_left(
    bench: Bench,
) -> None:
    await bench.token()
    bench.service.revision = 2
    bench.clock.advance(0.9 * 0.9 * LIFE_S - 1)
    before = [await bench.token() for _ in range(3)]
    asked_before = bench.service.asked
    bench.service.open.clear()
    bench.clock.advance(2)

    early = [await bench.token() for _ in range(3)]
    await bench.until_asked(2)
    bench.service.open.set()
    await until(lambda: not bench.cache.asks(ID))

    assert (before, asked_before, early) == (["token-1"] * 3, 1, ["token-1"] * 3)
    assert (await bench.token(), bench.service.asked) == ("token-2", 2)


async def test_a_token_is_not_used_beyond_its_time(bench: Bench) -> None:
    await bench.token()
    bench.service.revision = 2
    bench.clock.advance(0.9 * LIFE_S)

    assert await bench.token() == "token-2"


async def test_a_token_without_expiry_is_asked_for_once(bench: Bench) -> None:
    bench.service.expires = False
    await bench.token()
    bench.clock.advance(1e8)

    assert await bench.token() == "token-1"
    assert bench.service.asked == 1


async def test_what_is_told_of_a_newer_token_drops_the_older(bench: Bench) -> None:
    await bench.token()
    bench.told(1)
    same = await bench.token(), bench.service.asked
    bench.service.revision = 2
    bench.told(2)

    assert (same, await bench.token()) == (("token-1", 1), "token-2")


async def test_what_is_told_of_a_dead_token_drops_it(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = ENDED
    bench.told(1, usable=False)

    with pytest.raises(ServiceError) as refused:
        await bench.token()

    assert (refused.value.kind, refused.value.code) == (Kind.AUTH, ENDED.code)


async def test_an_answer_that_a_change_has_overtaken_is_asked_for_again(bench: Bench) -> None:
    bench.service.open.clear()
    asked = asyncio.create_task(bench.token())
    await bench.until_asked(1)
    bench.service.revision = 2
    bench.told(2)
    bench.service.open.set()

    assert await asked == "token-2"
    assert (await bench.token(), bench.service.asked) == ("token-2", 2)


async def test_an_answer_from_before_the_watch_broke_is_asked_for_again(bench: Bench) -> None:
    bench.service.open.clear()
    asked = asyncio.create_task(bench.token())
    await bench.until_asked(1)
    bench.service.revision = 2
    bench.cache.doubt()
    bench.service.open.set()

    assert await asked == "token-2"


@pytest.mark.parametrize("told", [{"revision": 2}, {"revision": 1, "usable": False}])
async def test_a_replica_that_lags_for_good_is_believed_each_time_anew(
    bench: Bench, told: dict[str, Any]
) -> None:
    bench.told(**told)

    tokens = [await bench.token() for _ in range(2)]

    assert tokens == ["token-1", "token-1"]
    assert bench.service.asked == 10
    assert sum(bench.clock.slept_s) == pytest.approx(0.8)


async def test_a_token_that_died_under_way_is_not_kept(bench: Bench) -> None:
    bench.service.open.clear()
    asked = asyncio.create_task(bench.token())
    await bench.until_asked(1)
    bench.told(1, usable=False)
    bench.service.trouble = ENDED
    bench.service.open.set()

    with pytest.raises(ServiceError, match=ENDED.code):
        await asked


async def test_after_a_doubt_every_token_is_asked_for_again(bench: Bench) -> None:
    await bench.token()
    bench.service.revision = 2
    bench.cache.doubt()

    assert await bench.token() == "token-2"


async def test_a_doubtful_token_is_used_while_nobody_answers(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = DOWN
    bench.cache.doubt()

    tokens = [await bench.token() for _ in range(5)]

    assert (tokens, bench.service.asked) == (["token-1"] * 5, 2)


async def test_a_token_is_used_until_it_expires_while_nobody_answers(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = DOWN
    bench.clock.advance(0.95 * LIFE_S)
    tokens = [await bench.token() for _ in range(5)]
    asked = bench.service.asked
    bench.clock.advance(0.05 * LIFE_S - 0.5)

    with pytest.raises(ServiceError) as away:
        await bench.token()

    assert (tokens, asked) == (["token-1"] * 5, 2)
    assert away.value.kind is Kind.RETRYABLE


async def test_once_the_service_answers_again_its_word_counts(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = DOWN
    bench.clock.advance(0.95 * LIFE_S)
    await bench.token()
    bench.service.trouble, bench.service.revision = None, 2
    bench.clock.advance(1.1)

    assert await bench.token() == "token-2"


async def test_a_dead_grant_is_not_papered_over_with_the_old_token(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = ENDED
    bench.cache.doubt()

    with pytest.raises(ServiceError, match=ENDED.code):
        await bench.token()
    bench.service.trouble = DOWN
    bench.clock.advance(30.1)

    with pytest.raises(ServiceError, match=DOWN.code):
        await bench.token()


async def test_who_waits_for_a_person_asks_once_until_one_has_come(bench: Bench) -> None:
    bench.service.trouble = ENDED
    for _ in range(10):
        with pytest.raises(ServiceError, match=ENDED.code):
            await bench.token()
    assert bench.service.asked == 1

    bench.service.trouble = None
    bench.told(1)

    assert await bench.token() == "token-1"


async def test_an_end_that_is_told_late_is_asked_about_again(bench: Bench) -> None:
    bench.told(2)
    bench.service.trouble = ENDED
    with pytest.raises(ServiceError, match=ENDED.code):
        await bench.token()
    bench.service.trouble, bench.service.revision = None, 2

    assert await bench.token() == "token-2"


async def test_in_the_background_a_silent_service_is_asked_once_a_second(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = DOWN
    bench.clock.advance(0.85 * LIFE_S)
    await bench.token()
    await bench.until_asked(2)
    await until(lambda: not bench.cache.asks(ID))
    for _ in range(20):
        await bench.token()
        await asyncio.sleep(0)
    asked = bench.service.asked
    bench.clock.advance(1.1)
    await bench.token()
    await bench.until_asked(3)

    assert asked == 2


async def test_a_refused_token_is_reported_once_and_asked_for_anew(bench: Bench) -> None:
    await bench.token()
    bench.service.revision = 2

    for _ in range(3):
        await bench.cache.refused(ID, Secret("token-1"))

    assert bench.service.reports == [1]
    assert await bench.token() == "token-2"


async def test_a_refused_token_that_the_service_still_believes_in_is_given_again(
    bench: Bench,
) -> None:
    await bench.token()
    await bench.cache.refused(ID, Secret("token-1"))

    assert (await bench.token(), await bench.token()) == ("token-1", "token-1")
    assert bench.service.asked == 2


async def test_an_older_token_that_is_refused_says_nothing_of_the_present_one(bench: Bench) -> None:
    await bench.token()

    await bench.cache.refused(ID, Secret("token-0"))
    await bench.cache.refused("example.events.C2", Secret("token-1"))

    assert bench.service.reports == []
    assert (await bench.token(), bench.service.asked) == ("token-1", 1)


async def test_who_reports_to_a_silent_service_is_spared_its_error(bench: Bench) -> None:
    await bench.token()
    bench.service.trouble = DOWN
    await bench.cache.refused(ID, Secret("token-1"))
    bench.service.trouble = None

    assert (await bench.token(), await bench.token()) == ("token-1", "token-1")
    assert bench.service.asked == 2


async def test_the_whole_token_comes_from_memory_too(bench: Bench) -> None:
    tokens = [await bench.cache.signed_by(ID) for _ in range(3)]

    assert [token.revision for token in tokens] == [1, 1, 1]
    assert bench.service.asked == 1


async def test_a_cache_shows_no_token_when_it_is_printed(bench: Bench) -> None:
    await bench.token()

    assert "token-1" not in f"{vars(bench.cache)}"
