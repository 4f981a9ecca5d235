"""`tidewire keys` as an operator runs it, on a real server."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from cli import data_keys
from libs.keys import KvKeySource, LocalKek, create_kek, load_kek
from tests.contract.test_key_source import opens
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams


@pytest.fixture
async def js(nats_server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(nats_server.url)
    yield client.jetstream()
    await delete_streams(client, nats_server)
    await client.close()


class Site:
    """KEK files, and the environment that names them."""

    def __init__(self, directory: Path, server: NatsServer) -> None:
        self.directory = directory
        self._url = server.url
        self.old, self.new = (LocalKek(create_kek(directory / name)) for name in ("old", "new"))

    def environ(self, kek: str, *previous: str) -> dict[str, str]:
        return {
            "TIDEWIRE_NATS_URL": self._url,
            "TIDEWIRE_KEK_FILE": str(self.directory / kek),
            "TIDEWIRE_KEK_PREVIOUS_FILES": ",".join(str(self.directory / one) for one in previous),
        }


@pytest.fixture
def site(tmp_path: Path, nats_server: NatsServer) -> Site:
    return Site(tmp_path, nats_server)


async def test_a_kek_is_replaced_step_by_step_as_the_runbook_says(
    site: Site, js: JetStreamContext, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await (await KvKeySource.open(js, load_kek(site.directory / "old"))).current("shop")

    assert await data_keys.show_status(site.environ("new", "old"), as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["by_kek"] == {site.old.kek_id: 1}
    assert await data_keys.rewrap(site.environ("new", "old"), dry_run=True, as_json=False) == 0
    assert "would wrap 1 data keys" in capsys.readouterr().out
    assert await data_keys.show_status(site.environ("new", "old"), as_json=True) == 1
    capsys.readouterr()
    assert await data_keys.rewrap(site.environ("new", "old"), dry_run=False, as_json=True) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["wrapped"], done["status"]["by_kek"]) == (1, {site.new.kek_id: 1})
    assert await data_keys.show_status(site.environ("new"), as_json=False) == 0
    assert "Nothing needs another KEK" in capsys.readouterr().out
    source = await KvKeySource.open(js, load_kek(site.directory / "new"))
    assert opens(key, await source.current("shop"))


async def test_a_rewrap_that_lacks_a_kek_in_use_says_which(
    site: Site, js: JetStreamContext, capsys: pytest.CaptureFixture[str]
) -> None:
    await (await KvKeySource.open(js, load_kek(site.directory / "old"))).current("shop")

    assert await data_keys.rewrap(site.environ("new"), dry_run=False, as_json=False) == 2
    assert site.old.kek_id in capsys.readouterr().err


async def test_rotating_a_scope_prints_the_id_of_its_new_key(
    site: Site, js: JetStreamContext, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await data_keys.rotate(site.environ("new"), "shop") == 0

    key = await (await KvKeySource.open(js, load_kek(site.directory / "new"))).current("shop")
    assert key.key_id in capsys.readouterr().out


async def test_a_server_without_data_keys_is_settled(
    site: Site, js: JetStreamContext, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await data_keys.show_status(site.environ("new"), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["by_kek"] == {}


def test_a_created_kek_prints_its_id_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kek"

    assert data_keys.create(path) == 0

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    printed = capsys.readouterr().out
    assert LocalKek(load_kek(path)).kek_id in printed
    assert path.read_text().strip() not in printed
    assert data_keys.create(path) == 2
