"""One task at a time, and a look at the network before the next."""

from __future__ import annotations

import asyncio

from libs.turnstile import Turnstile

TASKS = 5
STRETCHES = 3


async def turns_of_the_loop(stop: asyncio.Event, turns: list[int]) -> None:
    """Counts how often the loop comes round, as the network's callbacks would see it."""
    loop = asyncio.get_running_loop()

    def again() -> None:
        turns[0] += 1
        if not stop.is_set():
            loop.call_soon(again)

    again()
    await stop.wait()


async def test_no_two_go_on_in_the_same_turn_of_the_loop_and_each_in_order() -> None:
    turnstile, stop = Turnstile(), asyncio.Event()
    turns = [0]
    seen: list[tuple[int, int]] = []

    async def work(number: int) -> None:
        for _ in range(STRETCHES):
            await turnstile.passed()
            seen.append((number, turns[0]))

    counting = asyncio.create_task(turns_of_the_loop(stop, turns))
    await asyncio.gather(*(work(number) for number in range(TASKS)))
    stop.set()
    await counting

    assert [number for number, _ in seen] == list(range(TASKS)) * STRETCHES
    at = [turn for _, turn in seen]
    assert len(set(at)) == len(at)


async def test_one_that_was_cancelled_while_it_waited_holds_up_nobody() -> None:
    turnstile = Turnstile()
    first = asyncio.create_task(turnstile.passed())
    second = asyncio.create_task(turnstile.passed())
    third = asyncio.create_task(turnstile.passed())
    await asyncio.sleep(0)
    second.cancel()

    await asyncio.wait_for(asyncio.gather(first, third), 5)

    assert second.cancelled()


async def test_one_alone_goes_on_after_each_of_its_stretches() -> None:
    turnstile, stop = Turnstile(at_a_stretch=2), asyncio.Event()
    turns, seen = [0], []
    counting = asyncio.create_task(turns_of_the_loop(stop, turns))

    async with asyncio.timeout(5):
        for step in range(6):
            await turnstile.before(step)
            seen.append(turns[0])
    stop.set()
    await counting

    first, second, third = seen[0::2]
    assert seen[1::2] == [first, second, third]
    assert first < second < third
