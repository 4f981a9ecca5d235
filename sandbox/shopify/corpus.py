"""Recorded webhook bodies as deliveries, signed for a shop of ours."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sandbox.shopify.model import Delivery, JsonObject, Shop
from sandbox.shopify.signing import webhook_signature
from sandbox.shopify.wire import API_VERSION

# Verbs of several words; of every other topic the last word alone is the verb.
_LONG_VERBS = (
    "scopes_update",
    "data_request",
    "partially_fulfilled",
    "in_stock",
    "out_of_stock",
)
_CARRIED = ("api-version", "triggered-at", "test")


def topic_of_folder(name: str) -> str:
    """The topic that a folder holds: `orders_paid` is `orders/paid`.

    The last word is the verb (`inventory_levels_update`), unless the verb is one of the few of
    several words (`app_scopes_update`).
    """
    for verb in _LONG_VERBS:
        if name.endswith(f"_{verb}"):
            return f"{name.removesuffix(f'_{verb}')}/{verb}"
    resource, _, verb = name.rpartition("_")
    return f"{resource}/{verb}" if resource else name


def corpus_deliveries(corpus: Path, shop: Shop) -> Iterator[Delivery]:
    """Every `webhooks/<topic>/*.json` under `corpus`, signed with the shop's newest secret.

    Bodies are the files' own bytes. A file that wraps the body in the recorded request, as an
    object of `headers` and `body`, gives the body, in that form whose length fits the recorded
    content length. Topics come from `index.json` where it names the file. Webhook ids depend on
    the file's path alone, so a second call repeats the first one's deliveries.
    """
    topics = _indexed_topics(corpus)
    for path in sorted((corpus / "webhooks").glob("*/*.json")):
        relative = path.relative_to(corpus).as_posix()
        topic = topics.get(relative) or topic_of_folder(path.parent.name)
        body, recorded = unwrapped(path.read_bytes())
        yield signed_delivery(shop.domain, shop.secrets[0], topic, body, relative, recorded)


def signed_delivery(
    domain: str,
    secret: str | None,
    topic: str,
    body: bytes,
    source: str,
    recorded: dict[str, str],
) -> Delivery:
    """A delivery of `body`; unsigned where there is no secret, and then a 401 is expected.

    `source` decides the webhook id. Of the recorded headers the version, the time and the test
    mark are kept.
    """
    values = {
        "Topic": topic,
        "Shop-Domain": domain,
        "API-Version": API_VERSION,
        "Webhook-Id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{domain}/{source}")),
    }
    names = {"api-version": "API-Version", "triggered-at": "Triggered-At", "test": "Test"}
    for suffix in _CARRIED:
        if found := recorded.get(f"x-shopify-{suffix}"):
            values[names[suffix]] = found
    if secret is not None:
        values["Hmac-Sha256"] = webhook_signature(secret, body)
    common = (("User-Agent", "Shopify-Captain-Hook"), ("Content-Type", "application/json"))
    headers = (*common, *((f"X-Shopify-{name}", value) for name, value in values.items()))
    return Delivery(domain, topic, headers, body, "corpus", 401 if secret is None else 200)


def unwrapped(raw: bytes) -> tuple[bytes, dict[str, str]]:
    """The body in a file, and the request headers recorded with it, names in lower case."""
    try:
        parsed: object = json.loads(raw)
    except ValueError:
        return raw, {}
    if not isinstance(parsed, dict) or not isinstance(parsed.get("headers"), dict):
        return raw, {}
    if "body" not in parsed:
        return raw, {}
    headers = {str(name).lower(): str(value) for name, value in parsed["headers"].items()}
    return _as_recorded(parsed["body"], headers.get("content-length", "")), headers


def _as_recorded(body: object, content_length: str) -> bytes:
    """The serialisation of that length; compact with escaped slashes where none fits."""
    compact = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    indented = json.dumps(body, indent=2, ensure_ascii=False)
    forms = [
        text.encode()
        for plain in (compact, indented)
        for text in (plain.replace("/", "\\/"), plain)
    ]
    return next((form for form in forms if str(len(form)) == content_length), forms[0])


def _indexed_topics(corpus: Path) -> dict[str, str]:
    index = corpus / "index.json"
    if not index.is_file():
        return {}
    entries = cast("list[JsonObject]", json.loads(index.read_bytes()))
    return {
        str(entry["file"]): str(entry["topic"])
        for entry in entries
        if entry.get("topic") and str(entry["file"]).startswith("webhooks/")
    }
