"""First bytes of images; what follows them is never looked at."""

from __future__ import annotations

import struct


def png(width: int, height: int, *, more: int = 200) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + bytes(more)


def jpeg(width: int, height: int, *, exif: int = 0, more: int = 200) -> bytes:
    parts = [b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"]
    while exif:
        size = min(exif, 65_000)
        parts.append(b"\xff\xe1" + struct.pack(">H", size + 2) + b"\xff\xc0" * (size // 2))
        parts.append(b"\x00" * (size % 2))
        exif -= size
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"".join(parts) + b"\xff\xc0" + frame + bytes(more)
