"""The auth service on one screen."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import ClientSession

from libs.bus import subjects
from libs.bus.consumer import Consumer
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.follow import bucket_follower
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.lease import Lease
from libs.bus.publisher import publish
from libs.foundation import Ground, OpsPart, own_keys
from libs.gates import GateBook
from libs.http.session import http_session
from libs.keys import KvKeySource
from libs.lifecycle import Afterwards, Part
from libs.limits import Limiter
from libs.rpc.server import RpcService
from libs.shopify.admin import ShopifyAdmin
from libs.vault import Vault
from services.auth.adapters.apps import SettingsProviders, app_secrets
from services.auth.adapters.audit import AuditLog
from services.auth.adapters.events import ConnectionEvents
from services.auth.adapters.flows import FlowStore, signing_secret
from services.auth.adapters.grants import GrantStore
from services.auth.adapters.liveness import ReplicaLiveness
from services.auth.adapters.own import OwnCredentials
from services.auth.adapters.providers.calls import Caller
from services.auth.adapters.records import connection_records
from services.auth.adapters.shop_webhooks import TikTokShops
from services.auth.adapters.shopify_subscriptions import ShopifyStores
from services.auth.attention import KeepersAttention
from services.auth.book import Book
from services.auth.care import Care, ShopifyCare, TikTokShopCare
from services.auth.connecting import Connecting
from services.auth.connection_server import ConnectionServer
from services.auth.consumers import StoreFacts, stores
from services.auth.domain.grants import Family
from services.auth.domain.scopes import Use, scopes_to_ask
from services.auth.http import HttpServer, checked_public_url, is_https
from services.auth.importer import Importer
from services.auth.keeper import LEASE_NAME, LEASE_S, SHOP_LEASE_NAME, Keeper
from services.auth.kept_stores import BookedShops, BookedStores
from services.auth.linking import Linking
from services.auth.merchant_pages import MerchantPages
from services.auth.operator_pages import OperatorPages
from services.auth.pages import Cookies, Pages
from services.auth.ports import KeptStores, Stores
from services.auth.refresher import Refresher
from services.auth.settings import Settings
from services.auth.token_server import TokenServer
from services.auth.tokens import Tokens
from services.auth.unattended import Unattended
from services.auth.webhook_secrets import WebhookSecrets
from tidewire.auth.v1 import connection_service_pb2_grpc, token_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class _Core:
    """What everything else of the service is about."""

    records_follower: Part
    grants_follower: Part
    grants: GrantStore
    liveness: ReplicaLiveness
    gates: GateBook
    book: Book
    providers: SettingsProviders
    refresher: Refresher
    tokens: Tokens
    linking: Linking
    keeper: Keeper
    shop_keeper: Keeper
    stores: ShopifyStores
    audit: AuditLog
    events: ConnectionEvents


@asynccontextmanager
async def auth(settings: Settings, base: Ground) -> AsyncIterator[Mapping[str, Part]]:
    """The parts of the auth service."""
    keys = await own_keys(base, settings)
    async with http_session() as session:
        limits = base.limiter()
        core = _core(settings, base, keys, session, limits.limiter)
        webhook_secrets = WebhookSecrets(core.grants, app_secrets(settings))
        flows = base.log(subjects.bucket_stream(subjects.FLOWS))
        signing = await signing_secret(flows, keys)
        public_url = checked_public_url(settings.public_url)
        connecting = Connecting(
            flows=FlowStore(flows, keys),
            providers=core.providers,
            connected=core.linking,
            clock=base.clock,
            public_url=public_url,
            signing_secret=signing,
            scopes=_scopes(settings),
            random_bytes=secrets.token_bytes,
        )
        services = [_token_service(core, webhook_secrets, keys), _connections(core, connecting)]
        grpc = _after(
            base, base.rpc_server(settings.grpc_address, services), *_KNOWN, "webhook-secrets"
        )
        core.audit.keep_while(lambda: grpc.is_running)
        core.events.keep_while(lambda: grpc.is_running or core.refresher.is_busy)
        yield {
            "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness),
            "liveness": core.liveness,
            "audit": core.audit,
            "events": core.events,
            "limits": limits,
            "gates": core.gates,
            "connections": core.records_follower,
            "grants": core.grants_follower,
            "webhook-secrets": _after(base, webhook_secrets, "grants"),
            "refresher": core.refresher,
            "importer": _after(
                base, Importer(settings.connections_file, core.book, core.linking), *_KNOWN
            ),
            "keeper": _after(base, core.keeper, *_KNOWN),
            "shop-keeper": _after(base, core.shop_keeper, *_KNOWN),
            "stores": _after(base, _stores(base, keys, core), *_KNOWN),
            "grpc": grpc,
            "http": _after(
                base, _http(settings, base, core, connecting, signing, public_url), *_KNOWN
            ),
        }


_KNOWN: Final = ("gates", "connections", "grants")
"""Until these have been read to their end, a connection that is not known may well be there."""


def _after(base: Ground, part: Part, *names: str) -> Afterwards:
    return Afterwards(part, base.readiness, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """Grants, and what hands out their tokens."""

    grants: GrantStore
    leases: JetStreamLog
    owner: str
    liveness: ReplicaLiveness
    providers: SettingsProviders
    events: ConnectionEvents
    refresher: Refresher
    tokens: Tokens


def _tokens(settings: Settings, base: Ground, keys: KvKeySource, session: ClientSession) -> _Tokens:
    grants = GrantStore(base.log(subjects.bucket_stream(subjects.TOKENS)), Vault(keys))
    leases = base.log(subjects.bucket_stream(subjects.LEASES))
    owner = base.ids.new()
    liveness = ReplicaLiveness(base.nats, leases, base.clock, owner)
    providers = SettingsProviders(settings, session, base.clock)
    events = ConnectionEvents(partial(publish, base.nats), grants, base.clock)
    refresher = Refresher(grants, providers, liveness, base.clock, base.metrics, ended=events.ended)
    liveness.keep_while(lambda: refresher.is_busy)
    return _Tokens(
        grants=grants,
        leases=leases,
        owner=owner,
        liveness=liveness,
        providers=providers,
        events=events,
        refresher=refresher,
        tokens=Tokens(grants, refresher, providers, base.clock),
    )


def _core(
    settings: Settings, base: Ground, keys: KvKeySource, session: ClientSession, limiter: Limiter
) -> _Core:
    held = _tokens(settings, base, keys, session)
    records = connection_records(base.log(subjects.bucket_stream(subjects.CONNECTIONS)))
    circuits = base.log(subjects.bucket_stream(subjects.CIRCUITS))
    gates = GateBook(base.nats, circuits, base.clock, base.metrics)
    book = Book(records, held.grants, gates)
    gates.subscribe(book.look_at_gates)
    store_api = ShopifyStores(
        ShopifyAdmin(
            base_url=settings.shopify_base_url,
            api_version=settings.shopify_api_version,
            session=session,
            connections=book.index,
            credentials=OwnCredentials(held.tokens),
            limiter=limiter,
            clock=base.clock,
            metrics=base.metrics,
        )
    )
    attention = KeepersAttention()
    linking = Linking(
        book=book,
        records=records,
        grants=held.grants,
        providers=held.providers,
        places=store_api,
        forgetting=keys,
        clock=base.clock,
        attention=attention,
        told=held.events.told,
    )
    keeper = _keeper(
        base,
        held,
        LEASE_NAME,
        BookedStores(book, linking, held.tokens),
        store_api,
        ShopifyCare(
            address=settings.webhooks_url,
            api_version=settings.shopify_api_version,
            topics_in_app=settings.topics_in_app,
            every_s=settings.keep_every_s,
        ),
    )
    shops = BookedShops(book, linking, held.tokens)
    shop_keeper = _shop_keeper(settings, base, held, shops, session)
    attention.begin(keeper, shop_keeper, shops)
    return _Core(
        records_follower=bucket_follower(base.nats, subjects.CONNECTIONS, records.take),
        grants_follower=bucket_follower(base.nats, subjects.TOKENS, held.grants.take),
        grants=held.grants,
        liveness=held.liveness,
        gates=gates,
        book=book,
        providers=held.providers,
        refresher=held.refresher,
        tokens=held.tokens,
        linking=linking,
        keeper=keeper,
        shop_keeper=shop_keeper,
        stores=store_api,
        audit=AuditLog(base.nats, base.clock, base.ids, base.metrics),
        events=held.events,
    )


def _shop_keeper(
    settings: Settings, base: Ground, held: _Tokens, kept: BookedShops, session: ClientSession
) -> Keeper:
    address = settings.tiktok_shop_webhooks_url
    shops = TikTokShops(
        Caller(Family.TIKTOK_SHOP.value, session, base.clock),
        api_url=settings.tiktok_shop_api_base_url,
        tokens=held.tokens,
        grants=held.grants,
        asks=bool(address),
    )
    care = TikTokShopCare(address=address, every_s=settings.keep_every_s)
    return _keeper(base, held, SHOP_LEASE_NAME, kept, shops, care)


def _keeper(
    base: Ground, held: _Tokens, lease_name: str, kept: KeptStores, stores: Stores, care: Care
) -> Keeper:
    lease = Lease(held.leases, base.clock, lease_name, held.owner, lasts_s=LEASE_S)
    return Keeper(
        kept=kept,
        stores=stores,
        lease=lease,
        release=partial(lease.release, base.nats),
        metrics=base.metrics,
        clock=base.clock,
        care=care,
    )


def _scopes(settings: Settings) -> Mapping[Family, tuple[str, ...]]:
    every = scopes_to_ask(frozenset(Use))
    return {
        Family.SHOPIFY: settings.shopify_scopes or every,
        Family.TIKTOK_ACCOUNT: settings.tiktok_account_scopes,
    }


def _stores(base: Ground, keys: KvKeySource, core: _Core) -> Consumer:
    facts = StoreFacts(
        Vault(keys),
        core.linking,
        core.stores,
        core.keeper,
        DeadLetterStore(base.nats),
        base.clock,
    )
    return Consumer(base.nats, stores(facts), base.clock)


def _token_service(core: _Core, webhook_secrets: WebhookSecrets, keys: KvKeySource) -> RpcService:
    servicer = TokenServer(
        core.tokens, core.grants, webhook_secrets, keys, core.book.index, core.audit
    )
    return RpcService(
        "tidewire.auth.v1.TokenService",
        partial(token_service_pb2_grpc.add_TokenServiceServicer_to_server, servicer),
        filters=frozenset({"WatchTokens", "WatchWebhookSecrets"}),
        quiet=frozenset({"GetToken", "GetDataKey"}),
    )


def _connections(core: _Core, connecting: Connecting) -> RpcService:
    servicer = ConnectionServer(
        book=core.book,
        linking=core.linking,
        connecting=connecting,
        unattended=Unattended(core.providers, core.providers),
        grants=core.grants,
        refresher=core.refresher,
        gates=core.gates,
        audit=core.audit,
    )
    return RpcService(
        "tidewire.auth.v1.ConnectionService",
        partial(connection_service_pb2_grpc.add_ConnectionServiceServicer_to_server, servicer),
        filters=frozenset({"ListConnections", "WatchConnections"}),
    )


def _http(
    settings: Settings,
    base: Ground,
    core: _Core,
    connecting: Connecting,
    signing: bytes,
    public_url: str,
) -> HttpServer:
    https = is_https(public_url)
    pages, cookies = Pages(https=https), Cookies(https=https)
    merchants = MerchantPages(
        connecting, pages, cookies, base.clock, allow_installs=settings.allow_installs
    )
    operator = OperatorPages(
        core.book,
        pages,
        cookies,
        base.clock,
        password=settings.operator_password,
        signing_secret=signing,
        random_bytes=secrets.token_bytes,
    )
    return HttpServer(settings.http_address, [*merchants.routes(), *operator.routes()], pages)
