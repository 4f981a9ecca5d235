"""Emptying a nats-server between tests, without its own clean-up getting in the way."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from nats import connect
from nats.aio.client import Client

from libs.bus.api import js_api
from tests.fakes.nats_server import NatsServer
from tests.fakes.until import until

_KEPT: Final = "KEPT"
_FOLDER: Final = "jetstream/$G/streams"
_GONE_WITHIN_S: Final = 30.0


def keep_a_stream(server: NatsServer) -> None:
    """Creates a stream that `delete_streams` leaves, so that the server is never without one.

    Where the last one was deleted it removes the folder of them all in the background. A stream
    that is created just then is refused, since the folder of its own cannot be made: "10049 error
    creating store for stream".
    """

    async def create() -> None:
        client = await connect(server.url)
        config = {"name": _KEPT, "subjects": [_KEPT], "storage": "file"}
        await js_api(client, f"STREAM.CREATE.{_KEPT}", config)
        await client.close()

    # A thread of its own: the loop of the tests is left alone.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, create()).result()


async def delete_streams(nats: Client, server: NatsServer) -> None:
    """Deletes every stream; returns when nothing of them is left on the disk either.

    The server answers when the folder is renamed to `.NAME`, and removes that in the background. A
    deletion of the next stream of this name would meanwhile fail without a word, and leave its
    messages to the one after it.
    """
    listed: dict[str, Any] = await js_api(nats, "STREAM.NAMES")
    for name in listed["streams"] or ():
        if name != _KEPT:
            await js_api(nats, f"STREAM.DELETE.{name}")
    folder = server.store_dir / _FOLDER
    await until(lambda: not any(folder.glob(".*")), within_s=_GONE_WITHIN_S)
