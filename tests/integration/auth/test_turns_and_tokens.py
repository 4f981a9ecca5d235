"""A call upstream waits for its turn first, and is then made with the token of that moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from aiohttp import ClientSession

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.limits import Priority
from libs.settings import Secret
from libs.shopify.admin import ShopifyAdmin
from libs.telemetry import Metrics
from services.auth.adapters.shopify_subscriptions import ShopifyStores
from tests.integration.auth.store_admin import FakeStore, OneToken, Unlimited, serving

_NEW: Final = "shpat_new"


class Changing(OneToken):
    """Tokens of which there is another one at any time, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.token: str | None = "shpat_old"

    async def access_token(self, connection_id: str) -> Secret:
        if self.token is None:
            raise ServiceError(Kind.AUTH, "needs_reauthorization")
        return Secret(self.token)


class Waiting(Unlimited):
    """A limiter whose turn comes only after the store was connected again."""

    def __init__(self, tokens: Changing) -> None:
        self._tokens = tokens
        self.turns = 0

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        self.turns += 1
        self._tokens.token = _NEW


async def test_a_token_that_was_replaced_during_the_wait_is_not_sent() -> None:
    tokens = Changing()
    limiter = Waiting(tokens)
    async with serving({"shop-1": FakeStore(token=_NEW)}) as template, http_session() as session:
        stores = ShopifyStores(_admin(template, session, tokens, limiter))

        place = await stores.place("shop-1")

    assert (place.country, tokens.reported) == ("GB", [])


async def test_who_has_no_token_takes_no_turn() -> None:
    tokens = Changing()
    tokens.token = None
    limiter = Waiting(tokens)
    async with serving({"shop-1": FakeStore()}) as template, http_session() as session:
        stores = ShopifyStores(_admin(template, session, tokens, limiter))

        with pytest.raises(ServiceError, match="needs_reauthorization"):
            await stores.place("shop-1")

    assert limiter.turns == 0


def _admin(
    template: str, session: ClientSession, tokens: Changing, limiter: Waiting
) -> ShopifyAdmin:
    return ShopifyAdmin(
        base_url=template,
        api_version="2026-10",
        session=session,
        connections=tokens,
        credentials=tokens,
        limiter=limiter,
        clock=SystemClock(),
        metrics=Metrics(),
        timeout_s=5.0,
    )
