"""gRPC in: `IngestService` and `CommerceService`. Checks, translates, decides nothing."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from grpc.aio import ServicerContext
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.bus.commit_log import CommitLog, Stored
from libs.bus.scan import page
from libs.clock import Clock
from libs.connections import Connections, shop_handle
from libs.errors import Kind, ServiceError, permanent
from libs.ids import Ids
from libs.keys import KeySource
from libs.resources import MESSAGES, NAMES
from libs.rpc.server import incoming_traceparent
from libs.telemetry import SpanRef, Tracer
from libs.vault import Vault
from services.ingest.committer import GroupCommitter
from services.ingest.http import UNKNOWN_SHOP, store_delivery
from services.ingest.parked import parked_page
from tidewire.commerce.v1 import commerce_service_pb2 as commerce
from tidewire.commerce.v1 import commerce_service_pb2_grpc, record_pb2
from tidewire.ingest.v1 import delivery_pb2, ingest_service_pb2_grpc
from tidewire.ingest.v1 import ingest_service_pb2 as ingest

Context = ServicerContext[Any, Any]

_DELIVERIES_PAGE: Final = 50
_RESOURCES_PAGE: Final = 100
_WATCH_POLL_S: Final = 0.2
_MESSAGE_NOT_FOUND: Final = 10037
_PAGE_TOKEN: Final = re.compile(r"[0-9]{1,18}")
_BODIES: Final = {
    record_pb2.RESOURCE_KIND_ORDER: "order",
    record_pb2.RESOURCE_KIND_PRODUCT: "product",
    record_pb2.RESOURCE_KIND_INVENTORY_LEVEL: "inventory_level",
    record_pb2.RESOURCE_KIND_CHECKOUT: "checkout",
}


class IngestServer(ingest_service_pb2_grpc.IngestServiceServicer):
    """What ingest has received, and a way in for callers of our own."""

    def __init__(
        self,
        *,
        nats: Client,
        log: CommitLog,
        vault: Vault,
        keys: KeySource,
        connections: Connections,
        committer: GroupCommitter,
        clock: Clock,
        tracer: Tracer,
        ids: Ids,
    ) -> None:
        self._nats = nats
        self._log = log
        self._vault = vault
        self._keys = keys
        self._connections = connections
        self._committer = committer
        self._clock = clock
        self._tracer = tracer
        self._ids = ids

    async def GetDelivery(  # noqa: N802
        self, request: ingest.GetDeliveryRequest, context: Context
    ) -> ingest.GetDeliveryResponse:
        """One delivery and what became of it."""
        name = subjects.seen(request.shop, request.delivery_id)
        found = (await self._log.read([name])).get(name)
        if found is None:
            raise permanent(
                "delivery_not_found",
                "it never came, waits to be normalised, or is older than 72 hours",
                path="delivery_id",
            )
        summary = _summary(record_pb2.SeenRecord.FromString(found.data))
        response = ingest.GetDeliveryResponse(delivery=summary)
        if request.include_body:
            response.body = await self._body(summary.seen)
        return response

    async def ListDeliveries(  # noqa: N802
        self, request: ingest.ListDeliveriesRequest, context: Context
    ) -> ingest.ListDeliveriesResponse:
        """Deliveries of a shop, or those that wait for their shop."""
        limit = request.page_size or _DELIVERIES_PAGE
        after = _sequence(request.page_token)
        if request.status == ingest.DELIVERY_STATUS_PARKED:
            parked = await parked_page(self._nats, request.shop, after=after, limit=limit)
            token = str(parked[-1][0]) if len(parked) == limit else ""
            return ingest.ListDeliveriesResponse(
                deliveries=[_parked_summary(delivery) for _, delivery in reversed(parked)],
                next_page_token=token,
            )
        if not request.shop:
            raise permanent("shop_missing", "only parked deliveries list all shops", path="shop")
        pattern = subjects.seen(request.shop, "x").rsplit(".", 1)[0] + ".*"
        stored = await page(self._nats, subjects.COMMERCE, pattern, after=after, limit=limit)
        summaries = [_summary(record_pb2.SeenRecord.FromString(one.data)) for one in stored]
        wanted = [s for s in reversed(summaries) if request.status in (0, s.status)]
        token = str(stored[-1].sequence) if len(stored) == limit else ""
        return ingest.ListDeliveriesResponse(deliveries=wanted, next_page_token=token)

    async def Inject(  # noqa: N802
        self, request: ingest.InjectRequest, context: Context
    ) -> ingest.InjectResponse:
        """Stores a delivery as if its webhook had come."""
        shop = shop_handle(request.shop) or request.shop
        if self._connections.shop(shop) is None:
            raise permanent(
                "shop_unknown", "no connection of this shop: connect it first", path="shop"
            )
        span = SpanRef.parse(incoming_traceparent.get()) or self._tracer.start_trace()
        delivery = delivery_pb2.Delivery(
            delivery_id=f"inject.{request.request_id}",
            source=delivery_pb2.SOURCE_INJECTED,
            shop=shop,
            topic=request.topic,
            traceparent=span.traceparent(),
            body_size_bytes=len(request.body),
            request_started_ns=self._clock.now_ns(),
        )
        if request.HasField("triggered_at"):
            delivery.triggered_at.CopyFrom(request.triggered_at)
        await store_delivery(delivery, request.body, self._keys, self._committer, self._clock)
        return ingest.InjectResponse(delivery_id=delivery.delivery_id, trace_id=span.trace_hex)

    async def _body(self, seen: record_pb2.SeenRecord) -> bytes:
        """The body as it was sent, from the segment that holds it."""
        if not seen.segment_sequence:
            raise _body_not_found()
        try:
            answer = await js_api(
                self._nats,
                f"STREAM.MSG.GET.{subjects.WEBHOOKS}",
                {"seq": seen.segment_sequence},
            )
        except ApiError as error:
            if error.err_code != _MESSAGE_NOT_FOUND:
                raise ServiceError(Kind.RETRYABLE, "refused_by_nats", error.description) from error
            raise _body_not_found() from error
        data = base64.b64decode(answer["message"]["data"])
        segment = delivery_pb2.DeliverySegment.FromString(data)
        delivery = segment.deliveries[seen.segment_index]
        owner = UNKNOWN_SHOP if delivery.shop_unknown else delivery.shop
        return await self._vault.open_bytes(delivery.body, owner)


class CommerceServer(commerce_service_pb2_grpc.CommerceServiceServicer):
    """The newest version of what Shopify has told us."""

    def __init__(self, *, nats: Client, log: CommitLog, vault: Vault) -> None:
        self._nats = nats
        self._log = log
        self._vault = vault

    async def Get(  # noqa: N802
        self, request: commerce.GetRequest, context: Context
    ) -> commerce.GetResponse:
        """One resource."""
        found = await self._read(request.kind, request.shop, [request.resource_id])
        if not found:
            raise permanent("resource_not_found", "no delivery has told of it", path="resource_id")
        return commerce.GetResponse(resource=found[0])

    async def BatchGet(  # noqa: N802
        self, request: commerce.BatchGetRequest, context: Context
    ) -> commerce.BatchGetResponse:
        """Those of several resources that exist, in the order asked."""
        found = await self._read(request.kind, request.shop, list(request.resource_ids))
        return commerce.BatchGetResponse(resources=found)

    async def List(  # noqa: N802
        self, request: commerce.ListRequest, context: Context
    ) -> commerce.ListResponse:
        """Resources whose version is at or after an instant, in pages."""
        limit = request.page_size or _RESOURCES_PAGE
        stored = await page(
            self._nats,
            subjects.COMMERCE,
            subjects.states_of(NAMES[request.kind], request.shop),
            after=_sequence(request.page_token),
            limit=limit,
        )
        since_ns = request.updated_since.ToNanoseconds()
        resources = [await self._resource(one) for one in stored]
        return commerce.ListResponse(
            resources=[r for r in resources if r.version.updated_at.ToNanoseconds() >= since_ns],
            next_page_token=str(stored[-1].sequence) if len(stored) == limit else "",
        )

    async def Watch(  # noqa: N802
        self, request: commerce.WatchRequest, context: Context
    ) -> AsyncIterator[commerce.WatchResponse]:
        """Changes as they are committed, until the caller leaves."""
        pattern = subjects.states_of(NAMES[request.kind], request.shop)
        after = request.after_sequence or await self._last_sequence()
        while True:
            stored = await page(self._nats, subjects.COMMERCE, pattern, after=after)
            for one in stored:
                after = one.sequence
                yield commerce.WatchResponse(resource=await self._resource(one))
            if not stored:
                await asyncio.sleep(_WATCH_POLL_S)

    async def _last_sequence(self) -> int:
        info = await js_api(self._nats, f"STREAM.INFO.{subjects.COMMERCE}")
        return int(info["state"]["last_seq"])

    async def _read(
        self, kind: record_pb2.ResourceKind.ValueType, shop: str, ids: Sequence[str]
    ) -> list[commerce.Resource]:
        names = [subjects.state(NAMES[kind], shop, one) for one in ids]
        found = await self._log.read(names)
        return [await self._resource(found[name]) for name in names if name in found]

    async def _resource(self, stored: Stored) -> commerce.Resource:
        record = record_pb2.StateRecord.FromString(stored.data)
        resource = commerce.Resource(
            kind=record.kind,
            shop=record.shop,
            resource_id=record.resource_id,
            version=record.version,
            deleted=record.deleted,
            sequence=stored.sequence,
        )
        body = _BODIES.get(record.kind)
        if body and record.HasField("payload") and not record.deleted:
            data = await self._vault.open_bytes(record.payload, record.shop)
            getattr(resource, body).MergeFrom(MESSAGES[record.kind].FromString(data))
        return resource


def _body_not_found() -> ServiceError:
    why = "bodies are kept for 7 days; events handed in over gRPC and once parked ones have none"
    return permanent("body_not_found", why, path="include_body")


def _sequence(token: str) -> int:
    if token and not _PAGE_TOKEN.fullmatch(token):
        raise permanent("page_token_invalid", "use the token of the page before", path="page_token")
    return int(token or 0)


def _summary(seen: record_pb2.SeenRecord) -> ingest.DeliverySummary:
    dead = seen.result == record_pb2.SEEN_RESULT_DEAD
    return ingest.DeliverySummary(
        delivery_id=seen.delivery_id,
        shop=seen.shop,
        topic=seen.topic,
        received_at=seen.received_at,
        status=ingest.DELIVERY_STATUS_DEAD if dead else ingest.DELIVERY_STATUS_COMMITTED,
        seen=seen,
        trace_id=seen.trace_id,
    )


def _parked_summary(delivery: delivery_pb2.Delivery) -> ingest.DeliverySummary:
    span = SpanRef.parse(delivery.traceparent)
    return ingest.DeliverySummary(
        delivery_id=delivery.delivery_id,
        shop=delivery.shop,
        topic=delivery.topic,
        received_at=delivery.received_at,
        status=ingest.DELIVERY_STATUS_PARKED,
        trace_id=span.trace_hex if span else "",
    )
