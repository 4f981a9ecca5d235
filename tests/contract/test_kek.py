"""What every KEK does, and how a process comes by those it is told to use."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.httpsession import URLLib3Session

from libs.errors import Kind, ServiceError
from libs.keys import Kek, KekProvider, KekSettings, LocalKek, create_kek, open_ring
from libs.keys.aws import Aws, KmsKek
from libs.settings import SettingsError, load
from tests.fakes.aws_server import REGION, AwsServer

PLAIN = bytes(range(32))
PLACE = b"example.0123456789abcdef"
AWAY = "https://kms.example.invalid"


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


def at_aws(server: AwsServer) -> Aws:
    return Aws(region=REGION, endpoint_url=server.url, session=server.session)


class KekContract:
    """Subclasses give fixtures `kek` and `other`, two keys of one kind."""

    async def test_what_was_wrapped_is_unwrapped(self, kek: Kek) -> None:
        wrapped = await kek.wrap(PLAIN, PLACE)

        assert PLAIN not in wrapped
        assert await kek.unwrap(wrapped, PLACE) == PLAIN

    async def test_wrapping_twice_gives_two_ciphertexts(self, kek: Kek) -> None:
        assert await kek.wrap(PLAIN, PLACE) != await kek.wrap(PLAIN, PLACE)

    async def test_a_key_moved_to_another_place_does_not_open(self, kek: Kek) -> None:
        wrapped = await kek.wrap(PLAIN, PLACE)

        await assert_unreadable(kek, wrapped, b"other.0123456789abcdef")

    async def test_another_kek_does_not_open_it(self, kek: Kek, other: Kek) -> None:
        await assert_unreadable(other, await kek.wrap(PLAIN, PLACE), PLACE)

    async def test_what_was_altered_or_truncated_does_not_open(self, kek: Kek) -> None:
        wrapped = await kek.wrap(PLAIN, PLACE)

        for bad in (wrapped[:-1], wrapped[:-1] + bytes((wrapped[-1] ^ 1,))):
            await assert_unreadable(kek, bad, PLACE)

    async def test_the_id_tells_keks_apart_and_shows_no_key(self, kek: Kek, other: Kek) -> None:
        assert kek.kek_id != other.kek_id
        assert repr(kek).endswith(f"({kek.kek_id!r})")


async def assert_unreadable(kek: Kek, wrapped: bytes, binding: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        await kek.unwrap(wrapped, binding)
    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "key_unreadable")


class TestFileKek(KekContract):
    @pytest.fixture
    def kek(self, tmp_path: Path) -> Kek:
        return LocalKek(create_kek(tmp_path / "kek"))

    @pytest.fixture
    def other(self, tmp_path: Path) -> Kek:
        return LocalKek(create_kek(tmp_path / "other"))


class TestKmsKek(KekContract):
    @pytest.fixture
    async def kek(self, aws: AwsServer) -> Kek:
        return await at_aws(aws).kms_kek(aws.kms_key())

    @pytest.fixture
    async def other(self, aws: AwsServer) -> Kek:
        return await at_aws(aws).kms_kek(aws.kms_key())

    async def test_an_alias_stands_for_the_key_that_it_names_now(self, aws: AwsServer) -> None:
        arn = aws.kms_key()

        kek = await at_aws(aws).kms_kek(aws.alias(f"a{uuid.uuid4().hex}", arn))

        assert kek.kek_id == arn

    async def test_another_kek_does_not_open_it(self, kek: Kek, other: Kek) -> None:
        # moto denies access here, where KMS says IncorrectKeyException (see the table below).
        with pytest.raises(ServiceError, match=r"key_unreadable|AccessDenied"):
            await other.unwrap(await kek.wrap(PLAIN, PLACE), PLACE)

    @pytest.mark.parametrize(
        ("code", "kind", "ours"),
        [
            ("IncorrectKeyException", Kind.PERMANENT, "key_unreadable"),
            ("InvalidCiphertextException", Kind.PERMANENT, "key_unreadable"),
            ("AccessDeniedException", Kind.RETRYABLE, "kek_unavailable"),
            ("DisabledException", Kind.RETRYABLE, "kek_unavailable"),
            ("KMSInvalidStateException", Kind.RETRYABLE, "kek_unavailable"),
            ("ThrottlingException", Kind.RETRYABLE, "kek_unavailable"),
        ],
    )
    async def test_what_kms_refuses_for_now_is_tried_again(
        self, aws: AwsServer, code: str, kind: Kind, ours: str
    ) -> None:
        async def refuse(_: web.Request) -> web.Response:
            return web.json_response({"__type": code, "message": "no"}, status=400)

        app = web.Application()
        app.router.add_post("/", refuse)
        async with TestServer(app) as server:
            client = aws.session.client("kms", endpoint_url=str(server.make_url("/")))
            with pytest.raises(ServiceError) as caught:
                await KmsKek(client, "arn:aws:kms:eu-west-1:1:key/1").unwrap(b"wrapped", PLACE)

        assert (caught.value.kind, caught.value.code) == (kind, ours)

    async def test_an_answer_by_another_key_is_not_taken(self, aws: AwsServer) -> None:
        async def answer(_: web.Request) -> web.Response:
            plain = base64.b64encode(PLAIN).decode()
            return web.json_response({"KeyId": "arn:aws:kms:eu-west-1:1:key/2", "Plaintext": plain})

        app = web.Application()
        app.router.add_post("/", answer)
        async with TestServer(app) as server:
            client = aws.session.client("kms", endpoint_url=str(server.make_url("/")))
            for arn, opens in (("1", False), ("2", True)):
                kek = KmsKek(client, f"arn:aws:kms:eu-west-1:1:key/{arn}")
                if opens:
                    assert await kek.unwrap(b"wrapped", PLACE) == PLAIN
                else:
                    await assert_unreadable(kek, b"wrapped", PLACE)

    async def test_a_key_that_is_not_there_is_missing(self, aws: AwsServer) -> None:
        with pytest.raises(ServiceError, match="kek_missing"):
            await at_aws(aws).kms_kek("alias/nobody-made-this")

    async def test_kms_that_does_not_answer_is_unavailable(self) -> None:
        with AwsServer() as server:
            kek = await at_aws(server).kms_kek(server.kms_key())

        with pytest.raises(ServiceError) as caught:
            await kek.wrap(PLAIN, PLACE)
        assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "kek_unavailable")


class TestSecretsManagerKek(KekContract):
    @pytest.fixture
    async def kek(self, aws: AwsServer) -> Kek:
        name = aws.secret(f"kek-{uuid.uuid4()}", bytes(range(32)))
        return (await at_aws(aws).secret_keks(name))[0]

    @pytest.fixture
    async def other(self, aws: AwsServer) -> Kek:
        name = aws.secret(f"kek-{uuid.uuid4()}", "ab" * 32)
        return (await at_aws(aws).secret_keks(name))[0]

    async def test_the_current_version_comes_first_and_the_others_only_open(
        self, aws: AwsServer
    ) -> None:
        first, second, third = ("01" * 32, "02" * 32, "03" * 32)
        name = aws.secret(f"kek-{uuid.uuid4()}", first)
        aws.renew(name, second)
        aws.renew(name, third, stage="AWSPENDING")

        keks = await at_aws(aws).secret_keks(name)

        assert keks[0].kek_id == LocalKek(bytes.fromhex(second)).kek_id
        assert {kek.kek_id for kek in keks[1:]} == {
            LocalKek(bytes.fromhex(text)).kek_id for text in (first, third)
        }

    async def test_a_truncated_secret_is_refused_and_not_shown(self, aws: AwsServer) -> None:
        name = aws.secret(f"kek-{uuid.uuid4()}", "cd" * 31)

        with pytest.raises(ServiceError, match="kek_malformed") as caught:
            await at_aws(aws).secret_keks(name)

        assert name in str(caught.value)
        assert "cdcd" not in str(caught.value)


class TestOpenRing:
    """From settings to a ring."""

    def settings(self, **variables: str) -> KekSettings:
        return load(KekSettings, {f"TIDEWIRE_{name}": text for name, text in variables.items()})

    async def test_a_file_wraps_and_earlier_files_open(self, tmp_path: Path) -> None:
        now, before = (LocalKek(create_kek(tmp_path / name)) for name in ("now", "before"))

        ring = await open_ring(
            self.settings(
                KEK_FILE=str(tmp_path / "now"), KEK_PREVIOUS_FILES=str(tmp_path / "before")
            )
        )

        assert ring.primary_id == now.kek_id
        assert ring.kek_ids == {now.kek_id, before.kek_id}

    async def test_a_truncated_file_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        create_kek(tmp_path / "kek")
        (tmp_path / "kek").write_bytes((tmp_path / "kek").read_bytes()[:40])

        with pytest.raises(ServiceError, match="restore it from your backup") as caught:
            await open_ring(self.settings(KEK_FILE=str(tmp_path / "kek")))

        assert caught.value.code == "kek_malformed"
        assert (tmp_path / "kek").read_text()[:8] not in str(caught.value)

    async def test_kms_wraps_and_an_earlier_file_and_key_open(
        self, aws: AwsServer, tmp_path: Path
    ) -> None:
        file = LocalKek(create_kek(tmp_path / "kek"))
        now, before = aws.kms_key(), aws.kms_key()

        ring = await open_ring(
            self.settings(
                KEK_PROVIDER="aws-kms",
                KEK_KMS_KEY=now,
                KEK_KMS_PREVIOUS_KEYS=before,
                KEK_PREVIOUS_FILES=str(tmp_path / "kek"),
                KEK_AWS_ENDPOINT_URL=aws.url,
            ),
            aws.session,
        )

        assert ring.primary_id == now
        assert ring.kek_ids == {now, before, file.kek_id}

    async def test_a_secret_wraps(self, aws: AwsServer) -> None:
        name = aws.secret(f"kek-{uuid.uuid4()}", "0a" * 32)

        ring = await open_ring(
            self.settings(
                KEK_PROVIDER="aws-secrets-manager",
                KEK_SECRET_ID=name,
                KEK_AWS_ENDPOINT_URL=aws.url,
            ),
            aws.session,
        )

        assert ring.primary_id == LocalKek(bytes([10]) * 32).kek_id

    def test_there_is_no_provider_that_leaves_keys_in_clear(self) -> None:
        assert {*KekProvider} == {"file", "aws-kms", "aws-secrets-manager", "vault-transit"}
        with pytest.raises(SettingsError, match="KEK_PROVIDER"):
            self.settings(KEK_PROVIDER="none")

    @pytest.mark.parametrize(
        ("provider", "variable"),
        [("aws-kms", "KEK_KMS_KEY"), ("aws-secrets-manager", "KEK_SECRET_ID")],
    )
    async def test_what_a_provider_needs_is_named(self, provider: str, variable: str) -> None:
        with pytest.raises(ServiceError, match=variable) as caught:
            await open_ring(self.settings(KEK_PROVIDER=provider, KEK_AWS_ENDPOINT_URL=AWAY))

        assert caught.value.code == "kek_settings"

    @pytest.mark.parametrize("url", ["http://kms.example.invalid", "ftp://127.0.0.1", "127.0.0.1"])
    async def test_keys_do_not_travel_without_tls(self, url: str) -> None:
        with pytest.raises(ServiceError, match="https") as caught:
            await open_ring(
                self.settings(
                    KEK_PROVIDER="aws-kms", KEK_KMS_KEY="alias/x", KEK_AWS_ENDPOINT_URL=url
                )
            )

        assert caught.value.code == "kek_settings"

    def test_the_sdk_speaks_tls_of_1_2_or_later_only(self) -> None:
        context = URLLib3Session()._get_ssl_context()  # type: ignore[attr-defined]  # its stubs lack it

        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
