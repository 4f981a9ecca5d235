"""TikTok's return codes as data: what each means, what to do about it, and whom it concerns. Pure.

The codes are those of TikTok API for Business, appendix 1737172488964097, and those that the
official SDK 1.1.3 names. They stand in the body, mostly under HTTP 200, and outrank the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from libs.errors import Kind


class Action(StrEnum):
    """What to do about an answer with a code."""

    DELIVERED = "delivered"
    UNCERTAIN = "uncertain"
    """Taken in part, or refused as a repetition of what had arrived: done, and not sent again."""

    THROTTLED = "throttled"
    """Wait; no attempt is spent."""

    CREDENTIALS = "credentials"
    """A person mends token, app, account or standing; nothing that was sent is at fault."""

    RETRY = "retry"
    PERMANENT = "permanent"
    """Never works as it is; a smaller request, without what is at fault, may."""

    PERMANENT_WHOLE = "permanent_whole"
    """Never works, and no part of it would: what every request has in common is at fault."""

    @property
    def kind(self) -> Kind | None:
        """The kind of error it is; None for a yes."""
        return _KINDS[self]

    @property
    def is_worth_retrying(self) -> bool:
        return self in (Action.THROTTLED, Action.RETRY)


_KINDS: Final[Mapping[Action, Kind | None]] = {
    Action.DELIVERED: None,
    Action.UNCERTAIN: None,
    Action.THROTTLED: Kind.THROTTLED,
    Action.CREDENTIALS: Kind.AUTH,
    Action.RETRY: Kind.RETRYABLE,
    Action.PERMANENT: Kind.PERMANENT,
    Action.PERMANENT_WHOLE: Kind.PERMANENT,
}


class Scope(StrEnum):
    """How far an answer reaches: who else would be told the same at this moment."""

    ITEM = "item"
    """One event or product of the request."""

    ENVELOPE = "envelope"
    """This request, or all that are built like it."""

    CONNECTION = "connection"
    """All requests with this token, pixel, advertiser or catalog."""

    APP = "app"
    """All requests of our app, whatever the connection."""

    UPSTREAM = "upstream"
    """All requests of everybody, or all from where we call."""

    @property
    def is_shared(self) -> bool:
        """Whether other connections meet it too: then it is the circuit's business."""
        return self in (Scope.APP, Scope.UPSTREAM)


class Source(StrEnum):
    """Where a row is from."""

    APPENDIX = "TikTok API for Business, appendix 1737172488964097"
    SDK = "a name in the official SDK 1.1.3"
    RANGE = "the range that the code stands in"


@dataclass(frozen=True, slots=True)
class ReturnCode:
    """One row. `because` says why we decide otherwise than the appendix's remedy suggests."""

    code: int
    meaning: str
    action: Action
    scope: Scope
    source: Source = Source.APPENDIX
    because: str = ""


_Row = ReturnCode
_DONE, _UNSURE = Action.DELIVERED, Action.UNCERTAIN
_WAIT, _MEND, _RETRY = Action.THROTTLED, Action.CREDENTIALS, Action.RETRY
_NEVER, _WHOLE = Action.PERMANENT, Action.PERMANENT_WHOLE
_ITEM, _ENVELOPE, _CONNECTION = Scope.ITEM, Scope.ENVELOPE, Scope.CONNECTION
_APP, _UPSTREAM = Scope.APP, Scope.UPSTREAM

