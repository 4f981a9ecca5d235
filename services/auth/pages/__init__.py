"""Pages for people: a merchant who connects, an operator who looks."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path
from typing import Final

import jinja2
from aiohttp import web
from markupsafe import Markup

_FOLDER: Final = Path(__file__).parent


class Pages:
    """Renders pages; what is put into them is escaped, and what is missing is an error."""

    def __init__(self, *, https: bool) -> None:
        style = (_FOLDER / "style.css").read_text(encoding="utf-8")
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
        )
        # Ours, and its hash is all that the policy lets in.
        self._templates.globals["style"] = Markup(style)  # noqa: S704
        digest = base64.b64encode(sha256(style.encode()).digest()).decode()
        self.headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
                "frame-ancestors 'none'; base-uri 'none'"
            ),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Server": "tidewire",
        }
        """What every answer carries, whatever it is."""
        if https:
            self.headers["Strict-Transport-Security"] = "max-age=31536000"

    def page(self, name: str, *, status: int = 200, **values: object) -> web.Response:
        """The page `name`, filled in."""
        html = self._templates.get_template(name).render(values)
        return web.Response(status=status, text=html, content_type="text/html")

    def message(
        self,
        title: str,
        text: str,
        *,
        status: int,
        good: bool = False,
        reason: str = "",
        facts: tuple[tuple[str, str], ...] = (),
        then: str = "",
    ) -> web.Response:
        """What happened, why, and what to do next."""
        values = {"title": title, "text": text, "good": good, "reason": reason, "facts": facts}
        return self.page("message.html", status=status, next=then, **values)


class Cookies:
    """Cookies of this service: for this host alone, out of reach of scripts."""

    def __init__(self, *, https: bool) -> None:
        self._https = https

    def name(self, of: str) -> str:
        """As the browser knows it; over https one that no other host can have set."""
        return f"__Host-tidewire-{of}" if self._https else f"tidewire-{of}"

    def of(self, request: web.Request, of: str) -> str:
        """What the browser holds; empty where it holds nothing."""
        return request.cookies.get(self.name(of), "")

    def put(
        self, response: web.Response, of: str, value: str, *, lasts_s: int, cross_site: bool = False
    ) -> None:
        """Has the browser hold a value; with `cross_site` links from elsewhere bring it too."""
        response.set_cookie(
            self.name(of),
            value,
            max_age=lasts_s,
            path="/",
            httponly=True,
            secure=self._https,
            samesite="Lax" if cross_site else "Strict",
        )

    def drop(self, response: web.Response, of: str) -> None:
        """Has the browser forget it."""
        response.del_cookie(
            self.name(of), path="/", httponly=True, secure=self._https, samesite="Lax"
        )


def see(location: str) -> web.Response:
    """Sends the browser on, to an address that is never taken from a request."""
    return web.Response(status=303, headers={"Location": location})
