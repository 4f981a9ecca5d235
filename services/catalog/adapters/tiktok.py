"""TikTok's catalog API: paths and the meaning of its answers. No loops, no retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from libs import metric_names
from libs.clock import Clock
from libs.connections import Credentials
from libs.errors import Kind, ServiceError, permanent
from libs.http import classify
from libs.http.client import Answer, Request, Upstream
from libs.limits import Limiter, Priority
from libs.retry import RetryPolicy
from libs.settings import Secret
from libs.telemetry import Metrics
from libs.tiktok import Scope
from services.catalog.adapters.tiktok_files import LogFiles
from services.catalog.domain import reading
from services.catalog.domain.answers import (
    CATALOG_BUSY,
    REPEATED,
    SUBMIT_TOO_SOON,
    RefusedError,
    Said,
    refused,
    said,
    submitted,
    unreadable,
)
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.feed_log import CatalogFacts, FeedLog, Review, Submitted
from services.catalog.domain.log_reading import log_page, with_file
from services.catalog.domain.settings import CatalogSettings

APP_LIMIT: Final = "tiktok.catalog.app"
CATALOG_UNKNOWN: Final = "catalog_unknown"
FEED_LOG_UNKNOWN: Final = "feed_log_unknown"
"""PERMANENT: TikTok has no such log; what became of the submit cannot be learned any more."""

_NAME: Final = "tiktok"
_TOKEN_DEAD: Final = frozenset({40102, 40105})
"""Expired, or revoked; what else TikTok refuses a caller for says nothing of its token."""

_NOT_READY: Final = 40201
_UNKNOWN: Final = 40007
_MAY_BE_FINAL: Final = "/catalog/item/batch/"
"""Nobody documents what it answers; all others answer with the id of a log."""

_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""200 products with descriptions of 10,000 characters are some MiB."""

_WAIT_S: Final = 5.0
_PAGES_MAX: Final = 20
_CATALOGS_A_PAGE: Final = 100
"""The least of the two maxima that are documented."""


def _check(answer: Answer) -> ServiceError | None:
    asked_s = classify.asked_wait_s(answer.headers, answer.received_at)
    return refused(answer.status, answer.body, asked_s)


@dataclass(frozen=True, slots=True)
class _Errand:
    """A request in the making: for which catalog, under which limits, how urgent."""

    catalog: CatalogSettings
    method: str
    path: str
    body: bytes = b""
    limits: tuple[str, ...] = (APP_LIMIT,)
    priority: Priority = Priority.LIVE
    timeout_s: float = 0.0


