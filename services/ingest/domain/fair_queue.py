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
        while self._turns and passed_over < len(self._turns):
            if len(taken) >= items_max or spent >= cost_max:
                break
            key = self._turns[0]
            if key in excluded:
                self._turns.rotate(-1)
                passed_over += 1
                continue
            passed_over = 0
            spent += self._serve(key, taken, items_max, cost_max - spent)
        return taken

    def _serve(self, key: str, taken: list[tuple[str, T]], items_max: int, room: int) -> int:
        """Serves one turn of `key`; returns what it cost."""
        queue = self._queues[key]
        budget = self._deficits[key] + self._quantum
        spent = 0
        before = len(taken)
        while queue and len(taken) < items_max:
            cost = queue[0][0]
            if cost > budget or (taken and spent + cost > room):
                break
            taken.append((key, queue.popleft()[1]))
            budget -= cost
            spent += cost
        self.cost -= spent
        self.size -= len(taken) - before
        self._turns.popleft()
        self._after_turn(key, budget)
        return spent

    def _after_turn(self, key: str, budget: int) -> None:
        if self._queues[key]:
            self._deficits[key] = budget
            self._turns.append(key)
        else:
            del self._queues[key], self._deficits[key]
