"""Runs faults one after the other, on as few sites as it can."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.judge import Costs
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
            async with AsyncExitStack() as stack:
                site = await stack.enter_async_context(raised(kind, place))
                passed = True
                while left and passed:
                    result = await undergone(left.pop(0), site)
                    passed = result.passed
                    yield result
                if passed:
                    books = await _books(site)
                    passed = books.passed
                    yield books
            if passed:
                shutil.rmtree(place, ignore_errors=True)


async def _books(site: Site) -> Result:
    """What the suite says of itself, the simulator and the oracle, when all is over."""
    failed = await site.failed_checks()
    complaints = [f"{check.name}: {', '.join(check.differences[:3])}" for check in failed]
    fault = Fault(name=f"books.{site.kind}", what=_BOOKS_WHAT, inflict=_nothing)
    return Result(fault=fault, costs=Costs(), service_s=0.0, complaints=tuple(complaints))


async def _nothing(_: object) -> None:
    """The books are read, not struck."""