class TikTokCatalogApi:
    """`TikTokCatalog` over HTTP."""

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession,
        credentials: Credentials,
        limiter: Limiter,
        clock: Clock,
        metrics: Metrics,
        *,
        timeout_s: float = 10.0,
        submit_timeout_s: float = 30.0,
    ) -> None:
        """`submit_timeout_s` is longer because 5,000 products are megabytes."""
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._limiter = limiter
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._submit_timeout_s = submit_timeout_s
        self._seconds = metrics.histogram(metric_names.UPSTREAM_CALL, upstream=_NAME)
        budget_s = max(timeout_s, submit_timeout_s)
        # Who calls does the waiting: one try a call.
        once = RetryPolicy(attempts_max=1)
        self._upstream = Upstream(
            name=_NAME, session=session, policy=once, clock=clock, check=_check, budget_s=budget_s
        )
        files = Upstream(name=_NAME, session=session, policy=once, clock=clock, budget_s=budget_s)
        self._files = LogFiles(files, self._base_url, timeout_s=submit_timeout_s)

    async def submit(self, catalog: CatalogSettings, request: HttpRequest) -> Submitted:
        """Sends what a dialect has built; also RETRYABLE, `submit_unconfirmed`: it may be taken."""
        errand = _Errand(
            catalog,
            request.method,
            request.path,
            request.body,
            request.limits,
            timeout_s=self._submit_timeout_s,
        )
        answer = await self._answer(errand)
        return submitted(answer, may_be_final=_MAY_BE_FINAL in request.path)

    async def feed_log(self, catalog: CatalogSettings, feed_log_id: str) -> FeedLog:
        """The log of a submit, with its file where not all is shown.

        Raises:
            ServiceError: as all do; PERMANENT, `feed_log_unknown`.
        """
        query = {"feed_log_id": feed_log_id, "language": "en"}
        try:
            answer = await self._answer(_get(catalog, "product/log", query))
        except RefusedError as error:
            if error.upstream_code == _NOT_READY and error.kind is Kind.RETRYABLE:
                return FeedLog(ended=False)
            if error.upstream_code == _UNKNOWN or (
                error.kind is Kind.PERMANENT and "feed_log" in error.words
            ):
                raise permanent(FEED_LOG_UNKNOWN, error.message) from error
            raise
        page = log_page(answer.data)
        if not page.log.ended or not page.lacks_rest or not page.file_url:
            return page.log
        has_errors = page.log.errors > 0 or not page.log.complete
        in_file = await self._files.issues(page.file_url, has_errors=has_errors)
        return page.log if in_file is None else with_file(page, in_file)

    async def reviews(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> Sequence[Review]:
        """The reviews of items, by as many requests as their ids need, behind what is urgent."""
        found: list[Review] = []
        for part, encoded in reading.id_chunks(sku_ids):
            rows: list[Mapping[str, object]] = []
            for page in range(1, _PAGES_MAX + 1):
                query = {"page": str(page), "page_size": str(reading.IDS_MAX)}
                errand = _get(
                    catalog,
                    "product/get",
                    query,
                    encoded=f"&sku_ids={encoded}",
                    priority=Priority.BACKFILL,
                )
                answer = await self._answer(errand)
                rows.extend(reading.rows_of(answer.data))
                if page >= reading.pages_of(answer.data):
                    break
            found.extend(reading.reviews_of(part, rows))
        return found

    async def facts(self, catalog: CatalogSettings) -> CatalogFacts:
        """What TikTok says the catalog is."""
        for page in range(1, _PAGES_MAX + 1):
            query = {"page": str(page), "page_size": str(_CATALOGS_A_PAGE)}
            try:
                answer = await self._answer(_get(catalog, "get", query))
            except RefusedError as error:
                if error.upstream_code == _UNKNOWN:
                    raise permanent(CATALOG_UNKNOWN, error.message) from error
                raise
            facts = reading.facts_of(catalog.catalog_id, reading.rows_of(answer.data))
            if facts is not None:
                return facts
            if page >= reading.pages_of(answer.data):
                break
        raise permanent(
            CATALOG_UNKNOWN,
            f"Business Center {catalog.business_center_id} has no catalog {catalog.catalog_id}",
        )

    async def bind_event_source(
        self, catalog: CatalogSettings, *, advertiser_id: str, pixel_code: str
    ) -> None:
        """Lets the catalog be matched with the events of a pixel; to say so twice is no error."""
        body = {
            "bc_id": catalog.business_center_id,
            "advertiser_id": advertiser_id,
            "catalog_id": catalog.catalog_id,
            "pixel_code": pixel_code,
        }
        path = f"/open_api/{catalog.api_version}/catalog/eventsource/bind/"
        try:
            await self._answer(_Errand(catalog, "POST", path, msgspec.json.encode(body)))
        except RefusedError as error:
            if error.upstream_code != REPEATED:
                raise

    async def _answer(self, errand: _Errand) -> Said:
        connection_id = errand.catalog.connection_id
        # Who has no token costs no turn.
        await self._credentials.access_token(connection_id)
        await self._limiter.turn(
            errand.limits,
            priority=errand.priority,
            shop=errand.catalog.shop,
            max_wait_s=_WAIT_S,
        )
        # Only now: one that was fetched before a long wait may be dead when it is sent.
        token = await self._credentials.access_token(connection_id)
        try:
            answer = await self._counted(self._request(errand, token))
        except RefusedError as error:
            if error.upstream_code in _TOKEN_DEAD:
                await self._credentials.refused(connection_id, token)
            await self._learn(errand, error)
            raise error.hiding(token.reveal()) from None
        except ServiceError as error:
            await self._learn(errand, error)
            raise
        return said(answer.status, answer.body)

    def _request(self, errand: _Errand, token: Secret) -> Request:
        headers = {"Access-Token": token.reveal()}
        if errand.body:
            headers["Content-Type"] = "application/json"
        return Request(
            method=errand.method,
            url=f"{self._base_url}{errand.path}",
            headers=headers,
            body=errand.body,
            timeout_s=errand.timeout_s or self._timeout_s,
            answer_bytes_max=_ANSWER_BYTES_MAX,
        )

    async def _counted(self, request: Request) -> Answer:
        started_s = self._clock.monotonic_s()
        result = "ok"
        try:
            return await self._upstream.call(request)
        except ServiceError as error:
            result = error.kind.value
            if error.code == classify.TOO_LARGE:
                # Nothing that TikTok says is so long: a page of somebody's on the way.
                raise unreadable(200) from error
            raise
        finally:
            self._seconds.observe(self._clock.monotonic_s() - started_s)
            self._metrics.counter(
                metric_names.UPSTREAM_CALLS, upstream=_NAME, result=result
            ).value += 1

    async def _learn(self, errand: _Errand, error: ServiceError) -> None:
        """A throttle slows all replicas, as far as it reaches; a busy catalog is none."""
        if error.kind is not Kind.THROTTLED or error.code in (CATALOG_BUSY, SUBMIT_TOO_SOON):
            return
        limits: Sequence[str] = errand.limits
        if isinstance(error, RefusedError) and error.scope is Scope.CONNECTION:
            limits = [one for one in limits if one.endswith(f".{errand.catalog.catalog_id}")]
        if limits:
            await self._limiter.report(limits, retry_after_s=error.retry_after_s, code=error.code)


def _get(
    catalog: CatalogSettings,
    what: str,
    query: Mapping[str, str],
    *,
    encoded: str = "",
    priority: Priority = Priority.LIVE,
) -> _Errand:
    """A read; `encoded` is what is to be added to the query as it stands."""
    whose = {"bc_id": catalog.business_center_id, "catalog_id": catalog.catalog_id}
    text = urlencode({**whose, **query})
    path = f"/open_api/{catalog.api_version}/catalog/{what}/?{text}{encoded}"
    return _Errand(catalog, "GET", path, priority=priority)
