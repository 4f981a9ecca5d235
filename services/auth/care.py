"""What each kind of store needs to stay connected, for the keeper. Decides; does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.connections import DOMAIN_SUFFIX
from services.auth.domain import shop_webhooks
from services.auth.domain.scopes import missing_scopes
from services.auth.domain.subscriptions import Plan, Wanted, plan, problems, wanted_topics
from services.auth.ports import Installation, KeptStore


class Care(Protocol):
    """How stores of one kind are looked after."""

    @property
    def address(self) -> str:
        """Where webhooks are sent to, as the stores see it; empty: no subscription is touched."""

    @property
    def every_s(self) -> float:
        """Seconds between looks at a store."""

    def planned(self, store: KeptStore, installed: Installation) -> Plan:
        """What to change there."""

    def missing(self, store: KeptStore, installed: Installation) -> tuple[str, ...]:
        """Scopes that are needed and were not granted."""

    def problems(self, store: KeptStore, installed: Installation, made: Plan) -> Sequence[str]:
        """What stands in its way, each with what a person does about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopifyCare:
    """`Care` of Shopify's stores."""

    address: str
    api_version: str
    """In which webhooks are to be written, unless a connection says otherwise."""
    topics_in_app: bool = False
    """The app's configuration subscribes for all stores; whatever we made at a store goes."""
    every_s: float = 3600.0

    def planned(self, store: KeptStore, installed: Installation) -> Plan:
        if not self.address:
            return Plan()
        wanted: Sequence[Wanted] = ()
        if not self.topics_in_app:
            wanted = wanted_topics(store.uses)
        return plan(
            wanted,
            installed.found,
            self.address,
            granted=installed.scopes,
            api_version=self._version(store),
        )

    def missing(self, store: KeptStore, installed: Installation) -> tuple[str, ...]:
        return missing_scopes(store.uses, installed.scopes)

    def problems(self, store: KeptStore, installed: Installation, made: Plan) -> Sequence[str]:
        domain = store.connection.shop + DOMAIN_SUFFIX
        missing = self.missing(store, installed)
        found = [*problems(made, missing, domain, api_version=self._version(store))]
        if not self.address:
            found.append("no public address for webhooks is set, so no subscription is looked at")
        return found

    def _version(self, store: KeptStore) -> str:
        return store.connection.shopify.api_version or self.api_version


@dataclass(frozen=True, slots=True, kw_only=True)
class TikTokShopCare:
    """`Care` of TikTok Shops."""

    address: str
    every_s: float = 3600.0

    def planned(self, store: KeptStore, installed: Installation) -> Plan:  # noqa: ARG002
        if not self.address or installed.unreadable:
            return Plan()
        return shop_webhooks.plan(installed.found, self.address, granted=installed.scopes)

    def missing(self, store: KeptStore, installed: Installation) -> tuple[str, ...]:  # noqa: ARG002
        return shop_webhooks.missing_scopes(installed.scopes)

    def problems(self, store: KeptStore, installed: Installation, made: Plan) -> Sequence[str]:
        missing = self.missing(store, installed)
        found = [*shop_webhooks.problems(made, missing, store.connection.shop)]
        if installed.unreadable:
            found.append(installed.unreadable)
        return found
