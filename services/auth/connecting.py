"""Connecting in a browser: begun by a caller, opened by a person, finished by a provider's answer.

An attempt is bound to the first browser that opens it, and its `state` is used up before the code
is exchanged: an answer that comes twice, or to another browser, connects nothing.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.connections.ports import DOMAIN_SUFFIX, shop_handle
from libs.errors import Kind, ServiceError, permanent
from services.auth.domain.callbacks import shopify_refusal
from services.auth.domain.flows import (
    APP_MISSING,
    FLOW_ID_BYTES,
    FLOW_OVER,
    FLOW_TAKEN,
    LIFETIME_S,
    SPEC_UNFIT,
    STATE_PURPOSE,
    Claim,
    claim_of,
    family_of,
    flow_unknown,
    is_flow_id,
    needs_browser,
    signed_state,
    state_refused,
)
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.domain.signing import derived, encoded, hashed
from services.auth.own_apps import own_app_of
from services.auth.ports import CONSENT_REFUSED, Connected, Flows, KeptFlow, Providers
from tidewire.auth.v1 import connection_service_pb2, record_pb2
from tidewire.auth.v1.connection_service_pb2 import (
    FLOW_STATE_BEGUN,
    FLOW_STATE_CONNECTED,
    FLOW_STATE_FAILED,
    FLOW_STATE_OPENED,
    ConnectionSpec,
    FlowState,
    GrantFlow,
)
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_SHOPIFY, ConnectionKind

_log = structlog.stdlib.get_logger()

INTERNAL: Final = "internal"
"""What an attempt ends in where we did not foresee the error."""

_NONCE_BYTES: Final = 16
_BROWSER_BYTES: Final = 32
_EXCHANGE_S: Final = 30.0
"""A person waits before a blank page for so long, and no longer."""

_INSTALL_WINDOW_S: Final = 90.0
"""How far a request's timestamp may be from now, as in Shopify's own libraries."""

_UNFINISHED: Final = (FLOW_STATE_BEGUN, FLOW_STATE_OPENED)

_SETTINGS_NEEDED: Final = frozenset({"tiktok_events", "tiktok_catalog"})
"""Kinds that mean nothing without their settings: which pixel, which catalog."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that a person may open now."""

    flow_id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """An attempt that now belongs to a browser."""

    flow_id: str
    consent_url: str
    browser: str
    """What this browser must bring back, in a cookie."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was connected."""

    flow_id: str
    connection_id: str
    shop: str
    kind: str
    """As in the schema, in lower case."""


