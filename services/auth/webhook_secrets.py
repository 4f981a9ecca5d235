"""The secrets that sign the webhooks of each shop, opened as grants come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from libs.errors import Kind, ServiceError
from libs.settings import Secret
from services.auth.ports import Grants
from tidewire.auth.v1.token_service_pb2 import ShopSecrets, WebhookSecret

_log = structlog.stdlib.get_logger()

_SHOPIFY: Final = ".shopify"
_AGAIN_S: Final = 1.0
_AT_ONCE: Final = 32


class _Watcher:
    """What one watch has not told yet."""

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.come = asyncio.Event()


class WebhookSecrets:
    """All shops' webhook secrets; a part of a process, which follows the grants."""

    def __init__(self, grants: Grants, app_secrets: Sequence[Secret]) -> None:
        """`app_secrets` are those of the service's own app: the present one and older ones."""
        self._grants = grants
        self._app_secrets = app_secrets
        self._by_shop: dict[str, ShopSecrets] = {}
        self._changed: dict[str, None] = {}
        self._come = asyncio.Event()
        self._stopping = False
        self._watchers: set[_Watcher] = set()
        grants.subscribe(self._note)

    @property
    def by_shop(self) -> Mapping[str, ShopSecrets]:
        """The secrets of each shop."""
        return self._by_shop

    async def watch(self) -> AsyncIterator[ShopSecrets | None]:
        """What there is, then None, then each change."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            for shop in tuple(self._by_shop.values()):
                yield shop
            yield None
            while True:
                await watcher.come.wait()
                watcher.come.clear()
                for name in tuple(watcher.changed):
                    del watcher.changed[name]
                    yield self._by_shop.get(name) or ShopSecrets(shop=name)
        finally:
            self._watchers.discard(watcher)

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the grants until `stop`; ready once those there are have been opened."""
        for kept in self._grants.all():
            self._note(kept.connection_id)
        while not self._stopping:
            self._come.clear()
            await self._open(tuple(self._changed))
            if not self._changed:
                ready()
            try:
                await asyncio.wait_for(self._come.wait(), _AGAIN_S if self._changed else None)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping = True
        self._come.set()

    def _note(self, connection_id: str) -> None:
        if connection_id.endswith(_SHOPIFY):
            self._changed[connection_id] = None
            self._come.set()

    async def _open(self, changed: Iterable[str]) -> None:
        """Opens many at once: each may need a key that has to be fetched first."""
        waiting = iter(changed)

        async def work() -> None:
            for connection_id in waiting:
                await self._open_one(connection_id)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def _open_one(self, connection_id: str) -> None:
        self._changed.pop(connection_id, None)
        shop = connection_id.removesuffix(_SHOPIFY)
        try:
            found = await self._of(connection_id, shop)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                self._changed[connection_id] = None
                return
            _log.error("webhook_secrets_unreadable", shop=shop, reason=error.code)
            found = ShopSecrets(shop=shop)
        if (self._by_shop.get(shop) or ShopSecrets(shop=shop)) != found:
            self._tell(found)

    async def _of(self, connection_id: str, shop: str) -> ShopSecrets:
        kept = self._grants.known(connection_id)
        found = ShopSecrets(shop=shop)
        if kept is None or not kept.record.HasField("grant"):
            return found
        grant = await self._grants.open(kept)
        app = grant.app
        own = [*((app.secret, *app.former) if app else ()), *grant.webhook_secrets]
        # Imported with secrets of its own, its webhooks are not signed by the service's app: no
        # provider has granted it anything, or scopes would have been named.
        by_service = app is None and (not own or bool(grant.scopes))
        apps = self._app_secrets if by_service else ()
        for place, secret in enumerate(apps):
            found.secrets.append(_message(f"_app.{place}", secret))
        for place, secret in enumerate(own):
            found.secrets.append(_message(f"{shop}.{place}", secret))
        return found

    def _tell(self, found: ShopSecrets) -> None:
        if found.secrets:
            self._by_shop[found.shop] = found
        else:
            self._by_shop.pop(found.shop, None)
        for watcher in self._watchers:
            # What changes twice before it is told is told once.
            watcher.changed[found.shop] = None
            watcher.come.set()


def _message(secret_id: str, secret: Secret) -> WebhookSecret:
    return WebhookSecret(secret_id=secret_id, key=secret.reveal().encode())
