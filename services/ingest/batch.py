"""One batch of deliveries: understood, decided, committed, told to the traces."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client
from opentelemetry.trace import SpanKind
from tidewire.commerce.v1 import record_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

from libs import metric_names
from libs.bus import subjects
from libs.bus.commit_log import (
    BATCH_BYTES_MAX,
    ENTRIES_MAX,
    CommitLog,
    ConflictError,
    Stored,
)
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.publisher import publish
from libs.clock import Clock
from libs.connections import Connections, Credentials
from libs.errors import Kind, ServiceError, permanent
from libs.ids import Ids
from libs.resources import NAMES
from libs.telemetry import Metrics, SpanRef, Tracer
from libs.vault import Vault
from services.ingest.commit_plan import (
    NOTHING,
    Known,
    Plan,
    Prepared,
    plan,
    subjects_of,
)
from services.ingest.http import UNKNOWN_SHOP
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    StateView,
    TopicNotUsed,
    decoded,
    normalize,
)
from services.ingest.state_codec import view_of
from services.ingest.work import Job

_log = structlog.stdlib.get_logger()

_TRIES_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class _Read:
    """A delivery with its body, or with why it has none."""

    job: Job
    prepared: Prepared
    body: bytes
    started_ns: int
    ended_ns: int
    root: SpanRef


class BatchProcessor:
    """Carries out the commit protocol for batches of deliveries."""

    def __init__(
        self,
        *,
        nats: Client,
        log: CommitLog,
        vault: Vault,
        connections: Connections,
        credentials: Credentials,
        tracer: Tracer,
        metrics: Metrics,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._nats = nats
        self._dead_letters = DeadLetterStore(nats)
        self._log = log
        self._vault = vault
        self._connections = connections
        self._credentials = credentials
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock
        self._ids = ids

    async def process(self, jobs: Sequence[Job]) -> None:
        """Commits `jobs`, parks those of unknown shops, dead-letters what nobody can read.

        Raises:
            ServiceError: RETRYABLE; some may be committed, and doing all again is harmless.
        """
        known: list[Job] = []
        for job in jobs:
            if self._connections.shop(job.delivery.shop) is None:
                await self._park(job.delivery)
            else:
                known.append(job)
        await self._vault.prepare({job.delivery.shop for job in known})
        read = [await self._read(job) for job in known]
        await self._commit(read)

    async def bury_unreadable(self, data: bytes, sequence: int) -> None:
        """Dead-letters a message of WEBHOOKS that is no segment."""
        _log.error("segment_unreadable", sequence=sequence, bytes=len(data))
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=f"segment-{sequence}",
            service="ingest",
            reason_class="mapping",
            code="segment_unreadable",
            original=sealed_pb2.Payload(data=data),
        )
        await self._publish_dead(letter)

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, job: Job) -> _Read:
        started_ns = self._clock.now_ns()
        delivery = job.delivery
        root = SpanRef.parse(delivery.traceparent) or self._tracer.start_trace()
        body = b""
        said: Normalized | TopicNotUsed | ServiceError
        try:
            self._refuse_borrowed_secret(delivery)
            owner = UNKNOWN_SHOP if delivery.shop_unknown else delivery.shop
            body = await self._vault.open_bytes(delivery.body, owner)
            body = decoded(body, delivery.content_encoding)
            said = self._understood(delivery, body)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            said = error
        prepared = Prepared(
            delivery=delivery,
            meta=_meta(delivery, body),
            said=said,
            span=self._tracer.child(root),
            segment_sequence=job.segment.sequence,
            segment_index=job.index,
            seen_subject=subjects.seen(delivery.shop, delivery.delivery_id),
            state_subject=_state_subject(delivery.shop, said),
        )
        return _Read(job, prepared, body, started_ns, self._clock.now_ns(), root)

    def _understood(
        self, delivery: delivery_pb2.Delivery, body: bytes
    ) -> Normalized | TopicNotUsed | ServiceError:
        shop = self._connections.shop(delivery.shop)
        if shop is None:
            raise ServiceError(Kind.RETRYABLE, "shop_vanished", "its connection was just removed")
        context = ShopContext(shop=shop.handle, country=shop.country, currency=shop.currency)
        return normalize(delivery.topic, body, context, _meta(delivery, body))

    def _refuse_borrowed_secret(self, delivery: delivery_pb2.Delivery) -> None:
        """A delivery that came before its shop was known was tried against everybody's secrets."""
        if not delivery.shop_unknown:
            return
        everybody = self._credentials.webhook_secrets(None)
        used = next((s.key for s in everybody if s.secret_id == delivery.secret_id), None)
        own = {secret.key for secret in self._credentials.webhook_secrets(delivery.shop)}
        if used not in own:
            raise permanent(
                "signed_for_another_shop",
                "it was signed before this shop was connected, with a secret the shop does not have",
            )

    # -- committing ------------------------------------------------------------------------------

    async def _commit(self, read: Sequence[_Read]) -> None:
        if not read:
            return
        batch = [one.prepared for one in read]
        found = await self._log.read(subjects_of(batch))
        extra: frozenset[str] = frozenset()
        for attempt in range(1, _TRIES_MAX + 1):
            started_ns = self._clock.now_ns()
            planned = await self._plan(batch, found, extra)
            if len(planned.entries) > ENTRIES_MAX or planned.size_bytes > BATCH_BYTES_MAX:
                await self._commit_in_halves(read)
                return
            await self._bury(planned)
            try:
                if planned.entries:
                    await self._log.commit(planned.entries)
            except ConflictError:
                self._metrics.counter(
                    metric_names.NORMALIZER_BATCH_RETRIES, reason="conflict"
                ).value += 1
                found, extra = await self._read_again(batch, planned, found, attempt)
                continue
            self._tell(read, planned, started_ns)
            return
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")

    async def _commit_in_halves(self, read: Sequence[_Read]) -> None:
        if len(read) == 1:
            raise AssertionError("one delivery is within every bound of a batch")
        middle = len(read) // 2
        await self._commit(read[:middle])
        await self._commit(read[middle:])

    async def _plan(
        self, batch: Sequence[Prepared], found: Mapping[str, Stored], extra: frozenset[str]
    ) -> Plan:
        states: dict[str, Known] = {}
        for prepared in batch:
            name = prepared.state_subject
            if name is None or name in states:
                continue
            stored = found.get(name)
            states[name] = NOTHING if stored is None else await self._known(stored)
        existing = frozenset(name for name in found if name.startswith("commerce.seen.")) | extra
        return plan(
            batch,
            states,
            existing,
            sinks_of=self._connections.sinks,
            seal=self._vault.seal,
        )

    async def _known(self, stored: Stored) -> Known:
        record = record_pb2.StateRecord.FromString(stored.data)
        view: StateView = view_of(record, await self._vault.open_bytes(record.payload, record.shop))
        return Known(stored.sequence, view)

    async def _read_again(
        self,
        batch: Sequence[Prepared],
        planned: Plan,
        before: Mapping[str, Stored],
        attempt: int,
    ) -> tuple[dict[str, Stored], frozenset[str]]:
        """What is stored by now, and which of the planned facts are already there.

        The second time the leader itself is asked: a follower that lags would answer as before for
        ever.
        """
        names = subjects_of(batch)
        read = self._log.read if attempt == 1 else self._log.read_fresh
        found = await read(names)
        facts = await read(planned.fact_subjects) if planned.fact_subjects else {}
        if found == before and not facts:
            await asyncio.sleep(0.01 * attempt)
        return found, frozenset(facts)

    # -- what cannot be used ---------------------------------------------------------------------

    async def _park(self, delivery: delivery_pb2.Delivery) -> None:
        await publish(
            self._nats,
            subjects.parked("ingest", delivery.shop),
            delivery.SerializeToString(),
            message_id=f"{delivery.shop}.{delivery.delivery_id}",
        )
        self._count("unknown", "parked")

    async def _bury(self, planned: Plan) -> None:
        """Dead letters are stored before the marker says that they are."""
        for decided in planned.decided:
            error = decided.prepared.said
            if isinstance(error, ServiceError):
                delivery = decided.prepared.delivery
                letter = outcome_pb2.DeadLetter(
                    dead_letter_id=f"ingest.{delivery.shop}.{delivery.delivery_id}",
                    service="ingest",
                    reason_class="mapping",
                    code=error.code,
                    message=error.message,
                    path=error.path or "",
                    shop=delivery.shop,
                    delivery_id=delivery.delivery_id,
                    traceparent=delivery.traceparent,
                    topic=delivery.topic,
                    original=await self._resealed(delivery),
                    received_at=delivery.received_at,
                )
                await self._publish_dead(letter)

    async def _resealed(self, delivery: delivery_pb2.Delivery) -> sealed_pb2.Payload:
        if not delivery.shop_unknown:
            return delivery.body
        body = await self._vault.open_bytes(delivery.body, UNKNOWN_SHOP)
        return self._vault.seal_bytes(body, delivery.shop)

    async def _publish_dead(self, letter: outcome_pb2.DeadLetter) -> None:
        letter.died_at.FromNanoseconds(self._clock.now_ns())
        await self._dead_letters.store(letter)
        self._metrics.counter(
            metric_names.DEAD_LETTERS, service="ingest", reason="mapping"
        ).value += 1

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, read: Sequence[_Read], planned: Plan, started_ns: int) -> None:
        ended_ns = self._clock.now_ns()
        decided = {id(one.prepared): one for one in planned.decided}
        self._metrics.histogram(metric_names.NORMALIZER_BATCH).observe(
            (ended_ns - started_ns) / 1e9
        )
        for one in read:
            outcome = decided.get(id(one.prepared))
            result = _result_name(outcome.record.result) if outcome else "duplicate"
            kind = _kind_name(one.prepared.said)
            self._count(kind, result)
            for unit in outcome.facts if outcome else ():
                self._metrics.counter(
                    metric_names.NORMALIZER_FACTS, kind=unit.partition(".")[0]
                ).value += 1
            if one.root.sampled or result == "dead":
                facts = len(outcome.facts) if outcome else 0
                self._emit(one, kind, result, facts, started_ns, ended_ns)

    def _emit(
        self, one: _Read, kind: str, result: str, facts: int, started_ns: int, ended_ns: int
    ) -> None:
        """The spans of a delivery's whole way so far, from the times that it carries."""
        tracer, delivery, said = self._tracer, one.prepared.delivery, one.prepared.said
        segment = one.job.segment
        shared = {"shop": delivery.shop, "delivery_id": delivery.delivery_id}
        error = said if isinstance(said, ServiceError) else None
        resource = {"resource_id": said.resource_id} if isinstance(said, Normalized) else {}
        if result != "duplicate":
            tracer.emit(
                "webhook received",
                one.root,
                parent=None,
                start_ns=delivery.request_started_ns or delivery.received_at.ToNanoseconds(),
                end_ns=max(segment.stored_ns, delivery.received_at.ToNanoseconds()),
                kind=SpanKind.SERVER,
                attributes={**shared, "topic": delivery.topic, "bytes": delivery.body_size_bytes},
            )
            tracer.emit(
                "segment committed",
                tracer.child(one.root),
                parent=one.root,
                start_ns=segment.committing_ns,
                end_ns=max(segment.stored_ns, segment.committing_ns),
                attributes={"sequence": segment.sequence},
            )
        tracer.emit(
            "normalised",
            tracer.child(one.root),
            parent=one.root,
            start_ns=one.started_ns,
            end_ns=one.ended_ns,
            attributes={**shared, "kind": kind, **resource},
            error=error,
        )
        tracer.emit(
            "published",
            one.prepared.span,
            parent=one.root,
            start_ns=started_ns,
            end_ns=ended_ns,
            kind=SpanKind.PRODUCER,
            attributes={"outcome": result, "facts": facts, **resource},
        )

    def _count(self, kind: str, result: str) -> None:
        self._metrics.counter(
            metric_names.NORMALIZER_DELIVERIES, kind=kind, result=result
        ).value += 1


def _meta(delivery: delivery_pb2.Delivery, body: bytes) -> DeliveryMeta:
    triggered: Timestamp | None = (
        delivery.triggered_at if delivery.HasField("triggered_at") else None
    )
    return DeliveryMeta(
        body_hash=int.from_bytes(hashlib.sha256(body).digest()[:8], "big"),
        received_at=delivery.received_at,
        triggered_at=triggered,
    )


def _state_subject(shop: str, said: Normalized | TopicNotUsed | ServiceError) -> str | None:
    if not isinstance(said, Normalized):
        return None
    return subjects.state(NAMES[said.kind], shop, said.resource_id)


def _kind_name(said: Normalized | TopicNotUsed | ServiceError) -> str:
    return NAMES[said.kind] if isinstance(said, Normalized) else "unknown"


def _result_name(result: record_pb2.SeenResult.ValueType) -> str:
    return record_pb2.SeenResult.Name(result).removeprefix("SEEN_RESULT_").lower()
