"""Tokens are handed out while they are good, and what is reported dead is dealt with."""

from __future__ import annotations

import pytest

from libs.bus import subjects
from libs.bus.commit_log import Stored
from libs.errors import Kind, ServiceError
from libs.settings import Secret
from services.auth.domain.grants import Grant
from services.auth.ports import KeptGrant
from services.auth.refresher import NEEDS_REAUTHORIZATION
from services.auth.tokens import ACCESS_TOKEN_MISSING, Tokens
from tests.unit.auth.replicas import ID, LIFE_S, House, Replica
from tidewire.auth.v1 import record_pb2

_MARGIN_S = 60.0


def tokens_of(house: House, replica: Replica) -> Tokens:
    return Tokens(replica.grants, replica.refresher, replica.providers, house.clock)


def unrefreshable(house: House) -> Grant:
    return Grant(access_token=Secret("only"), expires_at=house.upstream.pair().expires_at)


async def rewritten(replica: Replica, **fields: object) -> KeptGrant:
    """The record with other fields, as somebody else writes it."""
    kept = await replica.grants.fresh(ID)
    assert kept is not None
    record = record_pb2.StoredGrant()
    record.CopyFrom(kept.record)
    for name, value in fields.items():
        setattr(record, name, value)
    return await replica.grants.write(ID, record, expected=kept.sequence)


async def test_a_token_is_at_hand_from_its_first_use_until_shortly_before_its_end() -> None:
    house = House(replicas=1)
    await house.connect()
    tokens = tokens_of(house, house.replicas[0])

    async def story() -> list[bool]:
        at_hand = [tokens.ready(ID) is not None]
        await tokens.token(ID)
        for wait_s in (0.0, LIFE_S - _MARGIN_S - 1, 2.0):
            await house.clock.sleep(wait_s)
            at_hand.append(tokens.ready(ID) is not None)
        return at_hand

    assert await house.clock.drive(story()) == [False, True, True, False]


async def test_one_at_its_end_is_refreshed_before_it_is_handed_out() -> None:
    house = House(replicas=1)
    await house.connect()
    tokens = tokens_of(house, house.replicas[0])

    async def story() -> list[tuple[str, int]]:
        first = await tokens.token(ID)
        await house.clock.sleep(LIFE_S - _MARGIN_S + 1)
        second = await tokens.token(ID)
        return [(one.access_token, one.revision) for one in (first, second)]

    assert await house.clock.drive(story()) == [("access-1", 1), ("access-2", 2)]


async def test_what_another_replica_has_refreshed_is_handed_out_once_it_is_known() -> None:
    house = House(replicas=2)
    await house.connect()
    first, second = house.replicas
    tokens = tokens_of(house, second)

    async def story() -> str:
        await tokens.token(ID)
        await first.token()
        await second.follower.follow()
        assert tokens.ready(ID) is None
        return (await tokens.token(ID)).access_token

    assert await house.clock.drive(story()) == "access-2"


async def test_who_was_stopped_looks_before_it_hands_out_what_it_remembers() -> None:
    house = House(replicas=2)
    await house.connect()
    first, second = house.replicas
    tokens = tokens_of(house, second)

    async def story() -> str:
        await tokens.token(ID)
        house.dead.add(second.liveness.owner)
        await first.token()
        assert tokens.ready(ID) is None
        return (await tokens.token(ID)).access_token

    assert await house.clock.drive(story()) == "access-2"


async def test_while_the_store_is_away_what_is_in_memory_is_handed_out() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)

    async def story() -> str:
        await tokens.token(ID)
        house.dead.add(replica.liveness.owner)
        replica.log.down = True
        return (await tokens.token(ID)).access_token

    assert await house.clock.drive(story()) == "access-1"


async def test_of_a_grant_that_needs_a_person_no_token_is_handed_out() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)
    await house.clock.drive(tokens.token(ID))

    await rewritten(replica, needs_reauthorization=True)

    assert tokens.ready(ID) is None
    with pytest.raises(ServiceError, match=NEEDS_REAUTHORIZATION) as refused:
        await house.clock.drive(tokens.token(ID))
    assert refused.value.kind is Kind.AUTH
    assert house.upstream.refreshes == 0


async def test_of_an_unknown_connection_there_is_none() -> None:
    house = House(replicas=1)

    with pytest.raises(ServiceError, match="connection_unknown"):
        await house.clock.drive(tokens_of(house, house.replicas[0]).token(ID))


