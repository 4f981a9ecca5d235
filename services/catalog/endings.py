"""What TikTok's verdicts mean for items that were sent, and when it has said nothing too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from services.catalog.domain import verdicts
from services.catalog.domain.fates import Fate, Sent, Settled
from services.catalog.domain.states import IssueSource
from services.catalog.domain.sync import SyncIssue
from services.catalog.domain.verdicts import Judgement, SubmitKind, Verdict
from services.catalog.domain.waiting import Act

UNKNOWN_MAX: Final = 5
"""So often is an item sent of which TikTok does not say what became of it."""


class Endings:
    """Counts, over the submits of one catalog, of which items TikTok says nothing."""

    def __init__(self) -> None:
        self._unknown: Counter[str] = Counter()

    def of(
        self,
        act: Act,
        sent: Sequence[Sent],
        judged: Judgement,
        images: Mapping[str, SyncIssue],
    ) -> list[Settled]:
        """How each item of a submit ended; `images` says what is wrong with theirs, by id."""
        return [
            self._end(act, one, judged.verdicts[one.sku_id], images.get(one.sku_id)) for one in sent
        ]

    def _end(self, act: Act, sent: Sent, verdict: Verdict, image: SyncIssue | None) -> Settled:
        issues = tuple(
            SyncIssue(IssueSource.TIKTOK, one.is_error, "", one.field, one.text, one.fix)
            for one in verdict.issues
        )
        if image is not None:
            issues = (*issues, image)
        if verdict.fate is verdicts.Fate.AGAIN and verdict.reason is not verdicts.Reason.TOO_SOON:
            return self._untold(act, sent, verdict, issues)
        self._unknown.pop(sent.sku_id, None)
        return Settled(sent, _FATES[act][verdict.fate], issues)

    def _untold(
        self, act: Act, sent: Sent, verdict: Verdict, issues: tuple[SyncIssue, ...]
    ) -> Settled:
        self._unknown[sent.sku_id] += 1
        if self._unknown[sent.sku_id] < UNKNOWN_MAX:
            return Settled(sent, Fate.UNKNOWN, issues)
        del self._unknown[sent.sku_id]
        if act is Act.UPLOAD and verdict.reason is verdicts.Reason.COUNTED_SHORT:
            # Most are there, and none is known not to be. The review says which.
            return Settled(sent, Fate.TAKEN, (*issues, _COUNTED_SHORT))
        if verdict.reason is verdicts.Reason.NOTHING_THERE:
            # Somebody else has taken it out, or it would have been counted once.
            return Settled(sent, Fate.GONE, issues)
        fate = Fate.REFUSED if act is Act.UPLOAD else Fate.KEPT
        return Settled(sent, fate, (*issues, _does_not_say(verdict)))


def kind_of(act: Act) -> SubmitKind:
    """The act as verdicts know it."""
    return SubmitKind(act.value)


_FATES: Final[Mapping[Act, Mapping[verdicts.Fate, Fate]]] = {
    Act.UPLOAD: {
        verdicts.Fate.ACCEPTED: Fate.TAKEN,
        verdicts.Fate.WARNED: Fate.TAKEN,
        verdicts.Fate.REFUSED: Fate.REFUSED,
        verdicts.Fate.AGAIN: Fate.AGAIN,
        verdicts.Fate.NOT_INGESTED: Fate.AGAIN,
    },
    Act.DELETE: {
        verdicts.Fate.ACCEPTED: Fate.GONE,
        verdicts.Fate.WARNED: Fate.GONE,
        verdicts.Fate.REFUSED: Fate.KEPT,
        verdicts.Fate.AGAIN: Fate.AGAIN,
        verdicts.Fate.NOT_INGESTED: Fate.AGAIN,
    },
}


_COUNTED_SHORT: Final = SyncIssue(
    IssueSource.TIKTOK,
    False,  # noqa: FBT003  # a row
    "counted_short",
    "",
    f"TikTok has counted fewer items than it was sent, {UNKNOWN_MAX} times, and named no error",
    "nothing: its review says whether it has this one, and it is sent again where it has not",
)


def _does_not_say(verdict: Verdict) -> SyncIssue:
    reason = verdict.reason.value if verdict.reason else "unknown"
    return SyncIssue(
        IssueSource.TIKTOK,
        True,  # noqa: FBT003  # a row
        "fate_unknown",
        "",
        f"TikTok has not said what became of it, {UNKNOWN_MAX} times ({reason})",
        "look it up in TikTok's Catalog Manager; it is sent again when it changes",
    )
