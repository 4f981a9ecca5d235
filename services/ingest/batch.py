"""One batch of deliveries: understood, decided, committed, told to the traces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client
from opentelemetry.trace import SpanKind

from libs import metric_names
from libs.bus import subjects
from libs.bus.burial import BurialWatch
from libs.bus.commit_log import CommitLog
from libs.bus.dead_letters import INGEST, DeadLetterStore, delivery_letter_id
from libs.bus.publisher import publish
from libs.clock import Clock
from libs.connections import Connections, Credentials
from libs.encodings import decoded
from libs.errors import Kind, ServiceError, permanent
from libs.resources import NAMES
from libs.telemetry import Counter, Metrics, SpanRef, Tracer
from libs.vault import Vault
from services.ingest.commit import CommitProtocol
from services.ingest.commit_plan import Plan, Prepared
from services.ingest.domain.verification import fingerprint
from services.ingest.http import UNKNOWN_SHOP
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    TopicNotUsed,
    normalize,
)
from services.ingest.work import Job
from tidewire.commerce.v1 import record_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

_log = structlog.stdlib.get_logger()


_ALL_MUST_WAIT: Final = frozenset({"nats_unavailable", "contended", "shop_vanished"})
"""Errors that are nobody's delivery's own: the store is away."""


_PRODUCT: Final = record_pb2.RESOURCE_KIND_PRODUCT


@dataclass(frozen=True, slots=True)
class ReadDelivery:
    """A delivery with its body, or with why it has none."""

    job: Job
    prepared: Prepared
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
        burials: BurialWatch,
        on_tied: Callable[[str, str], None] = lambda _shop, _product_id: None,
    ) -> None:
        """`on_tied` is told of each product whose stored body is a guess; it must not wait."""
        self._burials = burials
        self._nats = nats
        self._on_tied = on_tied
        self._dead_letters = DeadLetterStore(nats)
        self._vault = vault
        self._connections = connections
        self._credentials = credentials
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock
        self._decided: dict[tuple[str, str], Counter] = {}
        self._protocol = CommitProtocol(
            log, vault, sinks_of=connections.sinks, before_commit=self._bury, metrics=metrics
        )

    async def process(self, jobs: Sequence[Job]) -> None:
        """Reads and commits `jobs`; both may be repeated, what is done stays done.

        Raises:
            ServiceError: RETRYABLE; some may be committed.
        """
        read, _ = await self.read(jobs)
        await self.commit(read)

    async def read(self, jobs: Sequence[Job]) -> tuple[list[ReadDelivery], list[Job]]:
        """What the deliveries say, and those that cannot be dealt with now.

        Deliveries of unknown shops are parked and in neither list.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        read: list[ReadDelivery] = []
        postponed: list[Job] = []
        for job in jobs:
            try:
                if self._connections.shop(job.delivery.shop) is None:
                    await self._park(job)
                    continue
                await self._vault.prepare([job.delivery.shop])
            except ServiceError as error:
                if error.code in _ALL_MUST_WAIT:
                    raise
                _log.error("delivery_postponed", shop=job.delivery.shop, code=error.code)
                postponed.append(job)
                continue
            read.append(await self._read(job))
        return read, postponed

    async def commit(self, read: Sequence[ReadDelivery]) -> list[Job]:
        """Commits what was read; returns those that cannot be dealt with now.

        Where a batch cannot be committed for a reason that is not the store's own outage, its
        deliveries are committed one by one, so that nobody waits for the one that is at fault.

        Raises:
            ServiceError: RETRYABLE; some may be committed.
        """
        try:
            await self._commit(read)
        except ServiceError as error:
            if error.code in _ALL_MUST_WAIT:
                raise
            return await self._commit_singly(read, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must go on
            _log.exception("commit_failed", deliveries=len(read))
            return await self._commit_singly(read, permanent("unforeseen", type(error).__name__))
        return []

    async def _commit_singly(self, read: Sequence[ReadDelivery], error: ServiceError) -> list[Job]:
        if len(read) > 1:
            return [job for one in read for job in await self.commit([one])]
        (one,) = read
        if error.kind is Kind.PERMANENT and not isinstance(one.prepared.said, ServiceError):
            # It is the delivery itself: given up with the reason, instead of tried for ever.
            dead = replace(one.prepared, said=error, state_subject=None)
            return await self.commit([replace(one, prepared=dead)])
        _log.error("delivery_postponed", shop=one.prepared.delivery.shop, code=error.code)
        return [one.job]

    async def _commit(self, read: Sequence[ReadDelivery]) -> None:
        by_id = {id(one.prepared): one for one in read}
        started_ns = self._clock.now_ns()
        for committed in await self._protocol.commit([one.prepared for one in read]):
            members = [decided.prepared for decided in committed.decided] + committed.duplicates
            self._tell([by_id[id(prepared)] for prepared in members], committed, started_ns)
            self._note_ties(committed)

    def _note_ties(self, committed: Plan) -> None:
        tied = {subject for subject, _, view in committed.states if view.tied}
        if not tied:
            return
        for one in committed.decided:
            said = one.prepared.said
            if not isinstance(said, Normalized) or said.kind != _PRODUCT:
                continue
            if one.prepared.state_subject in tied:
                self._on_tied(one.prepared.delivery.shop, said.resource_id)

    async def bury_unreadable(self, data: bytes, sequence: int) -> None:
        """Dead-letters a message of WEBHOOKS that is no segment."""
        _log.error("segment_unreadable", sequence=sequence, bytes=len(data))
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=f"segment-{sequence}",
            service=INGEST,
            reason_class="mapping",
            code="segment_unreadable",
            original=sealed_pb2.Payload(data=data),
        )
        await self._publish_dead(letter)

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, job: Job) -> ReadDelivery:
        started_ns = self._clock.now_ns()
        delivery = job.delivery
        root = SpanRef.parse(delivery.traceparent) or self._tracer.start_trace()
        meta = _meta(delivery, b"")
        said: Normalized | TopicNotUsed | ServiceError
        try:
            self._refuse_borrowed_secret(delivery)
            owner = UNKNOWN_SHOP if delivery.shop_unknown else delivery.shop
            body = await self._vault.open_bytes(delivery.body, owner)
            body = decoded(body, delivery.content_encoding)
            meta = _meta(delivery, body)
            said = self._understood(delivery, body, meta)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            said = error
        except Exception as error:  # noqa: BLE001
            # A bug met by one delivery is not its neighbours': it is kept, with its body.
            _log.exception("reading_failed", topic=delivery.topic)
            said = permanent("unforeseen", type(error).__name__)
        prepared = Prepared(
            delivery=delivery,
            meta=meta,
            said=said,
            span=self._tracer.child(root),
            # A parked delivery has left its segment behind: nothing in WEBHOOKS is its own.
            segment_sequence=max(0, job.segment.sequence),
            segment_index=job.index,
            seen_subject=subjects.seen(delivery.shop, delivery.delivery_id),
            state_subject=_state_subject(delivery.shop, said),
        )
        return ReadDelivery(job, prepared, started_ns, self._clock.now_ns(), root)

    def _understood(
        self, delivery: delivery_pb2.Delivery, body: bytes, meta: DeliveryMeta
    ) -> Normalized | TopicNotUsed | ServiceError:
        shop = self._connections.shop(delivery.shop)
        if shop is None:
            raise ServiceError(Kind.RETRYABLE, "shop_vanished", "its connection was just removed")
        context = ShopContext(shop=shop.handle, country=shop.country, currency=shop.currency)
        return normalize(delivery.topic, body, context, meta)

    def _refuse_borrowed_secret(self, delivery: delivery_pb2.Delivery) -> None:
        """A delivery that came before its shop was known was tried against everybody's secrets."""
        if not delivery.shop_unknown:
            return
        secrets = self._credentials.webhook_secrets(delivery.shop)
        if delivery.secret_id not in {fingerprint(secret.key) for secret in secrets}:
            raise permanent(
                "signed_for_another_shop",
                "it was signed before the shop was connected, with a secret the shop does not have",
            )

    # -- what cannot be used ---------------------------------------------------------------------

    async def _park(self, job: Job) -> None:
        delivery = job.delivery
        await publish(
            self._nats,
            subjects.parked("ingest", delivery.shop),
            delivery.SerializeToString(),
            # With its place: parked again after it was taken up, it is no duplicate.
            message_id=f"{delivery.shop}.{delivery.delivery_id}.{job.segment.sequence}",
        )
        self._count("unknown", "parked")

    async def _bury(self, planned: Plan) -> None:
        """Dead letters are stored before the marker says that they are."""
        for decided in planned.decided:
            error = decided.prepared.said
            if isinstance(error, ServiceError):
                delivery = decided.prepared.delivery
                letter = outcome_pb2.DeadLetter(
                    dead_letter_id=delivery_letter_id(delivery.shop, delivery.delivery_id),
                    service=INGEST,
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
                    content_encoding=delivery.content_encoding,
                    replay_of=delivery.replay_of,
                )
                if delivery.HasField("triggered_at"):
                    letter.triggered_at.CopyFrom(delivery.triggered_at)
                await self._publish_dead(letter)

    async def _resealed(self, delivery: delivery_pb2.Delivery) -> sealed_pb2.Payload:
        if not delivery.shop_unknown:
            return delivery.body
        try:
            body = await self._vault.open_bytes(delivery.body, UNKNOWN_SHOP)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            return delivery.body
        return self._vault.seal_bytes(body, delivery.shop)

    async def _publish_dead(self, letter: outcome_pb2.DeadLetter) -> None:
        letter.died_at.FromNanoseconds(self._clock.now_ns())
        await self._dead_letters.store(letter)
        self._metrics.counter(
            metric_names.DEAD_LETTERS, service=INGEST, reason="mapping"
        ).value += 1

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, read: Sequence[ReadDelivery], planned: Plan, started_ns: int) -> None:
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
            self._watch(one.prepared.delivery, result)
            for unit in outcome.facts if outcome else ():
                self._metrics.counter(
                    metric_names.NORMALIZER_FACTS, kind=unit.partition(".")[0]
                ).value += 1
            if one.root.sampled or result == "dead":
                facts = len(outcome.facts) if outcome else 0
                self._emit(one, result, facts, (started_ns, ended_ns))

    def _watch(self, delivery: delivery_pb2.Delivery, result: str) -> None:
        """A duplicate says nothing, and a replay is somebody's experiment."""
        if result == "duplicate" or delivery.source == delivery_pb2.SOURCE_REPLAY:
            return
        if result == "dead":
            self._burials.buried(delivery.topic, delivery.shop, "mapping")
        else:
            self._burials.ended_well(delivery.topic)

    def _emit(
        self, one: ReadDelivery, result: str, facts: int, published_ns: tuple[int, int]
    ) -> None:
        """The spans of a delivery's whole way so far, from the times that it carries."""
        tracer, delivery, said = self._tracer, one.prepared.delivery, one.prepared.said
        segment = one.job.segment
        shared = {"shop": delivery.shop, "delivery_id": delivery.delivery_id}
        error = said if isinstance(said, ServiceError) else None
        resource = {"resource_id": said.resource_id} if isinstance(said, Normalized) else {}
        replayed = delivery.source == delivery_pb2.SOURCE_REPLAY
        # A replay's first span is told by who replayed it: no webhook came.
        if result != "duplicate" and not replayed:
            tracer.emit(
                "webhook received",
                one.root,
                parent=None,
                start_ns=delivery.request_started_ns or delivery.received_at.ToNanoseconds(),
                end_ns=max(segment.stored_ns, delivery.received_at.ToNanoseconds()),
                kind=SpanKind.SERVER,
                attributes={**shared, "topic": delivery.topic, "bytes": delivery.body_size_bytes},
            )
        if result != "duplicate":
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
            attributes={**shared, "kind": _kind_name(said), **resource},
            error=error,
        )
        tracer.emit(
            "published",
            one.prepared.span,
            parent=one.root,
            start_ns=published_ns[0],
            end_ns=published_ns[1],
            kind=SpanKind.PRODUCER,
            attributes={"outcome": result, "facts": facts, **resource},
        )

    def _count(self, kind: str, result: str) -> None:
        counter = self._decided.get((kind, result))
        if counter is None:
            counter = self._decided[kind, result] = self._metrics.counter(
                metric_names.NORMALIZER_DELIVERIES, kind=kind, result=result
            )
        counter.value += 1


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
