"""The app's configuration for Shopify's command line, `shopify.app.toml`. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from services.auth.domain.scopes import Use, scopes_to_ask
from services.auth.domain.subscriptions import COMPLIANCE_TOPICS, wanted_topics


@dataclass(frozen=True, slots=True, kw_only=True)
class AppToml:
    """What an app's configuration says that others cannot guess."""

    name: str
    client_id: str
    application_url: str
    redirect_urls: tuple[str, ...]
    webhook_url: str
    api_version: str


def shopify_app_toml(app: AppToml, uses: Collection[Use], *, topics_for_all: bool = False) -> str:
    """The text of `shopify.app.toml`.

    The compliance topics are always in it: they cannot be subscribed to in any other way. With
    `topics_for_all` so are all others, for every store at once; then they must not be made at each
    store as well, or each delivery comes twice.
    """
    lines = [
        f"name = {_text(app.name)}",
        f"client_id = {_text(app.client_id)}",
        f"application_url = {_text(app.application_url)}",
        "embedded = false",
        "",
        "[access_scopes]",
        f"scopes = {_text(','.join(scopes_to_ask(uses)))}",
        "",
        "[auth]",
        f"redirect_urls = {_texts(app.redirect_urls)}",
        "",
        "[webhooks]",
        f"api_version = {_text(app.api_version)}",
    ]
    if topics_for_all:
        topics = [one.topic for one in wanted_topics(uses)]
        lines += _subscription("topics", topics, app.webhook_url)
    # In a block of their own: Shopify's command line has refused blocks that hold both kinds.
    lines += _subscription("compliance_topics", COMPLIANCE_TOPICS, app.webhook_url)
    return "\n".join(lines) + "\n"


def _subscription(key: str, topics: Iterable[str], uri: str) -> list[str]:
    return ["", "[[webhooks.subscriptions]]", f"{key} = {_texts(topics)}", f"uri = {_text(uri)}"]


def _texts(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _text(value: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
