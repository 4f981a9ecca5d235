"""The catalog endpoints over HTTP. Every failing code comes under HTTP 200.

POST   …/catalog/create/ | eventsource/bind/ | eventsource/unbind/
GET    …/catalog/get/ | overview/ | location_currency/get/ | available_country/get/
GET    …/catalog/eventsource_bind/get/
POST   …/catalog/product/upload/ | product/update/ | product/delete/ | item/batch/
GET    …/catalog/product/log/ | product/get/
GET    /catalog_feed_logs/<catalog>/<log>/<language>.csv     where a log's `download_path` leads

`…` is /open_api/v1.3. The judge's own paths are in `judge.py`. Not served: product/file, feeds,
sets, diagnostics.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from libs.clock import Clock
from sandbox.tiktok.access import Access
from sandbox.tiktok.answers import Reply, RequestIds, Sending, envelope
from sandbox.tiktok.catalog import premises, reads, writes
from sandbox.tiktok.catalog.book import Call, CatalogBook, Verdict
from sandbox.tiktok.catalog.feedlog import Now
from sandbox.tiktok.catalog.judge import CatalogJudge
from sandbox.tiktok.config import MIB, SandboxConfig
from sandbox.tiktok.effects import (
    AcceptThenReset,
    AcceptThenTimeout,
    Code,
    Effect,
    EmptyBody,
    FailedLog,
    HttpStatus,
    ItemIssue,
    Malformed,
    NotIngested,
    Partial,
    RefuseRepeats,
    StuckLog,
    Truncate,
    reply_under,
)
from sandbox.tiktok.faults import FaultBook, Plan, Sighting
from sandbox.tiktok.verdict import Judgement, Problem, Refused

Send: TypeAlias = Callable[[web.Request, Reply], Awaitable[web.StreamResponse]]

BODY_MAX_BYTES: Final = 128 * MIB
"""No source names a limit; 5,000 products of 10,000 characters each fit well."""

THROTTLED: Final = Problem(40100, "Too many requests. Please retry in some time.")
NOT_JSON_TYPE: Final = Problem(40002, "Content-Type must be application/json")
UNREADABLE: Final = Problem(40002, "the body cannot be read")


class Endpoint(NamedTuple):
    """One path: its method, the scope it needs, and what it does."""

    method: str
    scope: str
    judge: Callable[[CatalogBook, Call], Verdict]


ENDPOINTS: Final = {
    "create/": Endpoint("POST", "901", premises.create),
    "get/": Endpoint("GET", "900", premises.listed),
    "overview/": Endpoint("GET", "900", reads.overview),
    "location_currency/get/": Endpoint("GET", "900", premises.currencies),
    "available_country/get/": Endpoint("GET", "900", premises.regions),
    "eventsource/bind/": Endpoint("POST", "961", premises.bind),
    "eventsource/unbind/": Endpoint("POST", "961", premises.unbind),
    "eventsource_bind/get/": Endpoint("GET", "960", premises.bound),
    "product/upload/": Endpoint("POST", "911", writes.upload),
    "product/update/": Endpoint("POST", "911", writes.update),
    "product/delete/": Endpoint("POST", "911", writes.delete),
    "product/log/": Endpoint("GET", "910", reads.log),
    "product/get/": Endpoint("GET", "910", reads.products),
    "item/batch/": Endpoint("POST", "911", writes.item_batch),
}


class CatalogService:
    """The catalogs of one sandbox; `send` lets an answer leave in the way that it says."""

    def __init__(
        self,
        config: SandboxConfig,
        clock: Clock,
        access: Access,
        faults: FaultBook,
        is_throttled: Callable[[str, float], bool],
        send: Send,
    ) -> None:
        self.book = CatalogBook(config, access, lambda: clock.now_ns() / 1e9)
        self._config = config
        self._clock = clock
        self._access = access
        self._faults = faults
        self._is_throttled = is_throttled
        self._send = send
        self._request_ids = RequestIds()

    def items(self, catalog_id: str) -> dict[str, bytes] | None:
        """What a catalog has now, as it was sent; None for one that nobody has spoken of."""
        catalog = self.book.get(catalog_id)
        if catalog is None:
            return None
        catalog.settle(self._now())
        return {sku: item.raw for sku, item in catalog.items.items()}

    def add_routes(self, app: web.Application) -> None:
        root = f"/open_api/{self._config.api_version}/catalog/"
        app.router.add_route("*", root + "{rest:.*}", self._serve)
        app.router.add_get(reads.CSV_PATH + "/{catalog}/{log}/{language}.csv", self._csv)
        CatalogJudge(self.book, self._now).add_routes(app)

    def _now(self) -> Now:
        return Now(self._clock.now_ns() / 1e9, self._clock.monotonic_s())

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        endpoint = ENDPOINTS.get(request.match_info["rest"])
        if endpoint is None:
            return web.Response(status=404, text="404 page not found")
        if request.method != endpoint.method:
            return web.Response(status=405, text="405 method not allowed")
        body = await _read(request) if endpoint.method == "POST" else b""
        now = self._now()
        token = request.headers.get("Access-Token", "")
        base_url = f"{request.scheme}://{request.host}"
        call = Call(token, request.query, body, now, base_url)
        verdict = self._judged(endpoint, call, request.content_type)
        latency_ms, reply = self._replied(request.path, call, verdict)
        if latency_ms > 0:
            await self._clock.sleep(latency_ms / 1000)
        return await self._send(request, reply)

    def _judged(self, endpoint: Endpoint, call: Call, content_type: str) -> Verdict:
        problem = self._access.refusal_of_token(call.token, call.now.wall_s)
        if problem is None and self._is_throttled(call.token, call.now.monotonic_s):
            problem = THROTTLED
        if problem is None:
            problem = self._access.refusal_of_scope(call.token, endpoint.scope)
        if problem is None and endpoint.method == "POST":
            problem = _problem_of_body(call, content_type)
        if problem is not None:
            return Verdict(problem.code, problem.text)
        try:
            return endpoint.judge(self.book, call)
        except Refused as refused:
            return Verdict(refused.code, _words(refused))

    def _replied(self, path: str, call: Call, verdict: Verdict) -> tuple[float, Reply]:
        catalog = verdict.catalog
        catalog_id = catalog.id if catalog is not None else call.query.get("catalog_id", "")
        now_s = call.now.monotonic_s
        sighting = Sighting(path, "", call.token, (), catalog_id, verdict.skus)
        plan = self._faults.plan(sighting, now_s)
        request_id = self._request_ids.next(call.now.wall_s)
        is_done, data = self._done(verdict, plan)
        reply = _reply(verdict, plan, data, request_id)
        if catalog is not None:
            catalog.counts["requests"] += 1
            if verdict.kind:
                catalog.counts["items_received"] += len(verdict.skus)
            if reply.label.isdigit() and not is_done:
                catalog.refusals[reply.label] += 1
            if verdict.kind and not is_done:
                outcome = f"refused_{reply.label}" if reply.label.isdigit() else reply.label
                catalog.put_down_failure(verdict.kind, len(verdict.skus), outcome, call.now)
        return self._config.base_latency_ms + plan.latency_ms, reply

    def _done(self, verdict: Verdict, plan: Plan) -> tuple[bool, object]:
        """Does the work unless a fault keeps it from being done; whether it was, and its data."""
        if verdict.act is None or not _does_work(plan.effect):
            return False, None
        try:
            return True, verdict.act(plan)
        except Refused as refused:
            verdict.code, verdict.message = refused.code, _words(refused)
            return False, None

    async def _csv(self, request: web.Request) -> web.Response:
        catalog = self.book.get(request.match_info["catalog"])
        log = catalog.logs.get(request.match_info["log"]) if catalog is not None else None
        if log is None or not log.is_over(self._now()):
            return web.Response(status=404, text="404 page not found")
        return web.Response(text=log.csv(), content_type="text/csv", charset="utf-8")


async def _read(request: web.Request) -> bytes | None:
    """The body, decompressed; None where it is broken or larger than any write."""
    body = bytearray()
    try:
        async for part in request.content.iter_any():
            body += part
            if len(body) > BODY_MAX_BYTES:
                return None
    except (HttpProcessingError, web.RequestPayloadError):
        return None
    return bytes(body)


def _problem_of_body(call: Call, content_type: str) -> Problem | None:
    if call.body is None:
        return UNREADABLE
    return None if content_type == "application/json" else NOT_JSON_TYPE


def _words(refused: Refused) -> str:
    return f"{refused.path}: {refused.text}" if refused.path else refused.text


def _does_work(effect: Effect | None) -> bool:
    match effect:
        case None | Truncate() | RefuseRepeats() | Partial():
            return True
        case ItemIssue() | StuckLog() | FailedLog() | NotIngested():
            return True
        case AcceptThenTimeout() | AcceptThenReset():
            return True
        case HttpStatus() | Code() | Malformed() | EmptyBody():
            return effect.accepted
        case _:
            return False


def _reply(verdict: Verdict, plan: Plan, data: object, request_id: str) -> Reply:
    """The answer under the effect; those that change nothing of it carry the data."""
    body = envelope(verdict.code, verdict.message, request_id, data)
    whole = Reply(str(verdict.code), 200, body)
    match plan.effect:
        case None | RefuseRepeats() | Partial():
            return whole
        case ItemIssue() | StuckLog() | FailedLog() | NotIngested():
            return whole
        case Truncate():
            cut = whole._replace(label="truncated", sending=Sending.CUT)
            return cut._replace(keep=plan.effect.keep)
        case _:
            judged = Judgement(verdict.code, verdict.message, None, index_path="products.{index}.")
            return reply_under(plan.effect, plan.struck, judged, request_id)
