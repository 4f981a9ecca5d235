"""Which KEKs a process has: its settings, and the ring that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from libs.keys.endpoint import kek_settings
from libs.keys.file import LocalKek, load_kek
from libs.keys.kek import Kek, KekRing
from libs.settings import env

if TYPE_CHECKING:
    from boto3.session import Session

    from libs.keys.vault_transit import TransitKey


class KekProvider(StrEnum):
    """Where the KEK that wraps comes from. There is none that leaves keys in clear."""

    FILE = "file"
    AWS_KMS = "aws-kms"
    AWS_SECRETS_MANAGER = "aws-secrets-manager"
    VAULT_TRANSIT = "vault-transit"


@dataclass(frozen=True, kw_only=True)
class KekSettings:
    """The knobs of the key-encryption key."""

    kek_provider: KekProvider = env(
        "KEK_PROVIDER",
        "what wraps the data keys: `file`, `aws-kms`, `aws-secrets-manager` or `vault-transit`",
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
    kek_vault_url: str = env(
        "KEK_VAULT_URL",
        "`vault-transit`: URL of Vault or OpenBao; `https`, or on loopback",
        default="",
    )
    kek_vault_key: str = env(
        "KEK_VAULT_KEY",
        "`vault-transit`: name of the transit key; its latest version wraps, the others open",
        default="",
    )
    kek_vault_previous_keys: tuple[str, ...] = env(
        "KEK_VAULT_PREVIOUS_KEYS",
        "names of further transit keys that only open, comma-separated",
        default=(),
    )
    kek_vault_mount: str = env(
        "KEK_VAULT_MOUNT", "where the transit engine is mounted", default="transit"
    )
    kek_vault_token_file: str = env(
        "KEK_VAULT_TOKEN_FILE",
        "file with the token for Vault, read for each call, as an agent writes and renews it",
        default="",
    )
    kek_vault_namespace: str = env(
        "KEK_VAULT_NAMESPACE", "namespace of the transit engine, where Vault has them", default=""
    )
    kek_vault_ca_file: str = env(
        "KEK_VAULT_CA_FILE",
        "file with the certificates to trust in Vault's place, as PEM; else those of the system",
        default="",
    )


async def open_ring(settings: KekSettings, session: Session | None = None) -> KekRing:
    """The KEKs that the settings name, each found to be there.

    Without a `session` the AWS SDK looks for credentials where it always does.

    Raises:
        ServiceError: PERMANENT, `kek_missing`, `kek_malformed` or `kek_settings`;
            RETRYABLE, `kek_unavailable`.
    """
    wrapping: list[Kek] = []
    opening: list[Kek] = [LocalKek(load_kek(Path(name))) for name in settings.kek_previous_files]
    provider = settings.kek_provider
    if provider is KekProvider.FILE:
        wrapping.append(LocalKek(load_kek(settings.kek_file)))
    if (
        provider in (KekProvider.AWS_KMS, KekProvider.AWS_SECRETS_MANAGER)
        or settings.kek_kms_previous_keys
    ):
        first, others = await _at_aws(settings, session)
        wrapping += first
        opening += others
    newer: list[Callable[[str], Kek | None]] = []
    if provider is KekProvider.VAULT_TRANSIT or settings.kek_vault_previous_keys:
        for key in await _at_vault(settings):
            newer.append(key.newer)
            opening += key.older
            # The key that wraps comes first, where Vault is the provider.
            is_primary = provider is KekProvider.VAULT_TRANSIT and not wrapping
            (wrapping if is_primary else opening).append(key.latest)
    return KekRing(*wrapping, *opening, newer=newer)


async def _at_aws(
    settings: KekSettings, session: Session | None
) -> tuple[Sequence[Kek], Sequence[Kek]]:
    """The KEK there that wraps, if one does, and those that only open."""
    # It takes a third of a second to import and 20 MB, which a file needs not.
    from libs.keys.aws import Aws  # noqa: PLC0415

    aws = Aws(
        region=settings.kek_aws_region, endpoint_url=settings.kek_aws_endpoint_url, session=session
    )
    others: list[Kek] = [await aws.kms_kek(key) for key in settings.kek_kms_previous_keys]
    match settings.kek_provider:
        case KekProvider.AWS_KMS:
            _require(settings.kek_kms_key, "TIDEWIRE_KEK_KMS_KEY")
            return [await aws.kms_kek(settings.kek_kms_key)], others
        case KekProvider.AWS_SECRETS_MANAGER:
            _require(settings.kek_secret_id, "TIDEWIRE_KEK_SECRET_ID")
            current, *staged = await aws.secret_keks(settings.kek_secret_id)
            return [current], [*others, *staged]
        case _:
            return [], others


async def _at_vault(settings: KekSettings) -> Sequence[TransitKey]:
    """The transit key that wraps, if one does, and then those that only open."""
    # Not at the top: what needs a file only would load an HTTP client for nothing.
    from libs.keys.vault_transit import VaultTransit  # noqa: PLC0415

    _require(settings.kek_vault_url, "TIDEWIRE_KEK_VAULT_URL")
    _require(settings.kek_vault_token_file, "TIDEWIRE_KEK_VAULT_TOKEN_FILE")
    vault = VaultTransit(
        settings.kek_vault_url,
        Path(settings.kek_vault_token_file),
        mount=settings.kek_vault_mount,
        namespace=settings.kek_vault_namespace,
        ca_file=Path(settings.kek_vault_ca_file) if settings.kek_vault_ca_file else None,
    )
    keys = []
    if settings.kek_provider is KekProvider.VAULT_TRANSIT:
        _require(settings.kek_vault_key, "TIDEWIRE_KEK_VAULT_KEY")
        keys.append(await vault.key(settings.kek_vault_key))
    for name in settings.kek_vault_previous_keys:
        keys.append(await vault.key(name, wraps=False))  # noqa: PERF401
    return keys


def _require(value: str, variable: str) -> None:
    if not value:
        raise kek_settings(f"{variable} is required by what else TIDEWIRE_KEK_… says")
