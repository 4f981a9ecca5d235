"""Which limits there are, by name: what the upstreams document, and what an operator sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from libs.errors import permanent
from libs.limits.gcra import Bucket, Limit

DEFAULTS: Final = (
    # TikTok documents these for every app level, all events endpoints together.
    "tiktok.events.app=1000/s,600000/m,86400000/d;"
    "tiktok.events.pixel.*=none;"
    # TikTok's API for Business v1.3, the lowest tier of apps (Basic).
    "tiktok.catalog.app=10/s,600/m,864000/d;"
    "tiktok.catalog.upload=5/s,300/m,432000/d;"
    "tiktok.catalog.file=5/s,300/m,432000/d;"
    "tiktok.catalog.update=2/s,120/m,172800/d;"
    "tiktok.catalog.delete=2/s,120/m,172800/d;"
    # Of one catalog. The hour is TikTok's. The second costs nothing where one write goes at a time,
    # and lets a new limit begin with it: with the hour alone each first upload waits a minute.
    "tiktok.catalog.upload.*=1/s,1000/h;"
    "tiktok.catalog.delete.*=1/s,1000/h;"
    # The least that Shopify documents, until the shop's own answers say better.
    "shopify.*.graphql=1000@50/s;"
    "shopify.*.rest=40@2/s"
)
"""In the form of the setting `TIDEWIRE_LIMITS`."""

_LENGTHS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NAME: Final = re.compile(r"[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*")
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,11})/([smhd])")
_BUCKET: Final = re.compile(r"([1-9][0-9]{0,8})@([0-9]{1,8}(?:\.[0-9]{1,6})?)/s")
_NAMES_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Declaration:
    pattern: tuple[str, ...]
    windows: tuple[tuple[int, int], ...]
    bucket: Bucket | None

    def fits(self, name: Sequence[str]) -> bool:
        return len(name) == len(self.pattern) and all(
            wanted in ("*", part) for wanted, part in zip(self.pattern, name, strict=True)
        )

    def limit(self, name: str) -> Limit | None:
        if self.bucket is not None:
            return Limit(name, bucket=self.bucket)
        return Limit.of_windows(name, self.windows) if self.windows else None


class DeclaredLimits:
    """The limit of a name; the first declaration that fits counts.

    `text` is declarations with `;` between them, each `name=windows`, where a `*` in the name
    stands for one part of it. Windows are `1000/s,600000/m` (s, m, h, d), a leaky bucket is
    `capacity@restored/s`, and `none` means that nothing is limited. They come before the defaults.

    Raises:
        ServiceError: PERMANENT, `limits_unreadable`; names the part that cannot be read, and what
            it should look like.
    """

    def __init__(self, text: str | None = None) -> None:
        parts = (part.strip() for part in f"{text or ''};{DEFAULTS}".split(";"))
        try:
            self._declarations = tuple(_declaration(part) for part in parts if part)
        except ValueError as error:
            raise permanent("limits_unreadable", f"in TIDEWIRE_LIMITS {error}") from error
        self._found = lru_cache(maxsize=_NAMES_KEPT)(self._find)

    def limit(self, name: str) -> Limit | None:
        """The limit called `name`; None where there is none to hold.

        Raises:
            ServiceError: PERMANENT, `limit_undeclared`.
        """
        return self._found(name)

    def _find(self, name: str) -> Limit | None:
        parts = name.split(".")
        for one in self._declarations:
            if one.fits(parts):
                return one.limit(name)
        raise permanent(
            "limit_undeclared",
            f"no limit is declared for {name!r}: declare it in TIDEWIRE_LIMITS",
        )


def _declaration(text: str) -> _Declaration:
    name, equals, said = (part.strip() for part in text.partition("="))
    if not equals or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not `name=windows`, such as `tiktok.events.app=1000/s`")
    pattern = tuple(name.split("."))
    bucket = _BUCKET.fullmatch(said)
    if bucket is not None:
        capacity, restored = float(bucket[1]), float(bucket[2])
        if restored <= 0:
            raise ValueError(f"{said!r} of {name} never restores: it must restore more than 0/s")
        return _Declaration(pattern, (), Bucket(capacity, restored))
    if said == "none":
        return _Declaration(pattern, (), None)
    windows = tuple(_window(name, part.strip()) for part in said.split(","))
    lengths = [length_s for _, length_s in windows]
    if len(set(lengths)) < len(lengths):
        raise ValueError(f"{said!r} of {name} has one window twice")
    return _Declaration(pattern, windows, None)


def _window(name: str, text: str) -> tuple[int, int]:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} of {name} is no window: write such as `1000/s`, with s, m, h or d,"
            " `40@2/s` for a bucket, or `none`"
        )
    return int(found[1]), _LENGTHS_S[found[2]]