async def test_a_grant_that_only_verifies_webhooks_has_none() -> None:
    house = House(replicas=1)
    await house.connect(Grant(access_token=Secret("")))

    with pytest.raises(ServiceError, match=ACCESS_TOKEN_MISSING) as refused:
        await house.clock.drive(tokens_of(house, house.replicas[0]).token(ID))
    assert refused.value.kind is Kind.AUTH


async def test_a_token_that_is_reported_dead_is_refreshed_once_however_often_it_is() -> None:
    house = House(replicas=1)
    await house.connect()
    tokens = tokens_of(house, house.replicas[0])

    async def story() -> list[int]:
        return [(await tokens.report(ID, 1, "401")).record.token_revision for _ in range(3)]

    assert await house.clock.drive(story()) == [2, 2, 2]
    assert house.upstream.refreshes == 1


async def newest_reported(house: House, tokens: Tokens, times: int, every_s: float) -> None:
    """Each token that there is is reported dead, as soon as it is known."""

    async def story() -> None:
        revision = 1
        for _ in range(times):
            revision = (await tokens.report(ID, revision, "401")).record.token_revision
            await house.clock.sleep(every_s)

    await house.clock.drive(story())


async def test_however_often_the_newest_token_is_reported_it_is_refreshed_twice_a_minute() -> None:
    house = House(replicas=1)
    await house.connect()
    tokens = tokens_of(house, house.replicas[0])

    await newest_reported(house, tokens, times=50, every_s=0.1)
    at_once = house.upstream.refreshes
    await newest_reported(house, tokens, times=590, every_s=1.0)

    assert at_once == 1
    assert 10 <= house.upstream.refreshes <= 20


async def test_a_young_token_that_its_provider_takes_is_not_refreshed_for_a_report() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    replica.providers.alive = {"access-1"}
    tokens = tokens_of(house, replica)

    await newest_reported(house, tokens, times=50, every_s=1.0)
    young = house.upstream.refreshes
    await newest_reported(house, tokens, times=15, every_s=1.0)

    assert (young, house.upstream.refreshes) == (0, 1)


async def test_a_young_token_of_which_nobody_can_be_asked_is_refreshed() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    replica.providers.trouble = ServiceError(Kind.RETRYABLE, "upstream_unreachable")

    await newest_reported(house, tokens_of(house, replica), times=1, every_s=0.0)

    assert house.upstream.refreshes == 1


async def test_a_token_that_rests_is_refreshed_before_it_expires_all_the_same() -> None:
    house = House(replicas=1)
    house.upstream.life_s = 10.0
    await house.connect()
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)

    async def story() -> str:
        await tokens.report(ID, 1, "401")
        await house.clock.sleep(9.9)
        return (await tokens.token(ID)).access_token

    assert await house.clock.drive(story()) == "access-3"


async def test_one_that_nothing_can_refresh_is_believed_dead_only_by_its_provider() -> None:
    house = House(replicas=1)
    await house.connect(unrefreshable(house))
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)
    replica.providers.alive = {"only"}

    slip = await house.clock.drive(tokens.report(ID, 1, "40105"))
    replica.providers.alive = set()
    ended = await house.clock.drive(tokens.report(ID, 1, "40105"))

    assert not slip.record.needs_reauthorization
    assert (ended.record.needs_reauthorization, ended.record.error_code) == (True, "40105")
    assert replica.ended == [ID]


@pytest.mark.parametrize(
    "trouble",
    [
        ServiceError(Kind.RETRYABLE, "upstream_unreachable"),
        ServiceError(Kind.AUTH, "grant_revoked"),
    ],
)
async def test_who_reports_is_told_what_the_refresh_came_to(trouble: ServiceError) -> None:
    house = House(replicas=1)
    await house.connect()
    house.upstream.troubles = [trouble]
    tokens = tokens_of(house, house.replicas[0])

    kept = await house.clock.drive(tokens.report(ID, 1, "401"))

    assert (kept.record.token_revision, kept.record.needs_reauthorization) == (
        1,
        trouble.kind is Kind.AUTH,
    )
    assert kept.record.error_code == trouble.code


async def test_a_report_that_the_store_cannot_take_is_refused() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)

    async def story() -> None:
        house.upstream.troubles = []
        replica.log.down = True
        await tokens.report(ID, 1, "401")

    with pytest.raises(ServiceError, match="nats_unavailable"):
        await house.clock.drive(story())


async def test_a_token_whose_record_was_deleted_is_handed_out_no_more() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    tokens = tokens_of(house, replica)
    await tokens.token(ID)

    subject = subjects.in_bucket(subjects.TOKENS, subjects.token(ID))
    replica.grants.take(Stored(subject, 99, b""))

    assert tokens.ready(ID) is None
