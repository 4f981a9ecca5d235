"""The TikTok adapter against the sandbox and its faults: what each answer amounts to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
import pytest

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.http.session import http_session
from libs.telemetry import Metrics
from sandbox.tiktok.app import TikTokSandbox
from sandbox.tiktok.config import Grant, SandboxConfig
from services.events.adapters.tiktok import TikTokEvents
from services.events.domain.answers import Answered, Meaning, RefusedError, scope_of
from services.events.domain.dialects import dialect_of
from services.events.domain.model import MatchKeys, Page
from services.events.domain.settings import DialectName
from tests.fakes.answering import TOKEN, OneToken, off_a_socket
from tests.unit.events_service.answer_shapes import SHAPES, Shape
from tests.unit.events_service.fakes import conversion, pixel

_PAGE: Final = Page("https://shop.example/")


class Bench:
    """The adapter, and the sandbox it talks to."""

    def __init__(self, tiktok: TikTokSandbox, api: TikTokEvents, token: OneToken) -> None:
        self.tiktok = tiktok
        self.token = token
        self._api = api

    async def send(
        self, *, dialect: DialectName = DialectName.EVENT_TRACK, match: MatchKeys | None = None
    ) -> Answered:
        to = pixel(dialect=dialect)
        event = conversion("e1", page=_PAGE, match=match or MatchKeys(ip="84.17.33.9"))
        [request] = dialect_of(dialect).encode([event], to.settings)
        return await self._api.send(request, to.connection_id, {})

    def fault(self, **effect: object) -> None:
        self.tiktok.faults.post(msgspec.json.encode([{"effect": effect, "times": 1}]), 0.0)

    async def failure(self) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            await self.send()
        return caught.value


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    config = SandboxConfig(tokens={TOKEN: Grant(pixels=frozenset({"C1"}))}, quote_values=True)
    tiktok = TikTokSandbox(config, SystemClock())
    url = await tiktok.start()
    async with http_session() as session:
        token = OneToken()
        api = TikTokEvents(url, session, token, SystemClock(), Metrics(), timeout_s=1.0)
        yield Bench(tiktok, api, token)
    await tiktok.stop()


@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        (permanent("connection_unknown", "there is no grant"), Kind.AUTH, "connection_missing"),
        (ServiceError(Kind.AUTH, "access_token_missing"), Kind.AUTH, "access_token_missing"),
        (ServiceError(Kind.RETRYABLE, "rpc_unavailable"), Kind.RETRYABLE, "rpc_unavailable"),
    ],
)
async def test_a_token_that_is_not_to_be_had_is_no_fault_of_an_event(
    bench: Bench, trouble: ServiceError, kind: Kind, code: str
) -> None:
    bench.token.trouble = trouble

    failure = await bench.failure()

    assert (failure.kind, failure.code, scope_of(failure)) == (kind, code, None)


@pytest.mark.parametrize("dialect", list(DialectName))
async def test_each_dialect_is_accepted(bench: Bench, dialect: DialectName) -> None:
    answer = await bench.send(dialect=dialect)

    assert (answer.meaning, answer.code) == (Meaning.DELIVERED, 0)
    assert answer.request_id


@pytest.mark.parametrize(
    ("effect", "kind"),
    [
        ({"kind": "http_status", "status": 429}, Kind.THROTTLED),
        ({"kind": "http_status", "status": 503}, Kind.RETRYABLE),
        ({"kind": "http_status", "status": 401}, Kind.AUTH),
        ({"kind": "code", "code": 40100}, Kind.THROTTLED),
        ({"kind": "code", "code": 40002}, Kind.PERMANENT),
        ({"kind": "code", "code": 50000}, Kind.RETRYABLE),
        ({"kind": "expired_token"}, Kind.AUTH),
        ({"kind": "truncate"}, Kind.RETRYABLE),
        ({"kind": "reset"}, Kind.RETRYABLE),
        ({"kind": "hang"}, Kind.RETRYABLE),
        ({"kind": "accept_then_timeout"}, Kind.RETRYABLE),
        ({"kind": "empty_body"}, Kind.RETRYABLE),
        *(
            ({"kind": "malformed", "form": form}, Kind.RETRYABLE)
            for form in ("not_json", "array", "no_code", "code_as_string", "null", "html")
        ),
    ],
)
async def test_no_fault_passes_for_a_delivery(
    bench: Bench, effect: dict[str, object], kind: Kind
) -> None:
    bench.fault(**effect)

    assert (await bench.failure()).kind is kind


@pytest.mark.parametrize("code", [40102, 40105])
async def test_a_token_that_is_refused_as_dead_is_reported(bench: Bench, code: int) -> None:
    bench.fault(kind="code", code=code)

    assert (await bench.failure()).kind is Kind.AUTH
    assert bench.token.reported == [TOKEN]


@pytest.mark.parametrize(
    "effect",
    [
        *({"kind": "code", "code": code} for code in (40001, 40002, 40100, 40104, 40110, 50000)),
        {"kind": "http_status", "status": 401},
        {"kind": "http_status", "status": 403},
        {"kind": "http_status", "status": 503},
        {"kind": "reset"},
    ],
)
async def test_another_failure_says_nothing_of_the_token(
    bench: Bench, effect: dict[str, object]
) -> None:
    bench.fault(**effect)
    await bench.failure()

    assert bench.token.reported == []


async def test_a_fault_is_met_once_and_the_next_request_is_accepted(bench: Bench) -> None:
    bench.fault(kind="reset")
    await bench.failure()

    assert (await bench.send()).code == 0


async def test_a_refusal_that_quotes_a_person_is_kept_without_the_quotation(bench: Bench) -> None:
    with pytest.raises(RefusedError) as caught:
        await bench.send(match=MatchKeys(emails=("alice.smith@example.com",), ip="84.17.33.9"))

    error = caught.value
    assert (error.kind, error.upstream_code, error.at) == (Kind.PERMANENT, 40062, 0)
    assert "alice" not in f"{error} {error!r} {error.message} {error.path}"


async def test_nobody_listening_is_retryable(bench: Bench) -> None:
    await bench.tiktok.stop()

    assert (await bench.failure()).kind is Kind.RETRYABLE


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_every_shape_means_the_same_off_a_socket(shape: Shape) -> None:
    assert await off_a_socket(shape) == shape.verdict
