"""Checks on the text of the repository: `locks`, `paths`, `secrets`, `ends`.

Files may be named (a hook names those that are committed); without names every file that git knows
or would add is read.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-runtime.lock")
ALLOWED = "hygiene: allow"
"""A line that says so, with its reason, is not looked at: a published test vector, for one."""

_ADDRESS = re.compile(r"https?://|file:|--(?:extra-)?index-url|--find-links|--trusted-host")
_REQUIREMENT = re.compile(r"^[a-z0-9][a-z0-9._-]*==\S+", re.MULTILINE)
_HOME = re.compile(r"(?<![\w.$}])(?:/home/[a-z][\w-]*|/Users/[A-Za-z]\w*|/root)/")
_SECRETS = {
    "a Shopify token": re.compile(r"\bshp(?:at|ss|ca|pa|ua)_[0-9a-fA-F]{16,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
}
_LONG_HEX = re.compile(r"\b[0-9a-fA-F]{32,}\b")
_SETTINGS = {".yaml", ".yml", ".env", ".toml", ".conf"}
_SHARED_ROOTS = {"/", "/app", "/opt", "/srv", "/tmp", "/usr/src"}  # noqa: S108 - names, not files

Finding = tuple[int, str]


def lock_findings(text: str) -> Iterator[Finding]:
    """Lines that tie a lock to one registry, and requirements without a hash."""
    for number, line in enumerate(text.splitlines(), start=1):
        if _ADDRESS.search(line):
            yield number, "names a registry; make the lock with `make lock`"
        if _REQUIREMENT.match(line) and not line.endswith("\\"):
            yield number, "has no hash"


def lock_difference(whole: str, part: str) -> Iterator[Finding]:
    """Requirements of `part`, the runtime's lock, that `whole` does not pin to the same version."""
    pinned = set(_REQUIREMENT.findall(whole))
    for number, line in enumerate(part.splitlines(), start=1):
        found = _REQUIREMENT.match(line)
        if found and found.group() not in pinned:
            yield number, f"{found.group()} is not what {LOCKS[0]} pins; run `make lock`"


def path_findings(text: str, root: Path = ROOT) -> Iterator[Finding]:
    """Lines that name a folder of somebody's machine."""
    own = {str(root)} | ({str(root.parent)} - _SHARED_ROOTS)
    ours = re.compile("|".join(rf"(?<![\w.]){re.escape(path)}/" for path in sorted(own)))
    for number, line in enumerate(text.splitlines(), start=1):
        if ALLOWED not in line and (_HOME.search(line) or ours.search(line)):
            yield number, "names a folder of one machine"


def secret_findings(text: str, suffix: str) -> Iterator[Finding]:
    """Lines that look as if they held a credential; long hex counts in settings files only."""
    for number, line in enumerate(text.splitlines(), start=1):
        if ALLOWED in line:
            continue
        for what, pattern in _SECRETS.items():
            if pattern.search(line):
                yield number, f"holds what looks like {what}"
        if suffix in _SETTINGS and _LONG_HEX.search(line):
            yield number, "holds a long hexadecimal token"


def end_findings(text: str) -> Iterator[Finding]:
    """A file that does not end with exactly one newline, and lines with Windows endings."""
    lines = text.count("\n")
    if text and not text.endswith("\n"):
        yield lines + 1, "does not end with a newline"
    if text.endswith("\n\n"):
        yield lines, "ends with an empty line"
    if "\r\n" in text:
        yield 1, "has Windows line endings"


def tracked() -> list[Path]:
    """Every file that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def readable(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The text files among `paths` that we write ourselves, with their text."""
    for path in paths:
        if not path.is_file() or "gen" in path.relative_to(ROOT).parts[:1] or path.name in LOCKS:
            continue
        try:
            yield path, path.read_bytes().decode()
        except UnicodeDecodeError:
            continue


def report(path: Path, findings: Iterable[Finding]) -> int:
    """How many `findings` there were; each is printed with where it is."""
    count = 0
    for number, what in findings:
        print(f"{path.relative_to(ROOT)}:{number}: {what}")
        count += 1
    return count


def check_locks(_: Iterable[Path]) -> int:
    """How many findings there are in the locks."""
    whole, part = (ROOT / name for name in LOCKS)
    found = sum(report(path, lock_findings(path.read_text())) for path in (whole, part))
    return found + report(part, lock_difference(whole.read_text(), part.read_text()))


def check_paths(paths: Iterable[Path]) -> int:
    """How many lines name a folder of one machine."""
    return sum(report(path, path_findings(text)) for path, text in readable(paths))


def check_secrets(paths: Iterable[Path]) -> int:
    """How many lines look like credentials."""
    return sum(report(path, secret_findings(text, path.suffix)) for path, text in readable(paths))


def check_ends(paths: Iterable[Path]) -> int:
    """How many files do not end as they should."""
    return sum(report(path, end_findings(text)) for path, text in readable(paths))


CHECKS: dict[str, Callable[[Iterable[Path]], int]] = {
    "locks": check_locks,
    "paths": check_paths,
    "secrets": check_secrets,
    "ends": check_ends,
}


def main() -> int:
    """`python -m tools.hygiene CHECK [FILE…]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("files", nargs="*", type=Path)
    chosen = parser.parse_args()
    paths = [path.resolve() for path in chosen.files] or tracked()
    return 1 if CHECKS[chosen.check](paths) else 0


if __name__ == "__main__":
    sys.exit(main())
