"""Races for one refresh among four replicas of the token service, in the long form.

    python -m tests.faults.tokens [--rounds 200] [--seed 1] [--json FILE]

`make faults` runs it after the matrix.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from rich.console import Console

from libs.errors import ServiceError
from tests.bench import machine
from tests.faults import report
from tests.faults.token_house import House, Store, housed
from tests.faults.token_judge import Plan, Row, Seen, Strike, complaints, planned
from tests.faults.token_races import Raced, at_expiry, nats_killed, upstream_down
from tests.faults.token_rounds import played, store_of

ROUNDS: Final = 200
SEED: Final = 1
_HOUSES: Final = 2
"""Most of a round is a wait for a lease to run out."""

_RACES: Final = 5
_ROTATIONS: Final = ("grace", "strict")
_DOWN: Final = tuple(Store(f"down-{n}", _ROTATIONS[n % 2]) for n in range(20))
_WORDS: Final = {
    Strike.KILL: "`kill -9` of whoever refreshes, after the provider has rotated or at any moment",
    Strike.PAUSE: "SIGSTOP of whoever refreshes until another has taken over, then SIGCONT",
    Strike.NAP: "SIGSTOP of whoever refreshes, shorter than its lease",
}


async def rows(directory: Path, rounds: int, seed: int, say: Callable[[str], None]) -> list[Row]:
    """Everything: the races, and the rounds in as many houses as there are."""
    found = [row async for row in _races(directory / "races", say)]
    part = -(-rounds // _HOUSES)
    plans = [
        planned(min(part, rounds - part * n), seed + n, first=1 + part * n) for n in range(_HOUSES)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(in_house(directory / f"house-{n}", one, say))
            for n, one in enumerate(plans)
        ]
    return found + summed([outcome for task in tasks for outcome in task.result()])


@dataclass(frozen=True, slots=True)
class Outcome:
    """A round and what is wrong with it."""

    plan: Plan
    seen: Seen | None
    complaints: tuple[str, ...]


async def in_house(
    directory: Path, plans: Sequence[Plan], say: Callable[[str], None]
) -> list[Outcome]:
    """Plays rounds one after the other in a house of their own."""
    outcomes = []
    async with housed(directory, [store_of(plan) for plan in plans]) as house:
        for plan in plans:
            outcome = await _outcome(house, plan)
            outcomes.append(outcome)
            say(_line(outcome))
        dead = (await house.ledger())["calls_dead"]
        for plan in plans:
            await _lives_on(house, store_of(plan))
        lost = (await house.ledger())["grants_lost"]
    if lost or dead:
        wrong = (f"in the end {lost} grants are lost, {dead} calls were made with dead tokens",)
        outcomes[-1] = Outcome(outcomes[-1].plan, outcomes[-1].seen, wrong)
    return outcomes


async def _outcome(house: House, plan: Plan) -> Outcome:
    try:
        seen = await played(house, plan)
    except (ServiceError, TimeoutError, BaseExceptionGroup) as error:
        await house.recovered()
        return Outcome(plan, None, (f"broke off: {error!r}"[:300],))
    return Outcome(plan, seen, tuple(complaints(seen)))


async def _lives_on(house: House, store: Store) -> None:
    """One more refresh, which shows that what is stored is what the provider takes."""
    replica = house.present[0]
    await house.rotate(store, replica)
    await house.use(store, await house.token(store, replica))


async def _races(directory: Path, say: Callable[[str], None]) -> AsyncIterator[Row]:
    stores = [Store(f"race-{n}", _ROTATIONS[n % 2]) for n in range(2 * _RACES)]
    grace = [Store(f"race-killed-{n}", "grace") for n in range(_RACES)]
    expiry, nats = stores[:_RACES], stores[_RACES:]
    async with housed(directory, [*stores, *grace, *_DOWN]) as house:
        yield await _row(
            "tokens.expiry",
            "1,000 callers at four replicas at the moment of expiry",
            [partial(at_expiry, house, store, killed=False) for store in expiry],
            house,
            say,
        )
        yield await _row(
            "tokens.expiry-killed",
            "the same, and whoever refreshes is killed after the provider has rotated",
            [partial(at_expiry, house, store, killed=True) for store in grace],
            house,
            say,
        )
        yield await _row(
            "tokens.nats-killed",
            "`kill -9` of NATS after the provider has rotated; it is away for 5 s",
            [partial(nats_killed, house, store) for store in nats],
            house,
            say,
        )
        yield await _row(
            "tokens.upstream-down",
            "the token endpoints answer 503 for 20 s, while the tokens of 20 stores end",
            [partial(upstream_down, house, _DOWN)],
            house,
            say,
        )


async def _row(
    name: str,
    what: str,
    races: Sequence[Callable[[], Awaitable[Raced]]],
    house: House,
    say: Callable[[str], None],
) -> Row:
    found, wrong = [], []
    for race in races:
        try:
            raced = await race()
        except (ServiceError, TimeoutError, BaseExceptionGroup) as error:
            await house.recovered()
            wrong.append(f"broke off: {error!r}"[:300])
            continue
        found.append(raced)
        wrong += raced.complaints
        say(f"{name}: {raced}")
    return Row(
        name=name,
        what=what,
        rounds=len(races),
        refreshes_most=max((one.refreshes_most for one in found), default=0),
        lost=sum(one.lost for one in found),
        reported_s=None,
        served_s=max((one.served_s for one in found), default=0.0),
        dead_calls=sum(one.dead_calls for one in found),
        complaints=tuple(wrong),
    )


def summed(outcomes: Sequence[Outcome]) -> list[Row]:
    """One row for each strike under each rotation."""
    found = []
    for strike in Strike:
        for rotation in _ROTATIONS:
            mine = [
                one
                for one in outcomes
                if one.plan.strike is strike and one.plan.rotation == rotation
            ]
            if mine:
                found.append(_summed(f"tokens.{strike}-{rotation}", _WORDS[strike], mine))
    return found


def _summed(name: str, what: str, outcomes: Sequence[Outcome]) -> Row:
    seen = [one.seen for one in outcomes if one.seen is not None]
    told = [one.reported_s for one in seen if one.reported_s is not None]
    return Row(
        name=name,
        what=what,
        rounds=len(outcomes),
        refreshes_most=max((one.refreshes for one in seen), default=0),
        lost=sum(one.lost for one in seen),
        reported_s=max(told, default=None),
        served_s=max((one.served_s or 0.0 for one in seen), default=0.0),
        dead_calls=sum(one.dead_calls for one in seen),
        complaints=tuple(f"{one.plan.named()}: {c}" for one in outcomes for c in one.complaints),
    )


def _line(outcome: Outcome) -> str:
    seen, word = outcome.seen, "FAILS" if outcome.complaints else "holds"
    if seen is None:
        return f"{word}  {outcome.plan.named()}: {outcome.complaints}"
    lost = f"lost, told after {seen.reported_s or -1:.1f} s" if seen.lost else "kept"
    after = f"{seen.served_s or -1:.1f} s"
    tail = f": {outcome.complaints}" if outcome.complaints else ""
    name = outcome.plan.named()
    return f"{word}  {name}: {seen.refreshes} refreshes, {lost}, served after {after}{tail}"


def as_dicts(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as data."""
    return [{**msgspec.to_builtins(row), "passed": row.passed} for row in found]


def main(arguments: Sequence[str]) -> int:
    """Plays everything; 0 where all holds, 1 where something does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.tokens", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--doc", type=Path, metavar="FILE", help="the page whose races it renews")
    parser.add_argument("--json", type=Path, help="write the rows as JSON")
    asked = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="tidewire-tokens-"))

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    found = asyncio.run(rows(directory, asked.rounds, asked.seed, say))
    for row in found:
        say(f"{'holds' if row.passed else 'FAILS'}  {row}")
    if asked.json is not None:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(as_dicts(found))))
    if asked.doc is not None:
        text = asked.doc.read_text("utf-8")
        asked.doc.write_text(report.with_races(text, found, machine.words()), "utf-8")
    if all(row.passed for row in found):
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    say(f"Logs stay in {directory}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
