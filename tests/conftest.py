"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import keep_a_stream

_BESIDE_PROJECT = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The folder of real payloads and contract vectors; skips where there is none."""
    found = Path(os.environ.get("TIDEWIRE_CORPUS_DIR", _BESIDE_PROJECT))
    if not found.is_dir():
        pytest.skip(f"no corpus at {found}; set TIDEWIRE_CORPUS_DIR to run the tests that read it")
    return found


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    """A real nats-server with JetStream, one for each module of tests."""
    with NatsServer() as server:
        keep_a_stream(server)
        yield server
