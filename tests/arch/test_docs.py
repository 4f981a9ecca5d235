"""The documentation is true: references are fresh, commands and tests exist, examples fit."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

import pytest
import typer

from cli.__main__ import app
from libs import resources
from libs.bus import subjects
from libs.pii import has_pii
from tidewire.commerce.v1 import fact_pb2
from tools import docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "runbooks").glob("*.md"),
    )
)
WRITTEN = ("docs/settings.md", "docs/metrics.md", "docs/api.md", "ARCHITECTURE.md")
NOT_SETTINGS = {"TIDEWIRE_CORPUS_DIR"}  # read by tests alone


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


# -- written pages -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def current() -> Mapping[str, str]:
    return docs.current()


@pytest.mark.parametrize("page", WRITTEN)
def test_a_written_page_says_what_the_code_says(page: str, current: Mapping[str, str]) -> None:
    assert text_of(page) == current[page], "run `make docs`"


def test_every_written_page_is_checked(current: Mapping[str, str]) -> None:
    assert set(current) == set(WRITTEN)


def test_a_page_that_differs_or_is_missing_is_stale(tmp_path: Path) -> None:
    (tmp_path / "same.md").write_text("same")
    (tmp_path / "old.md").write_text("old")

    found = docs.stale({"same.md": "same", "old.md": "new", "gone.md": ""}, tmp_path)

    assert found == ["old.md", "gone.md"]


def test_a_table_replaces_what_stood_between_its_marks() -> None:
    page = "a\n<!-- x: written by `make docs` -->\nold\n<!-- x: end -->\nb\n"

    made = docs.between_marks(page, "x", "new\n")

    assert made == "a\n<!-- x: written by `make docs` -->\n\nnew\n\n<!-- x: end -->\nb\n"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- x: end -->"):
        docs.between_marks("<!-- x: written by `make docs` -->\n", "x", "new\n")


def test_every_variable_that_telemetry_reads_is_listed() -> None:
    read = {
        name
        for path in (ROOT / "libs" / "telemetry").glob("*.py")
        for name in re.findall(r'"((?:OTEL|TIDEWIRE)_[A-Z_]+)"', path.read_text("utf-8"))
    }

    listed = set(re.findall(r"`((?:OTEL|TIDEWIRE)_[A-Z_]+)`", text_of("docs/settings.md")))

    assert read
    assert read <= listed


# -- commands ------------------------------------------------------------------------------------

_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


def commands_in(markdown: str) -> Iterator[str]:
    """Each `make …` and `tidewire …` of a page, in shell blocks and in running text."""
    shell = [body for language, body in _BLOCK.findall(markdown) if language == "sh"]
    lines = [line.strip() for body in shell for line in body.splitlines()]
    for code in [*lines, *_INLINE.findall(_BLOCK.sub("", markdown))]:
        line = code.removeprefix(".venv/bin/").partition(" < ")[0]
        if line.startswith(("make ", "tidewire ")):
            yield line


def fault_of(command: str) -> str:
    """What is wrong with a command; empty where it could be run."""
    program, *words = shlex.split(command)
    return _make_fault(words) if program == "make" else _tidewire_fault(words)


def _make_fault(words: list[str]) -> str:
    targets = re.findall(r"^\.PHONY: (.+)$", text_of("Makefile"), re.MULTILINE)
    for word in words:
        name, is_variable, value = word.partition("=")
        if is_variable and name == "T" and not (ROOT / value).exists():
            return f"{value} is not there"
        if not is_variable and name not in targets:
            return f"no target {name}"
    return ""


def _tidewire_fault(words: list[str]) -> str:
    command = typer.main.get_command(app)
    while (commands := getattr(command, "commands", None)) and words:
        name, *words = words
        if name not in commands:
            return f"no command {name}"
        command = commands[name]
    return _words_fault(command, words)


def _words_fault(command: Any, words: list[str]) -> str:
    """What is wrong with options and arguments. In running text they may be missing."""
    options = {name: one for one in command.params for name in one.opts if name.startswith("-")}
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    kinds = get_type_hints(command.callback) if command.callback else {}
    left = iter(words)
    for word in left:
        if word.startswith("-"):
            name, is_joined, value = word.partition("=")
            if name not in options:
                return f"no option {name}"
            taken = options[name]
            if not taken.is_flag and not is_joined:
                value = next(left, "")
        elif arguments:
            taken, value = arguments.pop(0), word
        else:
            return f"{word} is too much"
        kind = kinds.get(taken.name)
        if isinstance(kind, type) and issubclass(kind, Enum) and value not in {*map(str, kind)}:
            return f"no {value}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_can_be_run(page: str) -> None:
    faults = {command: fault_of(command) for command in commands_in(text_of(page))}

    assert not {command: fault for command, fault in faults.items() if fault}


def test_the_readme_names_commands() -> None:
    found = set(commands_in(text_of("README.md")))

    assert {"make demo", "make test"} <= found
    assert any(command.startswith("tidewire dev --live") for command in found)
    assert any(command.startswith("tidewire connect shopify") for command in found)


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("make test T=tests/arch", "good"),
        ("make tests", "bad"),
        ("make test T=tests/nowhere", "bad"),
        ("tidewire serve ingest --role http", "good"),
        ("tidewire trace", "good"),
        ("tidewire preview", "good"),
        ("tidewire serve --all", "bad"),
        ("tidewire serve nothing", "bad"),
        ("tidewire preview everything", "bad"),
        ("tidewire sing", "bad"),
    ],
)
def test_a_command_that_nobody_can_run_is_found(
    command: str, verdict: Literal["good", "bad"]
) -> None:
    assert ("bad" if fault_of(command) else "good") == verdict


def missing_modules(source: str) -> list[str]:
    """Modules that a command imports, when it is run, and that are not there."""
    tree = ast.parse(source)
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return [name for name in named if name and find_spec(name) is None]


def test_every_command_has_its_code() -> None:
    assert not missing_modules(text_of("cli/__main__.py"))


def test_a_command_without_its_code_is_found() -> None:
    assert missing_modules("def sing():\n    from cli.song import sing\n") == ["cli.song"]


# -- what pages refer to -------------------------------------------------------------------------

_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading) for heading in headings)
    return {heading.strip().lower().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    here = ROOT / page
    lost = []
    for target, anchor in _LINK.findall(_BLOCK.sub("", here.read_text("utf-8"))):
        there = (here.parent / target) if target else here
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            lost.append(f"{target}#{anchor}")

    assert not lost


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"tests/[\w/]+\.py", text_of(page))

    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_a_page_names_is_in_the_reference(page: str) -> None:
    named = set(re.findall(r"\bTIDEWIRE_[A-Z_]*[A-Z]\b", text_of(page)))

    reference = text_of("docs/settings.md")
    listed = set(re.findall(r"`(TIDEWIRE_[A-Z_]+)`", reference))
    secrets = reference.partition("\nThey are: ")[2].partition("\n")[0]
    from_files = {f"{name}_FILE" for name in re.findall(r"`(TIDEWIRE_[A-Z_]+)`", secrets)}

    assert secrets
    assert named <= listed | from_files | NOT_SETTINGS


# -- examples in Python --------------------------------------------------------------------------


EXAMPLES = [
    body
    for page in PAGES
    for language, body in _BLOCK.findall(text_of(page))
    if language == "python"
]


def _imported(tree: ast.Module) -> dict[str, object]:
    """Names that an example imports, and what they are."""
    found: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (
                    getattr(module, alias.name)
                    if hasattr(module, alias.name)
                    else importlib.import_module(submodule)
                )
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_imports_what_exists_and_fills_fields_that_exist(example: str) -> None:
    tree = ast.parse(example)
    imported = _imported(tree)

    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if isinstance(
                imported.get(name), ModuleType
            ):
                assert hasattr(imported[name], attribute), f"{name}.{attribute}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if (
                name.endswith("_pb2") and name in imported
            ):
                message = getattr(imported[name], attribute)
                given = {keyword.arg for keyword in node.keywords}
                assert given <= set(message.DESCRIPTOR.fields_by_name)


# -- the contract for subscribers ----------------------------------------------------------------


def _rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of docs/subjects.md, its two head lines left out."""
    section = text_of("docs/subjects.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _names(heading: str) -> list[str]:
    return [row[0].strip("`") for row in _rows(heading)]


def test_every_kind_of_fact_is_described_and_no_other() -> None:
    kinds = [field.name for field in fact_pb2.Fact.DESCRIPTOR.oneofs_by_name["happened"].fields]

    assert sorted(_names("Kinds of fact")) == sorted(kinds)
    assert all(len(row[2]) > len(row[0]) for row in _rows("Kinds of fact"))


def test_every_kind_of_state_is_described_with_its_message_and_seal() -> None:
    told = {row[0].strip("`"): (row[1].strip("`"), row[2][:3]) for row in _rows("Kinds of state")}

    known = {
        resources.NAMES[kind]: (
            message.DESCRIPTOR.name,
            "yes" if has_pii(message.DESCRIPTOR) else "no",  # type: ignore[arg-type]  # upb class
        )
        for kind, message in resources.MESSAGES.items()
    }

    assert told == known


def test_lives_are_those_of_the_code() -> None:
    day_s = 86_400
    lives = {row[0]: row[3] for row in _rows("Families")}

    assert f"{resources.FACT_TTL_S // day_s} days" in lives["fact"]
    assert f"{resources.SEEN_TTL_S // 3_600} hours" in lives["seen"]
    for seconds in resources.STATE_TTL_S.values():
        assert f"{seconds // day_s} days" in lives["state"]


def test_examples_of_tokens_are_what_the_code_makes() -> None:
    examples = {row[0].strip("`"): row[1].strip("`") for row in _rows("Tokens")}

    assert examples
    assert examples == {text: subjects.token(text) for text in examples}


def test_examples_of_lanes_are_what_the_code_makes() -> None:
    examples = {row[0].strip("`"): int(row[1]) for row in _rows("Lanes")}

    assert examples
    assert examples == {shop: subjects.lane(shop) for shop in examples}
    assert f"There are {subjects.LANES}." in text_of("docs/subjects.md")
