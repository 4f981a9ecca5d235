"""docs/security.md: every threat names tests that show what it says, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")

_NAMED = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")


def threats() -> list[tuple[str, ...]]:
    """The rows of the threat table: threat, what stops it, shown by, what remains."""
    section = PAGE.partition("\n## Threats\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests of a file, those in classes too."""
    path = ROOT / file
    tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def lost(text: str) -> list[str]:
    """Tests that a text names and that are not there."""
    return [f"{file}::{name}" for file, name in _NAMED.findall(text) if name not in names_in(file)]


def test_every_test_that_the_page_names_is_there() -> None:
    assert not lost(PAGE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`tests/arch/test_security.py::test_every_test_that_the_page_names_is_there`", []),
        (
            "tests/arch/test_security.py::test_nothing",
            ["tests/arch/test_security.py::test_nothing"],
        ),
        ("tests/arch/test_nowhere.py::test_it", ["tests/arch/test_nowhere.py::test_it"]),
    ],
)
def test_a_test_that_is_not_there_is_found(text: str, found: list[str]) -> None:
    assert lost(text) == found


def test_every_threat_says_what_stops_it_and_names_a_test() -> None:
    rows = threats()

    assert len(rows) > 20
    for row in rows:
        assert len(row) == 4, row
        assert row[1], row[0]
        assert _NAMED.search(row[2]), row[0]


@pytest.mark.parametrize(
    "attack",
    [
        "`state` is sent twice",
        "foreign or altered `state`",
        "altered answer of Shopify's",
        "evil.com/.myshopify.com",
        "code is used again",
        "open redirects",
        "oversized fields",
        "certificate of another service",
        "expired token",
        "wrong audience",
        "`alg=none`",
        "ciphertext is moved",
        "truncated, wrong or lost KEK",
        "timing tells",
        "secrets in logs",
        "secrets in errors, spans",
        "core dump",
    ],
)
def test_an_attack_that_was_thought_of_is_in_the_table(attack: str) -> None:
    assert any(attack in " ".join(row) for row in threats())
