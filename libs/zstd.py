"""zstd at its fastest ordinary level: what it saves beyond that costs twice the time."""

from __future__ import annotations

import threading
from typing import Final

import zstandard

LEVEL: Final = 1


class Zstd(threading.local):
    """One thread's compressor and decompressor: they are quick to use, not to make or to share."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()
