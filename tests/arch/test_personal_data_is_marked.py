"""The schema says which fields hold personal data, so no such field may go unmarked.

Sealing, redaction and log scrubbing read the mark; a field that lacks it is stored in clear.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from tidewire.common.v1 import pii_pb2

GEN = Path(__file__).resolve().parents[2] / "gen"
_PERSONAL = re.compile(
    r"(?:.*_)?(?:e?mails?|contact_email|phones?|phone_numbers?|e164|first_name|last_name|full_name"
    r"|ip|ip_address|user_agent|ttclid|ttp|client_id|zip|postal_code|city|line[12]|address[12]"
    r"|latitude|longitude|landing_site|referring_site|referrer|page_url|customer_id|external_ids?)"
)
_NOT_A_PERSON: set[str] = {
    "tidewire.auth.v1.OwnApp.client_id",  # of an app at a provider, as OAuth calls it
}
"""Full names of fields that only sound personal; each needs a reason beside it."""


def _holds_text(field: FieldDescriptor) -> bool:
    return field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}


def _messages(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        yield message
        yield from _messages(message.nested_types)


def _unmarked(file: FileDescriptor) -> Iterator[str]:
    for message in _messages(file.message_types_by_name.values()):
        for field in message.fields:
            personal = _holds_text(field) and _PERSONAL.fullmatch(field.name)
            marked = field.GetOptions().Extensions[pii_pb2.pii] != pii_pb2.PII_UNSPECIFIED
            if personal and not marked and field.full_name not in _NOT_A_PERSON:
                yield field.full_name


def _files() -> list[FileDescriptor]:
    modules = sorted((GEN / "tidewire").rglob("*_pb2.py"))
    names = (".".join(path.relative_to(GEN).with_suffix("").parts) for path in modules)
    return [importlib.import_module(name).DESCRIPTOR for name in names]


def _schema(*fields: descriptor_pb2.FieldDescriptorProto) -> FileDescriptor:
    """A schema of one message, `Person`, with these fields."""
    file = descriptor_pb2.FileDescriptorProto(
        name="person.proto",
        syntax="proto3",
        message_type=[descriptor_pb2.DescriptorProto(name="Person", field=fields)],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindFileByName("person.proto")


def _text_field(name: str, number: int) -> descriptor_pb2.FieldDescriptorProto:
    return descriptor_pb2.FieldDescriptorProto(
        name=name,
        number=number,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
    )


def test_every_field_named_after_personal_data_is_marked() -> None:
    files = _files()

    unmarked = [name for file in files for name in _unmarked(file)]

    assert files
    assert not unmarked, "mark these with (tidewire.common.v1.pii): " + ", ".join(unmarked)


def test_an_unmarked_email_is_found() -> None:
    schema = _schema(_text_field("billing_email", 1), _text_field("sku", 2))

    assert list(_unmarked(schema)) == ["Person.billing_email"]


def test_a_marked_email_passes() -> None:
    field = _text_field("billing_email", 1)
    field.options.Extensions[pii_pb2.pii] = pii_pb2.PII_EMAIL

    assert list(_unmarked(_schema(field))) == []
