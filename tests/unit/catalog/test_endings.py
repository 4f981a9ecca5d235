"""What TikTok says nothing of, time and again."""

from __future__ import annotations

from services.catalog.domain.fates import Fate, Sent
from services.catalog.domain.feed_log import FeedLog
from services.catalog.domain.verdicts import judge
from services.catalog.domain.waiting import Act
from services.catalog.endings import UNKNOWN_MAX, Endings, kind_of

SENT = Sent("1", "S-1", 0, 0)
NOTHING_COUNTED = FeedLog(ended=True)
ONE_COUNTED = FeedLog(ended=True, deleted=1)


def ended(endings: Endings, log: FeedLog) -> Fate:
    judged = judge(kind_of(Act.DELETE), ["S-1"], log)
    [end] = endings.of(Act.DELETE, [SENT], judged, {})
    return end.fate


def test_a_delete_of_which_nothing_is_ever_counted_is_believed_in_the_end() -> None:
    endings = Endings()

    fates = [ended(endings, NOTHING_COUNTED) for _ in range(UNKNOWN_MAX)]

    assert fates == [Fate.UNKNOWN] * (UNKNOWN_MAX - 1) + [Fate.GONE]


def test_a_delete_that_is_counted_at_last_ends_there() -> None:
    endings = Endings()

    fates = [ended(endings, NOTHING_COUNTED), ended(endings, ONE_COUNTED)]

    assert fates == [Fate.UNKNOWN, Fate.GONE]
