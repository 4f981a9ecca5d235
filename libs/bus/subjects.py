"""Names on the bus: streams, subjects, lanes and durables, each written once.

Everything below `commerce.` and `outcome.` is a public v1 contract for subscribers; see
docs/subjects.md.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final
from zlib import crc32

WEBHOOKS: Final = "WEBHOOKS"
COMMERCE: Final = "COMMERCE"
OUTCOMES: Final = "OUTCOMES"
PARKED: Final = "PARKED"
DEAD_LETTERS: Final = "DEAD_LETTERS"
AUDIT: Final = "AUDIT"

LIMITS: Final = "limits"
CIRCUITS: Final = "circuits"
LEASES: Final = "leases"
WATERMARKS: Final = "watermarks"
CONNECTIONS: Final = "connections"
TOKENS: Final = "tokens"
FLOWS: Final = "flows"
CATALOG_SYNC: Final = "catalog_sync"
BUCKETS: Final = (
    LIMITS,
    CIRCUITS,
    LEASES,
    WATERMARKS,
    CONNECTIONS,
    TOKENS,
    FLOWS,
    CATALOG_SYNC,
)
"""Key-value buckets: streams too, `KV_<bucket>`, so that several keys are one atomic write."""

THROTTLED: Final = "limits.throttled"
"""In no stream: tells the replicas that hold slots of a limit that its upstream has throttled."""

LIMIT_WAITERS: Final = "limits.waiters"
"""In no stream: asks every process how many of its callers wait for limits."""

LANES: Final = 16
"""Lanes of shops. Part of every subject of COMMERCE: changing it is a migration, so each process
compares it with the stream's metadata and refuses to start where they differ."""

NORMALIZER: Final = "normalizer"
"""The durable that reads WEBHOOKS."""

BY_EVENT: Final = "by_event"
"""In place of a sink in OUTCOMES: which unit an event id belongs to. No sink is called so."""

LETTER_STATES: Final = "dead_letter"
"""In place of a sink in OUTCOMES: what became of a dead letter. No sink is called so."""

REPLAY: Final = "replay."
"""How the ids of facts and deliveries begin that are tried again after they were given up."""

NO_SHOP: Final = "_unknown"
"""In place of a shop in DEAD_LETTERS, where it cannot be told whose a message was."""

_TOKEN_CHARS_MAX: Final = 200
_PREFIXES_KEPT: Final = 4096

_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_-]")


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in found[0].encode())


def token(text: str) -> str:
    """`text` as one subject token: other bytes become `=XX`, nothing becomes `=`.

    Reversible up to 200 characters of token; what is longer becomes `=h` and its SHA-256.
    """
    if not text:
        return "="
    if len(text) <= _TOKEN_CHARS_MAX and _NOT_PLAIN.search(text) is None:
        return text
    encoded = _NOT_PLAIN.sub(_escaped, text[: _TOKEN_CHARS_MAX + 1])
    if len(encoded) > _TOKEN_CHARS_MAX:
        # The server closes the connection of whoever sends a subject of more than 4,096 bytes.
        return "=h" + sha256(text.encode()).hexdigest()
    return encoded


def text_of(encoded: str) -> str:
    """What `token` was given; a token that is a hash comes back as it is."""
    if encoded == "=":
        return ""
    if encoded.startswith("=h"):
        return encoded
    raw = bytearray()
    place = 0
    while place < len(encoded):
        if encoded[place] == "=":
            raw.append(int(encoded[place + 1 : place + 3], 16))
            place += 3
        else:
            raw += encoded[place].encode()
            place += 1
    return raw.decode()


def lane(shop: str) -> int:
    """The lane of a shop's handle; the same in every process and for ever."""
    return crc32(shop.encode()) % LANES


def bucket_stream(bucket: str) -> str:
    """The stream behind a key-value bucket."""
    return f"KV_{bucket}"


def in_bucket(bucket: str, key: str) -> str:
    """The subject of a key. Parts of the key that come from outside go through `token` first."""
    return f"$KV.{bucket}.{key}"


