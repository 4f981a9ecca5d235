"""`DeadLetterService` over real gRPC and a real nats-server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.publisher import publish
from libs.errors import Kind, ServiceError
from libs.telemetry import SpanRef
from tests.fakes import callers
from tests.integration.delivery.rig import EMAIL, SINK, Desk, at, desk_at, results
from tests.integration.ingest.harness import OTHER, SHOP, HookedLog, Suite
from tidewire.commerce.v1 import record_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb

# -- listing -------------------------------------------------------------------------------------


async def test_letters_are_told_apart_by_every_part_of_a_filter(desk: Desk) -> None:
    refused = await desk.letter(1)
    mapping = await desk.letter(2, reason_class="mapping", code="wrong_shape")
    others = await desk.letter(3, shop=OTHER)
    ingest = await desk.letter(4, service="ingest", dead_letter_id=f"ingest.{SHOP}.w4")
    pixel = await desk.letter(5, sink="events.C9")
    old = await desk.letter(6, died_at=at(1_000))
    first, second, third, fourth, fifth, sixth = (
        one.dead_letter_id for one in (refused, mapping, others, ingest, pixel, old)
    )

    assert await desk.ids() == [first, second, third, fourth, fifth, sixth]
    assert await desk.ids(shop=OTHER) == [third]
    assert await desk.ids(service="ingest") == [fourth]
    assert await desk.ids(reason_class="mapping") == [second]
    assert await desk.ids(code="wrong_shape") == [second]
    assert await desk.ids(code="wrong") == []
    assert await desk.ids(sink="events.C9") == [fifth]
    assert await desk.ids(until=at(1_001)) == [sixth]
    assert await desk.ids(since=at(1_001)) == [first, second, third, fourth, fifth]
    assert await desk.ids(service="*") == []


async def test_more_letters_than_a_page_holds_come_in_pages_without_their_content(
    desk: Desk,
) -> None:
    ids = await desk.letters(620)
    await desk.letters(2, shop=OTHER)
    listed: list[pb.DeadLetterSummary] = []
    pages, token = 0, ""

    while pages == 0 or token:
        page = await desk.listed(shop=SHOP, page_size=250, page_token=token)
        listed += page.letters
        token, pages = page.next_page_token, pages + 1

    assert pages == 3
    assert [one.letter.dead_letter_id for one in listed] == ids
    assert not any(one.letter.HasField("original") for one in listed)


async def test_a_page_token_that_is_none_is_refused(desk: Desk) -> None:
    with pytest.raises(ServiceError) as refused:
        await desk.listed(page_token="x")

    assert refused.value.code == "page_token_unknown"


async def test_letters_that_are_large_make_a_short_page_and_none_is_left_out(desk: Desk) -> None:
    large = sealed_pb2.Payload(data=bytes(190_000))
    ids = [(await desk.letter(number, original=large)).dead_letter_id for number in range(7)]

    first = await desk.listed()
    rest = await desk.listed(page_token=first.next_page_token)

    listed = [[one.letter.dead_letter_id for one in page.letters] for page in (first, rest)]
    assert listed == [ids[:6], ids[6:]]


# -- replaying by id -----------------------------------------------------------------------------


async def test_a_replay_is_a_new_unit_of_the_sink_that_gave_up(desk: Desk) -> None:
    letter = await desk.letter(7, event_ids=["e2", "e3"])

    answer = await desk.replay(letter.dead_letter_id)

    (action,) = answer.actions
    (fact,) = await desk.replayed_facts()
    name = f"replay.{letter.dead_letter_id}"
    seen = (await desk.suite.seen())[name]
    assert (action.result, action.replayed_as) == ("replayed", f"order_paid.{name}")
    assert (fact.fact_id, fact.kind, fact.shop) == (name, "order_paid", SHOP)
    assert list(fact.sinks) == [SINK]
    assert list(fact.only_event_ids) == ["e2", "e3"]
    assert fact.replay_of == letter.dead_letter_id
    assert fact.payload == letter.original
    assert [(s.sink, s.fact_id) for s in seen.shares] == [(SINK, f"order_paid.{name}")]
    assert seen.result == record_pb2.SEEN_RESULT_APPLIED


async def test_a_replay_twice_is_one(desk: Desk) -> None:
    letter = await desk.letter()

    first = await desk.replay(letter.dead_letter_id)
    second = await desk.replay(letter.dead_letter_id, request_id="again")

    assert (results(first), results(second)) == (["replayed"], ["already_replayed"])
    assert first.actions[0].replayed_as == second.actions[0].replayed_as
    assert len(await desk.replayed_facts()) == 1
    assert await desk.suite.overwritten() == 0


async def test_many_replays_of_one_letter_at_once_are_one(desk: Desk) -> None:
    letter = await desk.letter()

    answers = await asyncio.gather(*(desk.replay(letter.dead_letter_id) for _ in range(12)))

    ended = sorted(result for answer in answers for result in results(answer))
    assert ended == ["already_replayed"] * 11 + ["replayed"]
    assert len(await desk.replayed_facts()) == 1
    assert await desk.suite.overwritten() == 0
    assert (await desk.fate(letter)).carried_out


async def test_an_id_that_is_named_twice_is_replayed_once(desk: Desk) -> None:
    letter = await desk.letter()

    answer = await desk.replay(
        letter.dead_letter_id, "events.C0.example.nothing", letter.dead_letter_id
    )

    assert results(answer) == ["replayed", "not_found"]


async def test_a_replay_that_broke_off_leaves_the_letter_open_and_is_completed_by_the_next(
    suite: Suite,
) -> None:
    class Gone(HookedLog):
        async def commit(self, entries: object) -> int:
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")

    whole, suite.log = suite.log, Gone(suite.log)  # type: ignore[assignment]
    async with desk_at(suite) as broken:
        letter = await broken.letter()
        with pytest.raises(ServiceError, match="nats_unavailable"):
            await broken.replay(letter.dead_letter_id)
    suite.log = whole

    async with desk_at(suite) as desk:
        before = await desk.listed()
        await desk.replay(letter.dead_letter_id)

        assert [one.state for one in before.letters] == [pb.DEAD_LETTER_STATE_OPEN]
        assert len(await desk.replayed_facts()) == 1
        assert (await desk.listed()).letters == []


async def test_a_dry_run_by_id_changes_nothing(desk: Desk) -> None:
    letter = await desk.letter()

    answer = await desk.replay(letter.dead_letter_id, dry_run=True)

    assert results(answer) == ["would_replay"]
    assert await desk.replayed_facts() == []
    assert await desk.ids() == [letter.dead_letter_id]


async def test_a_replays_trace_is_new_and_points_at_the_original(desk: Desk) -> None:
    letter = await desk.letter()

    await desk.replay(letter.dead_letter_id)

    (fact,) = await desk.replayed_facts()
    (span,) = desk.spans
    original = SpanRef.parse(letter.traceparent)
    own = SpanRef.parse(fact.traceparent)
    assert original is not None
    assert own is not None
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (own.trace_id, own.span_id)
    assert own.trace_id != original.trace_id
    assert [link.context.span_id for link in span.links] == [original.span_id]
    assert span.parent is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"code": "segment_unreadable", "service": "ingest"}, "segment_unreadable"),
        ({"code": "signed_for_another_shop", "service": "ingest"}, "signed_for_another_shop"),
        ({"sink": "unknown.X"}, "no_sink"),
    ],
)
async def test_what_cannot_be_replayed_says_why(
    desk: Desk, changes: dict[str, str], reason: str
) -> None:
    letter = await desk.letter(**changes, dead_letter_id="any")  # type: ignore[arg-type]

    answer = await desk.replay(letter.dead_letter_id)

    (action,) = answer.actions
    assert action.result == "not_replayable"
    assert action.reason.startswith(reason)
    assert await desk.replayed_facts() == []
    assert await desk.ids() == ["any"]


async def test_a_letter_whose_original_was_not_kept_cannot_be_replayed(desk: Desk) -> None:
    letter = await desk.made(1)
    letter.ClearField("original")
    await desk.store.store(letter)

    (action,) = (await desk.replay(letter.dead_letter_id)).actions

    assert (action.result, action.reason.partition(":")[0]) == ("not_replayable", "no_original")


async def test_two_replays_of_overlapping_pages_at_once_replay_each_letter_once(desk: Desk) -> None:
    ids = await desk.letters(40)

    answers = await asyncio.gather(
        desk.replay(*ids[:30]), desk.replay(*ids[10:]), desk.replay(*reversed(ids))
    )

    done = [action for answer in answers for action in answer.actions]
    replayed = [action.dead_letter_id for action in done if action.result == "replayed"]
    facts = await desk.replayed_facts()
    assert {action.result for action in done} == {"replayed", "already_replayed"}
    assert sorted(replayed) == sorted(ids)
    assert sorted(fact.replay_of for fact in facts) == sorted(ids)
    assert await desk.suite.overwritten() == 0
    assert await desk.ids() == []


async def test_a_replay_that_is_stored_and_not_told_of_holds_up_no_other_of_its_page(
    desk: Desk,
) -> None:
    first, second = await desk.letter(1), await desk.letter(2)
    await desk.replay(first.dead_letter_id)
    fate = await desk.fate(first)
    fate.carried_out = False
    name = subjects.letter_fate(SHOP, first.dead_letter_id)
    outcomes = JetStreamLog(desk.suite.nats, subjects.OUTCOMES, desk.suite.ids)
    await outcomes.commit([Entry(name, fate.SerializeToString())])

    answer = await desk.replay(first.dead_letter_id, second.dead_letter_id)

    facts = await desk.replayed_facts()
    assert results(answer) == ["already_replayed", "replayed"]
    assert [fact.replay_of for fact in facts] == [first.dead_letter_id, second.dead_letter_id]
    assert (await desk.fate(first)).carried_out
    assert await desk.suite.overwritten() == 0


async def test_a_letter_that_was_stored_twice_is_replayed_once(desk: Desk) -> None:
    letter = await desk.letter()
    subject = subjects.dead_letter(letter.service, letter.code, SHOP)
    data = letter.SerializeToString()
    await publish(desk.suite.nats, subject, data, message_id="after the window")
    wanted = pb.DeadLetterFilter(shop=SHOP)
    plan = await desk.replay_all(wanted, dry_run=True)

    answer = await desk.replay_all(wanted, plan_token=plan.plan_token)

    assert results(answer) == ["replayed", "already_replayed"]
    assert len(await desk.replayed_facts()) == 1


# -- by filter -----------------------------------------------------------------------------------


async def test_a_filter_without_its_dry_run_is_refused(desk: Desk) -> None:
    await desk.letter()

    with pytest.raises(ServiceError) as refused:
        await desk.replay_all(pb.DeadLetterFilter(shop=SHOP))

    assert (refused.value.code, refused.value.path) == ("plan_token_missing", "plan_token")
    assert await desk.replayed_facts() == []


@pytest.mark.parametrize("other", [pb.DeadLetterFilter(shop=OTHER), pb.DeadLetterFilter()])
async def test_the_plan_of_another_filter_is_refused(
    desk: Desk, other: pb.DeadLetterFilter
) -> None:
    await desk.letter()
    plan = (await desk.replay_all(pb.DeadLetterFilter(shop=SHOP), dry_run=True)).plan_token

    with pytest.raises(ServiceError) as refused:
        await desk.replay_all(other, plan_token=plan)

    assert refused.value.code == "plan_token_of_another_plan"


async def test_the_plan_of_a_drop_is_none_for_a_replay(desk: Desk) -> None:
    await desk.letter()
    wanted = pb.DeadLetterFilter(shop=SHOP)
    selection = pb.DeadLetterSelection(filter=wanted)
    plan = (await desk.drop(selection=selection, dry_run=True)).plan_token

    with pytest.raises(ServiceError) as refused:
        await desk.replay_all(wanted, plan_token=plan)

    assert refused.value.code == "plan_token_of_another_plan"


async def test_letters_that_come_after_the_dry_run_are_not_replayed(desk: Desk) -> None:
    wanted = pb.DeadLetterFilter(shop=SHOP)
    seen = await desk.letter(1)
    planned = await desk.replay_all(wanted, dry_run=True)
    late = await desk.letter(2)

    answer = await desk.replay_all(wanted, plan_token=planned.plan_token)

    assert (planned.matched, results(planned)) == (1, ["would_replay"])
    assert [action.dead_letter_id for action in answer.actions] == [seen.dead_letter_id]
    assert await desk.ids() == [late.dead_letter_id]


async def test_a_filter_is_counted_whole_and_replayed_page_by_page(desk: Desk) -> None:
    wanted = pb.DeadLetterFilter(shop=SHOP, reason_class="permanent")
    ids = await desk.letters(60)
    plan = await desk.replay_all(wanted, dry_run=True, page_size=20)
    done: list[str] = []
    token, first = "", True

    while first or token:
        answer = await desk.replay_all(
            wanted, plan_token=plan.plan_token, page_size=25, page_token=token
        )
        assert set(results(answer)) == {"replayed"}
        done += [action.dead_letter_id for action in answer.actions]
        token, first = answer.next_page_token, False

    assert (plan.matched, len(plan.actions)) == (60, 20)
    assert done == ids
    assert len(await desk.replayed_facts()) == 60
    assert await desk.ids() == []


# -- dropping ------------------------------------------------------------------------------------


async def test_a_letter_that_was_dropped_is_not_replayed_and_says_why(desk: Desk) -> None:
    letter = await desk.letter()

    first = await desk.drop(letter.dead_letter_id)
    then = await desk.replay(letter.dead_letter_id)

    (shown,) = (await desk.listed(include_settled=True)).letters
    assert (results(first), results(then)) == (["dropped"], ["already_dropped"])
    assert await desk.replayed_facts() == []
    assert await desk.ids() == []
    assert shown.state == pb.DEAD_LETTER_STATE_DROPPED
    assert (shown.fate.reason, shown.fate.decided_by) == ("not needed", "operator")
    assert shown.fate.HasField("decided_at")


async def test_a_replay_and_a_drop_at_once_are_one_of_the_two(desk: Desk) -> None:
    letters = [await desk.letter(number) for number in range(20)]

    await asyncio.gather(
        *(desk.replay(one.dead_letter_id) for one in letters),
        *(desk.drop(one.dead_letter_id) for one in letters),
    )

    fates = [await desk.fate(one) for one in letters]
    replayed = {
        fate.dead_letter_id for fate in fates if fate.state == pb.DEAD_LETTER_STATE_REPLAYED
    }
    assert {fact.replay_of for fact in await desk.replayed_facts()} == replayed


async def test_a_fate_is_no_outcome_of_a_unit(desk: Desk) -> None:
    letter = await desk.letter()
    await desk.drop(letter.dead_letter_id)

    (stored,) = await desk.suite.stored(subjects.OUTCOMES, "outcome.>")

    assert not subjects.is_of_a_unit(stored.subject)


# -- seeing --------------------------------------------------------------------------------------


async def test_a_fact_is_shown_with_its_personal_data_masked(desk: Desk) -> None:
    letter = await desk.letter()

    bare = await desk.get(letter.dead_letter_id)
    answer = await desk.get(letter.dead_letter_id, include_original=True)

    shown = json.loads(answer.original_json)["orderPaid"]["order"]
    assert bare.original_json == ""
    assert EMAIL not in answer.original_json
    assert (shown["email"], shown["orderId"]) == ("***email", "1")


async def test_personal_data_needs_a_permission(suite: Suite, desk: Desk, tmp_path: Path) -> None:
    letter = await desk.letter()
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"{callers.OPEN}    permissions: [reveal]\n", encoding="utf-8")

    with pytest.raises(ServiceError) as refused:
        await desk.get(letter.dead_letter_id, include_original=True, reveal=True)
    with capture_logs() as logs:
        async with desk_at(suite, policy=policy) as trusted:
            shown = await trusted.get(letter.dead_letter_id, include_original=True, reveal=True)

    assert refused.value.code == "reveal_permission_denied"
    assert json.loads(shown.original_json)["orderPaid"]["order"]["email"] == EMAIL
    (audited,) = [line for line in logs if line["event"] == "dead_letter_revealed"]
    assert audited["dead_letter_id"] == letter.dead_letter_id
    assert audited["caller"] == "operator"
    assert EMAIL not in json.dumps(audited)


async def test_a_letter_that_is_not_there_is_not_found(desk: Desk) -> None:
    await desk.letter()

    with pytest.raises(ServiceError) as refused:
        await desk.get("events.C0.example.order_paid.99")

    assert refused.value.code == "dead_letter_not_found"


async def test_the_letters_of_a_shop_are_found_without_reading_those_of_others(desk: Desk) -> None:
    """A letter that stands where its id does not say is not looked for everywhere."""
    misplaced = await desk.letter(dead_letter_id="events.C0.other.order_paid.1")

    with pytest.raises(ServiceError) as refused:
        await desk.get(misplaced.dead_letter_id)

    assert refused.value.code == "dead_letter_not_found"
