"""What a fault does to an answer, as a pure function from the honest judgement to the reply.

`accepted` on an effect means that the service had done its work when the answer went wrong: what is
valid in the request is recorded, though the caller cannot know.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from sandbox.tiktok.access import EXPIRED_TOKEN
from sandbox.tiktok.answers import MESSAGES, Reply, Sending, envelope
from sandbox.tiktok.judge import NOT_FOUND
from sandbox.tiktok.verdict import Event, Judgement

PARTIAL = 20001
REPEATED = 40050
PARAM_ERROR = 40002


class _Kind(msgspec.Struct, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """Every effect names itself in `kind`."""


class Hang(_Kind, tag="hang"):
    """No answer until the client goes away; nothing is done."""


class Reset(_Kind, tag="reset"):
    """The connection is torn down; nothing is done."""


class AcceptThenTimeout(_Kind, tag="accept_then_timeout"):
    """The events are recorded, then no answer until the client goes away."""


class AcceptThenReset(_Kind, tag="accept_then_reset"):
    """The events are recorded, then the connection is torn down."""


class HttpStatus(_Kind, tag="http_status"):
    """An answer from before TikTok's own layer: 429, 5xx, a proxy's page."""

    status: int
    retry_after_s: int | None = None
    body: str | None = None
    """None for a small HTML page; `""` for no body."""

    content_type: str = "text/html"
    accepted: bool = False


class Code(_Kind, tag="code"):
    """A code under HTTP 200; with `accepted`, one that is given after the work was done."""

    code: int
    message: str | None = None
    accepted: bool = False


class ExpiredToken(_Kind, tag="expired_token"):
    """40102, as for a token that has run out."""


class Truncate(_Kind, tag="truncate"):
    """The honest answer, cut short under its full Content-Length; the work is done."""

    keep: float = 0.5
    """The part of the body that arrives, 0 to below 1."""


class Malformed(_Kind, tag="malformed"):
    """HTTP 200 with a body that is not TikTok's envelope."""

    form: Literal["not_json", "array", "no_code", "code_as_string", "null", "html"] = "not_json"
    accepted: bool = False


class EmptyBody(_Kind, tag="empty_body"):
    """HTTP 200 and no body."""

    accepted: bool = False


class RefuseEvent(_Kind, tag="refuse_event"):
    """40002 for the whole batch because of the first event that the fault's pattern fits."""

    named: bool = True
    """Whether the message names the event's index."""

    field: str = "event_id"
    """The field that the message blames."""


class Partial(_Kind, tag="partial"):
    """20001: the events that the fault's pattern fits are refused, the others recorded."""

    listed: bool = True
    """Whether `data` tells which ones. No source shows what TikTok's own looks like."""


class RefuseRepeats(_Kind, tag="refuse_repeats"):
    """40050 for a request whose events were all accepted before; any other is answered honestly."""


class ItemIssue(_Kind, tag="item_issue"):
    """The catalog items that the fault's `sku` fits get a row in the log; an Error keeps them out.

    Where there is no log, an Error refuses the request.
    """

    severity: Literal["Error", "Warning"] = "Error"
    field: str = ""
    issue: str = "The product is not accepted"
    suggestion: str = ""


class StuckLog(_Kind, tag="stuck_log"):
    """A catalog's log that stays at PROCESSING."""

    ingests: bool = False
    """Whether the items are kept all the same, at once."""

    blocks: bool = False
    """Whether later writes are refused as if this one still ran."""

    for_s: float | None = None
    """Seconds after which it ends all the same; None for never."""


class FailedLog(_Kind, tag="failed_log"):
    """A submit to a catalog that ends as FAILED; nothing of it is kept."""


class NotIngested(_Kind, tag="not_ingested"):
    """A submit to a catalog that ends as SUCCESS with zero counts; nothing of it is kept."""


Effect: TypeAlias = (
    Hang
    | Reset
    | AcceptThenTimeout
    | AcceptThenReset
    | HttpStatus
    | Code
    | ExpiredToken
    | Truncate
    | Malformed
    | EmptyBody
    | RefuseEvent
    | Partial
    | RefuseRepeats
    | ItemIssue
    | StuckLog
    | FailedLog
    | NotIngested
)


def honest(judgement: Judgement, request_id: str) -> Reply:
    """The answer without any fault."""
    if judgement.code == NOT_FOUND:
        return Reply("http_404", 404, judgement.message.encode(), content_type="text/plain")
    body = envelope(judgement.code, judgement.message, request_id)
    return Reply(str(judgement.code), 200, body, _claimed(judgement))


