"""The demo as a person runs it: real processes, a small storm, the verdict."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.demo.scenery import CORPUS_SHOP
from cli.demo.shelves import plan_shelves
from cli.nats_server import NatsServer
from cli.stack import SERVICES
from libs.foundation import connected
from sandbox.shopify.model import Shop
from sandbox.shopify.storm import default_shops
from tests.e2e.leaks import LEAST_BYTES, files_below, leaks, messages, vault_of
from tests.fakes.product_csv import product_csv

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_VARIANTS = 300
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    said: str


async def _started(scratch: Path, *args: str, **environ: str) -> asyncio.subprocess.Process:
    """`tidewire demo`, with its temporary folder below `scratch`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "demo",
        *args,
        cwd=_PROJECT,
        env={**os.environ, "PYTHONPATH": "gen", "TMPDIR": str(scratch), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _demo(scratch: Path, *args: str, **environ: str) -> Ran:
    process = await _started(scratch, *args, **environ)
    said, _ = await process.communicate()
    return Ran(process.returncode or 0, said.decode())


def _corpus(folder: Path) -> Path:
    """One recorded payload and one product export: a run is the same with and without others."""
    payload = folder / "webhooks" / "products_delete" / "gone.json"
    payload.parent.mkdir(parents=True)
    payload.write_text('{"id": 788032119674292922}')
    export = folder / "products" / "lamps.csv"
    export.parent.mkdir()
    export.write_text(product_csv(products=12))
    return folder


def _left_behind(scratch: Path) -> list[Path]:
    return list(scratch.glob("tidewire-demo-*"))


def _processes_below(scratch: Path) -> list[str]:
    """Command lines and environments of living processes that name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(scratch).encode() in known and process.name != str(os.getpid()):
            found.append(process.name)
    return found


async def test_a_small_storm_passes_every_check_and_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch, result = tmp_path / "scratch", tmp_path / "result.json"
    scratch.mkdir()
    corpus, kept = _corpus(tmp_path / "payloads"), tmp_path / "kept"

    ran = await _demo(
        scratch,
        *("--deliveries", "1200", "--variants", str(_VARIANTS), "--corpus", str(corpus)),
        *("--json", str(result), "--keep", str(kept)),
    )

    assert ran.code == 0, ran.said
    assert _left_behind(scratch) == []
    found: dict[str, Any] = json.loads(result.read_bytes())
    assert found["passed"] is True
    assert all(check["passed"] for check in found["checks"])
    _assert_contract(found)
    _assert_catalogs(found)
    await _assert_nothing_secret_in(kept, ran.said, corpus)


async def _assert_nothing_secret_in(kept: Path, said: str, corpus: Path) -> None:
    """Searches all that the demo has written for every token, key and secret that it had."""
    holders = [kept / "kek", kept / "certificates"]
    places = [*files_below(kept, but=holders), ("what it said", said.encode())]
    with NatsServer(directory=kept / "nats") as server:
        nats = await connected(server.url)
        try:
            secrets = await vault_of(nats, kept / "kek")
            # Compressed streams cannot be searched as files.
            stored = [one async for one in messages(nats)]
        finally:
            await nats.close()
    secrets |= {
        f"{shop.domain} {place}": secret.encode()
        for shop in (*default_shops(datetime.now(UTC)), CORPUS_SHOP, *_shelf_shops(corpus))
        for place, secret in enumerate(shop.secrets)
    }
    secrets = {what: secret for what, secret in secrets.items() if len(secret) >= LEAST_BYTES}
    # Ten stores, eight pixels and four catalogs have a token each; every shop has its keys.
    assert len(secrets) > 30
    assert sum(name.startswith("logs/") for name, _ in places) > 5
    streams = {name.partition(" ")[0] for name, _ in stored}
    assert {"WEBHOOKS", "COMMERCE", "AUDIT", "KV_tokens"} <= streams
    assert leaks([*places, *stored], secrets) == []
    planted = [("planted", b"x" + secret) for secret in secrets.values()]
    assert {what for _, what in leaks(planted, secrets)} == set(secrets)


def _assert_contract(found: dict[str, Any]) -> None:
    ledger, tiktok = found["ledger"], found["sandbox"]["tiktok_events"]
    ended = ledger["delivered"] + ledger["delivered_uncertain"]
    ended += sum(ledger["ignored"].values()) + sum(ledger["dead"].values())
    assert ledger["received"] == ended + ledger["in_flight"]
    assert ledger["balanced"] is True
    assert ledger["in_flight"] == 0
    assert ledger["ignored"]["test_order"] > 0
    assert ledger["dead"]["not_json"] > 0
    assert tiktok["requests"] > 0
    assert tiktok["events_accepted"] >= tiktok["events_unique"] > 100
    # Nothing was refused but by the trouble that the demo itself plays.
    assert set(tiktok["refused_by_code"]) <= {"http_503", "40105"}
    # One delivery more than the storm: the recorded payload.
    assert sum(found["answers"].values()) == 1201
    assert found["seconds"] > found["speed"]["storm_s"] > 0
    assert found["memory"].keys() == {"nats", *SERVICES}
    assert all(sizes["end_mib"] > 5 for sizes in found["memory"].values())


def _shelf_shops(corpus: Path) -> list[Shop]:
    return [shelf.shop for shelf in plan_shelves(_VARIANTS, 1, corpus)]


def _assert_catalogs(found: dict[str, Any]) -> None:
    ours, seen = found["catalog"], found["sandbox"]["tiktok_catalog"]
    assert {one["dialect"] for one in ours["catalogs"].values()} == {"product_upload", "item_batch"}
    assert {one["currency"] for one in ours["catalogs"].values()} == {"USD", "EUR"}
    assert len(seen) == len(ours["catalogs"]) == 4
    for connection_id, one in ours["catalogs"].items():
        theirs = seen[connection_id.rpartition(".")[2]]
        assert one["items"]["accepted"] <= theirs["items"] == theirs["against_shop"]["items"] > 0
        assert theirs["against_shop"]["equal"] is True
        assert theirs["submits"] > 1
        assert theirs["overlapping_submits"] == theirs["spacing_violations"] == 0
        assert one["waiting"] == 0
        assert one["seed_s"] > 0
    large, *_ = ours["shops"].values()
    assert large["items_in_seed"] > _VARIANTS
    assert {"price", "stock", "text"} <= ours["changes"].keys()
    assert sum(one["changes_measured"] for one in ours["catalogs"].values()) > 0


async def test_a_demo_that_cannot_start_says_why_and_keeps_the_logs(tmp_path: Path) -> None:
    # One server cannot keep three copies of anything.
    ran = await _demo(tmp_path, "--deliveries", "400", TIDEWIRE_NATS_REPLICAS="3")

    assert ran.code == 1, ran.said
    assert "not_ready" in ran.said
    (kept,) = _left_behind(tmp_path)
    assert str(kept) in ran.said
    assert list((kept / "logs").glob("*.log"))
    assert _processes_below(tmp_path) == []


async def test_what_cannot_be_sent_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    few = await _demo(tmp_path, "--deliveries", "3")
    none = await _demo(tmp_path, "--corpus", str(tmp_path))

    assert (few.code, none.code) == (2, 2)
    assert "at least 400" in few.said
    assert str(tmp_path) in none.said
    assert "Starting" not in few.said + none.said
    assert _left_behind(tmp_path) == []


async def test_sigterm_in_the_middle_ends_every_process(tmp_path: Path) -> None:
    process = await _started(tmp_path, "--deliveries", "20000")
    assert process.stdout is not None
    await process.stdout.readuntil(b"Starting NATS")
    while len(_processes_below(tmp_path)) < 3:  # noqa: ASYNC110 (of other processes' doing)
        await asyncio.sleep(0.05)

    process.send_signal(signal.SIGTERM)
    await process.communicate()

    assert process.returncode != 0
    assert _processes_below(tmp_path) == []
    assert _left_behind(tmp_path) == []
