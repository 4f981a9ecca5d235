"""Checks on the schemas: `lint`, `breaking` and `fresh` (the generated code matches them).

buf reads descriptor sets that `tools/gen.py` builds from what is installed, so nothing is fetched.
"""

from __future__ import annotations

import argparse
import filecmp
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUF = Path(sys.executable).parent / "buf"
BRANCHES = ("main", "origin/main")


def build(root: Path, image: Path) -> Path:
    """The descriptor set of the schemas below `root`, written to `image`."""
    generator = root / "tools" / "gen.py"
    subprocess.run([sys.executable, str(generator), "--image", str(image)], check=True)
    return image


def buf(*arguments: str) -> int:
    """The exit code of buf, which prints what it found."""
    command = [str(BUF), *arguments, "--config", str(ROOT / "buf.yaml")]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def lint(scratch: Path) -> int:
    """1 or more when a schema breaks a rule of `buf.yaml`."""
    return buf("lint", str(build(ROOT, scratch / "ours.binpb")))


def released(scratch: Path, branch: str) -> Path | None:
    """A copy of the schemas of `branch` beside our generator; None where the branch has none."""
    archive = subprocess.run(
        ["git", "archive", "--format=zip", branch, "protos"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        return None
    root = scratch / "released"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "gen.py", root / "tools")
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as packed:
        packed.extractall(root)
    return root


def breaking(scratch: Path) -> int:
    """1 or more when a reader or writer of the schemas on `main` could not read or write ours."""
    for branch in BRANCHES:
        if (root := released(scratch, branch)) is not None:
            against = build(root, scratch / "theirs.binpb")
            ours = build(ROOT, scratch / "ours.binpb")
            return buf("breaking", str(ours), "--against", str(against))
    print(f"none of {', '.join(BRANCHES)} is here: nothing to compare with")
    return 0


def generated(root: Path) -> set[str]:
    """Every generated file below `root`, as a path relative to it."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in files if "__pycache__" not in path.parts}


def differences(ours: Path, fresh: Path) -> Iterator[str]:
    """What would change if `ours` were generated anew, one line a file."""
    for name in sorted(generated(ours) | generated(fresh)):
        if not (fresh / name).exists():
            yield f"gen/{name} comes from no schema"
        elif not (ours / name).exists():
            yield f"gen/{name} is missing"
        elif not filecmp.cmp(ours / name, fresh / name, shallow=False):
            yield f"gen/{name} differs from its schema"


def fresh(scratch: Path) -> int:
    """1 when `gen/` is not what `protos/` generates."""
    target = scratch / "gen"
    generator = ROOT / "tools" / "gen.py"
    subprocess.run([sys.executable, str(generator), "--out", str(target)], check=True)
    found = list(differences(ROOT / "gen", target))
    for line in found:
        print(line)
    if found:
        print("run `make gen` and commit what it writes")
    return 1 if found else 0


def main() -> int:
    """`python -m tools.protos lint|breaking|fresh`."""
    checks = {"lint": lint, "breaking": breaking, "fresh": fresh}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=checks)
    chosen = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        return checks[chosen](Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
