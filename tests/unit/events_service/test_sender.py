"""Sending: one result for each conversion, whatever became of the requests."""

from __future__ import annotations

import random

import pytest

from libs import metric_names
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.telemetry import Metrics, SpanRef, Telemetry
from services.events.domain.answers import Answered, RefusedError
from services.events.domain.model import Conversion, Source
from services.events.domain.settings import DialectName
from services.events.ports import Pixel
from services.events.sender import Errand, Outgoing
from services.events.shares import Sent
from tests.unit.events_service.fakes import (
    DOWN,
    REVOKED,
    SHOP,
    THROTTLED,
    TIMEOUT,
    FakeTikTok,
    conversion,
    pixel,
    refusal,
    sender_of,
)

FOLLOWED = SpanRef(7, 8, sampled=True)
PLAIN = SpanRef(9, 10, sampled=False)


async def send(
    tiktok: FakeTikTok,
    conversions: list[Conversion],
    to: Pixel | None = None,
    *,
    telemetry: Telemetry | None = None,
    trace: SpanRef = PLAIN,
) -> list[Sent]:
    telemetry = telemetry or Telemetry.null()
    errand = Errand(to or pixel(), SHOP)
    return await sender_of(tiktok, telemetry).send(
        errand, [Outgoing(one, trace) for one in conversions]
    )


def events(count: int) -> list[Conversion]:
    return [conversion(f"e{number}") for number in range(count)]


def said(results: list[Sent]) -> list[str]:
    return ["ok" if isinstance(one, Answered) else one.code for one in results]


def total(metrics: Metrics, name: str) -> int:
    found = (series for known, _, series in metrics.series() if known == name)
    return sum(one.value for series in found for _, one in series)  # type: ignore[union-attr,misc]


async def test_a_named_event_is_isolated_in_three_requests() -> None:
    tiktok = FakeTikTok(bad=frozenset({"e417"}), named=True)

    results = await send(tiktok, events(1000))

    assert [n for n, one in enumerate(results) if not isinstance(one, Answered)] == [417]
    assert [len(request.conversions) for request in tiktok.requests] == [1000, 1, 999]


@pytest.mark.parametrize(
    ("bad", "requests_max"), [(["e417"], 21), (["e0"], 21), (["e3", "e500", "e999"], 61)]
)
async def test_unnamed_events_are_found_in_requests_that_grow_with_the_logarithm(
    bad: list[str], requests_max: int
) -> None:
    tiktok = FakeTikTok(bad=frozenset(bad))

    results = await send(tiktok, events(1000))

    wrong = [f"e{n}" for n, one in enumerate(results) if not isinstance(one, Answered)]
    assert wrong == bad
    assert len(tiktok.requests) <= requests_max
    assert sorted(tiktok.delivered["example.events.C1"]) == sorted(
        f"e{n}" for n in range(1000) if f"e{n}" not in bad
    )


async def test_a_good_event_beside_a_bad_one_is_sent_once() -> None:
    tiktok = FakeTikTok(bad=frozenset({"e2"}))

    await send(tiktok, events(7))

    delivered = tiktok.delivered["example.events.C1"]
    assert sorted(delivered) == sorted(set(delivered)) == ["e0", "e1", "e3", "e4", "e5", "e6"]


@pytest.mark.parametrize("trouble", [THROTTLED, REVOKED, TIMEOUT, DOWN])
async def test_trouble_that_is_no_events_fault_is_every_events_result_and_isolates_none(
    trouble: ServiceError,
) -> None:
    tiktok = FakeTikTok(troubles=[trouble])

    results = await send(tiktok, events(100))

    assert results == [trouble] * 100
    assert len(tiktok.requests) == 1


@pytest.mark.parametrize("code", [40007, 40010, 40051, 40063])
async def test_a_refusal_of_the_envelope_is_not_told_event_by_event(code: int) -> None:
    tiktok = FakeTikTok(troubles=[refusal(code)])

    results = await send(tiktok, events(64))

    assert said(results) == [f"upstream_{code}"] * 64
    assert len(tiktok.requests) == 1


@pytest.mark.parametrize("trouble", [THROTTLED, REVOKED])
async def test_what_concerns_the_token_ends_the_batch_at_once(trouble: ServiceError) -> None:
    tiktok = FakeTikTok(troubles=[None, trouble])

    results = await send(tiktok, events(200), pixel(dialect=DialectName.PIXEL_TRACK))

    assert len(tiktok.requests) == 2
    assert said(results) == ["ok"] * 50 + [trouble.code] * 150


