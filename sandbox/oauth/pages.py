"""The pages that a person sees: consent, and what went wrong. All that is foreign is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from aiohttp import web
from yarl import URL

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}"
    "button{font:inherit;padding:.5rem 1.2rem;margin-right:.6rem}"
    "small{color:#666}"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def consent(
    *, title: str, lines: Iterable[str], allow: str, deny: str, fields: Mapping[str, str]
) -> web.Response:
    """A page with one form that posts `fields` and `decision` (`allow` or `deny`) back to it."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return _page(
        title,
        f"<p>This is the sandbox: nothing real is granted.</p><ul>{listed}</ul>"
        f'<form method="post">{hidden}'
        f'<button name="decision" value="allow">{escape(allow)}</button>'
        f'<button name="decision" value="deny">{escape(deny)}</button></form>',
    )


def refusal(title: str, text: str, status: int = 400) -> web.Response:
    """A page that says why a person cannot go on."""
    return _page(title, f"<p>{escape(text)}</p>", status)


def _page(title: str, body: str, status: int = 200) -> web.Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}"
        "<small>Tidewire sandbox</small></body></html>"
    )
    return web.Response(text=html, status=status, content_type="text/html", headers=_HEADERS)


def redirect(uri: str, query: Mapping[str, str]) -> web.Response:
    """Sends the browser on, with `query` added to what `uri` has."""
    location = URL(uri).update_query(query)
    headers = {"Location": str(location), "Cache-Control": "no-store"}
    return web.Response(status=302, headers=headers)
