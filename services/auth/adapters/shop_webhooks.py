"""A TikTok Shop's webhook addresses, over signed calls. Contract: tiktok-shop.md, section 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from libs.errors import Kind, ServiceError, permanent
from libs.http.client import Request
from libs.tiktok.shop_signing import sign
from services.auth.adapters.providers import envelope
from services.auth.adapters.providers.calls import Body, Caller, text, with_query
from services.auth.domain import refusals
from services.auth.domain.refusals import Refusal, Step
from services.auth.domain.subscriptions import Found, Wanted
from services.auth.ports import APP_REFUSED, Grants, Installation
from services.auth.tokens import Tokens
from tidewire.auth.v1 import health_pb2, token_service_pb2

SUBSCRIPTION_REFUSED: Final = "subscription_refused"
SCOPE_MISSING: Final = "scope_missing"

_VERSION: Final = "202309"
_PATH: Final = f"/event/{_VERSION}/webhooks"
_JSON: Final = "application/json"
_CODE_LACKS_SCOPE: Final = 105005
_WORDS_MAX: Final = 300

_judge: Final = envelope.judged_by(refusals.tiktok_shop, Step.REVOKE)
"""Nothing is granted here: a dead token is a dead grant, and all else is what it says."""


class TikTokShops:
    """`Stores` of TikTok Shops, whose keys are ids of connections."""

    def __init__(
        self, caller: Caller, *, api_url: str, tokens: Tokens, grants: Grants, asks: bool = True
    ) -> None:
        """Where `asks` is False, nothing is asked of a shop: only its scopes are told."""
        self._caller = caller
        self._api_url = api_url.rstrip("/")
        self._tokens = tokens
        self._grants = grants
        self._asks = asks

    async def installation(self, shop: str) -> Installation:
        """The app as the shop has it; its scopes are those that came with the grant.

        Raises:
            ServiceError: as `Tokens.token`; AUTH, where the token is refused, which was reported
                then; PERMANENT, SUBSCRIPTION_REFUSED; RETRYABLE or THROTTLED.
        """
        kept = self._grants.known(shop)
        scopes = frozenset(kept.record.scopes) if kept is not None else frozenset()
        version = health_pb2.VersionHealth(asked=_VERSION)
        if not self._asks:
            return Installation(scopes, (), version)
        try:
            told = await self._call(shop, "GET", "webhooks")
        except ServiceError as error:
            if error.code != SCOPE_MISSING:
                raise
            return Installation(scopes, (), version, unreadable=error.message)
        return Installation(scopes, self._found(told), version)

    async def create(self, shop: str, want: Wanted, address: str) -> bool:
        """Has events of a kind sent to `address`, wherever they were sent before.

        Raises:
            ServiceError: as `installation`; PERMANENT, SCOPE_MISSING.
        """
        wish = {"address": address, "event_type": want.name}
        await self._call(shop, "PUT", want.name, wish)
        return True

    async def update(self, shop: str, found: Found, want: Wanted, address: str) -> bool:  # noqa: ARG002
        """As `create`: one that is there is overwritten, and one that is gone made again."""
        return await self.create(shop, want, address)

    async def delete(self, shop: str, found: Found) -> None:
        """Has no more events of a kind sent.

        Raises:
            ServiceError: as `create`.
        """
        await self._call(shop, "DELETE", found.name, {"event_type": found.name})

    async def _call(
        self, shop: str, method: str, what: str, wish: Mapping[str, str] | None = None
    ) -> Body:
        """The answer; asked once more where the token was refused and there is a newer one.

        Each of these calls may be made twice.
        """
        body = msgspec.json.encode(wish) if wish else b""
        token = await self._tokens.token(shop)
        try:
            return await self._sent(token, method, what, body)
        except ServiceError as error:
            if error.kind is not Kind.AUTH:
                raise
            kept = await self._tokens.report(shop, token.revision, "refused_upstream")
            if kept.record.token_revision == token.revision:
                raise
        return await self._sent(await self._tokens.token(shop), method, what, body)

    async def _sent(
        self, token: token_service_pb2.Token, method: str, what: str, body: bytes
    ) -> Body:
        signing = token.signing
        if not signing.app_key:
            raise permanent(APP_REFUSED, "tiktok-shop: the settings name no app that could sign")
        query = {
            "app_key": signing.app_key,
            "shop_cipher": signing.shop_cipher,
            "timestamp": str(int(self._caller.now.timestamp())),
        }
        query["sign"] = sign(_PATH, query, body, _JSON, signing.app_secret)
        request = Request(
            method=method,
            url=with_query(self._api_url + _PATH, query),
            headers={"Content-Type": _JSON, "x-tts-access-token": token.access_token},
            body=body,
            repeatable=method == "GET",
        )
        ask = self._caller.read if method == "GET" else self._caller.once
        heard = _Heard()
        try:
            return await ask(request, heard)
        except ServiceError as error:
            failure = error if error.kind is not Kind.PERMANENT else heard.refusal(what, token)
        raise failure

    def _found(self, told: Body) -> tuple[Found, ...]:
        nodes = envelope.data(told).get("webhooks") or ()
        if not isinstance(nodes, list | tuple):
            raise self._caller.unreadable()
        return tuple(_found(node) for node in nodes if isinstance(node, dict))


class _Heard:
    """The judge of an answer; keeps what it said, for a person to read."""

    def __init__(self) -> None:
        self._status = 0
        self._code = 0
        self._words = ""

    def __call__(self, status: int, body: Body | None) -> Refusal | None:
        code = (body or {}).get("code")
        self._status = status
        self._code = code if isinstance(code, int) else 0
        self._words = text(body, "message")
        return _judge(status, body)

    def refusal(self, what: str, token: token_service_pb2.Token) -> ServiceError:
        """The error for a no, without the secrets that it might quote."""
        words = self._words
        for secret in (token.access_token, token.signing.shop_cipher, token.signing.app_secret):
            words = words.replace(secret, "…") if secret else words
        said = f"{self._code} {words[:_WORDS_MAX]}" if self._code else f"status {self._status}"
        if self._code == _CODE_LACKS_SCOPE:
            return permanent(
                SCOPE_MISSING,
                f"{what}: {said}: enable seller.authorization.info for the app in Partner Center"
                " and have the seller agree again",
            )
        return permanent(SUBSCRIPTION_REFUSED, f"{what}: {said}")


def _found(node: Mapping[str, Any]) -> Found:
    kind = text(node, "event_type")
    return Found(subscription_id=kind, name=kind, uri=text(node, "address"))
