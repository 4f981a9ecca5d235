from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.message import Message

from libs.pii import has_pii, masked, pii_values, redact
from tidewire.commerce.v1 import order_pb2, product_pb2
from tidewire.common.v1 import money_pb2, pii_pb2, sealed_pb2

NODE = ".pii_test.Node"


def field(
    name: str, number: int, kind: Field.Type.ValueType, *, many: bool = False, of: str = ""
) -> Field:
    label = Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL
    made = Field(name=name, number=number, type=kind, label=label)
    if of:
        made.type_name = of
    return made


def marked(made: Field, kind: pii_pb2.Pii.ValueType) -> Field:
    made.options.Extensions[pii_pb2.pii] = kind
    return made


def map_of(value: Field) -> descriptor_pb2.DescriptorProto:
    entry = descriptor_pb2.DescriptorProto(name=f"{value.json_name}Entry")
    value.json_name = ""
    entry.field.extend([field("key", 1, Field.TYPE_STRING), value])
    entry.options.map_entry = True
    return entry


def node_file() -> descriptor_pb2.FileDescriptorProto:
    """A type with all shapes of fields, which holds itself, and one that holds only clean ones."""
    text, message = Field.TYPE_STRING, Field.TYPE_MESSAGE
    in_oneof = marked(field("phone", 7, text), pii_pb2.PII_PHONE)
    in_oneof.oneof_index = 0
    other = field("public_choice", 8, text)
    other.oneof_index = 0
    node = descriptor_pb2.DescriptorProto(name="Node")
    node.oneof_decl.add(name="choice")
    node.field.extend(
        [
            field("id", 1, text),
            marked(field("email", 2, text), pii_pb2.PII_EMAIL),
            marked(field("names", 3, text, many=True), pii_pb2.PII_NAME),
            marked(field("labels", 4, message, many=True, of=f"{NODE}.LabelsEntry"),
                   pii_pb2.PII_FREE_TEXT),
            field("by_key", 5, message, many=True, of=f"{NODE}.ByKeyEntry"),
            field("children", 6, message, many=True, of=NODE),
            in_oneof,
            other,
            field("parent", 9, message, of=NODE),
            marked(field("raw", 10, Field.TYPE_BYTES), pii_pb2.PII_ADDRESS),
            marked(field("whole", 11, message, of=NODE), pii_pb2.PII_DEVICE),
            marked(field("number", 12, Field.TYPE_INT64), pii_pb2.PII_PHONE),
        ]
    )  # fmt: skip
    labels, by_key = field("value", 2, text), field("value", 2, message, of=NODE)
    labels.json_name, by_key.json_name = "Labels", "ByKey"
    node.nested_type.extend([map_of(labels), map_of(by_key)])
    clean = descriptor_pb2.DescriptorProto(name="Clean")
    clean.field.extend(
        [field("id", 1, text), field("inner", 2, message, many=True, of=".pii_test.Clean")]
    )
    outer = descriptor_pb2.DescriptorProto(name="Outer")
    outer.field.extend([field("node", 1, message, of=NODE)])
    outermost = descriptor_pb2.DescriptorProto(name="Outermost")
    outermost.field.extend([field("outer", 1, message, of=".pii_test.Outer")])
    return descriptor_pb2.FileDescriptorProto(
        name="pii_test.proto",
        package="pii_test",
        syntax="proto3",
        message_type=[node, clean, outer, outermost],
    )


POOL = descriptor_pool.DescriptorPool()
POOL.Add(node_file())
DESCRIPTORS = {
    name: POOL.FindMessageTypeByName(f"pii_test.{name}")
    for name in ("Node", "Clean", "Outer", "Outermost")
}
TYPES = {name: message_factory.GetMessageClass(one) for name, one in DESCRIPTORS.items()}


def filled() -> Message:
    return TYPES["Node"](
        id="n1",
        email="a@x.example",
        names=["Ann", "Bo"],
        labels={"Carl": "free words"},
        by_key={"k": {"id": "n2", "email": "b@x.example"}},
        children=[{"id": "n3"}, {"id": "n4", "parent": {"phone": "+15550001"}}],
        public_choice="kept",
        raw=b"\xffstreet",
        whole={"id": "device-7", "labels": {"deep": "deeper"}},
        number=15550002,
    )


PERSONAL = {
    b"a@x.example", b"Ann", b"Bo", b"Carl", b"free words", b"b@x.example", b"+15550001",
    b"\xffstreet", b"device-7", b"deep", b"deeper", b"15550002",
}  # fmt: skip


def test_a_type_that_reaches_a_marked_field_has_pii_however_deep() -> None:
    assert has_pii(DESCRIPTORS["Outermost"])
    assert has_pii(DESCRIPTORS["Outer"])
    assert has_pii(DESCRIPTORS["Node"])
    assert has_pii(order_pb2.Order.DESCRIPTOR)


def test_a_type_that_only_contains_itself_ends_and_has_none() -> None:
    assert not has_pii(DESCRIPTORS["Clean"])
    assert not has_pii(money_pb2.Money.DESCRIPTOR)
    assert not has_pii(product_pb2.Product.DESCRIPTOR)
    assert not has_pii(sealed_pb2.Payload.DESCRIPTOR)


def test_every_marked_value_is_found() -> None:
    assert pii_values(filled()) == PERSONAL


def test_redacting_clears_what_is_marked_and_nothing_else() -> None:
    message = filled()

    redact(message)

    assert message == TYPES["Node"](
        id="n1",
        by_key={"k": {"id": "n2"}},
        children=[{"id": "n3"}, {"id": "n4", "parent": {}}],
        public_choice="kept",
    )
    assert pii_values(message) == set()


def test_no_marked_value_is_left_in_the_bytes_of_a_redacted_message() -> None:
    message = filled()

    redact(message)

    stored = message.SerializeToString()
    assert [value for value in PERSONAL if value in stored] == []


def test_redacting_drops_fields_of_a_newer_schema() -> None:
    newer = TYPES["Outer"].FromString(b"\x0a\x0a\x0a\x02n1\xfa\x07\x03new")
    assert b"new" in newer.SerializeToString()

    redact(newer)

    assert newer == TYPES["Outer"](node={"id": "n1"})
    assert b"new" not in newer.SerializeToString()


def test_a_masked_message_shows_the_kind_instead_of_the_value() -> None:
    assert masked(filled()) == {
        "id": "n1",
        "email": "***email",
        "names": ["***name", "***name"],
        "labels": "***free_text",
        "byKey": {"k": {"id": "n2", "email": "***email"}},
        "children": [{"id": "n3"}, {"id": "n4", "parent": {"phone": "***phone"}}],
        "publicChoice": "kept",
        "raw": "***address",
        "whole": "***device",
        "number": "***phone",
    }


def test_masking_leaves_the_message_itself_alone() -> None:
    message = filled()

    masked(message)

    assert message == filled()


@pytest.mark.parametrize("ip", ["203.0.113.7", "2001:db8::7"])
def test_a_masked_order_is_json_without_its_buyer(ip: str) -> None:
    order = order_pb2.Order(
        order_id="1", email="jo@example.com", client=order_pb2.ClientContext(ip=ip)
    )

    text = json.dumps(masked(order))

    assert "jo@" not in text
    assert ip not in text
    assert '"orderId": "1"' in text
    assert pii_values(order) == {b"jo@example.com", ip.encode()}
