"""Deficit round robin: a quiet shop does not wait behind another's ten thousand. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """One queue a key; each turn of a key is worth `quantum` of cost.

    What a key did not spend of its turn it keeps for the next one, so that large items get their
    share too; a key that has run empty keeps nothing (Shreedhar and Varghese, 1995).
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._queues: dict[str, deque[tuple[int, T]]] = {}
        self._deficits: dict[str, int] = {}
        self._turns: deque[str] = deque()
        self.cost = 0
        self.size = 0

    def put(self, key: str, item: T, cost: int) -> None:
        """Adds `item` behind the others of `key`; `cost` is its size in bytes."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            self._deficits[key] = 0
            self._turns.append(key)
        queue.append((cost, item))
        self.cost += cost
        self.size += 1

    def take(
        self, *, items_max: int, cost_max: int, excluded: AbstractSet[str] = frozenset()
    ) -> list[tuple[str, T]]:
        """The next items, at most so many and so much, none of an `excluded` key.

        Always at least one where there is any to give, however large it is.
        """
        taken: list[tuple[str, T]] = []
        spent = 0
        passed_over = 0
        while passed_over < len(self._turns) and len(taken) < items_max and spent < cost_max:
            key = self._turns[0]
            if key in excluded:
                self._turns.rotate(-1)
                passed_over += 1
                continue
            passed_over = 0
            served, is_full = self._serve(key, taken, items_max, cost_max - spent)
            spent += served
            if is_full:
                break
        return taken

    def _serve(
        self, key: str, taken: list[tuple[str, T]], items_max: int, room: int
    ) -> tuple[int, bool]:
        """Serves one turn of `key`; returns what it cost, and whether the batch is full."""
        queue = self._queues[key]
        budget = self._deficits[key] + self._quantum
        spent = 0
        before = len(taken)
        is_full = False
        while queue and len(taken) < items_max and queue[0][0] <= budget:
            cost = queue[0][0]
            is_full = bool(taken) and spent + cost > room
            if is_full:
                break
            taken.append((key, queue.popleft()[1]))
            budget -= cost
            spent += cost
        self.cost -= spent
        self.size -= len(taken) - before
        self._end_turn(key, budget, is_full)
        return spent, is_full

    def _end_turn(self, key: str, budget: int, is_full: bool) -> None:  # noqa: FBT001
        if not self._queues[key]:
            self._turns.popleft()
            del self._queues[key], self._deficits[key]
        elif is_full:
            # Its turn goes on with the next batch; it is not given a second quantum for that.
            self._deficits[key] = budget - self._quantum
        else:
            self._deficits[key] = budget
            self._turns.rotate(-1)
