"""Every metric of the suite, once: its kind, unit, meaning and the labels it may carry.

Labels come from closed sets (a source, a durable, an upstream, an error code). A shop, a
connection or an id is never a label: one series for each would grow with the customers.
Names follow the Prometheus conventions: counters end in `_total`, and the unit is in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric is. `unit` is a UCUM code; `buckets` are upper bounds in that unit."""

    kind: MetricKind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


INGEST_DELIVERIES: Final = "tidewire_ingest_deliveries_total"
INGEST_SHED: Final = "tidewire_ingest_shed_total"
INGEST_COMMIT: Final = "tidewire_ingest_commit_seconds"
INGEST_COMMIT_FAILURES: Final = "tidewire_ingest_commit_failures_total"
INGEST_SEGMENT_BYTES: Final = "tidewire_ingest_segment_bytes"
INGEST_SEGMENT_DELIVERIES: Final = "tidewire_ingest_segment_deliveries"
INGEST_PENDING_BYTES: Final = "tidewire_ingest_pending_bytes"

NORMALIZER_DELIVERIES: Final = "tidewire_normalizer_deliveries_total"
NORMALIZER_FACTS: Final = "tidewire_normalizer_facts_total"
NORMALIZER_BATCHES: Final = "tidewire_normalizer_batches_total"
NORMALIZER_BATCH_RETRIES: Final = "tidewire_normalizer_batch_retries_total"
NORMALIZER_BATCH: Final = "tidewire_normalizer_batch_seconds"
NORMALIZER_LAG: Final = "tidewire_normalizer_lag_seconds"
NORMALIZER_QUEUE_BYTES: Final = "tidewire_normalizer_queue_bytes"

EVENTS_SENT: Final = "tidewire_events_sent_total"
EVENTS_REFUSED: Final = "tidewire_events_refused_total"
EVENTS_RETRIED: Final = "tidewire_events_retried_total"
EVENTS_IGNORED: Final = "tidewire_events_ignored_total"
EVENTS_PARKED: Final = "tidewire_events_parked_total"
EVENTS_REQUEST: Final = "tidewire_events_request_seconds"
EVENTS_BATCH: Final = "tidewire_events_batch_events"

CATALOG_SYNCS: Final = "tidewire_catalog_syncs_total"
CATALOG_SUBMITS: Final = "tidewire_catalog_submits_total"
CATALOG_ITEMS: Final = "tidewire_catalog_items_total"
CATALOG_WAITING: Final = "tidewire_catalog_waiting_items"
CATALOG_HELD: Final = "tidewire_catalog_held_catalogs"
CATALOG_DELAY: Final = "tidewire_catalog_delay_seconds"
CATALOG_LEVELS_UNKNOWN: Final = "tidewire_catalog_levels_unknown_total"

CONSUMER_LAG: Final = "tidewire_consumer_lag_messages"
CONSUMER_HANDLED: Final = "tidewire_consumer_handled_total"
CONSUMER_STOPPED: Final = "tidewire_consumer_stopped"
DEAD_LETTERS: Final = "tidewire_dead_letters_total"
GATES_SHUT: Final = "tidewire_gates_shut"
PARKED_UNITS: Final = "tidewire_parked_units"

GRANT_REFRESHES: Final = "tidewire_grant_refreshes_total"
GRANTS_ENDED: Final = "tidewire_grants_ended"
GRANTS_EXPIRED: Final = "tidewire_grants_expired"
AUDIT_WAITING: Final = "tidewire_audit_records_waiting"

LEDGER_UNACCOUNTED: Final = "tidewire_ledger_unaccounted_units"
LEDGER_IN_FLIGHT: Final = "tidewire_ledger_in_flight_units"
LEDGER_OLDEST: Final = "tidewire_ledger_oldest_seconds"
LEDGER_READ_AGE: Final = "tidewire_ledger_read_age_seconds"

UPSTREAM_CALLS: Final = "tidewire_upstream_calls_total"
UPSTREAM_CALL: Final = "tidewire_upstream_call_seconds"
LIMITER_TURNS: Final = "tidewire_limiter_turns_total"
LIMITER_WAIT: Final = "tidewire_limiter_wait_seconds"
LIMITER_WAITING: Final = "tidewire_limiter_waiting_calls"
LIMITER_LATE: Final = "tidewire_limiter_late_slots_total"
LIMITER_OPERATIONS: Final = "tidewire_limiter_operations_total"
SHOPIFY_NOTICES: Final = "tidewire_shopify_notices_total"
STORE_LOOKS: Final = "tidewire_store_looks_total"
WEBHOOK_SUBSCRIPTIONS: Final = "tidewire_webhook_subscriptions_total"
RECONCILE_RUNS: Final = "tidewire_reconcile_runs_total"
RECONCILE_LISTED: Final = "tidewire_reconcile_listed_total"
RECONCILE_REPAIRS: Final = "tidewire_reconcile_repairs_total"
RPC_SERVED: Final = "tidewire_rpc_served_total"
RPC_DURATION: Final = "tidewire_rpc_seconds"
RPC_REFUSED: Final = "tidewire_rpc_refused_total"

