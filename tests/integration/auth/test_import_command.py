"""`tidewire connections import`: a token that exists already, with all that keeps it alive."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.connections import import_token
from services.auth.domain.grants import Family, Grant
from tests.fakes import callers
from tests.fakes.until import until
from tests.integration.auth.service import Rig


@pytest.fixture(autouse=True)
def _operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in callers.environment("operator").items():
        monkeypatch.setenv(name, value)


class Importing:
    """The command as a person gives it; secrets lie in files."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self._rig = rig
        self._directory = directory

    def file(self, name: str) -> Path:
        path = self._directory / name
        path.write_text(f"{self._rig.token(name)}\n")
        return path

    async def code(self, kind: str, **options: Any) -> int:
        """How it exits."""
        address = f"127.0.0.1:{self._rig.server.port}"
        with pytest.raises(typer.Exit) as ended:
            await asyncio.to_thread(
                import_token,
                kind,
                shop=self._rig.shop,
                token_file=self.file("access"),
                address=address,
                **options,
            )
        return ended.value.exit_code

    async def grant(self, connection_id: str) -> Grant:
        """What the token service keeps."""
        await until(lambda: self._rig.grants.known(connection_id) is not None)
        kept = self._rig.grants.known(connection_id)
        assert kept is not None
        return await self._rig.grants.open(kept)


@pytest.fixture
def importing(rig: Rig, tmp_path: Path) -> Importing:
    return Importing(rig, tmp_path)


async def test_a_token_is_imported_with_what_refreshes_it(rig: Rig, importing: Importing) -> None:
    code = await importing.code(
        "shopify",
        country="US",
        currency="USD",
        expires_at="2099-12-01T12:00:00Z",
        refresh_token_file=importing.file("refresh"),
        refresh_expires_at="2100-01-01T01:00:00+01:00",
        webhook_secret_file=importing.file("webhooks"),
    )

    grant = await importing.grant(f"{rig.shop}.shopify")
    assert code == 0
    assert grant.access_token.reveal() == rig.token("access")
    assert grant.expires_at == datetime(2099, 12, 1, 12, tzinfo=UTC)
    assert grant.refresh_token is not None
    assert grant.refresh_token.reveal() == rig.token("refresh")
    assert grant.refresh_expires_at == datetime(2100, 1, 1, tzinfo=UTC)
    assert [one.reveal() for one in grant.webhook_secrets] == [rig.token("webhooks")]


async def test_a_tiktok_shop_is_imported_with_its_cipher(rig: Rig, importing: Importing) -> None:
    await rig.connected()

    code = await importing.code(
        "tiktok-shop",
        expires_at="2099-12-01T12:00:00Z",
        refresh_token_file=importing.file("refresh"),
        cipher_file=importing.file("cipher"),
    )

    (connection_id,) = (one for one in rig.book.index.ids_of(rig.shop) if ".tiktok_shop." in one)
    grant = await importing.grant(connection_id)
    assert code == 0
    assert grant.shop_cipher is not None
    assert grant.shop_cipher.reveal() == rig.token("cipher")


async def test_an_accounts_token_is_refreshed_as_such(rig: Rig, importing: Importing) -> None:
    await rig.connected()

    code = await importing.code(
        "tiktok-events", settings=["tiktok_events.pixel_code=C9"], account_holder=True
    )

    await importing.grant(f"{rig.shop}.events.C9")
    kept = rig.grants.known(f"{rig.shop}.events.C9")
    assert code == 0
    assert kept is not None
    assert kept.record.family == Family.TIKTOK_ACCOUNT


async def test_a_token_alone_never_expires(rig: Rig, importing: Importing) -> None:
    code = await importing.code("shopify", country="US", currency="USD")

    grant = await importing.grant(f"{rig.shop}.shopify")
    assert code == 0
    assert (grant.expires_at, grant.refresh_token, grant.refresh_expires_at) == (None, None, None)


@pytest.mark.parametrize("text", ["soon", "2099-12-01", "2099-12-01T12:00:00"])
async def test_a_time_without_a_zone_is_refused(importing: Importing, text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--expires-at"):
        import_token("shopify", shop="x", token_file=importing.file("access"), expires_at=text)
