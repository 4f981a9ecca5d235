"""The table of streams and subjects in ARCHITECTURE.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from libs import resources
from libs.bus import streams, subjects
from libs.keys import bucket as key_bucket
from services.auth.adapters import audit
from services.auth.domain import flows
from services.events.adapters.outcomes import _INDEX_TTL_S, event_subject
from tools.docs_api import table

_DAY_S: Final = 86_400


def subjects_table() -> str:
    """The table of streams and subjects, for ARCHITECTURE.md."""
    rows = [
        (f"`{stream}`", f"`{subject}`", lives, message, meaning)
        for stream, subject, lives, message, meaning in _subject_rows()
    ]
    return table(("stream", "subject", "lives", "message", "what it is"), rows)


def _subject_rows() -> Iterator[tuple[str, str, str, str, str]]:
    yield from _coming_rows()
    yield from _ending_rows()


def _coming_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What is stored of deliveries."""
    commerce = subjects.COMMERCE
    yield (
        subjects.WEBHOOKS,
        subjects.webhook("<source>"),
        _age(subjects.WEBHOOKS),
        "`ingest.v1.DeliverySegment`",
        "deliveries as received, packed: one message is one group commit",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.state("KIND", shop, "ID")),
        f"for ever; {_short_lived()}",
        "`commerce.v1.StateRecord`",
        "the newest version of each resource",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.fact("KIND", shop, "FACT-ID")),
        _span(resources.FACT_TTL_S),
        "`commerce.v1.FactRecord`",
        "what happened, with all that a sink needs",
    )
    yield (
        commerce,
        _pattern(lambda shop: subjects.seen(shop, "DELIVERY-ID")),
        _span(resources.SEEN_TTL_S),
        "`commerce.v1.SeenRecord`",
        "the dedupe marker, and what became of the delivery",
    )


def _ending_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What is stored of how they end, and of what waits."""
    outcomes = subjects.OUTCOMES
    yield (
        outcomes,
        _pattern(lambda shop: subjects.outcome("SINK", shop, "UNIT")),
        _age(outcomes),
        "`delivery.v1.Outcome`",
        "how one unit ended at one sink; the first one stays",
    )
    yield (
        outcomes,
        _pattern(lambda shop: event_subject(shop, "EVENT-ID", "SINK")).replace(
            "<by_event>", subjects.BY_EVENT
        ),
        _span(_INDEX_TTL_S),
        "text",
        "the subject of the outcome that an event id belongs to",
    )
    yield (
        outcomes,
        _pattern(lambda shop: subjects.letter_fate(shop, "LETTER-ID")),
        _age(outcomes),
        "`delivery.v1.DeadLetterFate`",
        "what was decided about a dead letter; the first decision stays",
    )
    yield (
        subjects.PARKED,
        _pattern(lambda _: subjects.parked("ingest", "SHOP")),
        _age(subjects.PARKED),
        "`ingest.v1.Delivery`",
        "deliveries of shops that nobody has connected",
    )
    yield (
        subjects.PARKED,
        _pattern(lambda _: subjects.parked("events", "CONNECTION")),
        _age(subjects.PARKED),
        "`delivery.v1.ParkedUnit`",
        "references to facts that wait for their connection, or behind others that do",
    )
    yield (
        subjects.DEAD_LETTERS,
        _pattern(lambda shop: subjects.dead_letter("SERVICE", "REASON", shop)),
        _age(subjects.DEAD_LETTERS),
        "`delivery.v1.DeadLetter`",
        "what was given up, whole, with its reason and trace",
    )
    yield from _audit_rows()
    yield from _bucket_rows()


def _audit_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What the token service tells of itself."""
    stream = subjects.AUDIT
    yield (
        stream,
        audit.SUBJECT,
        _age(stream),
        "`auth.v1.AuditRecords`",
        "who was given which secret, and who changed what; never the secret",
    )
    yield (
        stream,
        "auth.connection.<state>.<shop>",
        _age(stream),
        "`auth.v1.ConnectionEvent`",
        "a connection was made, has ended or needs a person",
    )


def _bucket_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """The buckets that replicas share."""
    yield _bucket(
        key_bucket.BUCKET,
        "<scope>.<key id>",
        "bytes",
        "data keys of shops and connections, wrapped by a key-encryption key",
    )
    yield _bucket(
        subjects.CONNECTIONS,
        "<connection>",
        "`auth.v1.StoredConnection`",
        "a connection's settings and the health of its store",
    )
    yield _bucket(
        subjects.TOKENS,
        "<connection>",
        "`auth.v1.StoredGrant`",
        "a connection's grant: tokens sealed, times and failures to be read",
    )
    yield _bucket(
        subjects.FLOWS,
        "<attempt>",
        "`auth.v1.StoredFlow`",
        "an attempt to connect in a browser",
    )
    yield _bucket(subjects.LIMITS, "<limit>", "bytes", "how far a limit is spent or reserved")
    yield _bucket(subjects.CIRCUITS, "<kind>.<name>", "`delivery.v1.Gate`", "what is shut, and why")
    yield _bucket(subjects.LEASES, "<name>", "text", "who does what one replica does at a time")
    yield _bucket(
        subjects.WATERMARKS,
        "reconcile.<kind>.<shop>",
        "JSON",
        "up to when a shop was compared with Shopify",
    )
    yield from _catalog_rows()


def _catalog_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """What the catalog service keeps; its records are its own."""
    bucket = subjects.CATALOG_SYNC
    for key, what in (
        ("source.<lane>.<shop>.<product>", "a product as it is known, with all that items need"),
        ("sync.<lane>.<connection>.<product>", "what TikTok has of a product, and should have"),
        ("flight.<lane>.<connection>", "the submit that a catalog has under way"),
        ("status.<lane>.<connection>", "how a catalog is"),
        ("run.<lane>.<shop>", "the newest sync of a shop"),
        ("shop.<lane>.<shop>", "what a shop says of itself"),
    ):
        yield _bucket(bucket, key, "msgpack", what)


_BUCKET_LIVES: Final = {
    subjects.LEASES: "2 s to 2 min",
    subjects.FLOWS: f"{flows.LIFETIME_S * 2 // 60} min",
}
"""Others keep the last value of each key."""


def _bucket(bucket: str, key: str, message: str, what: str) -> tuple[str, str, str, str, str]:
    lives = _BUCKET_LIVES.get(bucket, "for ever")
    return (subjects.bucket_stream(bucket), subjects.in_bucket(bucket, key), lives, message, what)


def _pattern(subject_of: Callable[[str], str]) -> str:
    """The subject that `subject_of` gives a shop, its variable tokens in angle brackets."""
    subject = subject_of("SHOP").replace(f".{subjects.lane('SHOP')}.", ".<lane>.")
    return re.sub(r"[A-Z][A-Z-]*", lambda found: f"<{found[0].lower().replace('-', ' ')}>", subject)


def _age(stream: str) -> str:
    spec = next(spec for spec in streams.specs() if spec.name == stream)
    return _span(spec.max_age_ns // 1_000_000_000)


def _span(seconds: int) -> str:
    return f"{seconds // _DAY_S} d" if seconds > 3 * _DAY_S else f"{seconds // 3_600} h"


def _short_lived() -> str:
    kinds = " and ".join(f"{resources.NAMES[kind]}s" for kind in resources.STATE_TTL_S)
    lives = {_span(seconds) for seconds in resources.STATE_TTL_S.values()}
    return f"{kinds} {', '.join(sorted(lives))}"
