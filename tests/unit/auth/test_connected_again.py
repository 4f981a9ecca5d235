"""What stays of a connection that is connected again, or imported again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from structlog.testing import capture_logs

from libs.bus.commit_log import MemoryLog, Stored
from libs.connections.names import tiktok_shop_id
from libs.errors import Kind, ServiceError, permanent
from libs.keys import MemoryKeySource
from libs.settings import Secret
from libs.telemetry import Metrics
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from services.auth.adapters.records import connection_records
from services.auth.book import Book
from services.auth.domain.grants import App, Grant
from services.auth.importer import Importer
from services.auth.kept_stores import BookedStores
from services.auth.linking import Linking
from services.auth.ports import Place
from services.auth.refresher import Refresher
from services.auth.tokens import Tokens
from tests.fakes.provider import PlayedProvider, PlayedProviders
from tests.fakes.virtual_clock import VirtualClock
from tests.unit.auth.replicas import PlayedLiveness
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import health_pb2, record_pb2
from tidewire.connections.v1 import connection_pb2
from tidewire.delivery.v1 import gate_pb2

FILE = """
connections:
  - shop: example
    country: US
    currency: USD
    active_since: 2026-11-01T00:00:00Z
    shopify: {webhook_secrets: [w1]}
    tiktok_events: [{access_token: from-file, pixel_code: C1, shadow: true}]
"""
PIXEL = "example.events.C1"


class Open:
    """Gates that are all open."""

    def shut(self, name: str) -> gate_pb2.Gate | None:
        return None


class Nobody:
    """Knows where every store is, unless `trouble` comes instead, and notes what it is told."""

    def __init__(self) -> None:
        self.trouble: ServiceError | None = None
        self.told: list[str] = []

    async def place(self, shop: str) -> Place:
        self.told.append("asked for its place")
        if self.trouble is not None:
            raise self.trouble
        return Place("GB", "GBP")

    async def forget(self, scope: str) -> None:
        pass

    def soon(self, shop: str) -> None:
        self.told.append("looked at soon")

    def state(self, connection_id: str, state: object, code: str) -> None:
        self.told.append(code)


class Log(MemoryLog):
    """A log that is away for some reads."""

    away = 0

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        if self.away:
            self.away -= 1
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        return await super().read_fresh(subjects)


class Picky(Linking):
    """Refuses one connection for good."""

    refused = ""

    async def stored(self, connection_id: str) -> record_pb2.StoredConnection:
        if connection_id == self.refused:
            raise permanent("key_unreadable")
        return await super().stored(connection_id)


class House:
    """The token service's inside, in memory."""

    def __init__(
        self, file: Path, log: Log | None = None, keys: MemoryKeySource | None = None
    ) -> None:
        self.log, self.clock = log or Log(), VirtualClock()
        self.keys = keys or MemoryKeySource()
        self.records = connection_records(self.log)
        self.grants = GrantStore(self.log, Vault(self.keys))
        self.book = Book(self.records, self.grants, Open())
        nobody = self.nobody = Nobody()
        self.linking = Picky(
            book=self.book,
            records=self.records,
            grants=self.grants,
            providers=PlayedProviders(PlayedProvider()),
            places=nobody,
            forgetting=nobody,
            clock=self.clock,
            attention=nobody,
            told=nobody.state,
        )
        self.file = file
        self.importer = Importer(file, self.book, self.linking)

    def restarted(self) -> House:
        """Another process on what this one has stored."""
        other = House(self.file, self.log, self.keys)
        for stored in self.log.newest.values():
            is_connection = ".connections." in stored.subject
            (other.records if is_connection else other.grants).take(stored)
        return other

    async def connect_pixel(self, **settings: object) -> str:
        spec = pb.ConnectionSpec(
            shop="example",
            kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
            tiktok_events=connection_pb2.EventsSettings(pixel_code="C1", **settings),  # type: ignore[arg-type]
        )
        grant = Grant(access_token=Secret("by-oauth"))
        return await self.linking.connect(spec, pb.GRANT_FLOW_UNSPECIFIED, grant)

    async def connect_store(self) -> str:
        spec = pb.ConnectionSpec(shop="another", kind=connection_pb2.CONNECTION_KIND_SHOPIFY)
        grant = Grant(access_token=Secret("by-oauth"))
        return await self.linking.connect(spec, pb.GRANT_FLOW_UNSPECIFIED, grant)

    async def looked_at(self, store: str) -> None:
        """Notes that the keeper has looked at a store."""
        providers, alone = PlayedProviders(PlayedProvider()), PlayedLiveness("r", set())
        refresher = Refresher(self.grants, providers, alone, self.clock, Metrics())
        tokens = Tokens(self.grants, refresher, providers, self.clock)
        await BookedStores(self.book, self.linking, tokens).note(
            store,
            webhooks=health_pb2.WebhookHealth(),
            version=health_pb2.VersionHealth(),
            granted_scopes=(),
            missing_scopes=(),
        )

    def place_of(self, connection_id: str) -> tuple[str, str]:
        connection = self.book.status(connection_id).connection
        return connection.country, connection.currency

    async def token(self) -> str:
        kept = self.grants.known(PIXEL)
        assert kept is not None
        return (await self.grants.open(kept)).access_token.reveal()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "connections.yaml"
    path.write_text(FILE)
    return path


