"""TikTok's Events API: paths and the meaning of its answers. No loops, no retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from libs import metric_names
from libs.clock import Clock
from libs.connections import Credentials
from libs.errors import Kind, ServiceError
from libs.http import classify
from libs.http.client import Answer, Limit, Request, Unlimited, Upstream
from libs.retry import RetryPolicy
from libs.settings import Secret
from libs.telemetry import Metrics
from services.events.domain.answers import Answered, answered, refused, unreadable
from services.events.domain.dialect import HttpRequest

_NAME: Final = "tiktok"
_TOKEN_DEAD: Final = frozenset({"upstream_40102", "upstream_40105"})
"""Expired, or revoked; what else TikTok refuses a caller for says nothing of its token."""


def _check(answer: Answer) -> ServiceError | None:
    asked_s = classify.asked_wait_s(answer.headers, answer.received_at)
    return refused(answer.status, answer.body, asked_s)


class TikTokEvents:
    """Sends one request of a dialect and says what TikTok made of it."""

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession,
        credentials: Credentials,
        clock: Clock,
        metrics: Metrics,
        *,
        timeout_s: float = 10.0,
        limit: Limit | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._clock = clock
        self._metrics = metrics
        self._seconds = metrics.histogram(metric_names.UPSTREAM_CALL, upstream=_NAME)
        self._upstream = Upstream(
            name=_NAME,
            session=session,
            # The bus does the waiting: one try a delivery.
            policy=RetryPolicy(attempts_max=1),
            clock=clock,
            limit=limit or Unlimited(),
            check=_check,
        )

    async def send(
        self, request: HttpRequest, connection_id: str, headers: Mapping[str, str]
    ) -> Answered:
        """What TikTok made of the request's events.

        Raises:
            ServiceError: none was accepted for certain; `answers.RefusedError` where TikTok said
                so itself.
        """
        token = await self._token(connection_id)
        try:
            answer = await self._counted(self._request(request, token, headers))
        except ServiceError as error:
            if error.code in _TOKEN_DEAD:
                await self._credentials.refused(connection_id, token)
            raise
        return answered(answer.status, answer.body)

    async def _token(self, connection_id: str) -> Secret:
        """The token; one that is refused us for good is as good as missing.

        No event is at fault, so none is given up: they wait for whoever connects it.
        """
        try:
            return await self._credentials.access_token(connection_id)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            message = f"there is no token of {connection_id} to be had: {error.code}"
            raise ServiceError(Kind.AUTH, "connection_missing", message) from error

    def _request(self, request: HttpRequest, token: Secret, headers: Mapping[str, str]) -> Request:
        return Request(
            method="POST",
            url=f"{self._base_url}{request.path}",
            headers={
                "Access-Token": token.reveal(),
                "Content-Type": "application/json",
                **headers,
            },
            body=request.body,
            timeout_s=self._timeout_s,
            answer_bytes_max=1024 * 1024,
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
