"""What a merchant's browser asks: to begin, and to come back from a provider with an answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from services.auth.connecting import Connecting, Done, Opened
from services.auth.domain.flows import (
    APP_MISSING,
    FLOW_OVER,
    FLOW_TAKEN,
    FLOW_UNKNOWN,
    LIFETIME_S,
    STATE_MISSING,
    STATE_REFUSED,
)
from services.auth.domain.grants import Answer, Family
from services.auth.pages import Cookies, Pages, see
from services.auth.ports import APP_REFUSED, CODE_REFUSED, CONSENT_REFUSED

INSTALLS_OFF: Final = "installs_off"
QUERY_UNREADABLE: Final = "query_unreadable"

_PARAMETERS_MAX: Final = 64
_REASON_CHARS_MAX: Final = 300

_NAMES: Final = {
    Family.SHOPIFY: "Shopify",
    Family.TIKTOK_BUSINESS: "TikTok for Business",
    Family.TIKTOK_ACCOUNT: "TikTok",
    Family.TIKTOK_SHOP: "TikTok Shop",
}
_KINDS: Final = {
    "shopify": "Shopify store",
    "tiktok_events": "TikTok pixel",
    "tiktok_catalog": "TikTok catalog",
    "tiktok_shop": "TikTok Shop",
}


class _Ending(NamedTuple):
    status: int
    title: str
    text: str
    then: str


_AGAIN: Final = "Begin again: ask whoever gave you the link for a new one."
_NOTHING: Final = "Nothing was connected."

_ENDINGS: Final[Mapping[str, _Ending]] = {
    STATE_MISSING: _Ending(
        400,
        "Not begun here",
        f"{{name}} sent you here, but nobody asked it to. {_NOTHING}",
        "Permission is given from a link of ours: ask whoever runs this service for one. They make "
        "it with “tidewire connect”.",
    ),
    STATE_REFUSED: _Ending(
        400, "This answer cannot be used", f"It was used before, or was altered. {_NOTHING}", _AGAIN
    ),
    FLOW_UNKNOWN: _Ending(
        410, "This link no longer works", f"It works for 15 minutes. {_NOTHING}", _AGAIN
    ),
    FLOW_TAKEN: _Ending(
        403,
        "Opened in another browser",
        f"A link works only in the browser that opened it first. {_NOTHING}",
        f"Go on in that browser. If it was not yours: {_AGAIN[0].lower()}{_AGAIN[1:]}",
    ),
    FLOW_OVER: _Ending(
        409,
        "This link has done its work",
        "It was used already.",
        "If you have seen that your account is connected, there is nothing more to do. If not: "
        f"{_AGAIN[0].lower()}{_AGAIN[1:]}",
    ),
    CONSENT_REFUSED: _Ending(
        400,
        "{name} did not give permission",
        f"It was refused, or the answer cannot be trusted. {_NOTHING}",
        f"If that was not what you wanted: {_AGAIN[0].lower()}{_AGAIN[1:]}",
    ),
    CODE_REFUSED: _Ending(
        400, "{name} no longer takes this answer", f"It is too old, or was used. {_NOTHING}", _AGAIN
    ),
    APP_REFUSED: _Ending(
        502,
        "{name} does not know us",
        f"Our app was refused. {_NOTHING} This is not your fault.",
        "Tell whoever runs this service: its app's id or secret is wrong.",
    ),
    APP_MISSING: _Ending(
        503,
        "Not set up",
        f"This service has no app at {{name}} yet. {_NOTHING}",
        "Tell whoever runs this service.",
    ),
    INSTALLS_OFF: _Ending(
        403,
        "Not begun here",
        f"This app is connected from a link of ours. {_NOTHING}",
        "Ask whoever runs this service for one.",
    ),
    QUERY_UNREADABLE: _Ending(
        400, "This address cannot be read", f"It is damaged. {_NOTHING}", _AGAIN
    ),
}
_DOWN: Final = _Ending(
    503,
    "{name} could not be asked",
    f"It did not answer, or we are having trouble ourselves. {_NOTHING}",
    f"Wait a few minutes. {_AGAIN}",
)
_OTHER: Final = _Ending(400, "That did not work", _NOTHING, _AGAIN)

_WITH_REASON: Final = frozenset({CONSENT_REFUSED})
"""Codes of ours whose message says more than the page does."""


class MerchantPages:
    """The pages of connecting. An error is a page that says what to do; it repeats no secret."""

    def __init__(
        self,
        connecting: Connecting,
        pages: Pages,
        cookies: Cookies,
        clock: Clock,
        *,
        allow_installs: bool,
    ) -> None:
        self._connecting = connecting
        self._pages = pages
        self._cookies = cookies
        self._clock = clock
        self._allow_installs = allow_installs

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        # A HEAD is a program's look at a link: it must not use it up.
        return [
            web.get("/connect/{flow_id}", self.connect, allow_head=False),
            web.get("/oauth/{family}/callback", self.callback, allow_head=False),
            web.get("/shopify/install", self.install, allow_head=False),
        ]

    async def connect(self, request: web.Request) -> web.Response:
        """Binds an attempt to the browser and sends it to the provider."""
        purpose = request.headers.get("Sec-Purpose", request.headers.get("Purpose", ""))
        if "prefetch" in purpose:
            return web.Response(status=503)
        flow_id = request.match_info["flow_id"]
        try:
            opened = await self._connecting.open(flow_id, self._held(request, flow_id))
        except ServiceError as error:
            return self._refused(error, None)
        return self._sent_on(opened)

    async def callback(self, request: web.Request) -> web.Response:
        """Takes a provider's answer and says what came of it."""
        family = next((one for one in _NAMES if one == request.match_info["family"]), None)
        if family is None:
            raise web.HTTPNotFound
        try:
            answer = self._answer(request)
            done = await self._connecting.finish(
                family, answer, lambda flow_id: self._held(request, flow_id)
            )
        except ServiceError as error:
            return self._refused(error, family)
        return self._connected(done)

    async def install(self, request: web.Request) -> web.Response:
        """Begins for a store whose owner came from Shopify."""
        try:
            if not self._allow_installs:
                raise permanent(INSTALLS_OFF, "installs that nobody began are switched off")
            opened = await self._connecting.install(self._answer(request))
        except ServiceError as error:
            return self._refused(error, Family.SHOPIFY)
        return self._sent_on(opened)

    def _sent_on(self, opened: Opened) -> web.Response:
        response = see(opened.consent_url)
        self._cookies.put(
            response,
            _cookie(opened.flow_id),
            opened.browser,
            lasts_s=LIFETIME_S,
            # The provider sends the browser back from its own site.
            cross_site=True,
        )
        return response

    def _connected(self, done: Done) -> web.Response:
        response = self._pages.message(
            "Connected",
            f"Your {_KINDS[done.kind]} is connected.",
            status=200,
            good=True,
            facts=(("Shop", done.shop), ("Connection", done.connection_id)),
            then="There is nothing more to do here: you can close this window.",
        )
        self._cookies.drop(response, _cookie(done.flow_id))
        return response

    def _refused(self, error: ServiceError, family: Family | None) -> web.Response:
        known = _ENDINGS.get(error.code)
        is_down = error.kind in {Kind.RETRYABLE, Kind.THROTTLED}
        ending = known or (_DOWN if is_down else _OTHER)
        name = _NAMES[family] if family is not None else "The provider"
        says_more = error.code in _WITH_REASON or ending is _OTHER
        return self._pages.message(
            ending.title.format(name=name),
            ending.text.format(name=name),
            status=ending.status,
            reason=_readable(error.message) if says_more else "",
            then=ending.then,
        )

    def _answer(self, request: web.Request) -> Answer:
        _, _, raw = request.raw_path.partition("?")
        try:
            query = parse_qsl(
                raw, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
            )
        except ValueError:
            # Not chained: its text may hold the query, and with it a code.
            raise permanent(QUERY_UNREADABLE, "the query cannot be read") from None
        received_at = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        return Answer(tuple(query), received_at, raw)

    def _held(self, request: web.Request, flow_id: str) -> str:
        return self._cookies.of(request, _cookie(flow_id))


def _cookie(flow_id: str) -> str:
    return f"flow-{flow_id}"


def _readable(text: str) -> str:
    """What a provider's answer may say on our page: short, and without characters that mislead."""
    shown = "".join(one for one in text if not unicodedata.category(one).startswith("C"))
    return shown if len(shown) <= _REASON_CHARS_MAX else shown[:_REASON_CHARS_MAX] + "…"