async def test_a_request_that_times_out_spares_the_others_the_same() -> None:
    tiktok = FakeTikTok(troubles=[None, TIMEOUT])

    results = await send(tiktok, events(150), pixel(dialect=DialectName.PIXEL_TRACK))

    assert said(results) == ["ok"] * 50 + [TIMEOUT.code] * 100
    assert len(tiktok.requests) == 2


async def test_a_failing_code_may_be_about_one_request_and_leaves_the_others_to_be_sent() -> None:
    tiktok = FakeTikTok(troubles=[None, RefusedError(Kind.RETRYABLE, 50000, "R0", None, "")])

    results = await send(tiktok, events(150), pixel(dialect=DialectName.PIXEL_TRACK))

    assert said(results) == ["ok"] * 50 + ["upstream_50000"] * 50 + ["ok"] * 50


async def test_trouble_amid_isolation_leaves_the_rest_to_be_tried_again() -> None:
    tiktok = FakeTikTok(bad=frozenset({"e0"}), troubles=[None, None, TIMEOUT])

    results = await send(tiktok, events(4))

    # [0 1 2 3] refused, [0 1] refused, [0] times out: [1] and [2 3] are not tried now.
    assert said(results) == [TIMEOUT.code] * 4
    assert len(tiktok.requests) == 3


@pytest.mark.parametrize("named", [True, False])
async def test_a_long_isolation_is_broken_off_with_what_it_has_come_to(*, named: bool) -> None:
    clock = FakeClock()
    bad = frozenset(f"e{n}" for n in range(1000))
    begun_s = clock.monotonic_s()
    tiktok = FakeTikTok(bad=bad, named=named, clock=clock, takes_s=0.1)
    outgoing = [Outgoing(one, PLAIN) for one in events(1000)]

    sent = await sender_of(tiktok, Telemetry.null(), clock=clock).send(
        Errand(pixel(), SHOP), outgoing
    )

    results = said(sent)
    known = results.count("upstream_40002")
    assert 40 <= known <= 50
    assert results == ["upstream_40002"] * known + ["isolation_unfinished"] * (1000 - known)
    assert {one.kind for one in sent[known:] if isinstance(one, ServiceError)} == {Kind.THROTTLED}
    assert clock.monotonic_s() - begun_s < 11


async def test_an_isolation_is_not_broken_off_before_it_has_come_to_something() -> None:
    clock = FakeClock()
    tiktok = FakeTikTok(bad=frozenset({"e0"}), clock=clock, takes_s=4.0)
    outgoing = [Outgoing(one, PLAIN) for one in events(64)]

    sent = await sender_of(tiktok, Telemetry.null(), clock=clock).send(
        Errand(pixel(), SHOP), outgoing
    )

    assert said(sent) == ["upstream_40002"] + ["isolation_unfinished"] * 63


async def test_many_requests_that_are_accepted_are_broken_off_by_no_time() -> None:
    clock = FakeClock()
    tiktok = FakeTikTok(clock=clock, takes_s=4.0)
    outgoing = [Outgoing(one, PLAIN) for one in events(400)]

    sent = await sender_of(tiktok, Telemetry.null(), clock=clock).send(
        Errand(pixel(dialect=DialectName.PIXEL_TRACK), SHOP), outgoing
    )

    assert said(sent) == ["ok"] * 400


