"""What normalising makes of a golden case; run as a module, it writes every case's expectation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import ServiceError
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    TopicNotUsed,
    apply,
    normalize,
)
from tidewire.commerce.v1 import record_pb2

CASES_DIR = Path(__file__).resolve().parents[3] / "golden" / "normalize"


def instant(text: str) -> Timestamp:
    read = Timestamp()
    read.FromJsonString(text)
    return read


def outcome_of(case: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a case's body (`body`, or `body_text` for what JSON cannot hold), as JSON."""
    text = case["body_text"] if "body_text" in case else json.dumps(case["body"])
    triggered = case.get("triggered_at")
    meta = DeliveryMeta(
        body_hash=7,
        received_at=instant(case["received_at"]),
        triggered_at=instant(triggered) if triggered else None,
    )
    try:
        found = normalize(case["topic"], text.encode(), ShopContext(**case["shop"]), meta)
    except ServiceError as refused:
        return {"refused": refused.code, "path": refused.path}
    if isinstance(found, TopicNotUsed):
        return {"not_used": found.reason}
    return _told(found)


def _told(found: Normalized) -> dict[str, Any]:
    def plain(message: Any) -> Any:
        return MessageToDict(message, preserving_proto_field_name=True)

    return {
        "kind": record_pb2.ResourceKind.Name(found.kind),
        "resource_id": found.resource_id,
        "deleted": found.deleted,
        "version": plain(found.version),
        "flags": [f"{flag.path} {flag.reason}" for flag in found.flags],
        "facts": [f"{fact.kind} {fact.fact_id}" for fact in apply(None, found).facts],
        "message": plain(found.message) if found.message else None,
    }


def main() -> None:
    for file in sorted(CASES_DIR.glob("*/input.json")):
        case = json.loads(file.read_text())
        written = json.dumps(outcome_of(case), indent=2, ensure_ascii=False, sort_keys=True)
        (file.parent / "expected.json").write_text(written + "\n")


if __name__ == "__main__":
    main()