def webhook(source: str) -> str:
    """Segments of one source."""
    return f"webhook.{source}"


def state(kind: str, shop: str, resource_id: str) -> str:
    """The newest version of one resource."""
    return f"commerce.state.{kind}.{lane(shop)}.{token(shop)}.{token(resource_id)}"


def states_of(kind: str, shop: str) -> str:
    """All resources of one kind of one shop."""
    return f"commerce.state.{kind}.{lane(shop)}.{token(shop)}.*"


def states_in_lane(kind: str, number: int) -> str:
    """All resources of one kind in one lane."""
    return f"commerce.state.{kind}.{number}.>"


def fact(kind: str, shop: str, fact_id: str) -> str:
    """One thing that happened."""
    return f"commerce.fact.{kind}.{lane(shop)}.{token(shop)}.{token(fact_id)}"


def facts_in_lane(kind: str, number: int) -> str:
    """All facts of one kind in one lane."""
    return f"commerce.fact.{kind}.{number}.>"


def facts_of(kind: str) -> str:
    """All facts of one kind."""
    return f"commerce.fact.{kind}.>"


def seen(shop: str, delivery_id: str) -> str:
    """The dedupe marker of one delivery."""
    return f"commerce.seen.{lane(shop)}.{token(shop)}.{token(delivery_id)}"


def outcome(sink: str, shop: str, unit: str) -> str:
    """How one unit ended at one sink. A sink such as `events.C123` is one token."""
    return _outcomes_of(sink, shop) + token(unit)


@lru_cache(maxsize=_PREFIXES_KEPT)
def _outcomes_of(sink: str, shop: str) -> str:
    """The same for all units of a shop, and asked for several times a unit."""
    return f"outcome.{token(sink)}.{lane(shop)}.{token(shop)}."


def parked(service: str, connection: str) -> str:
    """What waits for a connection."""
    return f"parked.{service}.{token(connection)}"


_REPLAY_TOKEN: Final = token(REPLAY)


def is_replay(fact_subject: str) -> bool:
    """Whether a fact is one that is tried again after it was given up."""
    return fact_subject.rpartition(".")[2].startswith(_REPLAY_TOKEN)


def dead_letter(service: str, reason: str, shop: str) -> str:
    """What a service gave up for one class of reason."""
    return f"dlq.{service}.{token(reason)}.{lane(shop)}.{token(shop)}"


def dead_letters(*, service: str = "", reason: str = "", shop: str = "") -> str:
    """A filter on dead letters; what is empty fits all."""
    first, second = (token(one) if one else "*" for one in (service, reason))
    return f"dlq.{first}.{second}.{f'{lane(shop)}.{token(shop)}' if shop else '*.*'}"


def letter_fate(shop: str, letter_id: str) -> str:
    """What was decided about a dead letter."""
    return outcome(LETTER_STATES, shop or NO_SHOP, letter_id)


def replay_id(letter_id: str) -> str:
    """The id of the fact or delivery that a letter's replay is; the same for every try.

    What would be too long for a token becomes a hash of its own: `token` would hash the prefix
    away that tells a replay.
    """
    plain = REPLAY + letter_id
    if not token(plain).startswith("=h"):
        return plain
    return f"{REPLAY}h{sha256(letter_id.encode()).hexdigest()}"


def is_of_a_unit(outcome_subject: str) -> bool:
    """Whether a subject of OUTCOMES is a unit's, and no index or fate of a letter."""
    return outcome_subject.split(".", 2)[1] not in {BY_EVENT, LETTER_STATES}


EVENTS_LANES: Final = "events-*"
"""All lanes of the events service, where they are spoken of together."""


def events_durable(number: int) -> str:
    """The durable with which the events service reads one lane."""
    return f"events-{number}"


def catalog_durable(number: int) -> str:
    """The durable with which the catalog service reads one lane."""
    return f"catalog-{number}"


AUTH_STORES: Final = "auth-stores"
"""The durable with which the auth service follows what stores tell of themselves."""
