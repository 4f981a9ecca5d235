"""`tidewire streams`: the layout on the server, applied and checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from libs.bus import streams
from libs.bus.api import ApiError
from libs.errors import ServiceError
from libs.foundation import CommonSettings, connected
from libs.http.session import http_session
from libs.settings import SettingsError, load


async def apply_streams(environ: Mapping[str, str], *, dry_run: bool, shrink: bool) -> int:
    """Brings the streams to their layout; prints a line for each change."""
    try:
        settings = load(CommonSettings, environ)
        client = await connected(settings.nats_url)
        try:
            changes = await streams.apply(
                client,
                replicas=settings.nats_replicas,
                scale_mib=settings.stream_scale_mib,
                dry_run=dry_run,
                shrink=shrink,
            )
        finally:
            await client.close()
    except (ApiError, ServiceError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(changes) or "nothing to change")
    return 0


async def check_streams(environ: Mapping[str, str]) -> int:
    """Prints what is wrong with the server, a line each; 1 if anything is."""
    try:
        settings = load(CommonSettings, environ)
        client = await connected(settings.nats_url)
        try:
            faults = await streams.faults(
                client, replicas=settings.nats_replicas, scale_mib=settings.stream_scale_mib
            )
        finally:
            await client.close()
        if not settings.allow_weak_fsync:
            async with http_session() as session:
                faults += await streams.fsync_faults(settings.nats_monitor_url.split(","), session)
    except (ApiError, ServiceError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(faults) or "the server is fit")
    return 1 if faults else 0