# Where a code may be of one connection or of all, the narrower stands: a circuit that one shop's
# token opens for everybody costs more than one that opens late.
_ROWS: Final = (
    # Yes.
    _Row(0, "taken", _DONE, _ENVELOPE),
    _Row(20001, "taken in part; the answer may say what was not", _UNSURE, _ITEM),
    _Row(40050, "refused as a repetition of an earlier request", _UNSURE, _ENVELOPE),
    # What is in the request.
    _Row(40000, "a parameter is not valid", _NEVER, _ITEM),
    _Row(40002, "a parameter is wrong; the message names it", _NEVER, _ITEM),
    _Row(40011, "more ids than one request may name", _NEVER, _ENVELOPE),
    _Row(40061, "more or fewer events than a batch may have", _NEVER, _ENVELOPE, Source.SDK),
    _Row(40062, "personal data that should be hashed is not", _NEVER, _ITEM, Source.SDK),
    _Row(40065, "targeting that the audience's age forbids", _NEVER, _ITEM),
    _Row(40502, "no more ads may be made", _NEVER, _CONNECTION),
    _Row(40700, "an inner check failed", _NEVER, _ITEM),
    _Row(41002, "a field that is no longer in use", _NEVER, _ITEM),
    # How requests are built, or where they go: the same for all of a kind.
    _Row(40006, "parameters of another version of the API", _WHOLE, _ENVELOPE),
    _Row(40007, "what the request is about does not exist", _WHOLE, _CONNECTION),
    _Row(40008, "no such endpoint, or none in TikTok's sandbox", _WHOLE, _ENVELOPE),
    _Row(40009, "TikTok's sandbox does not know this parameter", _WHOLE, _ENVELOPE),
    _Row(40010, "this host does not serve this version", _WHOLE, _ENVELOPE),
    _Row(40013, "no such account in TikTok's sandbox", _WHOLE, _CONNECTION),
    _Row(40014, "TikTok's sandbox does not have this feature", _WHOLE, _ENVELOPE),
    _Row(40051, "no such version of the API", _WHOLE, _ENVELOPE),
    _Row(40052, "this creative material exists already", _WHOLE, _ENVELOPE),
    _Row(40053, "no video has this id", _WHOLE, _ENVELOPE),
    _Row(40063, "a partner name that TikTok did not hand out", _WHOLE, _ENVELOPE, Source.SDK),
    _Row(40108, "a grant type that authorisation does not know", _WHOLE, _ENVELOPE),
    _Row(40109, "what was encrypted cannot be read", _WHOLE, _ENVELOPE),
    _Row(40117, "this method may not be used", _WHOLE, _ENVELOPE),
    _Row(40121, "the user is no creator of the marketplace", _WHOLE, _CONNECTION),
    _Row(40122, "the creator's region is not served", _WHOLE, _CONNECTION),
    # Too much in too little time.
    _Row(40016, "the app's limit of this endpoint is reached", _WAIT, _APP),
    _Row(40100, "the app's limit of this endpoint is reached", _WAIT, _APP),
    _Row(40132, "too many calls for one value, such as a pixel", _WAIT, _CONNECTION),
    _Row(40133, "the advertiser's limit of this path is reached", _WAIT, _CONNECTION),
    _Row(61000, "too many requests; the app was put on a list for it", _WAIT, _APP, Source.SDK),
    # A person must act.
    _Row(40001, "the token's owner may not do this here", _MEND, _CONNECTION),
    _Row(40101, "app id, secret and code do not belong together", _MEND, _CONNECTION),
    _Row(40102, "the access token has expired", _MEND, _CONNECTION),
    _Row(40103, "the refresh token has expired", _MEND, _CONNECTION),
    _Row(40104, "no access token was sent", _MEND, _CONNECTION),
    _Row(40105, "the access token is wrong or was revoked", _MEND, _CONNECTION),
    _Row(40106, "the token's user does not fit this advertiser", _MEND, _CONNECTION),
    _Row(40107, "the refresh token is wrong, or of a kind without one", _MEND, _CONNECTION),
    _Row(40110, "the authorisation code was used or has expired", _MEND, _CONNECTION),
    _Row(40112, "the password is wrong", _MEND, _CONNECTION),
    _Row(40113, "the app is blocked, unknown or not the token's", _MEND, _APP),
    _Row(40115, "authorisation came too late or of another endpoint", _MEND, _CONNECTION),
    _Row(40116, "authorisation is not signed as it should be", _MEND, _CONNECTION),
    _Row(40118, "app or advertiser is not admitted to the feature", _MEND, _CONNECTION),
    _Row(40119, "developer and advertiser are of two companies", _MEND, _CONNECTION),
    _Row(40124, "the developer's profile is not complete or approved", _MEND, _APP),
    _Row(40125, "the developer lacks the permission", _MEND, _CONNECTION),
    _Row(40300, "the advertiser does not exist any more", _MEND, _CONNECTION),
    _Row(40301, "no advertiser fits the id", _MEND, _CONNECTION),
    _Row(41000, "calls from our address's country are refused", _MEND, _UPSTREAM),
    _Row(41001, "this interface was taken off the network", _MEND, _UPSTREAM),
    # It passes.
    _Row(40200, "a task failed", _RETRY, _ENVELOPE,
         because="callers in the field retry it; a task that stays broken runs out of tries"),
    _Row(40201, "a task is not ready", _RETRY, _ENVELOPE),
    _Row(40202, "somebody else writes to the same thing", _RETRY, _ENVELOPE),
    _Row(50000, "an error on TikTok's side", _RETRY, _UPSTREAM),
    _Row(50002, "an error or a time-out on TikTok's side", _RETRY, _UPSTREAM),
    _Row(51010, "a service behind the API did not answer in time", _RETRY, _UPSTREAM, Source.SDK),
    _Row(51012, "the pixel could not be served", _RETRY, _CONNECTION, Source.SDK),
    _Row(51305, "a service behind the API failed", _RETRY, _UPSTREAM),
    _Row(60001, "maintenance", _RETRY, _UPSTREAM),
    # Files, for those who upload any.
    _Row(40900, "the file is not the one that was signed", _NEVER, _ITEM),
    _Row(40901, "the video is still being converted", _RETRY, _ITEM),
    _Row(40902, "nothing could be fetched from the address", _RETRY, _ITEM),
    _Row(40903, "the image's address does not answer", _RETRY, _ITEM),
    _Row(40904, "no accepted format of an image", _NEVER, _ITEM),
    _Row(40905, "there is no such file", _NEVER, _ITEM),
    _Row(40906, "the file is empty", _NEVER, _ITEM),
    _Row(40907, "the file is too large", _NEVER, _ITEM),
    _Row(40908, "no accepted type of file", _NEVER, _ITEM),
    _Row(40909, "an unknown way to compute the signature", _WHOLE, _ENVELOPE),
    _Row(40910, "the file has expired", _NEVER, _ITEM),
    _Row(40911, "the name is taken", _NEVER, _ITEM),
    _Row(40912, "the address is not one of an image", _NEVER, _ITEM),
    _Row(40913, "the image could not be fetched", _RETRY, _ITEM),
    _Row(40914, "the file is not valid", _NEVER, _ITEM),
    _Row(40915, "the file does not keep to the specification", _NEVER, _ITEM),
)  # fmt: skip

