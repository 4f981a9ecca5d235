"""KEKs in a real transit engine: versions, tokens, and what goes wrong there."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from nats.js import JetStreamContext

from libs.errors import Kind, ServiceError
from libs.keys import Kek, KekRing, KekSettings, KvKeySource, LocalKek, Rewrapper, create_kek
from libs.keys.settings import open_ring
from libs.keys.vault_transit import TransitKek, TransitKey, VaultTransit
from libs.settings import load
from tests.contract.test_kek import PLACE, PLAIN, KekContract, assert_unreadable
from tests.contract.test_key_source import opens
from tests.fakes.bao_server import BaoServer, bao_binary
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams

SCOPE = "connection.example"
no_bao = pytest.mark.skipif(bao_binary() is None, reason="no `bao`: install the dev dependencies")


@pytest.fixture(scope="module")
def bao() -> Iterator[BaoServer]:
    with BaoServer() as server:
        yield server


@pytest.fixture
def token_file(bao: BaoServer, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(bao.token() + "\n")
    return path


@pytest.fixture
def vault(bao: BaoServer, token_file: Path) -> VaultTransit:
    return VaultTransit(bao.url, token_file)


@pytest.fixture
def name(bao: BaoServer) -> str:
    """A new transit key."""
    return bao.key(f"key-{uuid.uuid4().hex}")


@pytest.fixture
async def js(nats_server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(nats_server.url)
    yield client.jetstream()
    await delete_streams(client, nats_server)
    await client.close()


def settings(bao: BaoServer, token_file: Path, **more: str) -> KekSettings:
    variables = {"KEK_VAULT_URL": bao.url, "KEK_VAULT_TOKEN_FILE": str(token_file), **more}
    return load(KekSettings, {f"TIDEWIRE_{name}": text for name, text in variables.items()})


def held_by(token_file: Path) -> str:
    return token_file.read_text().strip()


def hold(token_file: Path, token: str | bytes | None) -> None:
    """Has the file hold it, as an agent would replace it; None: there is no file."""
    token_file.unlink()
    if token is not None:
        token_file.write_bytes(token if isinstance(token, bytes) else token.encode())


async def assert_refused(kek: Kek, code: str, *texts: str) -> None:
    """RETRYABLE, for wrapping and for opening: a delivery waits."""
    for call in (kek.wrap(PLAIN, PLACE), kek.unwrap(bytes(60), PLACE)):
        with pytest.raises(ServiceError) as caught:
            await call
        assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, code)
        assert all(text in str(caught.value) for text in texts)


@no_bao
class TestTransitKek(KekContract):
    @pytest.fixture
    async def kek(self, vault: VaultTransit, name: str) -> Kek:
        return (await vault.key(name)).latest

    @pytest.fixture
    async def other(self, bao: BaoServer, vault: VaultTransit) -> Kek:
        return (await vault.key(bao.key(f"key-{uuid.uuid4().hex}"))).latest

    async def test_the_id_has_key_version_and_the_moment_it_was_made(
        self, bao: BaoServer, kek: Kek, name: str
    ) -> None:
        made = bao.ask("GET", f"transit/keys/{name}")["data"]["keys"]["1"]

        assert kek.kek_id == f"vault-transit:transit/{name}:v1:{made}"


@no_bao
class TestVersions:
    """Rotation inside transit."""

    async def test_the_latest_version_wraps_and_earlier_ones_open(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        first = (await vault.key(name)).latest
        wrapped = await first.wrap(PLAIN, PLACE)
        bao.rotate(name)

        key = await vault.key(name)

        assert (key.latest.version, [kek.kek_id for kek in key.older]) == (2, [first.kek_id])
        assert await key.older[0].unwrap(wrapped, PLACE) == PLAIN

    async def test_what_one_version_wrapped_is_not_taken_for_anothers(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        bao.rotate(name)
        key = await vault.key(name)

        await assert_unreadable(key.latest, await key.older[0].wrap(PLAIN, PLACE), PLACE)

    async def test_a_process_from_before_a_rotation_goes_on_and_opens_what_is_newer(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        before = await vault.key(name)
        ring = KekRing(before.latest, newer=[before.newer])
        bao.rotate(name)
        after = (await vault.key(name)).latest

        wrapped = await KekRing(after).wrap(PLAIN, PLACE)

        assert await ring.unwrap(wrapped, PLACE) == PLAIN
        mine = await ring.wrap(PLAIN, PLACE)
        assert await ring.wrapped_by(mine, PLACE) == before.latest.kek_id

    def test_only_newer_versions_of_this_very_key_are_opened_untold(
        self, vault: VaultTransit
    ) -> None:
        key = TransitKey(vault, "tidewire", {2: 1_700_000_000, 3: 1_700_000_900})
        ring = KekRing(key.latest, *key.older, newer=[key.newer])
        ours = "vault-transit:transit/tidewire"

        assert ring.opens(f"{ours}:v4:1700001800")
        for kek_id in (
            f"{ours}:v1:1690000000",  # closed
            f"{ours}:v3:1700000901",  # of another Vault, or deleted and made anew
            f"{ours}2:v4:1700001800",
            "vault-transit:team/transit/tidewire:v4:1700001800",
            f"{ours}:v4:",
        ):
            assert not ring.opens(kek_id)

    async def test_after_a_rewrap_nothing_needs_the_old_version(
        self, bao: BaoServer, token_file: Path, name: str, js: JetStreamContext
    ) -> None:
        with_key = settings(bao, token_file, KEK_PROVIDER="vault-transit", KEK_VAULT_KEY=name)
        before = await open_ring(with_key)
        key = await (await KvKeySource.open(js, before)).current(SCOPE)
        bao.rotate(name)
        after = await open_ring(with_key)
        assert (await Rewrapper(js, after).status()).by_kek == {before.primary_id: 1}

        done = await Rewrapper(js, after).rewrap()

        status = await Rewrapper(js, after).status()
        assert (done.wrapped, done.failed) == (1, {})
        assert status.by_kek == {after.primary_id: 1}
        assert status.is_settled
        bao.configure(name, min_decryption_version=2)
        again = await KvKeySource.open(js, await open_ring(with_key))
        assert opens(key, await again.by_id(SCOPE, key.key_id))
        running = await KvKeySource.open(js, before)
        assert opens(key, await running.by_id(SCOPE, key.key_id))

    async def test_a_version_that_is_closed_too_early_is_named_at_the_start(
        self, bao: BaoServer, token_file: Path, name: str, js: JetStreamContext
    ) -> None:
        with_key = settings(bao, token_file, KEK_PROVIDER="vault-transit", KEK_VAULT_KEY=name)
        before = await open_ring(with_key)
        key = await (await KvKeySource.open(js, before)).current(SCOPE)
        bao.rotate(name)
        bao.configure(name, min_decryption_version=2)

        with pytest.raises(ServiceError, match="kek_wrong") as caught:
            await KvKeySource.open(js, await open_ring(with_key))
        assert before.primary_id in str(caught.value)
        with pytest.raises(ServiceError) as closed:
            await (await KvKeySource.open(js, before)).by_id(SCOPE, key.key_id)
        assert (closed.value.kind, closed.value.code) == (Kind.RETRYABLE, "kek_unknown")


@no_bao
class TestToken:
    async def test_a_token_renewed_on_disk_is_used_from_then_on(
        self, bao: BaoServer, vault: VaultTransit, name: str, token_file: Path
    ) -> None:
        kek = (await vault.key(name)).latest
        old = held_by(token_file)
        wrapped = await kek.wrap(PLAIN, PLACE)

        hold(token_file, bao.token())
        bao.revoke(old)

        assert await kek.unwrap(wrapped, PLACE) == PLAIN

    async def test_a_refused_token_is_waited_for_and_shown_nowhere(
        self, bao: BaoServer, vault: VaultTransit, name: str, token_file: Path
    ) -> None:
        kek = (await vault.key(name)).latest
        token = held_by(token_file)
        bao.revoke(token)

        with pytest.raises(ServiceError, match="403") as caught:
            await kek.wrap(PLAIN, PLACE)

        assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "kek_unavailable")
        error: BaseException | None = caught.value
        while error is not None:
            assert token not in f"{error!r} {vars(error)}"
            error = error.__cause__ or error.__context__
        assert token not in f"{vault!r} {kek!r}"

    @pytest.mark.parametrize("held", [None, b"", b"two words", b"s.\xff", b"x" * 9000])
    async def test_a_file_without_a_token_is_named_and_not_shown(
        self, vault: VaultTransit, name: str, token_file: Path, held: bytes | None
    ) -> None:
        kek = (await vault.key(name)).latest
        hold(token_file, held)

        await assert_refused(kek, "kek_unavailable", str(token_file))
        with pytest.raises(ServiceError) as caught:
            await kek.wrap(PLAIN, PLACE)
        assert "two words" not in str(caught.value)

    async def test_rights_that_are_missing_are_found_at_the_start(
        self, bao: BaoServer, token_file: Path, name: str
    ) -> None:
        hold(token_file, bao.token(mount="elsewhere"))

        with pytest.raises(ServiceError, match="kek_unavailable"):
            await VaultTransit(bao.url, token_file).key(name)


@no_bao
class TestTrouble:
    async def test_a_sealed_vault_is_waited_for(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        kek = (await vault.key(name)).latest
        wrapped = await kek.wrap(PLAIN, PLACE)

        bao.seal()
        try:
            await assert_refused(kek, "kek_unavailable", "503")
        finally:
            bao.unseal()

        assert await kek.unwrap(wrapped, PLACE) == PLAIN

    async def test_a_version_that_may_no_longer_wrap_is_waited_for(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        kek = (await vault.key(name)).latest
        bao.rotate(name)
        bao.configure(name, min_encryption_version=2)

        with pytest.raises(ServiceError, match="restart") as caught:
            await kek.wrap(PLAIN, PLACE)
        assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "kek_unavailable")

    async def test_a_key_that_was_deleted_dead_letters_nothing(
        self, bao: BaoServer, vault: VaultTransit, name: str
    ) -> None:
        kek = (await vault.key(name)).latest
        bao.delete(name)

        with pytest.raises(ServiceError) as caught:
            await kek.unwrap(bytes(60), PLACE)
        assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "kek_unavailable")

    @pytest.mark.parametrize("mount", ["transit", "nowhere"])
    async def test_a_key_that_is_not_there_is_missing_and_not_made(
        self, bao: BaoServer, token_file: Path, mount: str
    ) -> None:
        hold(token_file, bao.token(mount=mount))

        with pytest.raises(ServiceError, match="kek_missing"):
            await VaultTransit(bao.url, token_file, mount=mount).key("nobody-made-this")

    @pytest.mark.parametrize(
        "options",
        [{"type": "rsa-2048"}, {"type": "chacha20-poly1305"}, {"derived": True}],
        ids=str,
    )
    async def test_a_key_of_another_kind_is_refused(
        self, bao: BaoServer, vault: VaultTransit, options: dict[str, object]
    ) -> None:
        name = bao.key(f"key-{uuid.uuid4().hex}", **options)

        with pytest.raises(ServiceError, match="aes256-gcm96") as caught:
            await vault.key(name)
        assert caught.value.code == "kek_settings"

    async def test_tls_is_trusted_by_the_ca_file_only(self, bao: BaoServer, tmp_path: Path) -> None:
        with BaoServer(tls=True) as server:
            (tmp_path / "token").write_text(server.token())
            server.key("tidewire")

            trusting = VaultTransit(server.url, tmp_path / "token", ca_file=server.ca_file)
            kek = (await trusting.key("tidewire")).latest
            assert await kek.unwrap(await kek.wrap(PLAIN, PLACE), PLACE) == PLAIN
            with pytest.raises(ServiceError, match="kek_unavailable"):
                await VaultTransit(server.url, tmp_path / "token").key("tidewire")

        await assert_refused(kek, "kek_unavailable", "no connection")

    async def test_a_vault_that_is_not_there_is_waited_for(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("not-a-token")
        async with TestServer(web.Application()) as gone:
            url = str(gone.make_url("/"))
        kek = TransitKek(VaultTransit(url, tmp_path / "token"), "a", 1, "a:v1:1")

        await assert_refused(kek, "kek_unavailable", "no connection")


class TestAnswers:
    """What no real server says when it is told to, from an application that says it."""

    @pytest.fixture
    def made_up(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_text("not-a-token")
        return path

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, '{"data": {"plaintext": "not base64!", "ciphertext": "vault:v9:AAAA"}}'),
            (200, "[]"),
            (200, "<p>a proxy that is no Vault</p>"),
            (307, ""),
            (400, '{"errors": ["something new"]}'),
            (404, '{"errors": []}'),
            (412, '{"errors": ["required index state not present"]}'),
            (429, '{"errors": ["request path: rate limit quota exceeded"]}'),
            (500, "no"),
        ],
    )
    async def test_what_is_not_known_to_be_final_is_tried_again(
        self, made_up: Path, status: int, body: str
    ) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=body, headers={"Location": "/elsewhere"})

        app = web.Application()
        app.router.add_post("/v1/transit/{path:.*}", answer)
        async with TestServer(app) as server:
            vault = VaultTransit(str(server.make_url("/")), made_up)
            await assert_refused(TransitKek(vault, "a", 1, "a:v1:1"), "kek_unavailable")

    async def test_a_vault_that_drops_the_binding_is_refused(self, made_up: Path) -> None:
        async def found(_: web.Request) -> web.Response:
            key = {"type": "aes256-gcm96", "latest_version": 1, "keys": {"1": 1_700_000_000}}
            return web.json_response({"data": key})

        async def encrypt(_: web.Request) -> web.Response:
            return web.json_response({"data": {"ciphertext": "vault:v1:AAAA"}})

        async def decrypt(_: web.Request) -> web.Response:
            return web.json_response({"data": {"plaintext": base64.b64encode(bytes(32)).decode()}})

        app = web.Application()
        app.router.add_get("/v1/transit/keys/a", found)
        app.router.add_post("/v1/transit/encrypt/a", encrypt)
        app.router.add_post("/v1/transit/decrypt/a", decrypt)
        async with TestServer(app) as server:
            with pytest.raises(ServiceError, match="associated_data") as caught:
                await VaultTransit(str(server.make_url("/")), made_up).key("a")
        assert caught.value.code == "kek_settings"

    async def test_token_namespace_and_binding_are_sent_as_vault_reads_them(
        self, made_up: Path
    ) -> None:
        seen: list[tuple[str, str, dict[str, object]]] = []

        async def encrypt(request: web.Request) -> web.Response:
            sent = (request.headers["X-Vault-Token"], request.headers["X-Vault-Namespace"])
            seen.append((*sent, json.loads(await request.read())))
            return web.json_response({"data": {"ciphertext": "vault:v3:AAAA"}})

        app = web.Application()
        app.router.add_post("/v1/kv/transit/encrypt/a", encrypt)
        async with TestServer(app) as server:
            vault = VaultTransit(
                str(server.make_url("/")), made_up, mount="/kv/transit/", namespace="team/a/"
            )
            await TransitKek(vault, "a", 3, "a:v3:1").wrap(b"plain", b"place")

        body = {"plaintext": "cGxhaW4=", "associated_data": "cGxhY2U=", "key_version": 3}
        assert seen == [("not-a-token", "team/a", body)]


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "http://vault.example.invalid:8200",
            "ftp://127.0.0.1",
            "127.0.0.1:8200",
            "http://127.0.0.1.example.invalid",
            "https://user:not-a-password@vault.example.invalid",
            "https://[broken",
        ],
    )
    def test_keys_do_not_travel_without_tls(self, url: str) -> None:
        with pytest.raises(ServiceError, match="https") as caught:
            VaultTransit(url, Path("token"))

        assert caught.value.code == "kek_settings"
        assert "not-a-password" not in str(caught.value)

    @pytest.mark.parametrize("path", ["../sys", "a/../b", "a b", "a?b", "ключ", "a//b", ""])
    async def test_a_mount_or_key_is_part_of_no_other_path(self, path: str) -> None:
        with pytest.raises(ServiceError, match="KEK_VAULT_MOUNT"):
            VaultTransit("https://vault.example.invalid", Path("token"), mount=path)
        with pytest.raises(ServiceError, match="KEK_VAULT_KEY"):
            await VaultTransit("https://vault.example.invalid", Path("token")).key(path)

    @pytest.mark.parametrize("lacking", ["VAULT_URL", "VAULT_KEY", "VAULT_TOKEN_FILE"])
    async def test_what_the_provider_needs_is_named(self, bao: BaoServer, lacking: str) -> None:
        text = {"KEK_VAULT_KEY": "a", "KEK_PROVIDER": "vault-transit", f"KEK_{lacking}": ""}

        with pytest.raises(ServiceError, match=f"TIDEWIRE_KEK_{lacking}") as caught:
            await open_ring(settings(bao, Path("token"), **text))
        assert caught.value.code == "kek_settings"

    def test_a_ca_file_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "ca").write_text("no certificate")

        for name in ("ca", "absent"):
            with pytest.raises(ServiceError, match="KEK_VAULT_CA_FILE") as caught:
                VaultTransit("https://127.0.0.1:1", tmp_path / "token", ca_file=tmp_path / name)
            assert caught.value.code == "kek_settings"

    @no_bao
    async def test_transit_wraps_and_an_earlier_file_and_key_open(
        self, bao: BaoServer, token_file: Path, name: str, tmp_path: Path
    ) -> None:
        file = LocalKek(create_kek(tmp_path / "kek"))
        before = bao.key(f"key-{uuid.uuid4().hex}")
        bao.rotate(name)

        ring = await open_ring(
            settings(
                bao,
                token_file,
                KEK_PROVIDER="vault-transit",
                KEK_VAULT_KEY=name,
                KEK_VAULT_PREVIOUS_KEYS=before,
                KEK_PREVIOUS_FILES=str(tmp_path / "kek"),
            )
        )

        assert ring.primary_id.startswith(f"vault-transit:transit/{name}:v2:")
        others = ring.kek_ids - {ring.primary_id, file.kek_id}
        assert file.kek_id in ring.kek_ids
        assert {kek_id.rpartition(":")[0] for kek_id in others} == {
            f"vault-transit:transit/{name}:v1",
            f"vault-transit:transit/{before}:v1",
        }

    @no_bao
    async def test_a_file_wraps_and_an_earlier_transit_key_opens(
        self, bao: BaoServer, vault: VaultTransit, token_file: Path, name: str, tmp_path: Path
    ) -> None:
        wrapped = await KekRing((await vault.key(name)).latest).wrap(PLAIN, PLACE)
        file = LocalKek(create_kek(tmp_path / "kek"))

        ring = await open_ring(
            settings(bao, token_file, KEK_FILE=str(tmp_path / "kek"), KEK_VAULT_PREVIOUS_KEYS=name)
        )

        assert ring.primary_id == file.kek_id
        assert await ring.unwrap(wrapped, PLACE) == PLAIN
