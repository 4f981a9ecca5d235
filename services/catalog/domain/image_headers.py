"""How large a JPEG or PNG is, read from its first bytes. Pure.

No decoder of images: what merchants link to is not to be trusted with one.
"""

from __future__ import annotations

from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame; the three in between mean something else (ITU T.81, table B.1)."""
_ENDS: Final = frozenset({0xD8, 0xD9, 0xDA})
"""Start and end of an image, and of its data: no size comes after these."""


def size_px(head: bytes) -> tuple[int, int] | None:
    """Width and height; None where more bytes are needed.

    Raises:
        ValueError: it is neither JPEG nor PNG, or broken before its size.
    """
    if _begins(head, _PNG):
        return _png(head)
    if _begins(head, _JPEG):
        return _jpeg(head)
    raise ValueError("neither JPEG nor PNG")


def _begins(head: bytes, signature: bytes) -> bool:
    return head[: len(signature)] == signature[: len(head)]


def _png(head: bytes) -> tuple[int, int] | None:
    if len(head) < 24:
        return None
    if head[12:16] != b"IHDR":
        raise ValueError("a PNG without its header")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(head):
        if head[at] != 0xFF:
            raise ValueError("a JPEG whose parts do not fit together")
        marker = head[at + 1]
        if marker == 0xFF:  # padding, of any length
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _ENDS:
            raise ValueError("a JPEG without a size")
        elif marker in _FRAMES:
            if len(head) < at + 9:
                return None
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        else:
            at += 2 + max(2, int.from_bytes(head[at + 2 : at + 4]))
    return None
