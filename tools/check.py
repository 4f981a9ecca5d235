"""Every check but the tests: runs them all, then says which failed.

`python -m tools.check` is what `make check` runs; `python -m tools.check NAME…` runs some of them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


class Step(NamedTuple):
    """One check: a name to call it by, and the command that fails when it does not hold."""

    name: str
    command: Sequence[str]


def _module(name: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", name, *arguments]


STEPS = (
    Step("format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."]),
    Step("lint", [str(BIN / "ruff"), "check", "--quiet", "."]),
    Step("types", [str(BIN / "mypy"), "--no-error-summary"]),
    Step("imports", [str(BIN / "lint-imports"), "--no-logo"]),
    Step("generated", _module("tools.protos", "fresh")),
    Step("protos-lint", _module("tools.protos", "lint")),
    Step("protos-breaking", _module("tools.protos", "breaking")),
    Step("locks", _module("tools.hygiene", "locks")),
    Step("paths", _module("tools.hygiene", "paths")),
    Step("secrets", _module("tools.hygiene", "secrets")),
    Step("ends", _module("tools.hygiene", "ends")),
    Step("adr-index", _module("tools.adr_index", "--check")),
    Step("docs", _module("tools.docs", "--check")),
)


def holds(step: Step) -> bool:
    """Whether `step` passed; its own words are printed when it did not."""
    started_s = time.monotonic()
    done = subprocess.run(step.command, cwd=ROOT, capture_output=True, text=True, check=False)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{step.name:<16} {verdict:<6} {time.monotonic() - started_s:5.1f} s", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def main(names: Sequence[str]) -> int:
    """Runs the steps called `names`, all of them when there are none; 1 if any failed."""
    unknown = set(names) - {step.name for step in STEPS}
    if unknown:
        known = ", ".join(step.name for step in STEPS)
        print(f"no such check: {', '.join(sorted(unknown))}; there are: {known}", file=sys.stderr)
        return 2
    chosen = [step for step in STEPS if not names or step.name in names]
    failed = [step.name for step in chosen if not holds(step)]
    print(f"failed: {', '.join(failed)}" if failed else f"all {len(chosen)} checks hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
