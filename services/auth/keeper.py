"""Keeps stores connected: hourly, and when something has changed, each is looked at and put right.

Shopify deletes a subscription after eight failed deliveries, a merchant can take a scope away, and
a version ends. Nothing tells of any of these; only a look does. Stores and TikTok Shops are looked
after alike, each by a keeper of their own; what they need is said in `services.auth.care`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from zlib import crc32

import structlog

from libs import metric_names
from libs.bus.lease import Lease
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.retry import worth_retrying
from libs.telemetry import Metrics
from services.auth.care import Care
from services.auth.domain.subscriptions import Plan, healed
from services.auth.ports import Installation, KeptStore, KeptStores, Stores
from tidewire.auth.v1 import health_pb2

_log = structlog.stdlib.get_logger()

LEASE_NAME: Final = "auth.keeper"
SHOP_LEASE_NAME: Final = "auth.shop_keeper"
"""Of whoever goes round TikTok Shops."""
LEASE_S: Final = 120
"""Longer than a look takes while a store throttles, and renewed before each."""

_AT_ONCE: Final = 8
_ROUND_S: Final = 5.0
"""Between looks at who is due; those who are known are in memory."""
_SPREAD: Final = 0.1
"""Stores are due up to a tenth of the interval early or late: not all at the full hour."""
_FAILED_S: Final = 5.0
"""After a look that failed; twice as long after each further one, at most the interval."""
_DOUBLINGS_MAX: Final = 16
_TRIES_MAX: Final = 6
"""Of a look that was asked for: over five minutes."""


@dataclass(slots=True)
class _Work:
    """What came of a plan."""

    made: int = 0
    refusals: list[str] = field(default_factory=list)
    trouble: ServiceError | None = None


class Keeper:
    """Looks after all stores. Any number of replicas may run it: one goes round at a time."""

    def __init__(
        self,
        *,
        kept: KeptStores,
        stores: Stores,
        lease: Lease,
        release: Callable[[], Awaitable[None]],
        metrics: Metrics,
        clock: Clock,
        care: Care,
    ) -> None:
        """`release` gives up the lease, so that another replica goes on at once."""
        self._kept = kept
        self._stores = stores
        self._lease = lease
        self._release = release
        self._metrics = metrics
        self._clock = clock
        self._care = care
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._holding = asyncio.Lock()
        self._renew_s = 0.0
        self._asked: set[str] = set()
        self._wake = asyncio.Event()
        self._looking: dict[str, asyncio.Lock] = {}
        self._failed: dict[str, tuple[int, float]] = {}
        self._told: dict[str, Sequence[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def soon(self, shop: str) -> None:
        """Has the store with this key looked at now, whoever goes round."""
        self._asked.add(shop)
        self._wake.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Looks after stores until `stop`; what is broken off is harmless to do again."""
        ready()
        self._start(self._rounds())
        self._start(self._answer())
        try:
            await self._stopping.wait()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._release()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="keeper")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._asked:
                self._start(self._look_until_done(self._asked.pop()))

    async def _look_until_done(self, shop: str) -> None:
        """What was asked for is not left to the next hour because the store was down just now."""
        for failures in range(_TRIES_MAX):
            if await self.look(shop):
                return
            await self._clock.sleep(_FAILED_S * 2.0**failures)

    async def _rounds(self) -> None:
        while True:
            try:
                await self.round()
            except ServiceError as error:
                _log.info("keeper_waits", code=error.code)
            except Exception:  # noqa: BLE001  # the next round may go better
                _log.exception("keeper_round_failed")
            await self._clock.sleep(_ROUND_S)

    async def round(self) -> None:
        """Looks at every store that is due, while this process holds the lease.

        Raises:
            ServiceError: RETRYABLE, where the stores cannot be listed.
        """
        if not await self._holds():
            return
        waiting = [one.key for one in await self._kept.stores() if self._is_due(one)]

        async def work() -> None:
            while waiting:
                shop = waiting.pop(0)
                if await self._holds():
                    await self.look(shop)

        await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(waiting)))))

    async def _holds(self) -> bool:
        """Whether this process goes round. Renewed by one at a time, or it would lose to itself."""
        async with self._holding:
            now_s = self._clock.monotonic_s()
            if not self._lease.is_held or now_s >= self._renew_s:
                self._renew_s = now_s + LEASE_S / 3
                return await self._lease.hold()
            return True

    def _is_due(self, store: KeptStore) -> bool:
        shop = store.key
        _, not_before_s = self._failed.get(shop, (0, 0.0))
        if self._clock.monotonic_s() < not_before_s:
            return False
        if store.webhooks is None or not store.webhooks.HasField("checked_at"):
            return True
        age_s = self._clock.now_ns() / 1e9 - store.webhooks.checked_at.ToNanoseconds() / 1e9
        return age_s >= self._care.every_s * _stretch(shop)

    async def look(self, shop: str) -> bool:
        """Looks at one store and puts it right; False where the same may work later.

        Whatever is wrong with it is told and leaves the others alone. Two looks at one store follow
        each other: what changed during the first is seen by the second.
        """
        async with self._looking.setdefault(shop, asyncio.Lock()), self._room:
            try:
                store = await self._kept.store(shop)
                if store is None:
                    self._forget(shop)
                    return True
                await self._put_right(store)
            except ServiceError as error:
                self._note_failure(shop, error)
                return not worth_retrying(error)
            except Exception:  # noqa: BLE001  # a surprise at one store is not the next one's
                _log.exception("store_look_failed", shop=shop)
                self._back_off(shop)
                return False
            self._failed.pop(shop, None)
            return True

    async def _put_right(self, store: KeptStore) -> None:
        shop = store.key
        installed = await self._stores.installation(shop)
        made = self._care.planned(store, installed)
        work = await self._carry_out(shop, made)
        await self._note(store, installed, made, work)
        if work.trouble is not None:
            raise work.trouble

    async def _carry_out(self, shop: str, made: Plan) -> _Work:
        """Does what is planned. One refusal leaves the rest alone; trouble with the store ends it.

        What lacks comes first: it costs deliveries, and a duplicate only work.
        """
        address = self._care.address
        work = _Work()
        steps: list[Callable[[], Awaitable[bool | None]]] = [
            *(partial(self._stores.create, shop, want, address) for want in made.creates),
            *(partial(self._stores.update, shop, one, want, address) for one, want in made.updates),
            *(partial(self._stores.delete, shop, one) for one in made.deletes),
        ]
        for step in steps:
            try:
                done = await step()
            except ServiceError as error:
                if error.kind is not Kind.PERMANENT:
                    work.trouble = error
                    break
                self._count("refused")
                work.refusals.append(error.message)
                continue
            if done is None:
                self._count("deleted")
            elif done:
                work.made += 1
        return work

    async def _note(
        self, store: KeptStore, installed: Installation, made: Plan, work: _Work
    ) -> None:
        before = store.webhooks or health_pb2.WebhookHealth()
        again = min(work.made, healed(before.in_place, made))
        self._count("healed", again)
        self._count("made", work.made - again)
        shop = store.key
        missing = self._care.missing(store, installed)
        found = [*self._care.problems(store, installed, made), *work.refusals]
        health = health_pb2.WebhookHealth(
            in_place=made.in_place + work.made,
            healed=before.healed + again,
            problems=found,
        )
        if work.trouble is None:
            health.checked_at.FromNanoseconds(self._clock.now_ns())
        elif before.HasField("checked_at"):
            # Still due: whoever goes round next goes on from here.
            health.checked_at.CopyFrom(before.checked_at)
        await self._kept.note(
            store.connection.connection_id,
            webhooks=health,
            version=installed.version,
            granted_scopes=sorted(installed.scopes),
            missing_scopes=missing,
        )
        self._tell(shop, found)
        if work.made or made.deletes:
            _log.info("store_put_right", shop=shop, made=work.made, healed=again)
        if work.trouble is None:
            self._count_look("problems" if found else "ok")

    def _tell(self, shop: str, found: Sequence[str]) -> None:
        """What stands in a store's way, each time that it is something else."""
        if found and self._told.get(shop) != found:
            _log.warning("store_has_problems", shop=shop, problems=list(found))
        self._told[shop] = found

    def _note_failure(self, shop: str, error: ServiceError) -> None:
        self._count_look(error.kind.value)
        if shop not in self._failed:
            _log.warning("store_look_refused", shop=shop, code=error.code, reason=error.message)
        self._back_off(shop)

    def _back_off(self, shop: str) -> None:
        failures, _ = self._failed.get(shop, (0, 0.0))
        wait_s = min(_FAILED_S * 2.0 ** min(failures, _DOUBLINGS_MAX), self._care.every_s)
        self._failed[shop] = (failures + 1, self._clock.monotonic_s() + wait_s)

    def _forget(self, shop: str) -> None:
        self._failed.pop(shop, None)
        self._told.pop(shop, None)

    def _count(self, action: str, amount: int = 1) -> None:
        if amount:
            self._metrics.counter(metric_names.WEBHOOK_SUBSCRIPTIONS, action=action).add(amount)

    def _count_look(self, result: str) -> None:
        self._metrics.counter(metric_names.STORE_LOOKS, result=result).add()


def _stretch(shop: str) -> float:
    """From 0.9 to 1.1, always the same for a shop."""
    share = crc32(shop.encode()) % 1000 / 999
    return 1.0 - _SPREAD + 2 * _SPREAD * share