TABLE: Final[Mapping[int, ReturnCode]] = {row.code: row for row in _ROWS}

# "Too many items" is no throttle: it never passes by waiting.
_TOO_FREQUENT: Final = re.compile(r"too\s+many\s+requests|frequen", re.IGNORECASE)
_TRANSIENT: Final = re.compile(r"timeout|redis|internal", re.IGNORECASE)

# Two codes are used for broken input and for passing trouble alike; only the words tell.
_BY_WORDS: Final = {
    40000: (_TOO_FREQUENT, replace(TABLE[40000], action=_WAIT, scope=_APP)),
    40700: (_TRANSIENT, replace(TABLE[40700], action=_RETRY, scope=_UPSTREAM)),
}


def return_code(code: int, message: str = "") -> ReturnCode:
    """The row of `code`; of a code that nobody has described, the row of its range."""
    known = TABLE.get(code)
    if known is None:
        return _of_range(code)
    pattern, row = _BY_WORDS.get(code, (None, known))
    return row if pattern is not None and pattern.search(message) else known


def _of_range(code: int) -> ReturnCode:
    if code >= 50_000:
        return _unknown(code, "trouble of TikTok's own", _RETRY, _UPSTREAM)
    if 40_100 <= code < 40_200:
        # All of the hundred is about tokens, apps and accounts: to wait loses nothing.
        return _unknown(code, "trouble with the token or what it may do", _MEND, _CONNECTION)
    if 20_000 <= code < 30_000:
        # Taken to some degree. Sent again under the same ids it cannot count twice.
        return _unknown(code, "taken, nobody knows how far", _RETRY, _ENVELOPE)
    return _unknown(code, "refused for what it holds", _NEVER, _ITEM)


def _unknown(code: int, meaning: str, action: Action, scope: Scope) -> ReturnCode:
    return ReturnCode(code, meaning, action, scope, Source.RANGE)
