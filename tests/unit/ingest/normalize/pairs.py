"""One resource in two forms, a webhook body and a node: what normalising makes of each.

Run as a module, it writes the expectation of every golden pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from services.ingest.normalize import Normalized, ShopContext
from services.ingest.normalize.graphql import LACKED
from tests.unit.ingest.normalize.bodies_of import normalized

PAIRS_DIR = Path(__file__).resolve().parents[3] / "golden" / "reconcile"
Differences = dict[str, list[Any]]


def differences(webhook: Normalized, node: Normalized) -> Differences:
    """Message fields that differ, by path without list places: what each side says."""
    one, other = dict(_leaves(_plain(webhook))), dict(_leaves(_plain(node)))
    found: Differences = {}
    for path in sorted(one.keys() | other.keys()):
        if one.get(path) != other.get(path):
            found[path] = [one.get(path), other.get(path)]
    return found


def lacked(kind: str, path: str) -> bool:
    """Whether a leaf is one that the table says may differ."""
    bare = ".".join(step for step in path.split(".") if not step.isdigit())
    return any(bare == field or bare.startswith(f"{field}.") for field in LACKED[kind])


def outcome_of(case: dict[str, Any]) -> dict[str, Any]:
    shop = ShopContext(**case["shop"])
    webhook = normalized(case["webhook_topic"], case["webhook"], shop=shop)
    node = normalized(case["node_topic"], case["node"], shop=shop)
    return {
        "resource_id": [webhook.resource_id, node.resource_id],
        "rank": [webhook.version.lifecycle_rank, node.version.lifecycle_rank],
        "differs": differences(webhook, node),
        "message": _plain(node),
    }


def _plain(found: Normalized) -> dict[str, Any]:
    assert found.message is not None
    plain: dict[str, Any] = MessageToDict(found.message, preserving_proto_field_name=True)
    return plain


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


def main() -> None:
    for file in sorted(PAIRS_DIR.glob("*/input.json")):
        case = json.loads(file.read_text())
        written = json.dumps(outcome_of(case), indent=2, ensure_ascii=False, sort_keys=True)
        (file.parent / "expected.json").write_text(written + "\n")


if __name__ == "__main__":
    main()
