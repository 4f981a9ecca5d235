"""`tidewire shopify-app-toml`: the app's configuration for Shopify's command line."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from services.auth.domain.app_toml import AppToml
from services.auth.domain.app_toml import shopify_app_toml as written
from services.auth.domain.scopes import Use

CALLBACK: Final = "/oauth/shopify/callback"
INSTALL: Final = "/shopify/install"
WEBHOOKS: Final = "/webhooks/shopify"
_ALL_USES: Final = list(Use)


def shopify_app_toml(
    url: Annotated[
        str, typer.Option(help="Where browsers reach the auth service, such as https://x.example.")
    ],
    client_id: Annotated[str, typer.Option(help="The app's client id.")],
    webhooks_url: Annotated[
        str, typer.Option(help="Where Shopify reaches ingest, if that is another address.")
    ] = "",
    name: Annotated[str, typer.Option(help="The app's name.")] = "Tidewire",
    api_version: Annotated[
        str, typer.Option(help="Version that webhooks are written in.")
    ] = "2026-10",
    use: Annotated[
        list[Use], typer.Option(help="What stores are used for; repeat it for several.")
    ] = _ALL_USES,
    topics_for_all: Annotated[
        bool,
        typer.Option(
            "--topics-for-all",
            help="Subscribe for all stores here, and not at each store by API.",
        ),
    ] = False,
) -> None:
    """Prints shopify.app.toml: scopes, addresses, webhooks and the compliance topics."""
    for option, address in (("--url", url), ("--webhooks-url", webhooks_url or url)):
        if not _is_public(address):
            raise typer.BadParameter(f"{option} must be an https address without a query")
    base = url.rstrip("/")
    app = AppToml(
        name=name,
        client_id=client_id,
        application_url=base + INSTALL,
        redirect_urls=(base + CALLBACK,),
        webhook_url=(webhooks_url or url).rstrip("/") + WEBHOOKS,
        api_version=api_version,
    )
    typer.echo(written(app, use, topics_for_all=topics_for_all), nl=False)


def _is_public(address: str) -> bool:
    """Shopify sends nothing to an address without TLS."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and not (parts.query or parts.fragment)