class Connecting:
    """The use cases of an attempt to connect.

    `public_url` is where browsers reach this service, without a slash at its end; `scopes` are
    those asked for where a provider is told them in the address.
    """

    def __init__(
        self,
        *,
        flows: Flows,
        providers: Providers,
        connected: Connected,
        clock: Clock,
        public_url: str,
        signing_secret: bytes,
        scopes: Mapping[Family, tuple[str, ...]],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._flows = flows
        self._providers = providers
        self._connected = connected
        self._clock = clock
        self._public_url = public_url
        self._key = derived(signing_secret, STATE_PURPOSE)
        self._scopes = scopes
        self._random_bytes = random_bytes

    async def begin(self, spec: ConnectionSpec, flow: GrantFlow.ValueType) -> Begun:
        """Starts an attempt.

        Raises:
            ServiceError: PERMANENT, SPEC_UNFIT or APP_MISSING; RETRYABLE, from the store.
        """
        wanted = _checked(spec, flow)
        family = _family(wanted, flow)
        self._app(family, wanted)
        # Not one of `Ids`: whoever guesses it could open it before the person it is meant for.
        flow_id = encoded(self._random_bytes(FLOW_ID_BYTES))
        expires_s = int(self._now_s()) + LIFETIME_S
        record = record_pb2.StoredFlow(spec=wanted, flow=flow, state=FLOW_STATE_BEGUN)
        record.expires_at.FromSeconds(expires_s)
        await self._flows.create(flow_id, record)
        self._tell("begun", flow_id, family)
        expires_at = datetime.fromtimestamp(expires_s, UTC)
        return Begun(flow_id, f"{self._public_url}/connect/{flow_id}", expires_at)

    async def open(self, flow_id: str, browser: str) -> Opened:
        """Gives an attempt to the browser that asks, and says where it goes next.

        `browser` is what its cookie for this attempt holds; empty where it has none. The browser
        that has it already may open it again, as one does who went back; no other may.

        Raises:
            ServiceError: PERMANENT, FLOW_UNKNOWN, FLOW_TAKEN or FLOW_OVER.
        """
        kept = await self._load(flow_id)
        family = _family(kept.record.spec, kept.record.flow)
        app = self._app(family, kept.record.spec)
        if kept.record.state == FLOW_STATE_OPENED:
            if not _is_of(kept.record, browser):
                raise _taken()
        elif kept.record.state == FLOW_STATE_BEGUN:
            browser = encoded(self._random_bytes(_BROWSER_BYTES))
        if _is_over(kept.record):
            raise _over()
        claim = Claim(flow_id, family, kept.record.expires_at.seconds)
        state = signed_state(self._key, claim, encoded(self._random_bytes(_NONCE_BYTES)))
        opened = _copy(kept.record, state=FLOW_STATE_OPENED)
        opened.browser_hash = hashed(browser)
        opened.state_hash = hashed(state)
        try:
            await self._flows.replace(kept, opened)
        except ConflictError as error:
            raise _taken() from error
        self._tell("opened", flow_id, family)
        consent = self._consent(family, kept.record.spec, state)
        url = self._providers.of(family).consent_url(app, consent)
        return Opened(flow_id, url, browser)

    async def install(self, answer: Answer) -> Opened:
        """Begins and opens an attempt for a Shopify store whose owner installs the app.

        Raises:
            ServiceError: PERMANENT, CONSENT_REFUSED, where the request is not Shopify's.
        """
        app = self._providers.app(Family.SHOPIFY)
        if app is None:
            raise _app_missing(Family.SHOPIFY)
        shop = answer.one("shop")
        refusal = shopify_refusal(answer, app.secret.reveal(), shop, window_s=_INSTALL_WINDOW_S)
        if refusal is not None:
            raise permanent(CONSENT_REFUSED, refusal)
        spec = ConnectionSpec(shop=shop, kind=CONNECTION_KIND_SHOPIFY)
        begun = await self.begin(spec, GrantFlow.GRANT_FLOW_AUTHORIZATION_CODE)
        return await self.open(begun.flow_id, "")

    async def finish(self, family: Family, answer: Answer, held: Callable[[str], str]) -> Done:
        """Connects with what a browser brought back.

        `held` gives what the browser's cookie holds for an attempt, empty where it has none.

        Raises:
            ServiceError: PERMANENT, STATE_MISSING, STATE_REFUSED, FLOW_UNKNOWN, FLOW_TAKEN or
                FLOW_OVER, which leave the attempt as it was; else what it failed with.
        """
        state = answer.one("state")
        claim = claim_of(self._key, state, family, self._now_s())
        kept = await self._load(claim.flow_id)
        if not _is_of(kept.record, held(claim.flow_id)):
            raise _taken()
        if _is_over(kept.record):
            raise _over()
        if not hmac.compare_digest(kept.record.state_hash, hashed(state)):
            raise state_refused()
        taken = _copy(kept.record, state=FLOW_STATE_OPENED)
        taken.ClearField("state_hash")
        try:
            kept = await self._flows.replace(kept, taken)
        except ConflictError as error:
            raise state_refused() from error
        return await self._completed(kept, family, state, answer)

    async def flow(self, flow_id: str) -> connection_service_pb2.GetFlowResponse:
        """How an attempt stands.

        Raises:
            ServiceError: PERMANENT, FLOW_UNKNOWN, where its time is over as well.
        """
        kept = await self._flows.load(flow_id)
        if kept is None:
            raise flow_unknown()
        record = kept.record
        too_late_s = record.expires_at.seconds + _EXCHANGE_S
        if record.state in _UNFINISHED and self._now_s() >= too_late_s:
            raise flow_unknown()
        return connection_service_pb2.GetFlowResponse(
            state=record.state,
            error_code=record.error_code,
            error_message=record.error_message,
            connection_id=record.connection_id,
        )

    async def _completed(self, kept: KeptFlow, family: Family, state: str, answer: Answer) -> Done:
        spec = kept.record.spec
        ended = _copy(kept.record, state=FLOW_STATE_FAILED)
        ended.spec.ClearField("app")
        ended.error_code = INTERNAL
        ended.error_message = "something went wrong here: begin again"
        try:
            grant = await self._granted(family, spec, state, answer)
            ended.connection_id = await self._connected.connect(spec, kept.record.flow, grant)
            ended.state = FLOW_STATE_CONNECTED
            ended.ClearField("error_code")
            ended.ClearField("error_message")
        except ServiceError as error:
            ended.error_code, ended.error_message = error.code, error.message
            raise
        finally:
            await self._record(kept, ended, family)
        return Done(kept.flow_id, ended.connection_id, spec.shop, _kind(spec))

    async def _granted(
        self, family: Family, spec: ConnectionSpec, state: str, answer: Answer
    ) -> Grant:
        app = self._app(family, spec)
        consent = self._consent(family, spec, state)
        provider = self._providers.of(family)
        code = provider.code(app, consent, answer)
        try:
            async with asyncio.timeout(_EXCHANGE_S):
                grant = await provider.exchange(app, consent, code)
        except TimeoutError as error:
            message = f"{family} did not answer within {_EXCHANGE_S:.0f} s"
            raise ServiceError(Kind.RETRYABLE, "provider_slow", message) from error
        return replace(grant, app=app) if spec.HasField("app") else grant

    async def _record(self, kept: KeptFlow, ended: record_pb2.StoredFlow, family: Family) -> None:
        """Writes how it ended. Where that fails it has ended all the same."""
        step = FlowState.Name(ended.state).removeprefix("FLOW_STATE_").lower()
        self._tell(step, kept.flow_id, family, ended.error_code, ended.connection_id)
        try:
            await self._flows.replace(kept, ended)
        except (ServiceError, ConflictError):
            _log.warning("flow_end_not_stored", flow=_shown(kept.flow_id))

    async def _load(self, flow_id: str) -> KeptFlow:
        kept = await self._flows.load(flow_id) if is_flow_id(flow_id) else None
        if kept is None or self._now_s() >= kept.record.expires_at.seconds:
            raise flow_unknown()
        return kept

    def _app(self, family: Family, spec: ConnectionSpec) -> App:
        app = own_app_of(spec) or self._providers.app(family)
        if app is None:
            raise _app_missing(family)
        return app

    def _consent(self, family: Family, spec: ConnectionSpec, state: str) -> Consent:
        return Consent(
            shop=spec.shop + DOMAIN_SUFFIX,
            state=state,
            redirect_uri=f"{self._public_url}/oauth/{family}/callback",
            scopes=self._scopes.get(family, ()),
            account=spec.tiktok_shop.shop_id or spec.tiktok_shop.region,
        )

    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9

    def _tell(
        self, step: str, flow_id: str, family: Family, code: str = "", connection_id: str = ""
    ) -> None:
        _log.info(
            "flow_step",
            step=step,
            flow=_shown(flow_id),
            family=family.value,
            code=code,
            connection_id=connection_id,
        )


def _checked(spec: ConnectionSpec, flow: GrantFlow.ValueType) -> ConnectionSpec:
    """The spec with its shop as a handle.

    Raises:
        ServiceError: PERMANENT, SPEC_UNFIT.
    """
    handle = shop_handle(spec.shop, bare=True)
    if handle is None:
        raise permanent(
            SPEC_UNFIT, "the shop is no handle and no myshopify.com domain", path="shop"
        )
    family = _family(spec, flow)
    kind, settings = _kind(spec), spec.WhichOneof("settings")
    if settings not in {None, kind} or (settings is None and kind in _SETTINGS_NEEDED):
        raise permanent(SPEC_UNFIT, f"a connection of kind {kind} needs its own settings")
    if spec.HasField("app") and family is Family.TIKTOK_SHOP:
        raise permanent(SPEC_UNFIT, "a TikTok Shop is connected with the app in the settings only")
    checked = ConnectionSpec()
    checked.CopyFrom(spec)
    checked.shop = handle
    return checked


def _family(spec: ConnectionSpec, flow: GrantFlow.ValueType) -> Family:
    name = GrantFlow.Name(flow).removeprefix("GRANT_FLOW_").lower()
    family = family_of(_kind(spec), name)
    if family is None or not needs_browser(name):
        raise permanent(SPEC_UNFIT, f"nobody agrees to {name} for {_kind(spec)} in a browser")
    return family


def _kind(spec: ConnectionSpec) -> str:
    return ConnectionKind.Name(spec.kind).removeprefix("CONNECTION_KIND_").lower()


def _copy(record: record_pb2.StoredFlow, *, state: FlowState.ValueType) -> record_pb2.StoredFlow:
    copied = record_pb2.StoredFlow()
    copied.CopyFrom(record)
    copied.state = state
    return copied


def _is_of(record: record_pb2.StoredFlow, browser: str) -> bool:
    """Whether an attempt belongs to a browser."""
    return bool(browser) and hmac.compare_digest(record.browser_hash, hashed(browser))


def _is_over(record: record_pb2.StoredFlow) -> bool:
    """Whether no answer is waited for: it has ended, or the answer is being worked on."""
    waits = record.state == FLOW_STATE_OPENED and bool(record.state_hash)
    return not waits and record.state != FLOW_STATE_BEGUN


def _shown(flow_id: str) -> str:
    """How an attempt is called in logs: who knows its id could open it."""
    return encoded(hashed(flow_id))[:12]


def _taken() -> ServiceError:
    return permanent(FLOW_TAKEN, "another browser has opened this attempt: begin again")


def _over() -> ServiceError:
    return permanent(FLOW_OVER, "this attempt has ended: begin again")


def _app_missing(family: Family) -> ServiceError:
    return permanent(APP_MISSING, f"the service's settings name no app for {family}")
