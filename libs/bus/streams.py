"""The streams as data, and the acts of applying them to a server and of checking one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.errors import Kind, ServiceError

MAX_PAYLOAD_BYTES: Final = 8_000_000
_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_MIB: Final = 1024 * 1024

_BUCKETS_IN_A_SMALL_STREAM: Final = 16

_STREAM_NOT_FOUND: Final = 10059

_PASSING: Final = frozenset({*range(10004, 10010), 10049})
"""Refusals that may pass: a cluster that is not complete or has no leader yet; a store that could
not be made, as happens while the server still removes what was deleted."""

_TRIES: Final = 6
_AGAIN_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """One stream, as it must be."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age_ns: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def config(self, replicas: int) -> dict[str, Any]:
        """The server's configuration of this stream."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "storage": "file",
            # With the default, `old`, a full stream deletes what was acknowledged to a sender.
            "discard": "new",
            "max_bytes": self.max_bytes,
            "max_age": self.max_age_ns,
            "num_replicas": replicas,
            "allow_direct": True,
            "metadata": {"tidewire_lanes": str(subjects.LANES)},
            **self.extra,
        }


def specs(scale_mib: int = 1024) -> tuple[StreamSpec, ...]:
    """All streams. `scale_mib` is the size of the small ones; WEBHOOKS and COMMERCE get four."""
    small, large = scale_mib * _MIB, 4 * scale_mib * _MIB
    batches = {"allow_atomic": True, "allow_msg_ttl": True}
    return (
        StreamSpec(
            name=subjects.WEBHOOKS, subjects=("webhook.*",), max_bytes=large, max_age_ns=7 * _DAY_NS
        ),
        StreamSpec(
            name=subjects.COMMERCE,
            subjects=("commerce.>",),
            max_bytes=large,
            extra={**batches, "max_msgs_per_subject": 1},
        ),
        StreamSpec(
            name=subjects.OUTCOMES,
            subjects=("outcome.>",),
            max_bytes=small,
            max_age_ns=35 * _DAY_NS,
            extra={**batches, "max_msgs_per_subject": 1},
        ),
        StreamSpec(
            name=subjects.PARKED,
            subjects=("parked.>",),
            max_bytes=small,
            # Longer than a fact lives: what waits too long is found and given up, not forgotten.
            max_age_ns=35 * _DAY_NS,
            extra=batches,
        ),
        StreamSpec(
            name=subjects.DEAD_LETTERS,
            subjects=("dlq.>",),
            max_bytes=small,
            max_age_ns=30 * _DAY_NS,
            # A delivery that fails is tried again for long: its letter must stay one.
            extra={"duplicate_window": _DAY_NS},
        ),
        StreamSpec(
            name=subjects.AUDIT,
            subjects=("audit.>", "auth.>"),
            max_bytes=small,
            max_age_ns=90 * _DAY_NS,
        ),
        *(
            _bucket(bucket, small // _BUCKETS_IN_A_SMALL_STREAM)
            for bucket in subjects.BUCKETS
            if bucket != subjects.CATALOG_SYNC
        ),
        # Whole products with all their words: as large as what it is made of.
        _bucket(subjects.CATALOG_SYNC, large, compression="s2"),
    )


def _bucket(bucket: str, max_bytes: int, **extra: object) -> StreamSpec:
    """A key-value bucket, as every NATS client knows it, that takes atomic batches as well."""
    return StreamSpec(
        name=subjects.bucket_stream(bucket),
        subjects=(subjects.in_bucket(bucket, ">"),),
        max_bytes=max_bytes,
        extra={
            "allow_atomic": True,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "max_msgs_per_subject": 1,
            **extra,
        },
    )


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs between a configuration and the server's, as `field: found, wanted` lines."""
    lines = []
    for name, value in wanted.items():
        have = found.get(name)
        if isinstance(value, dict):
            have = {key: (have or {}).get(key) for key in value}
        if have != value and (have or value):
            lines.append(f"{name}: is {have!r}, should be {value!r}")
    return lines


async def create_missing(nats: Client, *, replicas: int, scale_mib: int) -> None:
    """Creates the streams that are not there; leaves the others as they are.

    What a process does at its start: its settings may be older than what an operator applied.

    Raises:
        ServiceError: RETRYABLE, where the server did not answer, or went on refusing for reasons
            that may pass.
        ApiError: it refused for another reason.
    """
    for spec in specs(scale_mib):
        if await _config(nats, spec.name) is None:
            await _lay_out(nats, f"STREAM.CREATE.{spec.name}", spec.config(replicas))


