"""What the matrix found: for the terminal, as a page of the docs, and as data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from tests.faults.catalog_judge import Row as CatalogRow
from tests.faults.judge import SERVICE_WITHIN_S
from tests.faults.token_judge import REPORTED_WITHIN_S, Row
from tests.faults.trial import Result

_STEPS_S: Final = (1, 2, 5, 10, 20, 30)
_SHOWN: Final = 5
_HEAD: Final = (
    "| fault | what was done | must hold besides | lost | falsely done | duplicates"
    " | served after | verdict |"
)

_INTRODUCTION: Final = f"""\
# The fault matrix

Written by `make faults`. Real processes under a storm of webhooks; each fault is inflicted while
deliveries come in. The judge is the simulator's ledger beside the oracle of the storm, never a
metric of our own:

- **lost**: an event that the oracle expects and TikTok never accepted;
- **falsely done**: our outcomes say delivered and TikTok never accepted it;
- **duplicates**: what TikTok counts beyond what happened; a repetition that it knows by pixel,
  event and event id within 48 h is none;
- **served after**: from the end of the fault until a new order of every shop was at TikTok, with no
  restart of anything that the fault did not kill. At most {SERVICE_WITHIN_S:.0f} s, shown in steps.

A service gives a unit up after 8 counted tries here, so that an outage which burns attempts shows.
"""


_RACES_TITLE: Final = "## Races for one refresh\n"
_RACES: Final = f"""\
{_RACES_TITLE}
Four replicas of the token service, NATS and the simulators as real processes; each round has a
store of its own, whose token has ended or is reported dead at that moment. The judge is the
simulator's ledger beside every token that was handed out: each is used for a call at once.

- **refreshes**: the most that the provider granted in one round; 2 only where the first answer died
  with whoever had asked for it;
- **lost**: grants of which only a dead refresh token was left, by the provider's word. None may be
  where the old one lives until the new one is used (`grace`). With `strict` rotation it dies at
  once: a loss is inevitable where the answer is lost, and is told on the bus, shown to people and
  counted within {REPORTED_WITHIN_S:.0f} s of the strike. The store is then connected again in a
  browser, and everything goes on by itself;
- **served after**: until every replica, one that was stopped too, handed out a token that worked;
- **dead calls**: with a token that was no longer good. Of a loser's answer no token was ever handed
  out: under each revision there is one.

Machine: {{machine}}.
"""
_RACES_HEAD: Final = (
    "| race | what was done | rounds | refreshes | lost | told after | served after | dead calls"
    " | verdict |"
)
_RACES_RULE: Final = "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"

_CATALOGS_TITLE: Final = "## Catalogs\n"
_CATALOGS: Final = f"""\
{_CATALOGS_TITLE}
A shop with a catalog in each dialect, whose products change all the time and are told of through
ingest; each fault is inflicted meanwhile. The simulators judge, item by item, and each holds only
where

- TikTok has exactly what the shop sells within {SERVICE_WITHIN_S:.0f} s of the fault's end, unless
  the row says otherwise (**equal after**, in steps), with no restart of anything that the fault did
  not kill;
- our records say of every item what TikTok has and what its review says;
- no submit overlapped another or came sooner than TikTok allows, a second here.

