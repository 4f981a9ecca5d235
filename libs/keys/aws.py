"""KEKs at AWS: one that never leaves KMS, and one whose bytes Secrets Manager keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from libs.errors import Kind, ServiceError
from libs.keys.endpoint import check_endpoint
from libs.keys.file import LocalKek, kek_of
from libs.keys.kek import kek_missing, unreadable

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_secretsmanager import SecretsManagerClient

T = TypeVar("T")

_CONNECT_S: Final = 1.0
_READ_S: Final = 2.0
_CONTEXT: Final = "tidewire:data-key"
"""In KMS's encryption context, and so in CloudTrail: which data key a call was about."""

_NOT_OURS: Final = {"InvalidCiphertextException", "IncorrectKeyException"}
"""How KMS says that a ciphertext is altered, for another context, or by another key
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html, Errors)."""

_ABSENT: Final = {"NotFoundException", "ResourceNotFoundException"}


class KmsKek:
    """A symmetric KMS key. Its id is its ARN; the binding goes into the encryption context.

    KMS's own yearly rotation keeps the ARN, and needs nothing of us. A call is one TLS 1.2+ request
    in a thread, given up after 3 s; callers try again, so it does not.
    """

    answers_within_s = _CONNECT_S + _READ_S
    opens_unnamed = False

    def __init__(self, client: KMSClient, arn: str) -> None:
        self._client = client
        self.kek_id = arn

    async def wrap(self, plain: bytes, binding: bytes) -> bytes:
        answer = await _asked(
            f"KMS key {self.kek_id}",
            lambda: self._client.encrypt(
                KeyId=self.kek_id, Plaintext=plain, EncryptionContext=_context(binding)
            ),
        )
        return answer["CiphertextBlob"]

    async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        # The key is named although the ciphertext names it: only ours may answer, not any key that
        # somebody has let us use.
        answer = await _asked(
            f"KMS key {self.kek_id}",
            lambda: self._client.decrypt(
                KeyId=self.kek_id, CiphertextBlob=wrapped, EncryptionContext=_context(binding)
            ),
        )
        if answer["KeyId"] != self.kek_id:
            raise unreadable()
        return answer["Plaintext"]

    def __repr__(self) -> str:
        return f"KmsKek({self.kek_id!r})"


class Aws:
    """Opens KEKs at AWS; an `endpoint_url` stands in for AWS's own.

    Raises:
        ServiceError: PERMANENT, `kek_settings`, for an endpoint off this machine without TLS, or
            a missing region.
    """

    def __init__(
        self, *, region: str = "", endpoint_url: str = "", session: boto3.Session | None = None
    ) -> None:
        if endpoint_url:
            check_endpoint(endpoint_url, "TIDEWIRE_KEK_AWS_ENDPOINT_URL")
        self._region = region or None
        self._endpoint_url = endpoint_url or None
        self._session = session

    async def kms_kek(self, key: str) -> KmsKek:
        """The KMS key that an ARN, id or alias names now.

        Raises:
            ServiceError: PERMANENT, `kek_missing`; RETRYABLE, `kek_unavailable`.
        """

        def connect() -> KMSClient:
            return self._made().client(
                "kms",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                config=_config(),
            )

        client = await _asked("KMS", connect)
        found = await _asked(f"KMS key {key}", lambda: client.describe_key(KeyId=key))
        return KmsKek(client, found["KeyMetadata"]["Arn"])

    async def secret_keks(self, secret_id: str) -> list[LocalKek]:
        """The KEKs of a secret's versions: AWSCURRENT, then AWSPREVIOUS and AWSPENDING if any.

        Raises:
            ServiceError: PERMANENT, `kek_missing` or `kek_malformed`; RETRYABLE, `kek_unavailable`.
        """

        def connect() -> SecretsManagerClient:
            return self._made().client(
                "secretsmanager",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                config=_config(),
            )

        client = await _asked("Secrets Manager", connect)
        found = await _asked(
            f"secret {secret_id}", lambda: client.describe_secret(SecretId=secret_id)
        )
        stages = {name for names in found["VersionIdsToStages"].values() for name in names}
        keks = [LocalKek(await _secret_bytes(client, secret_id, "AWSCURRENT"))]
        for stage in sorted({"AWSPREVIOUS", "AWSPENDING"} & stages):
            keks.append(LocalKek(await _secret_bytes(client, secret_id, stage)))  # noqa: PERF401
        return keks

    def _made(self) -> boto3.Session:
        return self._session or boto3.Session()


async def _secret_bytes(client: SecretsManagerClient, secret_id: str, stage: str) -> bytes:
    where = f"secret {secret_id} ({stage})"
    answer = await _asked(
        where, lambda: client.get_secret_value(SecretId=secret_id, VersionStage=stage)
    )
    raw = answer.get("SecretBinary") or answer.get("SecretString", "").encode()
    return kek_of(raw, where)


def _context(binding: bytes) -> dict[str, str]:
    return {_CONTEXT: binding.decode("ascii")}


def _config() -> Config:
    return Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"total_max_attempts": 1},
    )


async def _asked(what: str, ask: Callable[[], T]) -> T:
    """The answer of a call that blocks; AWS's refusals become errors of ours here, once.

    What denies or fails is RETRYABLE even where only a person can help: as a PERMANENT one it would
    dead-letter deliveries for a right that is missing, and a start gives up after a minute anyway.
    """
    try:
        return await asyncio.to_thread(ask)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in _NOT_OURS:
            raise unreadable() from None
        if code in _ABSENT:
            raise kek_missing(f"{what} does not exist in this account and region") from error
        raise _unavailable(what, code) from error
    except (BotoCoreError, ValueError) as error:
        raise _unavailable(what, type(error).__name__) from error


def _unavailable(what: str, code: str) -> ServiceError:
    return ServiceError(
        Kind.RETRYABLE,
        "kek_unavailable",
        f"{what}: {code}; check the network, the region, the credentials and what they permit",
    )
