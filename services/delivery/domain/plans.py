"""What a dry run found, as a token: doing it by filter does that and no more."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from libs.errors import permanent

_TOKEN: Final = re.compile(r"(\d{1,19})-([0-9a-f]{32})")


def plan_token(act: str, selection: bytes, last_sequence: int) -> str:
    """The token of a dry run of `act` for the filter `selection`, which saw the stream so far.

    No secret is in it: it guards against doing something else than what was looked at, not against
    somebody who is allowed to do both.
    """
    return f"{last_sequence}-{_digest(act, selection, last_sequence)}"


def planned_until(token: str, act: str, selection: bytes) -> int:
    """The last sequence that the dry run of the same act and filter saw.

    Raises:
        ServiceError: PERMANENT, `plan_token_missing` or `plan_token_of_another_plan`.
    """
    if not token:
        raise permanent(
            "plan_token_missing",
            "a filter needs the plan_token of its dry run: look at that first",
            path="plan_token",
        )
    found = _TOKEN.fullmatch(token)
    if found is None or found[2] != _digest(act, selection, int(found[1])):
        raise permanent(
            "plan_token_of_another_plan",
            "the dry run was of another filter, or of another act: make it again",
            path="plan_token",
        )
    return int(found[1])


def _digest(act: str, selection: bytes, last_sequence: int) -> str:
    return sha256(b"%b\0%d\0%b" % (act.encode(), last_sequence, selection)).hexdigest()[:32]
