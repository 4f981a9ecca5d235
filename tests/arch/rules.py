"""The house rules as functions from a parsed file to what breaks them.

Each rule is pure: it is told the file and answers with the lines at fault, so that it can be shown
one sample that passes and one that does not.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

_CLOCK_READINGS = {
    "time": {"time", "time_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
_LOGGERS = {"log", "_log", "logger", "_logger"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "msg"}
_PYTEST_CLAIMS = {"raises", "warns", "fail"}
_CLAIMING_PREFIXES = ("assert_", "expect_")
_NAKED_TODO = re.compile(r"\b(?:FIXME|XXX|TODO(?!\(#\d+\)))\b")
_ANY_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def _nodes(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(text)))


class SourceFile(NamedTuple):
    """One Python file: where it is below the project's root, and its text."""

    path: PurePosixPath
    text: str

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Everything in the file, as `ast.walk` finds it."""
        return _nodes(self.text)

    def within(self, *folders: str) -> bool:
        """Whether the file is one of `folders`, or below one of them."""
        return any(self.path.is_relative_to(folder) for folder in folders)


Rule = Callable[[SourceFile], Iterator[int]]


def _dotted(node: ast.expr) -> tuple[str, ...]:
    """`a.b.c` as its names; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=name) if parts := _dotted(value):
            return (*parts, name)
        case _:
            return ()


def _imported_from(file: SourceFile, module: str) -> Iterator[tuple[int, str]]:
    for node in file.nodes:
        if isinstance(node, ast.ImportFrom) and node.module == module:
            yield from ((node.lineno, name.name) for name in node.names)


def _attributes(file: SourceFile) -> Iterator[tuple[int, tuple[str, ...]]]:
    for node in file.nodes:
        if isinstance(node, ast.Attribute):
            yield node.lineno, _dotted(node)


def _calls(file: SourceFile) -> Iterator[ast.Call]:
    return (node for node in file.nodes if isinstance(node, ast.Call))


def _taken(file: SourceFile, module: str, names: set[str]) -> Iterator[int]:
    """Lines that reach one of `names` of `module`, by import or by attribute."""
    yield from (line for line, name in _imported_from(file, module) if name in names)
    for line, parts in _attributes(file):
        if len(parts) > 1 and parts[-2] == module and parts[-1] in names:
            yield line


def environment_read_outside_entry_points(file: SourceFile) -> Iterator[int]:
    """Settings are read once, where a process starts; all else is handed them."""
    if file.within("cli", "tests", "tools") or file.path.name == "__main__.py":
        return
    yield from _taken(file, "os", _ENVIRONMENT)


def time_read_outside_the_clock(file: SourceFile) -> Iterator[int]:
    """Time is an argument (`libs/clock.py`), so that a test can turn it."""
    if file.within("libs/clock.py", "libs/ids.py", "tests", "tools"):
        return
    for module, names in _CLOCK_READINGS.items():
        yield from _taken(file, module, names)


def chance_outside_ids(file: SourceFile) -> Iterator[int]:
    """Randomness is an argument: nobody draws from the generator that all share.

    An own `random.Random` may be made in the simulators, the command line and the tests.
    """
    if file.within("libs/clock.py", "libs/ids.py"):
        return
    makers = {"Random", "SystemRandom"}
    for line, name in _imported_from(file, "random"):
        if name not in makers:
            yield line
    if _imports(file, "random"):
        for line, parts in _attributes(file):
            if parts[:1] == ("random",) and parts[1] not in makers:
                yield line
    if not file.within("sandbox", "cli", "tests", "tools"):
        yield from (call.lineno for call in _calls(file) if _makes(call, makers))


def _imports(file: SourceFile, module: str) -> bool:
    imports = (node for node in file.nodes if isinstance(node, ast.Import))
    return any(name.name == module for node in imports for name in node.names)


def _makes(call: ast.Call, makers: set[str]) -> bool:
    return bool(parts := _dotted(call.func)) and parts[-1] in makers


def http_session_outside_the_client(file: SourceFile) -> Iterator[int]:
    """One client knows limits, retries and spans (`libs/http`); to be handed a session is fine."""
    if not file.within("libs/http", "sandbox", "tests", "cli"):
        yield from (call.lineno for call in _calls(file) if _makes(call, {"ClientSession"}))


def logger_outside_telemetry(file: SourceFile) -> Iterator[int]:
    """Logs are structured and set up once (`libs/telemetry`)."""
    if not file.within("libs/telemetry", "libs/telemetry.py", "tests"):
        yield from _taken(file, "logging", {"getLogger"})


def log_event_that_varies(file: SourceFile) -> Iterator[int]:
    """An event is a constant name with fields: prose cannot be searched or counted."""
    constant = (ast.Constant, ast.Name, ast.Attribute)
    for call in _calls(file):
        if _logs(call) and call.args and not isinstance(call.args[0], constant):
            yield call.lineno


def _logs(call: ast.Call) -> bool:
    parts = _dotted(call.func)
    return len(parts) > 1 and parts[-2] in _LOGGERS and parts[-1] in _LOG_METHODS


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return 0
    return (first.end_lineno or first.lineno) - first.lineno + 1


def function_too_long(file: SourceFile) -> Iterator[int]:
    """A function fits on a screen: at most 70 lines, its docstring not counted."""
    for node in file.nodes:
        if isinstance(node, _ANY_FUNCTION):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno


def file_too_long(file: SourceFile) -> Iterator[int]:
    """A file is about one thing: at most 500 lines outside the tests."""
    if not file.within("tests") and file.text.count("\n") > FILE_LINES_MAX:
        yield FILE_LINES_MAX


def _claims(node: ast.AST) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=function) if parts := _dotted(function):
            from_pytest = parts[0] == "pytest" and parts[-1] in _PYTEST_CLAIMS
            return from_pytest or parts[-1].startswith(_CLAIMING_PREFIXES)
        case _:
            return False


def test_that_claims_nothing(file: SourceFile) -> Iterator[int]:
    """A test that asserts nothing cannot fail for the right reason."""
    if not file.path.name.startswith("test_"):
        return
    for node in file.nodes:
        if not isinstance(node, _ANY_FUNCTION) or not node.name.startswith("test"):
            continue
        if not any(_claims(found) for found in ast.walk(node)):
            yield node.lineno


def patched_object(file: SourceFile) -> Iterator[int]:
    """A fake is a class with behaviour; nothing is patched from outside."""
    for node in file.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"):
            yield node.lineno
        if isinstance(node, ast.Import) and any(
            name.name.startswith("unittest") for name in node.names
        ):
            yield node.lineno


def naked_todo(file: SourceFile) -> Iterator[int]:
    """What is left to do names where it is tracked: `TODO(#41): …`."""
    if not _NAKED_TODO.search(file.text):
        return
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type == tokenize.COMMENT and _NAKED_TODO.search(token.string):
            yield token.start[0]


def await_in_the_domain(file: SourceFile) -> Iterator[int]:
    """What decides is told everything it needs; only what carries out may wait."""
    parts = file.path.parts
    if parts[0] != "services" or not {"domain", "normalize"} & set(parts):
        return
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    yield from (node.lineno for node in file.nodes if isinstance(node, waiting))


RULES: tuple[Rule, ...] = (
    environment_read_outside_entry_points,
    time_read_outside_the_clock,
    chance_outside_ids,
    http_session_outside_the_client,
    logger_outside_telemetry,
    log_event_that_varies,
    function_too_long,
    file_too_long,
    test_that_claims_nothing,
    patched_object,
    naked_todo,
    await_in_the_domain,
)
