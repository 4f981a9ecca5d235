"""What the service thinks of a request: version, token, shape, permission, rules; in that order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox.tiktok import event_track, pixel_track
from sandbox.tiktok.access import Access
from sandbox.tiktok.config import Rules, SandboxConfig
from sandbox.tiktok.reading import strict_json
from sandbox.tiktok.verdict import Claim, Judgement, Problem, Refused

ROOT = "/open_api/"
NOT_FOUND = 404
QUOTED_MAX = 100

VERSION_INVALID = Problem(40051, "API version is invalid")
THROTTLED = Problem(40100, "Too many requests. Please retry in some time.")
NOT_JSON_TYPE = Problem(40002, "Content-Type must be application/json")
UNREADABLE = Problem(40002, "the body cannot be decompressed")


class Call(NamedTuple):
    """A request as it came."""

    path: str
    token: str
    content_type: str
    body: bytes | None
    """None where the client's compression was broken."""

    throttled: bool = False
    """The token has used up its requests of this second."""


class Endpoint(NamedTuple):
    """How one path is checked, and where its ids stand."""

    check: Callable[[object, Rules, float], Claim]
    source_key: str
    events_key: str
    index_path: str


ENDPOINTS = {
    "event/track/": Endpoint(event_track.check, "event_source_id", "data", "data.{index}."),
    "pixel/track/": Endpoint(pixel_track.check_one, "pixel_code", "", ""),
    "pixel/batch/": Endpoint(pixel_track.check_batch, "pixel_code", "batch", "Batch.{index}."),
}


def judge(call: Call, config: SandboxConfig, access: Access, now_s: float) -> Judgement:
    """The verdict on `call` at the Unix time `now_s`; a claim only where the code is 0."""
    version, _, name = call.path.removeprefix(ROOT).partition("/")
    if version != config.api_version:
        return _refusal(Refused(VERSION_INVALID, ""))
    endpoint = ENDPOINTS.get(name)
    if endpoint is None:
        return Judgement(NOT_FOUND, "404 page not found", None)
    body, unreadable = _read(call)
    source_id, event_ids = _names_in(body, endpoint)
    try:
        _admit(call, access, now_s)
        if unreadable:
            raise unreadable
        _permit(call, access, source_id)
        claim = endpoint.check(body, config.rules, now_s)
    except Refused as refused:
        message = _message(refused, quote=config.quote_values)
        return Judgement(
            refused.code, message, None, source_id, event_ids, endpoint.index_path, refused.path
        )
    return Judgement(0, "OK", claim, source_id, event_ids, endpoint.index_path)


def _refusal(refused: Refused) -> Judgement:
    return Judgement(refused.code, _message(refused, quote=False), None, path=refused.path)


def _read(call: Call) -> tuple[object, Refused | None]:
    if call.body is None:
        return None, Refused(UNREADABLE, "")
    if call.content_type != "application/json":
        return None, Refused(NOT_JSON_TYPE, "")
    try:
        return strict_json(call.body), None
    except Refused as refused:
        return None, refused


def _admit(call: Call, access: Access, now_s: float) -> None:
    problem = access.refusal_of_token(call.token, now_s)
    if problem is None and call.throttled:
        problem = THROTTLED
    if problem is not None:
        raise Refused(problem, "")


def _permit(call: Call, access: Access, source_id: str) -> None:
    """A body that names no source is left to the rules, which know the field's name."""
    problem = access.refusal_of_source(call.token, source_id) if source_id else None
    if problem is not None:
        raise Refused(problem, "")


def _names_in(body: Any, endpoint: Endpoint) -> tuple[str, tuple[str, ...]]:
    """The source id and the event ids, as far as they can be read without any rule."""
    if not isinstance(body, dict):
        return "", ()
    source_id = body.get(endpoint.source_key)
    events = body.get(endpoint.events_key) if endpoint.events_key else [body]
    if not isinstance(events, list):
        events = []
    event_ids = tuple(_event_id(event) for event in events)
    return source_id if isinstance(source_id, str) else "", event_ids


def _event_id(event: object) -> str:
    found = event.get("event_id") if isinstance(event, dict) else None
    return found if isinstance(found, str) else ""


def _message(refused: Refused, *, quote: bool) -> str:
    """The refusal in TikTok's two ways of wording one, the batch endpoint's and the other."""
    got = f" Got {str(refused.value)[:QUOTED_MAX]!r}." if quote and refused.value else ""
    if not refused.path:
        return refused.text
    if refused.path.startswith("Batch."):
        return f"{refused.path}: {refused.text[0].upper()}{refused.text[1:]}{got}"
    return f"Invalid value for {refused.path}: {refused.text}.{got}"
