"""Settings: the environment read once, into a frozen dataclass that documents every knob."""

from __future__ import annotations

import enum
import hmac
import ipaddress
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints, overload

PREFIX = "TIDEWIRE_"

T = TypeVar("T")


class SettingsError(Exception):
    """Every variable that is missing or unusable; the values themselves are never repeated."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(("these settings cannot be used:", *problems)))
        self.problems = problems


class Secret:
    """A value that no log, error or listing shows: it prints as `Secret(…)`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        # Compared in constant time: the timing of `==` gives the value away byte by byte.
        return isinstance(other, Secret) and hmac.compare_digest(
            self._value.encode(), other._value.encode()
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


@dataclass(frozen=True)
class Address:
    """Where to listen or connect: `host:port`, an IPv6 host in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that `text` spells; port 0 lets the system choose.

        Raises:
            ValueError: it is not `host:port`.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not colon or not host or (":" in host) != bracketed:
            raise ValueError("not host:port")
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("port is not a number from 0 to 65535")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than `localhost` counts as not."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@overload
def env(name: str, doc: str, *, least: float | None = None, most: float | None = None) -> Any: ...
@overload
def env(
    name: str, doc: str, *, default: T, least: float | None = None, most: float | None = None
) -> T: ...
def env(
    name: str,
    doc: str,
    *,
    default: object = MISSING,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A dataclass field that is read from `TIDEWIRE_<name>`; required if it has no default.

    `doc` says what the value means, with its unit; the reference table is made of it. Numbers
    must lie in `least` to `most`, both included.
    """
    metadata = {"env": name, "doc": doc, "least": least, "most": most}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """An instance of the dataclass `cls`, filled from the variables its fields name.

    A field may be str, int, float, bool (true/false), Secret, Path, Address, tuple[str, ...]
    (comma-separated), an Enum (by value), or one of these `| None`. An empty variable counts as
    absent. A secret may also come from a file: `TIDEWIRE_X_FILE` beats `TIDEWIRE_X`.

    Raises:
        SettingsError: names every variable that is missing or unusable, all at once.
        TypeError: `cls` has a field of another type; a mistake in the code.
    """
    hints = get_type_hints(cls)
    values: dict[str, object] = {}
    problems: list[str] = []
    for spec in _specs(cls):
        try:
            values[spec.name] = _value(spec, hints[spec.name], environ)
        except (ValueError, OSError) as error:
            problems.append(f"{PREFIX}{spec.metadata['env']} {_reason(error)}")
    if problems:
        raise SettingsError(tuple(problems))
    return cls(**values)


class Described(NamedTuple):
    """One row of the settings reference."""

    variable: str
    doc: str
    default: str


def describe(cls: type[Any]) -> Iterator[Described]:
    """A row for each variable that `cls` reads, in the order of its fields."""
    for spec in _specs(cls):
        default = "(required)" if spec.default is MISSING else _shown(spec.default)
        yield Described(PREFIX + spec.metadata["env"], spec.metadata["doc"], default)


def _specs(cls: type[Any]) -> list[Field[Any]]:
    return [spec for spec in fields(cls) if "env" in spec.metadata]


def _shown(value: object) -> str:
    if value is None or value == ():
        return "(none)"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(spec: Field[Any], hint: object, environ: Mapping[str, str]) -> object:
    parse = _parser(hint)
    text = _text(spec, hint, environ)
    if text is not None:
        return _within(spec, parse(text))
    if spec.default is MISSING:
        raise ValueError("is required: " + spec.metadata["doc"])
    return spec.default


def _text(spec: Field[Any], hint: object, environ: Mapping[str, str]) -> str | None:
    variable = PREFIX + spec.metadata["env"]
    file = environ.get(f"{variable}_FILE") if _plain(hint) is Secret else None
    if file:
        return Path(file).read_text(encoding="utf-8").strip() or None
    return environ.get(variable) or None


def _within(spec: Field[Any], value: object) -> object:
    least, most = spec.metadata["least"], spec.metadata["most"]
    if isinstance(value, int | float):
        if least is not None and value < least:
            raise ValueError(f"is below {least:g}")
        if most is not None and value > most:
            raise ValueError(f"is above {most:g}")
    return value


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        return f"names a file that cannot be read ({error.strerror})"
    if isinstance(error, UnicodeDecodeError):
        return "names a file that is not UTF-8 text"
    return str(error)


def _plain(hint: object) -> object:
    """The X of `X | None`, and any other hint as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        known = [part for part in get_args(hint) if part is not types.NoneType]
        return known[0] if len(known) == 1 else hint
    return hint


def _parser(hint: object) -> Callable[[str], object]:
    plain = _plain(hint)
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return _member_of(plain)
    parser = _PARSERS.get(plain)
    if parser is None:
        raise TypeError(f"no setting can have the type {plain}")
    return parser


def _member_of(members: type[enum.Enum]) -> Callable[[str], object]:
    def parse(text: str) -> object:
        for member in members:
            if str(member.value) == text:
                return member
        raise ValueError("is none of " + ", ".join(str(member.value) for member in members))

    return parse


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is not a whole number") from None


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("is not a number")
    return number


def _bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("is neither true nor false")
    return known[text.lower()]


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ValueError(f"is not an address: {error}") from None


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_PARSERS: Mapping[object, Callable[[str], object]] = {
    str: str,
    int: _int,
    float: _float,
    bool: _bool,
    Secret: Secret,
    Path: Path,
    Address: _address,
    tuple[str, ...]: _parts,
}
