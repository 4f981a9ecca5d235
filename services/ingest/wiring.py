"""The ingest service on one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import ClientSession

from libs.bus import subjects
from libs.bus.burial import BurialPolicy, BurialWatch, tell
from libs.bus.lag import LagWatch
from libs.foundation import Foundation, OpsPart
from libs.http.session import http_session
from libs.lifecycle import Part, Readiness
from libs.limits import Limiter
from libs.rpc.server import MESSAGE_BYTES_MAX, RpcServer, RpcService
from libs.shopify.admin import ShopifyAdmin
from services.ingest.adapters.marks import Watermarks
from services.ingest.adapters.shopify import ShopifyReader
from services.ingest.batch import BatchProcessor
from services.ingest.committer import GroupCommitter
from services.ingest.domain.reconciling import Rules
from services.ingest.http import HttpServer, Webhooks
from services.ingest.normalizer import Bounds, Normalizer
from services.ingest.parked import ParkedDeliveries
from services.ingest.reconciler import Inject, Reconciler, ShopLeases
from services.ingest.server import CommerceServer, IngestServer
from services.ingest.settings import Role, Settings
from tidewire.commerce.v1 import commerce_service_pb2_grpc
from tidewire.ingest.v1 import ingest_service_pb2_grpc


@asynccontextmanager
async def ingest(
    settings: Settings, base: Foundation, role: Role
) -> AsyncIterator[Mapping[str, Part]]:
    """The parts of one role. Stopped in reverse: the door closes before what stands behind it."""
    parts: dict[str, Part] = {
        "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness)
    }
    committer = GroupCommitter(
        base.nats,
        base.clock,
        base.ids,
        base.metrics,
        pending_bytes_max=settings.pending_bytes_max,
    )
    parts["committer"] = committer
    async with http_session() as session:
        if role in (Role.NORMALIZER, Role.ALL):
            limits = base.limiter()
            reconciler = _reconciler(settings, base, committer, limits.limiter, session)
            # The door must stay open whatever becomes of deliveries: what shares its process with
            # it stops without a word to whoever sends webhooks here.
            readiness = base.readiness if role is Role.NORMALIZER else None
            parts |= _normalizer(settings, base, readiness, reconciler.note_tied)
            if settings.reconcile_every_s > 0:
                parts |= {"limits": limits, "reconciler": reconciler}
        if role in (Role.HTTP, Role.ALL):
            parts["grpc"] = _rpc(settings, base, committer)
            parts["http"] = _http(settings, base, committer)
        yield parts


def _reconciler(
    settings: Settings,
    base: Foundation,
    committer: GroupCommitter,
    limiter: Limiter,
    session: ClientSession,
) -> Reconciler:
    admin = ShopifyAdmin(
        base_url=settings.shopify_base_url,
        api_version=settings.shopify_api_version,
        session=session,
        connections=base.connections,
        credentials=base.connections,
        limiter=limiter,
        clock=base.clock,
        metrics=base.metrics,
    )
    return Reconciler(
        states=base.log(subjects.COMMERCE),
        leases=ShopLeases(
            base.nats, base.log(subjects.bucket_stream(subjects.LEASES)), base.clock, base.ids
        ),
        watermarks=Watermarks(base.log(subjects.bucket_stream(subjects.WATERMARKS))),
        reader=ShopifyReader(admin),
        inject=Inject(keys=base.keys, committer=committer, tracer=base.tracer, clock=base.clock),
        shops=base.connections,
        metrics=base.metrics,
        clock=base.clock,
        rules=Rules(
            every_s=settings.reconcile_every_s,
            overlap_s=settings.reconcile_overlap_s,
            settle_s=settings.reconcile_settle_s,
            reach_s=settings.reconcile_reach_s,
        ),
    )


def _normalizer(
    settings: Settings,
    base: Foundation,
    readiness: Readiness | None,
    on_tied: Callable[[str, str], None],
) -> dict[str, Part]:
    burials = BurialWatch(
        base.clock,
        BurialPolicy(units_max=settings.burials_max),
        shops_known=lambda: sum(1 for _ in base.connections.shops()),
        changed=tell(readiness),
    )
    processor = BatchProcessor(
        nats=base.nats,
        log=base.log(subjects.COMMERCE),
        vault=base.vault,
        connections=base.connections,
        credentials=base.connections,
        tracer=base.tracer,
        metrics=base.metrics,
        clock=base.clock,
        burials=burials,
        on_tied=on_tied,
    )
    normalizer = Normalizer(
        base.nats,
        processor,
        bounds=Bounds(
            read_ahead_bytes=settings.read_ahead_bytes,
            batch_deliveries=settings.batch_deliveries,
        ),
        clock=base.clock,
        metrics=base.metrics,
        burials=burials,
    )
    parked = ParkedDeliveries(base.nats, base.connections, normalizer, base.clock)
    lag = LagWatch(base.nats, subjects.WEBHOOKS, [subjects.NORMALIZER], base.metrics)
    return {"lag": lag, "normalizer": normalizer, "parked": parked}


def _http(settings: Settings, base: Foundation, committer: GroupCommitter) -> HttpServer:
    webhooks = Webhooks(
        connections=base.connections,
        credentials=base.connections,
        keys=base.keys,
        committer=committer,
        tracer=base.tracer,
        metrics=base.metrics,
        clock=base.clock,
        ids=base.ids,
    )
    return HttpServer(
        settings.http_address,
        webhooks.receive,
        body_bytes_max=settings.body_bytes_max,
        reuse_port=settings.reuse_port,
        held=committer.held,
    )


def _rpc(settings: Settings, base: Foundation, committer: GroupCommitter) -> RpcServer:
    log = base.log(subjects.COMMERCE)
    received = IngestServer(
        nats=base.nats,
        log=log,
        vault=base.vault,
        keys=base.keys,
        connections=base.connections,
        committer=committer,
        clock=base.clock,
        tracer=base.tracer,
        ids=base.ids,
    )
    known = CommerceServer(nats=base.nats, log=log, vault=base.vault)
    return base.rpc_server(
        settings.grpc_address,
        [
            RpcService(
                "tidewire.ingest.v1.IngestService",
                partial(ingest_service_pb2_grpc.add_IngestServiceServicer_to_server, received),
            ),
            RpcService(
                "tidewire.commerce.v1.CommerceService",
                partial(commerce_service_pb2_grpc.add_CommerceServiceServicer_to_server, known),
            ),
        ],
        # A body may have 6 MiB.
        request_bytes_max=MESSAGE_BYTES_MAX,
    )