def _kept(wanted: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted`, without taking replicas or room away from a stream that has more."""
    room = max(wanted["max_bytes"], found.get("max_bytes") or 0)
    replicas = max(wanted["num_replicas"], found.get("num_replicas") or 1)
    return {**wanted, "max_bytes": room, "num_replicas": replicas}


async def apply(
    nats: Client,
    *,
    replicas: int = 1,
    scale_mib: int = 1024,
    dry_run: bool = False,
    shrink: bool = False,
) -> list[str]:
    """Creates what is missing and updates what differs; returns a line for each change.

    Replicas and room are only taken away with `shrink`.

    Raises:
        ServiceError: PERMANENT, `lanes_differ`, where the stream was laid out for another number
            of lanes; RETRYABLE, where the server did not answer, or went on refusing for reasons
            that may pass.
        ApiError: it refused for another reason.
    """
    changes: list[str] = []
    for spec in specs(scale_mib):
        wanted = spec.config(replicas)
        found = await _config(nats, spec.name)
        if found is None:
            changes.append(f"{spec.name}: create")
            if not dry_run:
                await _lay_out(nats, f"STREAM.CREATE.{spec.name}", wanted)
            continue
        _refuse_other_lanes(spec.name, found)
        wanted = wanted if shrink else _kept(wanted, found)
        lines = differences(wanted, found)
        changes += [f"{spec.name}: {line}" for line in lines]
        if lines and not dry_run:
            await _lay_out(nats, f"STREAM.UPDATE.{spec.name}", {**found, **wanted})
    return changes


async def faults(nats: Client, *, replicas: int = 1, scale_mib: int = 1024) -> list[str]:
    """What is wrong with the server for us, each line saying what to do; empty means fit."""
    lines = []
    if nats.max_payload < MAX_PAYLOAD_BYTES:
        lines.append(
            f"max_payload is {nats.max_payload}: set `max_payload: 8MB` in its configuration"
        )
    for spec in specs(scale_mib):
        found = await _config(nats, spec.name)
        if found is None:
            lines.append(f"stream {spec.name} is missing: run `tidewire streams apply`")
            continue
        _refuse_other_lanes(spec.name, found)
        wanted = _kept(spec.config(replicas), found)
        del wanted["max_bytes"]
        lines += [
            f"stream {spec.name}: {line}; run `tidewire streams apply`"
            for line in differences(wanted, found)
        ]
    return lines


async def fsync_faults(monitor_urls: Iterable[str], session: aiohttp.ClientSession) -> list[str]:
    """Servers that do not sync each write to disk before they acknowledge it.

    A server's default is every two minutes: a power cut then takes back what a 200 promised.
    `monitor_urls` are the servers' monitoring endpoints, such as `http://127.0.0.1:8222`.
    """
    lines = []
    for url in monitor_urls:
        try:
            async with session.get(f"{url}/varz", timeout=aiohttp.ClientTimeout(total=3)) as answer:
                varz = msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            lines.append(
                f"cannot ask {url} for its fsync setting: check TIDEWIRE_NATS_MONITOR_URL, or set"
                " TIDEWIRE_ALLOW_WEAK_FSYNC=true"
            )
            continue
        if not varz.get("jetstream", {}).get("config", {}).get("sync_always"):
            lines.append(
                f"{url} does not sync every write: set `sync_interval: always` in its jetstream"
                " block, or set TIDEWIRE_ALLOW_WEAK_FSYNC=true to accept loss on power failure"
            )
    return lines


async def _lay_out(nats: Client, call: str, config: Mapping[str, Any]) -> None:
    """Creates or updates a stream; for about a second it takes no for "not yet"."""
    for left in reversed(range(_TRIES)):
        try:
            await js_api(nats, call, config)
        except ApiError as error:
            if error.err_code not in _PASSING:
                raise
            if not left:
                text = f"{error}: the log of nats-server says why"
                raise ServiceError(Kind.RETRYABLE, "refused_by_nats", text) from error
            await asyncio.sleep(_AGAIN_S)
        else:
            return


async def _config(nats: Client, name: str) -> dict[str, Any] | None:
    try:
        info = await js_api(nats, f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.err_code == _STREAM_NOT_FOUND:
            return None
        raise
    config: dict[str, Any] = info["config"]
    return config


def _refuse_other_lanes(name: str, found: Mapping[str, Any]) -> None:
    lanes = (found.get("metadata") or {}).get("tidewire_lanes")
    if lanes is not None and lanes != str(subjects.LANES):
        raise ServiceError(
            Kind.PERMANENT,
            "lanes_differ",
            f"stream {name} was laid out for {lanes} lanes and this build has {subjects.LANES}:"
            " run the build that wrote it, or migrate the stream",
        )
