"""FastAPI and RabbitMQ with publisher confirms, as a process.

Run by an interpreter of its own: the project does not depend on FastAPI, uvicorn or aio-pika, and
this file imports nothing of the project. The environment says where RabbitMQ is (`AMQP_URL`), which
secrets are good (`SECRETS`, comma-separated) and the port (`PORT`).
"""

import base64
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika  # type: ignore[import-not-found]
import uvicorn  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]

QUEUE = "bench.webhooks"
SECRETS = [secret.encode() for secret in os.environ["SECRETS"].split(",")]
kept: dict[str, aio_pika.abc.AbstractExchange] = {}


@asynccontextmanager
async def connected(_app: FastAPI) -> AsyncIterator[None]:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True)
    # A quorum queue syncs before it confirms; RabbitMQ advises it for what must not be lost.
    queue = await channel.declare_queue(
        QUEUE, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 200_000}
    )
    await queue.purge()
    kept["exchange"] = channel.default_exchange
    yield
    await connection.close()


app = FastAPI(lifespan=connected)


@app.get("/readyz")  # type: ignore[untyped-decorator]
async def ready() -> Response:
    return Response()


@app.post("/webhooks/shopify")  # type: ignore[untyped-decorator]
async def receive(request: Request) -> Response:
    body = await request.body()
    given = request.headers.get("x-shopify-hmac-sha256", "").encode()
    digests = (base64.b64encode(hmac.digest(secret, body, "sha256")) for secret in SECRETS)
    if not any(hmac.compare_digest(digest, given) for digest in digests):
        return Response(status_code=401)
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await kept["exchange"].publish(message, routing_key=QUEUE)
    return Response()


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )
