"""The repository's own tools: what they let pass, what they refuse, and what they hold today."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import adr_index, hygiene, protos

ROOT = Path(__file__).resolve().parents[2]
_HASH = "    --hash=sha256:" + "0" * 64 + "\n"
_ADR = "# ADR 3: T\n\nStatus: Accepted\n" + "".join(
    f"\n## {section}\n\ntext\n" for section in adr_index.SECTIONS
)


def test_the_index_of_decisions_matches_the_records() -> None:
    written = (adr_index.FOLDER / "README.md").read_text()

    assert written == adr_index.current(), "run `make gen`"


def test_a_record_is_listed_with_its_number_title_and_status() -> None:
    page = adr_index.index([adr_index.record("0003-t.md", _ADR)])

    assert page.endswith("| 3 | [T](0003-t.md) | Accepted |\n")


@pytest.mark.parametrize("lost", ["# ADR 3: T\n", "Status: Accepted\n", "## Decision\n"])
def test_a_record_without_a_required_part_is_refused(lost: str) -> None:
    with pytest.raises(ValueError, match=r"0003-t\.md"):
        adr_index.record("0003-t.md", _ADR.replace(lost, ""))


def test_a_pinned_and_hashed_requirement_passes() -> None:
    lock = "aiohttp==3.14.5 \\\n" + _HASH

    assert list(hygiene.lock_findings(lock)) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "--find-links wheels",
        "aiohttp @ file:///wheels/aiohttp.whl",
        "aiohttp==3.14.5",
    ],
)
def test_a_lock_that_needs_one_registry_or_trusts_any_file_is_refused(line: str) -> None:
    assert list(hygiene.lock_findings(line + "\n"))


def test_a_runtime_lock_with_another_version_is_refused() -> None:
    whole = "aiohttp==3.14.5 \\\n" + _HASH
    other = "aiohttp==3.14.4 \\\n" + _HASH

    assert list(hygiene.lock_difference(whole, whole)) == []
    assert [line for line, _ in hygiene.lock_difference(whole, other)] == [1]


@pytest.mark.parametrize(
    ("line", "findings"),
    [
        ("see ../shared/data", 0),
        ("open('/usr/share/zoneinfo')", 0),
        ("https://example.com/home/ada/", 0),
        ("cd " + "/home/" + "ada/src", 1),
        ("cd " + "/Users/" + "ada/src", 1),
        ("cd /checkout/tidewire/tools", 1),
        ("cd /checkout/elsewhere", 1),
    ],
)
def test_only_a_folder_of_one_machine_is_refused(line: str, findings: int) -> None:
    found = list(hygiene.path_findings(line, root=Path("/checkout/tidewire")))

    assert len(found) == findings


@pytest.mark.parametrize(
    ("line", "suffix", "findings"),
    [
        ("token = settings.access_token", ".py", 0),
        ("token: shpat_…", ".md", 0),
        ("digest = " + "ab" * 16, ".py", 0),
        ("digest: " + "ab" * 16 + "  # hygiene: allow, a published vector", ".yaml", 0),
        ("digest: " + "ab" * 16, ".yaml", 1),
        ("token = shpat_" + "0a" * 16, ".py", 1),
        ("-----BEGIN " + "RSA PRIVATE KEY-----", ".txt", 1),
        ("-----BEGIN " + "PRIVATE KEY-----", ".txt", 1),
    ],
)
def test_only_what_looks_like_a_credential_is_refused(
    line: str, suffix: str, findings: int
) -> None:
    assert len(list(hygiene.secret_findings(line, suffix))) == findings


@pytest.mark.parametrize(
    ("text", "findings"), [("a\n", 0), ("", 0), ("a", 1), ("a\n\n", 1), ("a\r\n", 1)]
)
def test_a_file_ends_with_exactly_one_newline(text: str, findings: int) -> None:
    assert len(list(hygiene.end_findings(text))) == findings


def test_generated_code_that_is_stale_lost_or_orphaned_is_named(tmp_path: Path) -> None:
    ours, fresh = tmp_path / "ours", tmp_path / "fresh"
    for folder in (ours, fresh):
        folder.mkdir()
        (folder / "same_pb2.py").write_text("same")
        (folder / "stale_pb2.py").write_text(folder.name)
    (ours / "orphan_pb2.py").touch()
    (fresh / "lost_pb2.py").touch()

    found = list(protos.differences(ours, fresh))

    assert [line.split()[0] for line in found] == [
        "gen/lost_pb2.py",
        "gen/orphan_pb2.py",
        "gen/stale_pb2.py",
    ]


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = [line.removeprefix(".PHONY: ") for line in lines if line.startswith(".PHONY: ")]

    undocumented = [
        name
        for name in phony
        if not any(line.startswith(f"{name}:") and "  ## " in line for line in lines)
    ]

    assert phony
    assert not undocumented