def reply_under(
    effect: Effect | None,
    struck: frozenset[int],
    judgement: Judgement,
    request_id: str,
    *,
    is_repeated: bool = False,
) -> Reply:
    """The answer to a request so judged under `effect`; `struck` are the events it picks out.

    `is_repeated` says that all of its events were accepted before.
    """
    done = _claimed(judgement)
    match effect:
        case None | ItemIssue() | StuckLog() | FailedLog() | NotIngested():
            return honest(judgement, request_id)
        case Hang() | AcceptThenTimeout():
            recorded = done if isinstance(effect, AcceptThenTimeout) else ()
            return Reply("silent", 0, b"", recorded, Sending.SILENT)
        case Reset() | AcceptThenReset():
            recorded = done if isinstance(effect, AcceptThenReset) else ()
            return Reply("reset", 0, b"", recorded, Sending.RESET)
        case Truncate():
            whole = honest(judgement, request_id)
            return whole._replace(label="truncated", sending=Sending.CUT, keep=effect.keep)
        case RefuseRepeats():
            if not is_repeated:
                return honest(judgement, request_id)
            return _coded(REPEATED, MESSAGES[REPEATED], request_id)
        case HttpStatus():
            return _of_status(effect, done if effect.accepted else ())
        case Malformed():
            body = _malformed(effect.form, request_id)
            return Reply("malformed", 200, body, done if effect.accepted else ())
        case EmptyBody():
            return Reply("empty", 200, b"", done if effect.accepted else ())
        case _:
            return _of_code(effect, struck, judgement, request_id)


def _of_code(
    effect: Code | ExpiredToken | RefuseEvent | Partial,
    struck: frozenset[int],
    judgement: Judgement,
    request_id: str,
) -> Reply:
    match effect:
        case Code():
            message = effect.message or MESSAGES.get(effect.code, "Error")
            done = _claimed(judgement) if effect.accepted else ()
            return _coded(effect.code, message, request_id, done)
        case ExpiredToken():
            return _coded(EXPIRED_TOKEN.code, EXPIRED_TOKEN.text, request_id)
        case RefuseEvent():
            return _coded(PARAM_ERROR, _refusal_text(effect, struck, judgement), request_id)
        case Partial():
            return _partial(effect, struck, judgement, request_id)


def _claimed(judgement: Judgement) -> tuple[Event, ...]:
    return tuple(judgement.claim.events) if judgement.claim is not None else ()


def _coded(code: int, message: str, request_id: str, done: tuple[Event, ...] = ()) -> Reply:
    return Reply(str(code), 200, envelope(code, message, request_id), done)


def _of_status(effect: HttpStatus, done: tuple[Event, ...]) -> Reply:
    page = f"<html><body><h1>{effect.status}</h1></body></html>"
    return Reply(
        f"http_{effect.status}",
        effect.status,
        (page if effect.body is None else effect.body).encode(),
        done,
        content_type=effect.content_type,
        retry_after_s=effect.retry_after_s,
    )


def _malformed(form: str, request_id: str) -> bytes:
    """Bodies that a careless reader takes for success."""
    return {
        "not_json": b'{"code": 0, "message": "OK"',
        "array": b'[{"code": 0}]',
        "no_code": b'{"message": "OK", "request_id": "%s", "data": {}}' % request_id.encode(),
        "code_as_string": b'{"code": "0", "message": "OK", "data": {}}',
        "null": b"null",
        "html": b"<html><body>OK</body></html>",
    }[form]


def _refusal_text(effect: RefuseEvent, struck: frozenset[int], judgement: Judgement) -> str:
    if not effect.named:
        return MESSAGES[PARAM_ERROR]
    where = judgement.index_path.format(index=min(struck, default=0))
    return f"Invalid value for {where}{effect.field}: not a valid string."


def _partial(
    effect: Partial, struck: frozenset[int], judgement: Judgement, request_id: str
) -> Reply:
    """A request that is refused anyway stays refused: only a valid one can be half accepted."""
    if judgement.claim is None:
        return honest(judgement, request_id)
    events = judgement.claim.events
    recorded = tuple(event for i, event in enumerate(events) if i not in struck)
    failed = [
        {"index": i, "event_id": judgement.event_ids[i], "message": MESSAGES[PARAM_ERROR]}
        for i in sorted(struck)
    ]
    data = {"failed_events": failed} if effect.listed else None
    body = envelope(PARTIAL, MESSAGES[PARTIAL], request_id, data)
    return Reply(str(PARTIAL), 200, body, recorded)
