"""Stored records and the views that sequencing works on."""

from __future__ import annotations

from libs.resources import MESSAGES
from services.ingest.normalize import StateView
from tidewire.commerce.v1 import record_pb2


def view_of(record: record_pb2.StateRecord, payload: bytes) -> StateView:
    """The view of a stored record whose unsealed payload is `payload`; empty means no message."""
    has_message = record.HasField("payload")
    return StateView(
        kind=record.kind,
        resource_id=record.resource_id,
        version=record.version,
        deleted=record.deleted,
        redacted=record.redacted,
        message=MESSAGES[record.kind].FromString(payload) if has_message else None,
        tied=record.tied,
        told=record.told if record.HasField("told") else None,
    )
