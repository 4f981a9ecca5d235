"""Runs faults one after the other, on as few sites as it can."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from libs.errors import ServiceError
from tests.faults.site import Kind, Site, raised
from tests.faults.trial import Fault, Result, undergone

_BOOKS_WHAT = "every check of the demo on all that was ever sent to the site: ledger, orders, stock"


async def run(faults: Sequence[Fault], directory: Path) -> AsyncIterator[Result]:
    """A result for each fault, and one for the books of each site at its end.

    Faults of one kind share a site until one fails: what it leaves behind could hurt the next, so
    that site's logs and streams are kept, below `directory`, and another is raised.
    """
    for kind in Kind:
        left = [fault for fault in faults if fault.kind is kind]
        number = 0
        while left:
            number += 1
            place = directory / f"{kind}-{number}"
            passed = True
            async for result in _on_one_site(kind, left, place):
                passed = result.passed
                yield result
            if passed:
                shutil.rmtree(place, ignore_errors=True)


async def _on_one_site(kind: Kind, left: list[Fault], place: Path) -> AsyncIterator[Result]:
    """Takes from `left` what it inflicts: all of it, or up to the first that fails."""
    try:
        async with raised(kind, place) as site:
            passed = True
            while left and passed:
                result = await undergone(left.pop(0), site)
                passed = result.passed
                yield result
            if passed:
                yield await _books(site)
    except (ServiceError, RuntimeError) as error:
        # As `Stack` says that something did not come up, with the end of its log.
        if left:
            yield Result(fault=left.pop(0), complaints=(f"no site for it: {error}",))


async def _books(site: Site) -> Result:
    """What the suite says of itself, the simulator and the oracle, when all is over."""
    failed = await site.failed_checks()
    complaints = tuple(f"{check.name}: {', '.join(check.differences[:3])}" for check in failed)
    fault = Fault(name=f"books.{site.kind}", what=_BOOKS_WHAT, inflict=_nothing)
    return Result(fault=fault, service_s=0.0, complaints=complaints)


async def _nothing(_: object) -> None:
    """The books are read, not struck."""
