"""A person's browser, played: it follows, keeps cookies, clicks "allow", and knows what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final, Self
from urllib.parse import parse_qsl

import aiohttp
from yarl import URL

_REDIRECTS_MAX: Final = 6
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TELLING: Final = frozenset({"code", "auth_code", "state"})
_LINK: Final = "/connect/"
"""The way to an attempt; its id follows, and whoever has that may connect."""


class Browser:
    """One browser with a jar of its own. `async with Browser() as browser:`."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        """Codes and states that came by, the ids of links, and the values of cookies."""
        self.pages: list[tuple[URL, str]] = []
        """All that was shown, and where."""
        # By default a jar keeps no cookies of hosts that are IP addresses.
        self._jar = aiohttp.CookieJar(unsafe=True)
        self._session = aiohttp.ClientSession(cookie_jar=self._jar)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def agree(self, url: str) -> str:
        """The page in the end, where everything is allowed that is asked for."""
        place, page = await self.go("GET", URL(url))
        fields = fields_of(page)
        if not fields:
            return page
        _, page = await self.go("POST", place.with_query(None), {**fields, "decision": "allow"})
        return page

    async def sign_in(self, url: str, password: str) -> str:
        """The operator's page of connections."""
        _, form = await self.go("GET", URL(f"{url}/sign-in"))
        fields = {**fields_of(form), "password": password}
        _, page = await self.go("POST", URL(f"{url}/sign-in"), fields)
        return page

    async def go(
        self, method: str, url: URL, data: Mapping[str, str] | None = None
    ) -> tuple[URL, str]:
        """Where a request ends after its redirects, and what is shown there."""
        for _ in range(_REDIRECTS_MAX):
            self._note(url)
            async with self._session.request(
                method, url, data=data, allow_redirects=False
            ) as answer:
                page = await answer.text()
                self.pages.append((url.origin(), page))
                self.seen |= {cookie.value for cookie in self._jar if cookie.value}
                if answer.status not in _REDIRECTS:
                    return url, page
                url = url.join(URL(answer.headers["Location"], encoded=True))
                method, data = "GET", None
        raise AssertionError("sent round in a circle")

    def _note(self, url: URL) -> None:
        pairs = parse_qsl(url.raw_query_string)
        self.seen |= {value for name, value in pairs if name in _TELLING and value != "null"}
        if url.path.startswith(_LINK):
            self.seen.add(url.path.removeprefix(_LINK))


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the one form on a page; none where there is no form."""
    reader = _Fields()
    reader.feed(page)
    return reader.found


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "input" and known.get("type") == "hidden" and known.get("name"):
            self.found[str(known["name"])] = known.get("value") or ""
