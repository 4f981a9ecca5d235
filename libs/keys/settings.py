"""Which KEKs a process has: its settings, and the ring that they make."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from libs.errors import ServiceError, permanent
from libs.keys.file import LocalKek, load_kek
from libs.keys.kek import Kek, KekRing
from libs.settings import env

if TYPE_CHECKING:
    from boto3.session import Session


class KekProvider(StrEnum):
    """Where the KEK that wraps comes from. There is none that leaves keys in clear."""

    FILE = "file"
    AWS_KMS = "aws-kms"
    AWS_SECRETS_MANAGER = "aws-secrets-manager"


@dataclass(frozen=True, kw_only=True)
class KekSettings:
    """The knobs of the key-encryption key."""

    kek_provider: KekProvider = env(
        "KEK_PROVIDER",
        "what wraps the data keys: `file`, `aws-kms` or `aws-secrets-manager`",
        default=KekProvider.FILE,
    )
    kek_file: Path = env(
        "KEK_FILE",
        "`file`: key that wraps the data keys; 32 bytes, raw, as hex or as base64",
        default=Path("kek"),
    )
    kek_previous_files: tuple[str, ...] = env(
        "KEK_PREVIOUS_FILES",
        "files of further keys that only open, comma-separated: earlier ones, whatever the provider"
        " is now, and the next one before it is used",
        default=(),
    )
    kek_kms_key: str = env(
        "KEK_KMS_KEY", "`aws-kms`: ARN, id or alias of the key that wraps", default=""
    )
    kek_kms_previous_keys: tuple[str, ...] = env(
        "KEK_KMS_PREVIOUS_KEYS",
        "ARNs, ids or aliases of further KMS keys that only open, comma-separated",
        default=(),
    )
    kek_secret_id: str = env(
        "KEK_SECRET_ID",
        "`aws-secrets-manager`: name or ARN of the secret; its version AWSCURRENT wraps,"
        " AWSPREVIOUS and AWSPENDING only open",
        default="",
    )
    kek_aws_region: str = env(
        "KEK_AWS_REGION", "region of the key or secret; else that of the AWS SDK", default=""
    )
    kek_aws_endpoint_url: str = env(
        "KEK_AWS_ENDPOINT_URL",
        "URL in place of AWS's own, such as that of a VPC endpoint; `https`, or on loopback",
        default="",
    )


async def open_ring(settings: KekSettings, session: Session | None = None) -> KekRing:
    """The KEKs that the settings name, each found to be there.

    Without a `session` the AWS SDK looks for credentials where it always does.

    Raises:
        ServiceError: PERMANENT, `kek_missing`, `kek_malformed` or `kek_settings`;
            RETRYABLE, `kek_unavailable`.
    """
    others: list[Kek] = [LocalKek(load_kek(Path(name))) for name in settings.kek_previous_files]
    if settings.kek_provider is KekProvider.FILE and not settings.kek_kms_previous_keys:
        return KekRing(LocalKek(load_kek(settings.kek_file)), *others)
    # It takes a third of a second to import and 20 MB, which a file needs not.
    from libs.keys.aws import Aws  # noqa: PLC0415

    aws = Aws(
        region=settings.kek_aws_region, endpoint_url=settings.kek_aws_endpoint_url, session=session
    )
    others += [await aws.kms_kek(key) for key in settings.kek_kms_previous_keys]
    match settings.kek_provider:
        case KekProvider.FILE:
            primary: Kek = LocalKek(load_kek(settings.kek_file))
        case KekProvider.AWS_KMS:
            _require(settings.kek_kms_key, "TIDEWIRE_KEK_KMS_KEY")
            primary = await aws.kms_kek(settings.kek_kms_key)
        case KekProvider.AWS_SECRETS_MANAGER:
            _require(settings.kek_secret_id, "TIDEWIRE_KEK_SECRET_ID")
            primary, *staged = await aws.secret_keks(settings.kek_secret_id)
            others += staged
    return KekRing(primary, *others)


def _require(value: str, variable: str) -> None:
    if not value:
        raise kek_settings(f"{variable} is required by this TIDEWIRE_KEK_PROVIDER")


def kek_settings(message: str) -> ServiceError:
    """The error for settings that do not fit together."""
    return permanent("kek_settings", message)
