"""Words as TikTok takes them: no emoji, no control characters, cut between words."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Unicode 16, `Emoji=Yes` of the first plane, without digits, `#`, `*` and the signs that every
# price list has (copyright, registered, trade mark).
_EMOJI_RANGES: Final = (
    "203c 2049 2139 2194-2199 21a9-21aa 231a-231b 2328 23cf 23e9-23f3 23f8-23fa 24c2 25aa-25ab 25b6"
    " 25c0 25fb-25fe 2600-2604 260e 2611 2614-2615 2618 261d 2620 2622-2623 2626 262a 262e-262f"
    " 2638-263a 2640 2642 2648-2653 265f-2660 2663 2665-2666 2668 267b 267e-267f 2692-2697 2699"
    " 269b-269c 26a0-26a1 26a7 26aa-26ab 26b0-26b1 26bd-26be 26c4-26c5 26c8 26ce-26cf 26d1"
    " 26d3-26d4 26e9-26ea 26f0-26f5 26f7-26fa 26fd 2702 2705 2708-270d 270f 2712 2714 2716 271d"
    " 2721 2728 2733-2734 2744 2747 274c 274e 2753-2755 2757 2763-2764 2795-2797 27a1 27b0 27bf"
    " 2934-2935 2b05-2b07 2b1b-2b1c 2b50 2b55 3030 303d 3297 3299"
    # The planes of pictures, regional letters and skin tones, unassigned places included: the next
    # Unicode puts its new emoji there.
    " 1f000-1faff"
)
# Control and formatting characters, lone surrogates (no JSON can hold them), private use, and what
# is no character. White space is not among them: it becomes a space. The joiners of Persian and of
# the Indic scripts (200c, 200d) stay.
_UNSEEN_RANGES: Final = (
    "0-8 e-1b 7f-84 86-9f ad 61c 180e 200b 200e-200f 202a-202e 2060-206f 20e3 feff fff9-fffb"
    " d800-dfff e000-f8ff fdd0-fdef fffe-ffff e0000-e007f f0000-10ffff"
)
_VARIATION_SELECTORS: Final = "fe00-fe0f"


def _class(ranges: str) -> str:
    return "".join(
        "-".join(f"\\U{int(end, 16):08x}" for end in one.split("-")) for one in ranges.split()
    )


# A joiner right after an emoji joined it to the next one: it goes with it.
_REFUSED: Final = re.compile(
    f"[{_class(_EMOJI_RANGES)}{_class(_VARIATION_SELECTORS)}]\u200d?|[{_class(_UNSEEN_RANGES)}]"
)


def one_line(text: str) -> str:
    """`text` without what TikTok refuses, runs of white space as one space, none at the ends."""
    return " ".join(without_refused(text).split())


def without_refused(text: str) -> str:
    """`text` without what TikTok refuses; white space of all kinds stays as it is."""
    if text.isascii() and text.isprintable():
        return text
    return _REFUSED.sub("", text)


def has_refused(text: str) -> bool:
    """Whether `text` holds an emoji, a control character or anything else that TikTok refuses."""
    return not (text.isascii() and text.isprintable()) and _REFUSED.search(text) is not None


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, cut between words where there is a gap to cut at.

    Where the last gap lies in the first half (a script without spaces, one endless word) it is cut
    at the limit, but never between a letter and its accent.
    """
    if len(text) <= limit:
        return text
    end = limit
    gap = max(text.rfind(" ", 0, limit + 1), text.rfind("\n", 0, limit + 1))
    if gap >= limit // 2:
        end = gap
    else:
        while end > 0 and (unicodedata.combining(text[end]) or text[end] in "\u200c\u200d"):
            end -= 1
    return text[:end].rstrip()
