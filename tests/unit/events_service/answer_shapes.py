"""Shapes of answers that an Events API, or something on the way to it, may give, and their meaning.

One table for two tests: of the pure function, and of the adapter that reads the bytes off a socket.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Final, NamedTuple

from libs.errors import Kind, ServiceError
from libs.tiktok import Scope
from services.events.domain.answers import Answered, Meaning, scope_of

PERSON: Final = "alice.smith@example.com"
REQUEST_ID: Final = "20261122000000" + "0" * 20
UNREADABLE: Final = "upstream_answer_unreadable"


class Verdict(NamedTuple):
    """All that anybody acts on."""

    means: Meaning | Kind
    scope: Scope | None = None
    code: str = ""
    retry_after_s: float | None = None
    at: int | None = None
    field: str = ""
    divisible: bool = False


def verdict_on(found: Answered | ServiceError) -> Verdict:
    """What was made of an answer; nothing of it may name the person whom a message quotes."""
    if isinstance(found, Answered):
        return Verdict(found.meaning)
    kept = f"{found!s} {found!r} {found.message} {found.path} {found.args}"
    assert PERSON.partition(".")[0] not in kept.lower()
    return Verdict(
        found.kind,
        scope_of(found),
        found.code,
        found.retry_after_s,
        getattr(found, "at", None),
        found.path or "",
        getattr(found, "divisible", False),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An answer, and what it is to mean.

    `body` is what a reader of the answer holds. `wire` is what travels in place of
    Content-Length and body, where that is not the same; `pure` says whether the domain ever sees
    such an answer.
    """

    name: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    wire: bytes | None = None
    pure: bool = True
    means: Meaning | Kind
    scope: Scope | None = None
    code: str = ""
    """The error's; "" for a yes."""
    retry_after_s: float | None = None
    at: int | None = None
    field: str = ""
    divisible: bool = False

    @property
    def verdict(self) -> Verdict:
        """What is to be made of it."""
        return Verdict(
            self.means,
            self.scope,
            self.code,
            self.retry_after_s,
            self.at,
            self.field,
            self.divisible,
        )

    @property
    def sent(self) -> bytes:
        """The whole answer as it travels."""
        lines = [f"HTTP/1.1 {self.status} X", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        head = "\r\n".join(lines).encode() + b"\r\n"
        if self.wire is not None:
            return head + self.wire
        if self.status in (204, 304):
            return head + b"\r\n"
        return head + f"Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


def said(code: object, message: str = "OK", **more: object) -> bytes:
    """An envelope of TikTok's."""
    envelope = {"code": code, "message": message, "request_id": REQUEST_ID, "data": {}, **more}
    return json.dumps(envelope).encode()


def _framed(body: bytes, length: int | None = None) -> bytes:
    """A body under a length of its own."""
    return f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def _chunked(*chunks: bytes, ends: bool = True) -> bytes:
    parts = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"Transfer-Encoding: chunked\r\n\r\n" + parts + (b"0\r\n\r\n" if ends else b"")


def _yes(name: str, body: bytes, means: Meaning = Meaning.DELIVERED, **more: object) -> Shape:
    return Shape(name=name, body=body, means=means, **more)  # type: ignore[arg-type]


def _unreadable(name: str, body: bytes, status: int = 200, **more: object) -> Shape:
    return Shape(
        name=name,
        status=status,
        body=body,
        means=Kind.RETRYABLE,
        scope=Scope.UPSTREAM,
        code=UNREADABLE,
        **more,  # type: ignore[arg-type]
    )


def _no(
    name: str, code: int, kind: Kind, scope: Scope, message: str = "no", **more: object
) -> Shape:
    more.setdefault("body", said(code, message))
    return Shape(
        name=name,
        means=kind,
        scope=scope,
        code=f"upstream_{code}",
        **more,  # type: ignore[arg-type]
    )


def _item(name: str, message: str, at: int | None, field: str = "") -> Shape:
    """40002, which names an event and a field, or does not."""
    return _no(name, 40002, Kind.PERMANENT, Scope.ITEM, message, at=at, field=field, divisible=True)


def _status(status: int, kind: Kind, scope: Scope, body: bytes = b"", **more: object) -> Shape:
    """An answer without a code of TikTok's."""
    more.setdefault("name", f"{status} {'without a body' if not body else 'with another body'}")
    more.setdefault("code", f"upstream_status_{status}")
    return Shape(
        status=status,
        body=body,
        means=kind,
        scope=scope,
        **more,  # type: ignore[arg-type]
    )


_GZIPPED: Final = (("Content-Encoding", "gzip"),)
_HTML: Final = b"<html><body>OK</body></html>"
_YES: Final = said(0)
_LATER: Final = (("Retry-After", "7"),)
_LATER_DATE: Final = (("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),)

SHAPES: Final = (
    # A yes.
    _yes("code 0", _YES),
    _yes("code 0 with null data", said(0, data=None)),
    _yes("code 0 with data of its own", said(0, data={"received": 2, "errors": []})),
    _yes("code 0 without message, data and request id", b'{"code":0}'),
    _yes("code 0 behind a byte order mark", b"\xef\xbb\xbf" + _YES),
    _yes("code 0 as text/plain", _YES, headers=(("Content-Type", "text/plain"),)),
    _yes("code 0 under 201", _YES, status=201),
    _yes("code 0 in chunks", _YES, wire=_chunked(_YES[:9], _YES[9:])),
    _yes("code 0 gzipped", _YES, headers=_GZIPPED, wire=_framed(gzip.compress(_YES))),
    _yes("code 0 with an error inside data as text", said(0, data="error")),
    _yes("code 0 with other fields nested", said(0, extra={"code": 40002})),
    # A yes with a but.
    _yes("20001", said(20001, "Partial success"), Meaning.UNCERTAIN),
    _yes("20001 with a list", said(20001, data={"failed_events": [{"index": 1}]}),
         Meaning.UNCERTAIN),
    _yes("40050", said(40050, "Duplicated request"), Meaning.UNCERTAIN),
    _yes("code 0 with errors", said(0, errors=[{"index": 1}]), Meaning.UNCERTAIN),
    _yes("code 0 with failures in data", said(0, data={"failed_events": [1]}), Meaning.UNCERTAIN),
    # No code of TikTok's under a status that says yes.
    _unreadable("an empty body", b""),
    _unreadable("204", b"", 204),
    _unreadable("a page of a proxy", _HTML, headers=(("Content-Type", "text/html"),)),
    _unreadable("a page that claims to be JSON", _HTML,
                headers=(("Content-Type", "application/json"),)),
    _unreadable("JSON that breaks off", _YES[:-2]),
    _unreadable("JSON with something behind it", _YES + b"<!-- -->"),
    _unreadable("an array", b"[" + _YES + b"]"),
    _unreadable("null", b"null"),
    _unreadable("a string", b'"OK"'),
    _unreadable("no code", b'{"message":"OK","data":{}}'),
    _unreadable("code null", said(None)),
    _unreadable("code as text", said("0")),
    _unreadable("code as a fraction", said(0.0)),
    _unreadable("code as a truth value", said(code=False)),
    _unreadable("code as an object", said({"code": 0})),
    _unreadable("code too large for a record", said(2**40)),
    _unreadable("code of 400 digits", b'{"code":' + b"9" * 400 + b"}"),
    _unreadable("code one level down", b'{"data":{"code":0,"message":"OK"}}'),
    _unreadable("code by another name", b'{"Code":0,"message":"OK"}'),
    _unreadable("two codes, yes last", b'{"code":40002,"message":"no","code":0}'),
    _unreadable("two codes, no last", b'{"code":0,"message":"OK","code":40002}'),
    _unreadable("not UTF-8", b'{"code":0,"message":"\xff"}'),
    _unreadable("UTF-16", _YES.decode().encode("utf-16")),
    _unreadable("nested without end", b'{"code":0,"data":' + b"[" * 50_000),
    _unreadable("gzip that nobody announced", gzip.compress(_YES)),
    # Refusals, mostly under HTTP 200.
    _no("40000", 40000, Kind.PERMANENT, Scope.ITEM, "Invalid Price Field", divisible=True),
    _no("40000 for haste", 40000, Kind.THROTTLED, Scope.APP, "Requests made too frequently"),
    _no("40001", 40001, Kind.AUTH, Scope.CONNECTION),
    _no("40007", 40007, Kind.PERMANENT, Scope.CONNECTION),
    _no("40051", 40051, Kind.PERMANENT, Scope.ENVELOPE),
    _no("40061", 40061, Kind.PERMANENT, Scope.ENVELOPE, divisible=True),
    _no("40062", 40062, Kind.PERMANENT, Scope.ITEM, divisible=True),
    _no("40100 under 200", 40100, Kind.THROTTLED, Scope.APP),
    _no("40100 that says how long", 40100, Kind.THROTTLED, Scope.APP, headers=_LATER,
        retry_after_s=7.0),
    _no("40132", 40132, Kind.THROTTLED, Scope.CONNECTION),
    _no("40105", 40105, Kind.AUTH, Scope.CONNECTION),
    _no("40105 that asks to wait", 40105, Kind.AUTH, Scope.CONNECTION, headers=_LATER),
    _no("40105 under 401", 40105, Kind.AUTH, Scope.CONNECTION, status=401),
    _no("40113", 40113, Kind.AUTH, Scope.APP),
    _no("41000", 41000, Kind.AUTH, Scope.UPSTREAM),
    _no("40700", 40700, Kind.PERMANENT, Scope.ITEM, "rpc validation", divisible=True),
    _no("40700 in passing", 40700, Kind.RETRYABLE, Scope.UPSTREAM, "inner timeout"),
    _no("50000 under 200", 50000, Kind.RETRYABLE, Scope.UPSTREAM),
    _no("51012", 51012, Kind.RETRYABLE, Scope.CONNECTION),
    _no("60001 that says how long", 60001, Kind.RETRYABLE, Scope.UPSTREAM, headers=_LATER,
        retry_after_s=7.0),
    _no("an unknown 5xxxx", 54321, Kind.RETRYABLE, Scope.UPSTREAM),
    _no("an unknown 401xx", 40199, Kind.AUTH, Scope.CONNECTION),
    _no("an unknown 4xxxx", 40888, Kind.PERMANENT, Scope.ITEM, divisible=True),
    _no("HTTP's own yes as a code", 200, Kind.PERMANENT, Scope.ITEM, "OK", divisible=True),
    _no("a code below zero", -1, Kind.PERMANENT, Scope.ITEM, divisible=True),
    _no("50000 under 502", 50000, Kind.RETRYABLE, Scope.UPSTREAM, status=502),
    _no("40100 under 429", 40100, Kind.THROTTLED, Scope.APP, status=429, headers=_LATER,
        retry_after_s=7.0),
    _no("40002 under 500", 40002, Kind.PERMANENT, Scope.ITEM, status=500, divisible=True),
    _no("40105 behind a byte order mark", 40105, Kind.AUTH, Scope.CONNECTION,
        body=b"\xef\xbb\xbf" + said(40105)),
    # Which event it was.
    _item("index and field with dots", "Invalid value for data.17.event_id", 17, "event_id"),
    _item("index of the older batch",
          "Batch.0.properties.contents.0.content_id: Not a valid string", 0,
          "properties.contents.0.content_id"),
    _item("index in brackets", "data[3].user.email is wrong", 3, "user.email"),
    _item("index alone", "data.999", 999),
    _item("field alone", "Invalid value for event_id: not a valid string.", None, "event_id"),
    _item("neither", "Invalid parameter", None),
    _item("no message", "", None),
    _item("an index that no batch has", "data.12345.event_id", None),
    _item("a person quoted", f"Invalid value for data.0.{PERSON}", 0),
    _item("a person quoted as the field's value", f"data.2.user.email: {PERSON} is not hashed", 2,
          "user.email"),
    # Only a status.
    _status(301, Kind.RETRYABLE, Scope.UPSTREAM, code=UNREADABLE,
            headers=(("Location", "http://127.0.0.1:9/"),)),
    _status(302, Kind.RETRYABLE, Scope.UPSTREAM, _YES, code=UNREADABLE,
            headers=(("Location", "http://127.0.0.1:9/"),), name="302 with code 0"),
    _status(400, Kind.PERMANENT, Scope.ENVELOPE, code="upstream_400", divisible=True),
    _status(400, Kind.PERMANENT, Scope.ENVELOPE, _YES, name="400 with code 0",
            code="upstream_400", divisible=True),
    _status(401, Kind.AUTH, Scope.CONNECTION),
    _status(403, Kind.AUTH, Scope.CONNECTION, _HTML),
    _status(404, Kind.PERMANENT, Scope.ENVELOPE, b"404 page not found"),
    _status(408, Kind.RETRYABLE, Scope.UPSTREAM),
    _status(413, Kind.PERMANENT, Scope.ENVELOPE, _HTML, code="upstream_413", divisible=True),
    _status(429, Kind.THROTTLED, Scope.APP, retry_after_s=5.0),
    _status(429, Kind.THROTTLED, Scope.APP, headers=_LATER, retry_after_s=7.0,
            name="429 with a number"),
    _status(429, Kind.THROTTLED, Scope.APP, headers=_LATER_DATE, retry_after_s=0.0,
            name="429 with a date that has passed"),
    _status(429, Kind.THROTTLED, Scope.APP, headers=(("Retry-After", "soon"),), retry_after_s=5.0,
            name="429 with a wait that nobody can read"),
    _status(429, Kind.THROTTLED, Scope.APP, _YES, retry_after_s=5.0, name="429 with code 0"),
    _status(500, Kind.RETRYABLE, Scope.UPSTREAM, _YES, name="500 with code 0"),
    _status(502, Kind.RETRYABLE, Scope.UPSTREAM, _HTML),
    _status(503, Kind.RETRYABLE, Scope.UPSTREAM, headers=_LATER, retry_after_s=7.0),
    _status(503, Kind.RETRYABLE, Scope.UPSTREAM, said(20001), name="503 with 20001"),
    # What only a reader of sockets meets.
    Shape(name="chunks that end early", wire=_chunked(_YES[:9], ends=False), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code="upstream_truncated"),
    Shape(name="chunks whole but without an end", wire=_chunked(_YES, ends=False), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code="upstream_truncated"),
    Shape(name="a body shorter than its length", wire=_framed(_YES, len(_YES) + 10), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code="upstream_truncated"),
    Shape(name="gzip that is none", headers=_GZIPPED, wire=_framed(_YES), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code="upstream_truncated"),
    Shape(name="gzip that breaks off", headers=_GZIPPED,
          wire=_framed(gzip.compress(_YES)[:-12]), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code=UNREADABLE),
    Shape(name="a page of 2 MiB", wire=_framed(b"x" * 2**21), pure=False,
          means=Kind.RETRYABLE, scope=Scope.UPSTREAM, code=UNREADABLE),
)  # fmt: skip