async def test_a_file_that_says_the_same_does_not_undo_what_a_person_connected(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.connect_pixel()

    other = house.restarted()
    taken = await other.importer.look()

    assert (taken, await other.token()) == (0, "by-oauth")


async def test_a_file_that_says_the_same_does_not_bring_back_what_was_revoked(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.linking.revoke(PIXEL)

    other = house.restarted()
    taken = await other.importer.look()

    assert (taken, other.book.kept(PIXEL)) == (0, None)


async def test_a_file_that_says_something_new_is_taken_in(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    _write(file, FILE.replace("from-file", "newer"))

    taken = await house.importer.look()

    assert (taken, await house.token()) == (1, "newer")


async def test_settings_stay_that_are_not_named_when_a_pixel_is_connected_again(file: Path) -> None:
    house = House(file)
    await house.importer.look()

    await house.connect_pixel(test_event_code="T1")

    settings = house.book.status(PIXEL).connection.tiktok_events
    assert (settings.shadow, settings.test_event_code) == (True, "T1")


async def test_new_settings_in_the_file_leave_the_token_that_a_person_connected(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.connect_pixel()
    _write(file, FILE.replace("shadow: true", "shadow: false"))

    taken = await house.importer.look()

    assert (taken, await house.token()) == (1, "by-oauth")
    assert not house.book.status(PIXEL).connection.tiktok_events.shadow


async def test_new_settings_in_the_file_do_not_bring_back_what_was_revoked(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.linking.revoke(PIXEL)
    _write(file, FILE.replace("shadow: true", "shadow: false"))

    assert (await house.importer.look(), house.book.kept(PIXEL)) == (0, None)


async def test_a_new_token_in_the_file_brings_back_what_was_revoked(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.linking.revoke(PIXEL)
    _write(file, FILE.replace("from-file", "newer"))

    assert (await house.importer.look(), await house.token()) == (1, "newer")
    assert house.book.kept(PIXEL) is not None


async def test_a_process_that_has_not_read_the_records_yet_overwrites_none(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    await house.connect_pixel()
    other = House(file, house.log, house.keys)

    taken = await other.importer.look()

    assert (taken, len(house.log.history)) == (0, 6)


async def test_shops_of_one_seller_keep_their_own_ciphers(file: Path) -> None:
    seller = "{{app_key: k, app_secret: s, access_token: same, shop_cipher: {}}}"
    both = ", ".join(map(seller.format, ("one", "two")))
    _write(file, f"{FILE}    tiktok_shop: [{both}]\n")
    house = House(file)

    await house.importer.look()

    for cipher in ("one", "two"):
        kept = house.grants.known(tiktok_shop_id("example", cipher))
        assert kept is not None
        grant = await house.grants.open(kept)
        assert (grant.shop_cipher, grant.access_token) == (Secret(cipher), Secret("same"))


async def test_another_key_of_a_tiktok_shops_app_is_taken_in(file: Path) -> None:
    seller = "{app_key: k, app_secret: s, access_token: t, shop_cipher: one}"
    _write(file, f"{FILE}    tiktok_shop: [{seller}]\n")
    house = House(file)
    await house.importer.look()
    _write(file, f"{FILE}    tiktok_shop: [{seller.replace('app_key: k', 'app_key: other')}]\n")

    assert await house.importer.look() == 1


async def test_a_file_that_was_not_touched_is_not_read_again(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    _write_unnoticed(file, FILE.replace("from-file", "from-fire"))

    assert (await house.importer.look(), await house.token()) == (0, "from-file")


async def test_a_secret_file_that_is_written_anew_is_taken_in(file: Path) -> None:
    secret = file.with_name("token")
    secret.write_text("first")
    _write(file, FILE.replace("access_token: from-file", f"access_token_file: {secret}"))
    house = House(file)
    for _ in range(2):
        await house.importer.look()
    secret.write_text("the-second")
    await house.importer.look()

    assert await house.token() == "the-second"


async def test_what_a_file_no_longer_names_stays(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    _write(file, "connections: []\n")

    assert (await house.importer.look(), await house.token()) == (0, "from-file")


async def test_a_file_with_faults_keeps_nobody_from_starting_and_is_warned_about_once(
    file: Path,
) -> None:
    _write(file, FILE.replace("pixel_code: C1", "pixel_code: C.1"))
    house, ready = House(file), asyncio.Event()

    with capture_logs() as lines:
        running = asyncio.create_task(house.importer.run(ready.set))
        await asyncio.wait_for(ready.wait(), 5)
        house.importer.stop()
        await running

    [line] = [one for one in lines if one["event"] == "connections_not_imported"]
    assert "pixel_code" in line["reason"]
    assert "from-file" not in str(lines)


async def test_no_file_is_no_fault(file: Path) -> None:
    house = House(file.with_name("nowhere.yaml"))

    assert (await house.importer.look(), list(house.book.index.by_id)) == (0, [])


def _write(file: Path, text: str) -> None:
    file.write_text(text)


def _write_unnoticed(file: Path, text: str) -> None:
    as_it_was = file.stat()
    file.write_text(text)
    os.utime(file, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))


async def test_what_another_app_exchanged_is_not_kept_with_the_app_before(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    own = App("own-app", Secret("own-secret"))
    spec = pb.ConnectionSpec(shop="example", kind=connection_pb2.CONNECTION_KIND_SHOPIFY)
    await house.linking.connect(
        spec, pb.GRANT_FLOW_UNSPECIFIED, Grant(access_token=Secret("1"), app=own)
    )

    await house.linking.connect(spec, pb.GRANT_FLOW_UNSPECIFIED, Grant(access_token=Secret("2")))

    kept = house.grants.known("example.shopify")
    assert kept is not None
    assert (await house.grants.open(kept)).app is None


async def test_a_grant_is_stored_although_nats_is_away_for_a_moment(file: Path) -> None:
    house = House(file)
    await house.importer.look()
    house.log.away = 3

    await house.clock.drive(house.connect_pixel())

    assert await house.token() == "by-oauth"


async def test_one_entry_that_cannot_be_taken_keeps_no_other_out(file: Path) -> None:
    house = House(file)
    house.linking.refused = "example.shopify"

    taken = await house.importer.look()

    assert (taken, await house.token()) == (1, "from-file")


async def test_a_store_that_names_no_place_is_asked_for_it_last(file: Path) -> None:
    house = House(file)

    store = await house.connect_store()

    assert house.place_of(store) == ("GB", "GBP")
    assert house.nobody.told == ["looked at soon", "connected", "asked for its place"]


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_store_that_cannot_say_where_it_is_is_connected_all_the_same(
    file: Path, kind: Kind
) -> None:
    house = House(file)
    house.nobody.trouble = ServiceError(kind, "limits_unreachable")

    store = await house.connect_store()

    assert house.book.has_token(store)
    assert house.nobody.told[:2] == ["looked at soon", "connected"]


async def test_the_next_look_at_a_store_asks_for_the_place_that_lacks(file: Path) -> None:
    house = House(file)
    house.nobody.trouble = ServiceError(Kind.THROTTLED, "limits_unreachable")
    store = await house.connect_store()

    with pytest.raises(ServiceError, match="limits_unreachable"):
        await house.looked_at(store)
    house.nobody.trouble = None
    for _ in range(2):
        await house.looked_at(store)

    assert house.place_of(store) == ("GB", "GBP")
    # When it was connected, at the look that failed, and at the first of the others.
    assert house.nobody.told.count("asked for its place") == 3


async def test_a_place_that_was_named_meanwhile_stays(file: Path) -> None:
    house = House(file)
    house.nobody.trouble = ServiceError(Kind.THROTTLED, "limits_unreachable")
    store = await house.connect_store()
    named = connection_pb2.Connection(connection_id=store, country="IE")
    await house.linking.update(named, FieldMask(paths=["country"]), expected=0)
    house.nobody.trouble = None

    await house.looked_at(store)

    assert house.place_of(store) == ("IE", "GBP")