Machine: {{machine}}.
"""
_CATALOGS_HEAD: Final = "| fault | what was done | must hold besides | equal after | verdict |"
_CATALOGS_RULE: Final = "| --- | --- | --- | ---: | --- |"


def table(results: Sequence[Result]) -> Table:
    """The matrix for the terminal."""
    found = Table(title="Fault matrix", title_justify="left")
    found.add_column("fault", no_wrap=True)
    for name in ("lost", "falsely done", "duplicates", "served after", "took"):
        found.add_column(name, justify="right")
    found.add_column("verdict")
    for result in results:
        style = "green" if result.passed else "bold red"
        served = "never" if result.service_s is None else f"{result.service_s:.1f} s"
        verdict = f"[{style}]{_verdict(result)}[/]"
        found.add_row(
            result.fault.name, *_counts(result), served, f"{result.seconds:.0f} s", verdict
        )
    return found


def details(result: Result) -> str:
    """What was seen of a fault that failed."""
    return "\n".join(_detail_lines(result))


def page(results: Sequence[Result], machine: str) -> str:
    """The matrix for the docs. No date and no figure that differs from run to run."""
    lines = [
        _INTRODUCTION,
        f"Machine: {machine}.\n",
        _HEAD,
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [_row(result) for result in results]
    return "\n".join(lines) + "\n"


def updated(text: str, results: Sequence[Result], order: Sequence[str]) -> str:
    """An older page with these rows in place of those of the same faults.

    A fault that is new there stands after the one before it in `order`.
    """
    lines = text.splitlines()
    for result in results:
        name, row = result.fault.name, _row(result)
        places = {line.split("`")[1]: n for n, line in enumerate(lines) if line.startswith("| `")}
        if name in places:
            lines[places[name]] = row
            continue
        earlier = order[: order.index(name)] if name in order else order
        known = [places[one] for one in earlier if one in places]
        lines.insert(max(known, default=lines.index(_HEAD) + 1) + 1, row)
    return "\n".join(lines) + "\n"


def with_races(text: str, rows: Sequence[Row], machine: str) -> str:
    """A page with these races in place of those that it had."""
    head = text.partition(_RACES_TITLE)[0].rstrip("\n")
    lines = [head, "", _RACES.format(machine=machine), _RACES_HEAD, _RACES_RULE]
    for row in rows:
        told = "" if row.reported_s is None else _step(row.reported_s)
        cells = (
            f"`{row.name}`",
            row.what,
            str(row.rounds),
            str(row.refreshes_most),
            f"{row.lost}",
            told,
            _step(row.served_s),
            str(row.dead_calls),
            "holds" if row.passed else "fails",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_catalogs(text: str, rows: Sequence[CatalogRow], order: Sequence[str], machine: str) -> str:
    """A page with these rows of catalogs in place of those of the same faults that it had."""
    head, _, rest = text.partition(_CATALOGS_TITLE)
    before, title, races = (rest or head).partition(_RACES_TITLE)
    if not rest:
        head, before = before, ""
    lines = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    for row in rows:
        cells = (
            f"`{row.name}`",
            row.what,
            row.expected,
            _step(row.equal_s, (*_STEPS_S, 60, 90, 150)),
            "holds" if row.passed else "fails",
        )
        lines[row.name] = f"| {' | '.join(cells)} |"
    section = [
        _CATALOGS.format(machine=machine),
        _CATALOGS_HEAD,
        _CATALOGS_RULE,
        *(lines[name] for name in order if name in lines),
    ]
    tail = f"\n\n{title}{races}" if title else "\n"
    return head.rstrip("\n") + "\n\n" + "\n".join(section) + tail


def as_dict(results: Sequence[Result], machine: str) -> dict[str, Any]:
    """The matrix as data."""
    return {
        "passed": all(result.passed for result in results),
        "machine": machine,
        "faults": [_entry(result) for result in results],
    }


def _row(result: Result) -> str:
    fault = result.fault
    cells = (
        f"`{fault.name}`",
        fault.what,
        fault.expected,
        *_counts(result),
        _step(result.service_s),
        _verdict(result),
    )
    return f"| {' | '.join(cells)} |"


def _entry(result: Result) -> Mapping[str, Any]:
    return {
        "name": result.fault.name,
        "what": result.fault.what,
        "passed": result.passed,
        "lost": list(result.costs.lost),
        "falsely_done": list(result.costs.falsely_done),
        "duplicates": list(result.costs.duplicates),
        "served_after_s": result.service_s,
        "complaints": list(result.complaints),
        "seconds": round(result.seconds, 1),
    }


def _detail_lines(result: Result) -> Iterator[str]:
    costs = result.costs
    for name, found in (
        ("lost", costs.lost),
        ("falsely done", costs.falsely_done),
        ("duplicate", costs.duplicates),
        ("besides", result.complaints),
    ):
        yield from (f"  {name}: {one}" for one in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"  {name}: {len(found) - _SHOWN} more"
    if result.service_s is None:
        yield "  a new order of each shop never came through"
    yield result.tails


def _counts(result: Result) -> tuple[str, str, str]:
    costs = result.costs
    return str(len(costs.lost)), str(len(costs.falsely_done)), str(len(costs.duplicates))


def _verdict(result: Result) -> str:
    if result.passed:
        return "holds"
    return "fails"


def _step(service_s: float | None, steps: Sequence[int] = _STEPS_S) -> str:
    """The step that a figure falls below, so that the page is the same for equal runs."""
    if service_s is None:
        return "never"
    step = next((step for step in steps if service_s <= step), None)
    return f"≤ {step} s" if step else f"> {steps[-1]} s"
