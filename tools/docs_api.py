"""docs/api.md: every service, message and enum that a caller can meet, as the schemas say it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from buf.validate import validate_pb2
from tidewire.common.v1 import pii_pb2
from tools import gen

NOTE: Final = "Written by `make docs` from the code; edit there, not here.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)


_API_HEAD: Final = f"""\
# gRPC

{NOTE}
| service | served by | address |
| --- | --- | --- |
| `IngestService` | `tidewire serve ingest`, not as normalizer | `TIDEWIRE_INGEST_GRPC_ADDRESS` |
| `CommerceService` | the same | the same |
| `EventsService` | `tidewire serve events` | `TIDEWIRE_EVENTS_GRPC_ADDRESS` |
| `DeadLetterService` | `tidewire serve delivery` | `TIDEWIRE_DELIVERY_GRPC_ADDRESS` |
| `GateService`, `LedgerService`, `LimiterService` | the same | the same |
| `ConnectionService`, `TokenService` | `tidewire serve auth` | `TIDEWIRE_AUTH_GRPC_ADDRESS` |

Callers prove who they are by certificate or token, and a policy says what each may call:
[callers.md](callers.md). Each server has health (`grpc.health.v1`) and reflection. Answers may
have up to 8 MiB, requests 256 KiB; those to `ingest` and `events` 8 MiB too.

- A request is held against the rules in its tables before it is handled. `INVALID_ARGUMENT` names
  every field at fault in `google.rpc.BadRequest`.
- Other errors carry `google.rpc.ErrorInfo` with a stable code in `reason`, and `RetryInfo` where it
  helps to wait. [libs/rpc/errors.py](../libs/rpc/errors.py) has the status of each kind of error.
- Metadata `traceparent` (W3C) continues the caller's trace.
- *Personal* marks personal data, *Secret* what opens something: log neither.

Schemas are in [protos/](../protos/tidewire); their Python code is generated into `gen/`.
"""

_MARK: Final = re.compile(r"\s*\n\s*")
_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED
_SCALARS: Final = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}


class Schemas:
    """Every schema of ours with its comments, found by full name."""

    def __init__(self, image: bytes) -> None:
        self.services: dict[str, ServiceDescriptorProto] = {}
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self._comments: dict[tuple[str, tuple[int, ...]], str] = {}
        self._places: dict[str, tuple[str, tuple[int, ...]]] = {}
        for file in FileDescriptorSet.FromString(image).file:
            if file.name.startswith("tidewire/"):
                self._add(file)

    def comment(self, full_name: str, *further: int) -> str:
        """What the schema says above a thing, or above a part of it, on one line."""
        file, path = self._places[full_name]
        return self._comments.get((file, (*path, *further)), "")

    def _add(self, file: FileDescriptorProto) -> None:
        for location in file.source_code_info.location:
            said = _MARK.sub(" ", location.leading_comments.strip())
            self._comments[file.name, tuple(location.path)] = said
        for number, message in enumerate(file.message_type):
            self.messages[self._placed(file, message.name, 4, number)] = message
        for number, enum in enumerate(file.enum_type):
            self.enums[self._placed(file, enum.name, 5, number)] = enum
        for number, service in enumerate(file.service):
            self.services[self._placed(file, service.name, 6, number)] = service

    def _placed(self, file: FileDescriptorProto, name: str, *path: int) -> str:
        """The full name of what stands at `path`: the numbers by which comments are found."""
        full_name = f"{file.package}.{name}"
        self._places[full_name] = (file.name, path)
        return full_name


def api_page() -> str:
    """docs/api.md."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.binpb"
        gen.image(image)
        schemas = Schemas(image.read_bytes())
    services = "".join(_service_section(schemas, name) for name in sorted(schemas.services))
    named = sorted(_reached(schemas), key=_short)
    messages = "".join(
        _message_section(schemas, name) for name in named if name in schemas.messages
    )
    enums = "".join(_enum_section(schemas, name) for name in named if name in schemas.enums)
    return f"{_API_HEAD}\n{services}## Messages\n\n{messages}## Enums\n\n{enums}".rstrip() + "\n"


def _service_section(schemas: Schemas, full_name: str) -> str:
    lines = [f"## {_short(full_name)}\n\n`{full_name}`. {schemas.comment(full_name)}\n"]
    for number, rpc in enumerate(schemas.services[full_name].method):
        stream = "stream of " if rpc.server_streaming else ""
        lines.append(
            f"- **{rpc.name}** ({_link(rpc.input_type)}) returns {stream}{_link(rpc.output_type)}: "
            f"{schemas.comment(full_name, 2, number)}"
        )
    return "\n".join(lines) + "\n\n"


def _message_section(schemas: Schemas, full_name: str) -> str:
    message = schemas.messages[full_name]
    rows = [
        _field_row(schemas, full_name, number, field) for number, field in enumerate(message.field)
    ]
    body = table(("field", "type", "meaning", "rules"), rows) if rows else "It has no fields.\n"
    return f"### {_short(full_name)}\n\n{schemas.comment(full_name)}\n\n{body}\n"


def _field_row(
    schemas: Schemas, full_name: str, number: int, field: FieldDescriptorProto
) -> tuple[str, str, str, str]:
    named = _link(field.type_name) if field.type_name else _SCALARS[field.type]
    if field.type_name.endswith("Entry"):
        named = "map of string to string"
    elif field.label == _REPEATED:
        named = f"list of {named}"
    rules = _rules(field)
    return (
        f"`{field.name}`",
        named,
        _care(field) + schemas.comment(full_name, 2, number),
        f"`{rules}`" if rules else "",
    )


def _care(field: FieldDescriptorProto) -> str:
    """Why a field belongs in no log; empty where it may."""
    if field.options.Extensions[pii_pb2.pii]:
        return "*Personal.* "
    return "*Secret.* " if field.options.debug_redact else ""


def _rules(field: FieldDescriptorProto) -> str:
    """The rules that a request must keep, as the schema writes them."""
    rules = field.options.Extensions[validate_pb2.field]
    return text_format.MessageToString(rules, as_one_line=True).strip()


def _enum_section(schemas: Schemas, full_name: str) -> str:
    rows = (
        (f"`{value.name}`", str(value.number), schemas.comment(full_name, 2, number))
        for number, value in enumerate(schemas.enums[full_name].value)
    )
    body = table(("value", "number", "meaning"), rows)
    return f"### {_short(full_name)}\n\n{schemas.comment(full_name)}\n\n{body}\n"


def _reached(schemas: Schemas) -> set[str]:
    """Full names of all messages and enums that a caller can meet."""
    open_names = [
        name[1:]
        for service in schemas.services.values()
        for rpc in service.method
        for name in (rpc.input_type, rpc.output_type)
    ]
    found: set[str] = set()
    while open_names:
        name = open_names.pop()
        if name in found or not (name in schemas.messages or name in schemas.enums):
            continue
        found.add(name)
        if name in schemas.messages:
            open_names += [field.type_name[1:] for field in schemas.messages[name].field]
    return found


def _short(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def _link(type_name: str) -> str:
    """A link to the section of one of our types; others by name alone."""
    short = _short(type_name)
    return f"[{short}](#{short.lower()})" if type_name.startswith(".tidewire.") else f"`{short}`"