async def test_results_stand_in_the_order_of_the_input_where_requests_do_not() -> None:
    mixed = [
        conversion(f"e{n}", source=(Source.WEB, Source.OFFLINE)[n % 2],
                   test_event_code=(None, "TEST1")[n // 2 % 2])
        for n in range(40)
    ]  # fmt: skip
    bad = frozenset({"e3", "e17", "e20"})
    tiktok = FakeTikTok(bad=bad)

    results = await send(tiktok, mixed, pixel(offline_event_set_id="OFF1"))

    assert said(results) == ["upstream_40002" if f"e{n}" in bad else "ok" for n in range(40)]
    first_four = [request.conversions[0].event_id for request in tiktok.requests[:1]]
    assert first_four == ["e0"]


async def test_any_set_of_bad_events_is_told_apart() -> None:
    chance = random.Random(4)
    for _ in range(50):
        bad = frozenset(f"e{n}" for n in chance.sample(range(60), chance.randrange(12)))
        tiktok = FakeTikTok(bad=bad, named=chance.random() < 0.5)

        results = await send(tiktok, events(60))

        assert said(results) == ["upstream_40002" if f"e{n}" in bad else "ok" for n in range(60)]


@pytest.mark.parametrize(
    ("dialect", "count", "sizes"),
    [
        (DialectName.EVENT_TRACK, 1001, [1000, 1]),
        (DialectName.PIXEL_TRACK, 120, [50, 50, 20]),
        (DialectName.PIXEL_TRACK, 51, [50, 1]),
    ],
)
async def test_no_request_is_above_its_dialects_cap(
    dialect: DialectName, count: int, sizes: list[int]
) -> None:
    tiktok = FakeTikTok()

    await send(tiktok, events(count), pixel(dialect=dialect))

    assert [len(request.conversions) for request in tiktok.requests] == sizes


async def test_a_lone_event_of_the_legacy_dialect_goes_to_its_own_path() -> None:
    tiktok = FakeTikTok(bad=frozenset({"e0"}), named=True)

    await send(tiktok, events(3), pixel(dialect=DialectName.PIXEL_TRACK))

    assert [request.path.removeprefix("/open_api/v1.3/pixel/") for request in tiktok.requests] == [
        "batch/",
        "track/",
        "batch/",
    ]


async def test_an_event_that_no_request_can_carry_fails_alone() -> None:
    tiktok = FakeTikTok()
    never = conversion("never", occurred_at_s=2**62)

    results = await send(
        tiktok, [*events(2), never, conversion("e9")], pixel(dialect=DialectName.PIXEL_TRACK)
    )

    assert said(results) == ["ok", "ok", "event_unencodable", "ok"]
    assert isinstance(results[2], ServiceError)
    assert results[2].kind is Kind.PERMANENT


async def test_nothing_to_send_sends_nothing() -> None:
    tiktok = FakeTikTok()

    assert await send(tiktok, []) == []
    assert tiktok.requests == []


# -- spans and metrics ---------------------------------------------------------------------------


async def test_a_call_is_one_span_and_each_event_has_its_own_in_its_own_trace() -> None:
    telemetry = Telemetry.recording()
    traces = [SpanRef(100 + n, 200 + n, sampled=True) for n in range(3)]
    tiktok = FakeTikTok()
    outgoing = [Outgoing(conversion(f"e{n}"), trace) for n, trace in enumerate(traces)]

    await sender_of(tiktok, telemetry).send(Errand(pixel(), SHOP), outgoing)

    call, *sent = telemetry.finished
    assert (call.name, call.kind, call.parent_id) == ("tiktok events call", "client", None)
    assert call.links == [(one.trace_hex, f"{one.span_id:016x}") for one in traces]
    assert call.attributes["batch_size"] == 3
    assert [(one.name, one.trace_id, one.parent_id) for one in sent] == [
        ("event sent", one.trace_hex, f"{one.span_id:016x}") for one in traces
    ]
    assert all(one.links == [(call.trace_id, call.span_id)] for one in sent)
    assert [one.attributes["event_id"] for one in sent] == ["e0", "e1", "e2"]
    assert tiktok.headers[0]["traceparent"].split("-")[1:3] == [call.trace_id, call.span_id]


async def test_every_request_of_an_isolation_is_a_span_and_the_refused_ones_say_so() -> None:
    telemetry = Telemetry.recording()
    tiktok = FakeTikTok(bad=frozenset({"e1"}), named=True)

    await send(tiktok, events(3), telemetry=telemetry, trace=FOLLOWED)

    calls = [one for one in telemetry.finished if one.name == "tiktok events call"]
    assert [(one.attributes["batch_size"], one.attributes["code"]) for one in calls] == [
        (3, 40002),
        (1, 40002),
        (2, 0),
    ]
    assert [one.error is None for one in calls] == [False, False, True]


async def test_an_event_that_nobody_follows_has_no_span() -> None:
    telemetry = Telemetry.recording()
    sender = sender_of(FakeTikTok(), telemetry)

    await sender.send(
        Errand(pixel(), SHOP),
        [Outgoing(conversion("a"), FOLLOWED), Outgoing(conversion("b"), PLAIN)],
    )

    sent = [one for one in telemetry.finished if one.name == "event sent"]
    assert [one.attributes["event_id"] for one in sent] == ["a"]


async def test_each_event_is_counted_once_by_how_it_ended() -> None:
    telemetry = Telemetry.null()
    tiktok = FakeTikTok(bad=frozenset({"e1", "e2"}))

    await send(tiktok, events(10), telemetry=telemetry)
    tiktok.troubles = [TIMEOUT]
    await send(tiktok, events(4), telemetry=telemetry)

    counted = [
        total(telemetry.metrics, name)
        for name in (
            metric_names.EVENTS_SENT,
            metric_names.EVENTS_REFUSED,
            metric_names.EVENTS_RETRIED,
        )
    ]
    assert counted == [8, 2, 4]
