"""The page of a web event: always an absolute address, never one that opens somebody's order."""

from __future__ import annotations

import re
from urllib.parse import urljoin

# Browsers and proxies stop well below; a longer one is a mistake of whoever built it.
_URL_CHARACTERS_MAX = 4_096
# Scheme, authority, path; a query or fragment may follow. No address may hold a space.
_WHOLE = re.compile(r"(https?://)([^\s/?#]+)([^\s?#]*)\S*", re.IGNORECASE)
# Requests of scripts and of the merchant, recorded by Shopify as the landing page.
_NOT_PAGES = ("/admin", "/wallets/", "/api/", "/.well-known/")


def page_url(
    page: str | None,
    order_status: str | None,
    landing_site: str | None,
    storefront: str,
) -> str:
    """Where it happened: the first that is known, down to the shop's own front page.

    `page` and a landing site keep their query (TikTok wants the full address). The order status
    address loses it: its `key` opens the order to whoever holds it.
    """
    return (
        absolute_url(page)
        or _status_page(order_status)
        or _landing_page(landing_site, storefront)
        or storefront
    )


def absolute_url(url: str | None) -> str | None:
    """`url` where it is a whole http(s) address of bearable length, else None."""
    text = (url or "").strip()
    if len(text) > _URL_CHARACTERS_MAX or not text.isprintable():
        return None
    return text if _WHOLE.fullmatch(text) else None


def bare_url(url: str) -> str:
    """The absolute `url` without sign-in, query and fragment, where ids of a person travel."""
    found = _WHOLE.match(url)
    if found is None:
        return url
    scheme, authority, path = found.groups()
    return f"{scheme}{authority.rpartition('@')[2]}{path}"


def _status_page(url: str | None) -> str | None:
    whole = absolute_url(url)
    return bare_url(whole).removesuffix("/authenticate") if whole else None


def _landing_page(url: str | None, storefront: str) -> str | None:
    text = (url or "").strip()
    if text.startswith("/") and not text.startswith("//"):
        text = urljoin(storefront, text)
    whole = absolute_url(text)
    if whole is None:
        return None
    found = _WHOLE.match(whole)
    path = found[3] if found else ""
    return None if path.startswith(_NOT_PAGES) or path.endswith(".json") else whole