NATS_CONNECTED: Final = "tidewire_nats_connected"
SPANS: Final = "tidewire_telemetry_spans_total"
SERIES_FOLDED: Final = "tidewire_telemetry_series_folded_total"

_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""For what a caller waits for: a commit must end within the 2.5 s that ingest may take."""

_CALL_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""For calls to others, whose time limits end at 30 s."""

_DELAY_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""For changes that may have to wait for a turn a minute."""

_COUNTS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_BYTES: Final = tuple(float(1024 * 4**power) for power in range(7))


def _counter(meaning: str, *labels: str, unit: str = "1") -> MetricSpec:
    return MetricSpec(MetricKind.COUNTER, unit, meaning, labels)


def _gauge(meaning: str, *labels: str, unit: str = "1") -> MetricSpec:
    return MetricSpec(MetricKind.GAUGE, unit, meaning, labels)


def _histogram(meaning: str, *labels: str, unit: str, buckets: tuple[float, ...]) -> MetricSpec:
    return MetricSpec(MetricKind.HISTOGRAM, unit, meaning, labels, buckets)


METRICS: Final[Mapping[str, MetricSpec]] = {
    INGEST_DELIVERIES: _counter(
        "Deliveries answered, by source and outcome: `stored`, or why they were refused.",
        "source",
        "outcome",
    ),
    INGEST_SHED: _counter(
        "Deliveries answered 503 before they were read, by what was full.", "source", "reason"
    ),
    INGEST_COMMIT: _histogram(
        "Time from sending a segment to its acknowledgement by the stream.",
        unit="s",
        buckets=_FAST_S,
    ),
    INGEST_COMMIT_FAILURES: _counter("Segments the stream did not take, by error code.", "code"),
    INGEST_SEGMENT_BYTES: _histogram("Size of a committed segment.", unit="By", buckets=_BYTES),
    INGEST_SEGMENT_DELIVERIES: _histogram(
        "Deliveries in a committed segment.", unit="{delivery}", buckets=_COUNTS
    ),
    INGEST_PENDING_BYTES: _gauge("Bytes accepted and not yet committed.", unit="By"),
    NORMALIZER_DELIVERIES: _counter(
        "Deliveries decided, by resource kind and result (applied, stale, duplicate, ignored, …).",
        "kind",
        "result",
    ),
    NORMALIZER_FACTS: _counter("Facts published, by kind.", "kind"),
    NORMALIZER_BATCHES: _counter("Atomic batches written, by result.", "result"),
    NORMALIZER_BATCH_RETRIES: _counter(
        "Atomic batches built again because a subject had moved, by reason.", "reason"
    ),
    NORMALIZER_BATCH: _histogram(
        "Time to write one atomic batch, retries included.", unit="s", buckets=_FAST_S
    ),
    NORMALIZER_LAG: _gauge("Age of the oldest delivery read and not yet decided.", unit="s"),
    NORMALIZER_QUEUE_BYTES: _gauge("Bytes of deliveries read ahead.", unit="By"),
    EVENTS_SENT: _counter("Events the upstream accepted.", "event_name", "dialect"),
    EVENTS_REFUSED: _counter(
        "Events the upstream refused for good, by its code.", "event_name", "dialect", "code"
    ),
    EVENTS_RETRIED: _counter("Events sent again after a failed request.", "event_name", "dialect"),
    EVENTS_IGNORED: _counter("Facts that are no event for us, by reason.", "reason"),
    EVENTS_PARKED: _counter("Facts set aside to wait for their connection, by reason.", "reason"),
    EVENTS_REQUEST: _histogram(
        "Time of one request to the events upstream.", "dialect", unit="s", buckets=_CALL_S
    ),
    EVENTS_BATCH: _histogram("Events in one request.", "dialect", unit="{event}", buckets=_COUNTS),
    CATALOG_SYNCS: _counter(
        "Syncs of a whole shop with its catalogs, by kind (full, remap, resend) and result (done,"
        " failed).",
        "kind",
        "result",
    ),
    CATALOG_SUBMITS: _counter(
        "Submits to TikTok's catalogs, by what they do (upload, delete) and result: `ok`, or the"
        " kind of error.",
        "act",
        "result",
    ),
    CATALOG_ITEMS: _counter(
        "Items whose submit has ended, by what became of them: taken, refused, gone, again,"
        " unknown, kept.",
        "result",
    ),
    CATALOG_WAITING: _gauge(
        "Items that TikTok does not have as it should, in the lanes of this process.", unit="{item}"
    ),
    CATALOG_HELD: _gauge(
        "Catalogs to which nothing can be sent, in the lanes of this process.", unit="{catalog}"
    ),
    CATALOG_DELAY: _histogram(
        "Time from when a change of an item was known until its submit was taken, by how urgent it"
        " was (urgent: whether it can be had; ordinary).",
        "urgency",
        unit="s",
        buckets=_DELAY_S,
    ),
    CATALOG_LEVELS_UNKNOWN: _counter(
        "Stock levels of inventory items that belong to no product in a catalog."
    ),
    CONSUMER_LAG: _gauge(
        "Messages that a durable consumer has still to see or to acknowledge.",
        "durable",
        unit="{message}",
    ),
    CONSUMER_HANDLED: _counter(
        "Messages handled, by durable consumer and verdict.", "durable", "verdict"
    ),
    CONSUMER_STOPPED: _gauge(
        "1 while a run of dead letters has stopped a durable consumer in this process, else 0.",
        "durable",
    ),
    DEAD_LETTERS: _counter(
        "Messages set aside for good, by service and class of reason (permanent, exhausted, …).",
        "service",
        "reason",
    ),
    GATES_SHUT: _gauge("Gates that are shut: whole sinks, or connections.", "kind"),
    PARKED_UNITS: _gauge(
        "Units that wait with their connection, by service.", "service", unit="{unit}"
    ),
    GRANT_REFRESHES: _counter(
        "Refreshes of grants by this process: refreshed, failed, misconfigured, revoked, or lost to"
        " another process.",
        "result",
    ),
    GRANTS_ENDED: _gauge("Connections that a person must connect again.", unit="{connection}"),
    GRANTS_EXPIRED: _gauge(
        "Connections whose token has expired although something could refresh it.",
        unit="{connection}",
    ),
    AUDIT_WAITING: _gauge("Audit records that are not stored yet.", unit="{record}"),
    LEDGER_UNACCOUNTED: _gauge(
        "Units that have not ended and were found nowhere: lost, if it lasts.", unit="{unit}"
    ),
    LEDGER_IN_FLIGHT: _gauge(
        "Units that have not ended, by the place where they were found (lane, parked).",
        "place",
        unit="{unit}",
    ),
    LEDGER_OLDEST: _gauge(
        "Age of the oldest delivery of which a unit has not ended, of the last 2 to 3 days.",
        unit="s",
    ),
    LEDGER_READ_AGE: _gauge("Time since the ledger was last read to its end.", unit="s"),
    UPSTREAM_CALLS: _counter(
        "Calls to an upstream, by result: `ok` or the kind of error.", "upstream", "result"
    ),
    UPSTREAM_CALL: _histogram(
        "Time of one call to an upstream.", "upstream", unit="s", buckets=_CALL_S
    ),
    LIMITER_TURNS: _counter(
        "Calls that asked the limiter for a turn, by result: `granted`, `busy`, `unreachable`.",
        "result",
    ),
    LIMITER_WAIT: _histogram(
        "Time that a granted call waited for its turn.", unit="s", buckets=_CALL_S
    ),
    LIMITER_WAITING: _gauge(
        "Calls of this process that wait for their turn, of all limits.", unit="{call}"
    ),
    LIMITER_LATE: _counter("Slots that were lost because this process came too late to use them."),
    LIMITER_OPERATIONS: _counter(
        "Reads and writes of the limiter's shared state, by result: `ok`, `conflict`, `failed`.",
        "operation",
        "result",
    ),
    SHOPIFY_NOTICES: _counter(
        "Answers of Shopify that tell of an end or a lack, by reason: `version_fell_forward`,"
        " `deprecated`, `fields_denied`.",
        "reason",
    ),
    STORE_LOOKS: _counter(
        "Looks at a store's webhook subscriptions, scopes and version, by result: `ok`, `problems`"
        " (a person has to act), or the kind of error.",
        "result",
    ),
    WEBHOOK_SUBSCRIPTIONS: _counter(
        "Webhook subscriptions changed at a store, by action: `made`, `healed` (was there before"
        " and was gone or altered), `deleted`, `refused`.",
        "action",
    ),
    RECONCILE_RUNS: _counter(
        "Comparisons of one shop with Shopify, by kind of resource and result: `done`, `bounded`"
        " (goes on in the next run), or the kind of error.",
        "kind",
        "result",
    ),
    RECONCILE_LISTED: _counter(
        "Resources that Shopify listed as changed and that were compared.", "kind"
    ),
    RECONCILE_REPAIRS: _counter(
        "Resources read back because no delivery had brought their version, or because two had"
        " (reason `tied`).",
        "kind",
        "reason",
    ),
    RPC_SERVED: _counter("Calls served over gRPC, by method and status code.", "method", "code"),
    RPC_DURATION: _histogram(
        "Time to serve one call over gRPC.", "method", unit="s", buckets=_CALL_S
    ),
    RPC_REFUSED: _counter(
        "Calls over gRPC that were not let in, by method and reason: `unauthenticated`, "
        "`caller_unknown`, `method_denied` or `connection_denied`.",
        "method",
        "reason",
    ),
    NATS_CONNECTED: _gauge("1 while connected to NATS, else 0."),
    SPANS: _counter(
        "Spans by result; `emitted` less `exported` and `failed` are waiting or were dropped.",
        "result",
    ),
    SERIES_FOLDED: _counter(
        "Times a metric had too many label values, so that one was counted as `other`.", "metric"
    ),
}
