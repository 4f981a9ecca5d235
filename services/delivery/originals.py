"""What a dead letter holds, as JSON for a person: masked, or as it is."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from libs.bus.dead_letters import INGEST
from libs.encodings import decoded
from libs.errors import Kind, ServiceError
from libs.pii import masked
from libs.vault import Vault
from services.delivery.domain.masking import masked_body
from tidewire.commerce.v1 import fact_pb2
from tidewire.delivery.v1 import outcome_pb2


async def original_json(letter: outcome_pb2.DeadLetter, vault: Vault, *, reveal: bool) -> str:
    """The original; with `reveal`, personal data in clear.

    What nobody can read is told of by its size alone, and shown only with `reveal`.

    Raises:
        ServiceError: the key source's own, where it does not answer.
    """
    if not letter.HasField("original"):
        return _json(None)
    try:
        opened = await vault.open_bytes(letter.original, letter.shop)
    except ServiceError as error:
        if error.kind is not Kind.PERMANENT:
            raise
        return _json({"unreadable": error.code, "bytes": len(letter.original.data)})
    shown = _body if letter.service == INGEST else _fact
    return _json(shown(letter, opened, reveal=reveal))


def _fact(_: outcome_pb2.DeadLetter, opened: bytes, *, reveal: bool) -> object:
    try:
        fact = fact_pb2.Fact.FromString(opened)
    except DecodeError:
        return _unreadable("fact_unreadable", opened, reveal=reveal)
    return MessageToDict(fact) if reveal else masked(fact)


def _body(letter: outcome_pb2.DeadLetter, opened: bytes, *, reveal: bool) -> object:
    try:
        body = decoded(opened, letter.content_encoding)
    except ServiceError as error:
        return _unreadable(error.code, opened, reveal=reveal)
    try:
        parsed: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _unreadable("not_json", body, reveal=reveal)
    return parsed if reveal else masked_body(parsed, letter.topic)


def _unreadable(code: str, content: bytes, *, reveal: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"unreadable": code, "bytes": len(content)}
    if reveal:
        told["base64"] = base64.b64encode(content).decode()
    return told


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
