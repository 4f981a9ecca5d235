"""Strict reading of a YAML tree: every fault is gathered, with its place and what to do about it.

Scalars are text as written, so that the country `NO` is Norway and `007` keeps its zeros; only
`null`, `~` and nothing at all mean absent. No fault repeats a value: it may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from libs.errors import Kind, ServiceError
from libs.settings import Secret

T = TypeVar("T")

_FAULTS_SHOWN_MAX: Final = 100
# A longer key is rather a token in the wrong place than a name.
_KEY_CHARS_MAX: Final = 30
_SECRET: Final = re.compile(r"[!-~]+")
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"
_SHAPES: Final = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class ConnectionsError(ServiceError):
    """Everything that is wrong with a connections file, one line a fault."""

    def __init__(self, path: Path, faults: tuple[str, ...]) -> None:
        lines = faults[:_FAULTS_SHOWN_MAX]
        if len(faults) > len(lines):
            lines = (*lines, f"and {len(faults) - len(lines)} more")
        text = "\n".join((f"{path} cannot be used:", *lines))
        super().__init__(Kind.PERMANENT, "connections_invalid", text)
        self.faults = faults


class _Loader(yaml.CSafeLoader):
    """A safe loader that leaves scalars alone and notices a key that is given twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own protocol
        first: [rule for rule in rules if rule[0] in (_NULL, _MERGE)]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    # Nothing else can be asked for by an explicit tag either; None answers all other tags.
    yaml_constructors = {  # noqa: RUF012 - likewise
        tag: make
        for tag, make in yaml.CSafeLoader.yaml_constructors.items()
        if tag in (None, _NULL, _TEXT, *_SHAPES)
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the library's signature
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        keys = [key for key, _ in pairs if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        names: set[str] = set()
        for key in keys:
            if key.value in names:
                line = key.start_mark.line + 1
                self.repeated.append(f"line {line}: {shown(key.value)} is given twice; keep one")
            names.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> tuple[object, list[str]]:
    """The tree that `text` spells, and what is wrong with it as YAML."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data(), loader.repeated
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
        # The library's own words quote the text, and the text holds secrets.
        hint = "check the indentation, and quote text that begins with one of * & ! % @ ` { ["
        return None, [f"{place}: is not YAML; {hint}"]


def shown(key: object) -> str:
    """A key as it may be shown to people."""
    short = isinstance(key, str) and key.isprintable() and len(key) <= _KEY_CHARS_MAX
    return f"`{key}`" if short else "a key"


class Reading:
    """What one reading of a file has gathered: its faults, and the other files it has read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.faults: list[str] = []
        self.files: list[Path] = []

    def fault(self, place: str, text: str) -> None:
        self.faults.append(f"{place}: {text}")

    def secret_file(self, place: str, name: str) -> str | None:
        """The text of a file that holds secrets; its name counts from the file that names it."""
        found = self.directory / name
        self.files.append(found)
        try:
            return found.read_text(encoding="utf-8").strip()
        except OSError as error:
            self.fault(place, f"names a file that cannot be read ({error.strerror})")
        except ValueError:
            self.fault(place, "names a file that is not UTF-8 text")
        return None


class Section:
    """One mapping of the tree. Its readers return a harmless stand-in where they found a fault."""

    def __init__(self, reading: Reading, place: str, value: object, known: Collection[str]) -> None:
        self.reading = reading
        self.place = place
        self._values: dict[str, object] = {}
        if not isinstance(value, dict):
            reading.fault(place, f"should be a mapping of {', '.join(known)}")
            return
        for key, inner in value.items():
            if key in known:
                self._values[key] = inner
            else:
                reading.fault(place, _unknown(key, known))

    def has(self, name: str) -> bool:
        """Whether `name` is given and not null."""
        return self._values.get(name) is not None

    def fault(self, name: str, text: str) -> None:
        """Notes that the field `name` is wrong."""
        self.reading.fault(f"{self.place}.{name}", text)

    def require(self, name: str, hint: str) -> bool:
        """Whether `name` is given; a fault where it is not."""
        if not self.has(name):
            self.fault(name, f"is missing; {hint}")
        return self.has(name)

    def text(self, name: str, hint: str, pattern: str = ".+") -> str:
        """The text of `name`, which must fit `pattern` whole; "" where it is absent."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.fault(name, f"should be text; {hint}")
        elif not re.fullmatch(pattern, value, re.ASCII):
            self.fault(name, f"is not usable; {hint}")
        else:
            return value
        return ""

    def texts(self, name: str, hint: str, pattern: str) -> list[str]:
        """The list of texts under `name`, each of which must fit `pattern` whole."""
        items = self._values.get(name)
        if items is None:
            return []
        if not isinstance(items, list):
            self.fault(name, f"should be a list; {hint}")
            return []
        for place, item in enumerate(items):
            if not isinstance(item, str) or not re.fullmatch(pattern, item, re.ASCII):
                self.fault(f"{name}[{place}]", f"is not usable; {hint}")
        return [item for item in items if isinstance(item, str)]

    def one_or_more(self, name: str, hint: str, pattern: str) -> list[str]:
        """The text of `name`, or those of the list there; each must fit `pattern` whole."""
        if isinstance(self._values.get(name), list):
            return self.texts(name, hint, pattern)
        text = self.text(name, hint, pattern)
        return [text] if text else []

    def flag(self, name: str) -> bool:
        """True or false; false where it is absent."""
        return self.choice(name, {"true": True, "false": False}, default=False)

    def whole(self, name: str, *, most: int, default: int = 0) -> int:
        """A whole number from 0 to `most`."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and _WHOLE.fullmatch(value) and int(value) <= most:
            return int(value)
        self.fault(name, f"should be a whole number from 0 to {most}")
        return default

    def choice(self, name: str, options: Mapping[str, T], *, default: T) -> T:
        """What `options` has for the text of `name`."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value in options:
            return options[value]
        self.fault(name, f"should be one of {', '.join(options)}")
        return default

    def secret(self, name: str) -> Secret | None:
        """The secret under `name`, or in the file under `<name>_file`; None where neither is."""
        from_file, raw = self._raw_secret(name)
        if raw is None:
            return None
        if not isinstance(raw, str) or not _SECRET.fullmatch(raw):
            self.fault(from_file or name, "should be one word of printable ASCII; quote it")
            return None
        return Secret(raw)

    def secrets(self, name: str) -> tuple[Secret, ...]:
        """The list of secrets under `name`, or the lines of the file under `<name>_file`."""
        from_file, raw = self._raw_secret(name)
        items = raw.splitlines() if from_file and isinstance(raw, str) else raw
        if items is None:
            return ()
        if not isinstance(items, list) or not items:
            self.fault(from_file or name, "should be a list with at least one secret")
            return ()
        found: list[str] = []
        for place, item in enumerate(items):
            if not isinstance(item, str) or not _SECRET.fullmatch(item):
                self.fault(f"{name}[{place}]", "should be one word of printable ASCII; quote it")
            elif item in found:
                self.fault(f"{name}[{place}]", "is the same as an earlier one; remove it")
            else:
                found.append(item)
        return tuple(map(Secret, found))

    def section(self, name: str, known: Collection[str]) -> Section | None:
        """The mapping under `name`; None where it is absent."""
        if not self.has(name):
            return None
        return Section(self.reading, f"{self.place}.{name}", self._values[name], known)

    def sections(self, name: str, known: Collection[str]) -> Iterator[Section]:
        """The mappings of the list under `name`."""
        items = self._values.get(name)
        if items is None:
            return
        if not isinstance(items, list):
            self.fault(name, "should be a list; begin each entry with a dash")
            return
        for place, item in enumerate(items):
            yield Section(self.reading, f"{self.place}.{name}[{place}]", item, known)

    def checked(self, name: str, hint: str, good: Callable[[str], bool]) -> str:
        """The text of `name`, which must please `good`; "" where it is absent."""
        value = self.text(name, hint)
        if value and not good(value):
            self.fault(name, f"is not usable; {hint}")
            return ""
        return value

    def _raw_secret(self, name: str) -> tuple[str | None, object]:
        """The name of the field that gave it if that was a file, and what was given."""
        in_file = f"{name}_file"
        if not self.has(in_file):
            return None, self._values.get(name)
        if self.has(name):
            self.fault(in_file, f"is given beside {name}; keep one of them")
            return None, None
        path = self.text(in_file, "give the path of a file")
        if not path:
            return None, None
        return in_file, self.reading.secret_file(f"{self.place}.{in_file}", path)


def _unknown(key: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    advice = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
    return f"{shown(key)} is no known field; {advice}"
