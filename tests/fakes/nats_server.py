"""The embedded nats-server, as tests use it."""

from cli.nats_server import NatsServer

__all__ = ["NatsServer"]
