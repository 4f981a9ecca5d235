"""The catalog service on one screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import ClientSession

from libs import metric_names
from libs.bus import subjects
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.lag import LagWatch
from libs.bus.lease import Lease
from libs.foundation import Foundation, OpsPart
from libs.gates import GateBook
from libs.http.session import http_session
from libs.ids import system_random
from libs.lifecycle import Part
from libs.limits import Limiter
from libs.retry import RetryPolicy
from libs.rpc.server import RpcServer, RpcService
from libs.shopify.admin import ShopifyAdmin
from services.catalog import runs, sender
from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.images import ImageLooks
from services.catalog.adapters.marks import TokenMarks
from services.catalog.adapters.plain_hosts import PlainHosts
from services.catalog.adapters.rates import Rates
from services.catalog.adapters.shopify import ShopifyReads
from services.catalog.adapters.tiktok import TikTokCatalogApi
from services.catalog.basis import Bases
from services.catalog.domain.due import Intervals
from services.catalog.engine import Engine
from services.catalog.gatekeeper import TikTokGatekeeper
from services.catalog.intake import Intake, Shops
from services.catalog.lane import LanePart
from services.catalog.late import LateWords
from services.catalog.server import FILTERS, SERVICE, CatalogServer
from services.catalog.settings import Settings
from services.catalog.shop_work import Means
from services.catalog.store import SyncStore
from tidewire.catalog.v1 import catalog_service_pb2_grpc


@asynccontextmanager
async def catalog(settings: Settings, base: Foundation) -> AsyncIterator[Mapping[str, Part]]:
    """The parts of the catalog service."""
    async with at_work(settings, base) as (engine, parts):
        yield {
            "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness),
            "lag": _lag(base),
            **parts,
            "grpc": _rpc(settings, base, engine),
        }


@asynccontextmanager
async def at_work(
    settings: Settings, base: Foundation
) -> AsyncIterator[tuple[Engine, Mapping[str, Part]]]:
    """What tells and does, and the parts behind it; nothing that listens."""
    async with http_session() as session:
        limiter = base.limiter()
        gates = GateBook(
            base.nats,
            base.log(subjects.bucket_stream(subjects.CIRCUITS)),
            base.clock,
            base.metrics,
        )
        rates = Rates(settings.rates, session, base.clock, max_age_days=settings.rates_age_days_max)
        store = SyncStore(base.nats, base.log(subjects.bucket_stream(subjects.CATALOG_SYNC)))
        api = _api(settings, base, session, limiter.limiter)
        bases = Bases(base.connections, base.clock, lambda: rates.table)
        engine = Engine(
            store=store,
            connections=base.connections,
            bases=bases,
            gates=gates,
            api=api,
            clock=base.clock,
            ids=base.ids,
            api_version=settings.tiktok_api_version,
            owners=lambda connection_id: _owners(lanes, connection_id),
        )
        gatekeeper = TikTokGatekeeper(gates, TokenMarks(base.connections), api, base.clock)
        # One for all lanes: what it remembers and how much it does at once is bounded for them all.
        images = ImageLooks(
            session,
            base.clock,
            at_once=settings.images_at_once,
            timeout_s=settings.image_timeout_s,
        )
        sending = partial(_sending, settings, base, images, store, api, gatekeeper)
        syncing = _syncing(settings, base, session, store, limiter.limiter)
        lanes = _lanes(settings, base, bases, sending, syncing)
        for lane in lanes:
            gates.subscribe(lane.gates_changed)
        _gauges(base, lanes)
        yield (
            engine,
            {
                "limiter": limiter,
                "gates": gates,
                "gatekeeper": gatekeeper,
                "rates": rates,
                **{f"lane-{lane.number}": lane for lane in lanes},
            },
        )


def _api(
    settings: Settings, base: Foundation, session: ClientSession, limiter: Limiter
) -> TikTokCatalogApi:
    return TikTokCatalogApi(
        settings.tiktok_api_base_url,
        session,
        base.connections,
        limiter,
        base.clock,
        base.metrics,
        submit_timeout_s=settings.tiktok_timeout_s,
    )


def _sending(
    settings: Settings,
    base: Foundation,
    images: ImageLooks,
    store: SyncStore,
    api: TikTokCatalogApi,
    gatekeeper: TikTokGatekeeper,
    is_owner: Callable[[], bool],
) -> sender.Means:
    return sender.Means(
        api=api,
        images=images,
        gatekeeper=gatekeeper,
        store=store,
        clock=base.clock,
        random=system_random,
        tracer=base.tracer,
        metrics=base.metrics,
        log_poll_s=settings.log_poll_s,
        log_patience_s=settings.log_patience_s,
        late=LateWords(store, base.clock),
        is_owner=is_owner,
    )


def _syncing(
    settings: Settings,
    base: Foundation,
    session: ClientSession,
    store: SyncStore,
    limiter: Limiter,
) -> runs.Means:
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
    return runs.Means(
        store=store,
        shopify=ShopifyReads(
            admin,
            BulkDownload(
                session=session, clock=base.clock, plain=PlainHosts.of(settings.shopify_base_url)
            ),
            settings.spool,
        ),
        clock=base.clock,
        ids=base.ids,
        metrics=base.metrics,
        room=asyncio.Semaphore(settings.seeds_at_once),
        bulk_poll_s=settings.bulk_poll_s,
    )


def _lanes(
    settings: Settings,
    base: Foundation,
    bases: Bases,
    sending: Callable[[Callable[[], bool]], sender.Means],
    syncing: runs.Means,
) -> list[LanePart]:
    letters = DeadLetterStore(base.nats)

    def intake(shops: Shops, wants: Callable[[str], tuple[bool, bool]]) -> Intake:
        return Intake(shops, base.vault, letters, base.clock, base.metrics, wants=wants)

    means = Means(
        nats=base.nats,
        connections=base.connections,
        bases=bases,
        sending=sending,
        syncing=syncing,
        intake=intake,
        clock=base.clock,
        intervals=Intervals(settings.full_every_days, settings.resend_every_days),
        policy=RetryPolicy(attempts_max=settings.attempts_max),
        api_version=settings.tiktok_api_version,
        settle_s=settings.settle_s,
        review_every_s=settings.review_every_s,
    )
    leases = base.log(subjects.bucket_stream(subjects.LEASES))
    return [
        LanePart(number, means, Lease(leases, base.clock, f"catalog.lane.{number}", base.ids.new()))
        for number in range(subjects.LANES)
    ]


def _owners(lanes: Sequence[LanePart], connection_id: str) -> Callable[[str], str | None] | None:
    """Which product an id belongs to, where this process owns the lane of the catalog."""
    found = (lane.owners(connection_id) for lane in lanes)
    return next((one for one in found if one is not None), None)


def _gauges(base: Foundation, lanes: list[LanePart]) -> None:
    def waiting() -> float:
        return float(sum(lane.waiting for lane in lanes))

    def held() -> float:
        return float(sum(lane.held for lane in lanes))

    base.metrics.gauge(metric_names.CATALOG_WAITING, waiting)
    base.metrics.gauge(metric_names.CATALOG_HELD, held)


def _lag(base: Foundation) -> LagWatch:
    durables = [subjects.catalog_durable(lane) for lane in range(subjects.LANES)]
    return LagWatch(base.nats, subjects.COMMERCE, durables, base.metrics)


def _rpc(settings: Settings, base: Foundation, engine: Engine) -> RpcServer:
    servicer = CatalogServer(engine)
    return base.rpc_server(
        settings.grpc_address,
        [
            RpcService(
                SERVICE,
                partial(catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server, servicer),
                filters=FILTERS,
            )
        ],
    )
