from __future__ import annotations

import asyncio
import os
import re
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import protovalidate
import pytest
from structlog.testing import capture_logs

from libs.connections import ConnectionsError, FileConnections, shop_handle
from libs.errors import Kind, ServiceError
from libs.settings import Secret
from tidewire.connections.v1 import connection_pb2 as pb

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLE = DOCS / "connections.example.yaml"

SHOP = """\
  - shop: {shop}
    country: US
    currency: USD
    active_since: 2026-11-22T00:00:00Z
    shopify: {{webhook_secrets: [{secrets}]}}
"""


def of(text: str, directory: Path) -> FileConnections:
    path = directory / "connections.yaml"
    path.write_text(text, encoding="utf-8")
    return FileConnections(path)


def shops(*pairs: tuple[str, str], more: str = "") -> str:
    made = "".join(SHOP.format(shop=shop, secrets=secrets) for shop, secrets in pairs)
    return f"connections:\n{made}{more}"


def faults(text: str, directory: Path) -> tuple[str, ...]:
    with pytest.raises(ConnectionsError) as caught:
        of(text, directory)
    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "connections_invalid")
    return caught.value.faults


def one_fault(text: str, directory: Path) -> str:
    (found,) = faults(text, directory)
    return found


# -- handles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        ("example.myshopify.com", "example"),
        ("Example-2.myshopify.com", "example-2"),
        ("0.myshopify.com", "0"),
    ],
)
def test_a_handle_is_taken_from_the_domain_in_lower_case(text: str, handle: str) -> None:
    assert shop_handle(text) == handle


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example",
        "-example.myshopify.com",
        "example.myshopify.com\n",
        "example.myshopify.com.evil.example",
        "evil.example/example.myshopify.com",
        "evil.example.myshopify.com",
        "examplexmyshopify.com",
        "éxample.myshopify.com",
        "https://example.myshopify.com",
        ".myshopify.com",
        "example.MYSHOPIFY.com",
    ],
)
def test_what_is_no_myshopify_domain_has_no_handle(text: str) -> None:
    assert shop_handle(text) is None


def test_a_bare_handle_counts_where_it_is_asked_for() -> None:
    assert shop_handle("Example", bare=True) == "example"
    assert shop_handle("exa mple", bare=True) is None
    assert shop_handle("example\n", bare=True) is None


# -- what a good file says -------------------------------------------------------------------------


def test_the_documented_example_is_good_and_means_what_it_says() -> None:
    connections = FileConnections(EXAMPLE)

    shop = connections.shop("example")
    assert shop is not None
    assert (shop.domain, shop.country, shop.currency) == ("example.myshopify.com", "US", "USD")
    assert shop.active_since == datetime(2026, 11, 22, tzinfo=UTC)
    norway = connections.shop("second-example")
    assert norway is not None
    assert norway.country == "NO"
    assert norway.active_since == datetime(2026, 11, 22, 11, tzinfo=UTC)
    assert [one.handle for one in connections.shops()] == ["example", "second-example"]
    assert connections.sinks("example") == ("events.C4EXAMPLE0001", "events.C4EXAMPLE0002")
    assert connections.sinks("second-example") == ()


def test_settings_of_a_pixel_arrive_in_its_connection() -> None:
    first, second = FileConnections(EXAMPLE).connections(
        "example", pb.CONNECTION_KIND_TIKTOK_EVENTS
    )

    assert first.connection_id == "example.events.C4EXAMPLE0001"
    assert (first.shop, first.country, first.currency) == ("example", "US", "USD")
    assert first.state == pb.CONNECTION_STATE_ACTIVE
    assert first.active_since.ToDatetime(UTC) == datetime(2026, 11, 22, tzinfo=UTC)
    assert first.tiktok_events == pb.EventsSettings(
        pixel_code="C4EXAMPLE0001",
        dialect=pb.EVENTS_DIALECT_EVENT_TRACK,
        purchase_event="Purchase",
        consent_unknown="send",
    )
    assert second.tiktok_events == pb.EventsSettings(
        pixel_code="C4EXAMPLE0002",
        dialect=pb.EVENTS_DIALECT_PIXEL_TRACK,
        shadow=True,
        guide_lists=True,
        content_id="variant_id",
        event_id_templates={
            "purchase": "purchase.{order_id}",
            "initiate_checkout": "checkout.{checkout_token}",
            "add_to_cart": "atc.{cart_token}.{variant_id}.{quantity_after}",
        },
        limited_data_use=pb.LIMITED_DATA_USE_REGIONS,
        limited_data_use_regions=["US-CA", "US-VA"],
        shop_money=True,
        max_event_age_s=604_800,
        consent_unknown="send",
    )


def test_every_connection_of_the_example_keeps_the_rules_of_its_schema() -> None:
    connections = FileConnections(EXAMPLE)
    found = [
        connection
        for kind in pb.ConnectionKind.values()
        for connection in connections.connections("example", kind)
    ]

    for connection in found:
        protovalidate.validate(connection)
    assert [one.connection_id for one in found] == [
        "example.shopify",
        "example.events.C4EXAMPLE0001",
        "example.events.C4EXAMPLE0002",
        "example.catalog.7000000000000000002",
        "example.catalog.7000000000000000003",
        f"example.tiktok_shop.{sha256(b'replace-me').hexdigest()[:8]}",
    ]


def test_what_is_not_used_yet_is_kept() -> None:
    entry = FileConnections(EXAMPLE).entry("example")

    assert entry is not None
    assert entry.tiktok_catalog[0].settings.business_center_id == "7000000000000000001"
    assert entry.tiktok_shop[0].refresh_token == Secret("replace-me")
    assert entry.policies.stock_conflict == "cancel"


def test_every_field_is_documented_and_every_documented_field_exists() -> None:
    from libs.connections import catalogs, entries  # noqa: PLC0415 - the one look behind the front

    groups = [catalogs.CATALOG_FIELDS] + [
        getattr(entries, f"_{group}_FIELDS")
        for group in ("SHOP", "SHOPIFY", "EVENTS", "TIKTOK_SHOP", "POLICY")
    ]
    known = {name for group in groups for name in group if not name.endswith("_file")}
    documented = re.findall(r"^\| `(\w+)` \|", (DOCS / "connections.md").read_text(), re.MULTILINE)

    assert set(documented) == known


def test_a_shop_may_be_named_by_its_handle_and_is_found_in_lower_case(tmp_path: Path) -> None:
    connections = of(shops(("Example", "s1")), tmp_path)

    assert connections.shop("example") is not None
    assert connections.shop("Example") is None


def test_no_shops_at_all_is_a_good_file(tmp_path: Path) -> None:
    connections = of("connections: []", tmp_path)

    assert list(connections.shops()) == []
    assert connections.webhook_secrets(None) == ()


def test_shops_may_share_settings_by_anchors(tmp_path: Path) -> None:
    more = """\
  - &common {shop: a, country: US, currency: USD, active_since: 2026-01-01T00:00:00Z,
             shopify: {webhook_secrets: [s]}}
  - <<: *common
    shop: b
"""
    connections = of("connections:\n" + more, tmp_path)

    assert [one.handle for one in connections.shops()] == ["a", "b"]


# -- credentials -----------------------------------------------------------------------------------


def test_a_known_shop_is_tried_with_its_own_secrets_only(tmp_path: Path) -> None:
    connections = of(shops(("a", "a1, a2"), ("b", "b1")), tmp_path)

    found = connections.webhook_secrets("a")

    assert [(one.secret_id, one.key) for one in found] == [("a.0", b"a1"), ("a.1", b"a2")]


@pytest.mark.parametrize("handle", [None, "stranger"])
def test_an_unknown_shop_is_tried_with_every_distinct_secret(
    tmp_path: Path, handle: str | None
) -> None:
    connections = of(shops(("a", "app, a1"), ("b", "app"), ("c", "c1")), tmp_path)

    found = connections.webhook_secrets(handle)

    assert [(one.secret_id, one.key) for one in found] == [
        ("_app.0", b"app"),
        ("a.1", b"a1"),
        ("c.0", b"c1"),
    ]


async def test_tokens_are_given_by_connection() -> None:
    connections = FileConnections(EXAMPLE)

    token = await connections.access_token("example.events.C4EXAMPLE0002")

    assert token.reveal() == "replace-me-too"
    with pytest.raises(ServiceError) as unknown:
        await connections.access_token("example.events.C9")
    assert (unknown.value.kind, unknown.value.code) == (Kind.PERMANENT, "connection_unknown")
    with pytest.raises(ServiceError) as missing:
        await connections.access_token("second-example.shopify")
    assert (missing.value.kind, missing.value.code) == (Kind.AUTH, "access_token_missing")


def test_secrets_may_stand_in_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "hooks").write_text("s1\ns2\n")
    (tmp_path / "token").write_text("  t1\n")
    text = shops(("a", "x")).replace("webhook_secrets: [x]", "webhook_secrets_file: hooks")
    pixel = "    tiktok_events: [{access_token_file: token, pixel_code: C1}]\n"

    connections = of(text + pixel, tmp_path)

    assert [one.key for one in connections.webhook_secrets("a")] == [b"s1", b"s2"]
    entry = connections.entry("a")
    assert entry is not None
    assert entry.tiktok_events[0].access_token == Secret("t1")


def test_nothing_that_can_be_printed_shows_a_secret(tmp_path: Path) -> None:
    more = "    tiktok_events: [{access_token: sesame-2, pixel_code: C1}]\n"
    connections = of(shops(("a", "sesame-1"), more=more), tmp_path)

    shown = f"{connections.webhook_secrets('a')} {connections.entry('a')} {vars(connections)}"

    assert "sesame" not in shown
    assert "a.0" in shown


# -- faults ----------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = """\
connections:
  - shop: https://a.myshopify.com
    country: UK
    currency: usd
    active_since: 2026-11-22
    shopify: {webhook_secrets: []}
  - shop: b
    county: US
    country: us
    currency: [USD]
    active_since: 2026-13-01T00:00:00Z
    shopify: {webhook_secrets: [s, s], api_version: latest}
    tiktok_events:
      - {pixel_code: C1, access_token: t, dialect: v2, shadow: "yes", max_event_age_s: 9999999}
      - {pixel_code: C.1, content_id: ean, event_ids: {refund: x}}
      - {pixel_code: C1, access_token: "two words"}
    policies: {stock_buffer: -1}
  - just text
"""

    found = faults(text, tmp_path)

    assert [fault.partition(": ")[0] for fault in found] == [
        "connections[0].shop",
        "connections[0].country",
        "connections[0].currency",
        "connections[0].active_since",
        "connections[0].shopify.webhook_secrets",
        "connections[1]",
        "connections[1].country",
        "connections[1].currency",
        "connections[1].active_since",
        "connections[1].policies.stock_buffer",
        "connections[1].shopify.webhook_secrets[1]",
        "connections[1].shopify.api_version",
        "connections[1].tiktok_events[0].dialect",
        "connections[1].tiktok_events[0].shadow",
        "connections[1].tiktok_events[0].max_event_age_s",
        "connections[1].tiktok_events[1].access_token",
        "connections[1].tiktok_events[1].pixel_code",
        "connections[1].tiktok_events[1].content_id",
        "connections[1].tiktok_events[1].event_ids",
        "connections[1].tiktok_events[2].pixel_code",
        "connections[1].tiktok_events[2].access_token",
        "connections[2]",
        *(f"connections[2].{name}" for name in ("shop", "country", "currency", "active_since")),
        "connections[2].shopify",
    ]
    assert "did you mean `country`?" in found[5]


@pytest.mark.parametrize("version", ["unstable", "2026-99", "2026-1"])
def test_a_version_that_changes_is_a_fault(version: str, tmp_path: Path) -> None:
    entry = SHOP.replace("[{secrets}]", "[s], api_version: {secrets}").format(
        shop="a", secrets=version
    )

    assert one_fault(f"connections:\n{entry}", tmp_path).startswith(
        "connections[0].shopify.api_version: "
    )


def test_a_shop_that_comes_twice_is_a_fault_also_under_its_other_name(tmp_path: Path) -> None:
    found = one_fault(shops(("a", "s1"), ("b", "s2"), ("A.myshopify.com", "s3")), tmp_path)

    assert found.startswith("connections[2].shop: is the same as in connections[0]")


def test_two_shops_may_share_a_pixel(tmp_path: Path) -> None:
    pixel = "    tiktok_events: [{access_token: t, pixel_code: C1}]\n"

    connections = of(
        shops(("a", "s")) + pixel + SHOP.format(shop="b", secrets="s") + pixel, tmp_path
    )

    assert connections.sinks("a") == connections.sinks("b") == ("events.C1",)


@pytest.mark.parametrize(
    ("pixel", "place"),
    [
        ("guide_lists: true", "guide_lists"),
        ("dialect: pixel_track, offline_event_set_id: x1", "offline_event_set_id"),
        ("limited_data_use: always, limited_data_use_regions: [US]", "limited_data_use_regions"),
        ("limited_data_use: regions, limited_data_use_regions: [us]",
         "limited_data_use_regions[0]"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_faults(
    tmp_path: Path, pixel: str, place: str
) -> None:
    more = f"    tiktok_events: [{{access_token: t, pixel_code: C1, {pixel}}}]\n"

    found = one_fault(shops(("a", "s1"), more=more), tmp_path)

    assert found.startswith(f"connections[0].tiktok_events[0].{place}: ")


def test_a_secret_given_here_and_in_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t2")
    more = "    tiktok_events: [{access_token: t, access_token_file: token, pixel_code: C1}]\n"

    found = one_fault(shops(("a", "s1"), more=more), tmp_path)

    assert found.startswith("connections[0].tiktok_events[0].access_token_file: is given beside")


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("country", "ISO 3166-1"),
        ("currency", "ISO 4217"),
        ("active_since", "2026-11-22T00:00:00Z"),
        ("shop", "myshopify domain"),
        ("shopify", "webhook_secrets"),
    ],
)
def test_a_missing_field_says_what_to_write(tmp_path: Path, field: str, hint: str) -> None:
    lines = shops(("a", "s1")).splitlines()
    without = [line for line in lines if not line.strip(" -").startswith(f"{field}:")]
    text = "\n".join(without).replace("connections:\n    country", "connections:\n  - country")

    found = one_fault(text, tmp_path)

    assert found.startswith(f"connections[0].{field}: is missing")
    assert hint in found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "the file"),
        ("[]", "the file"),
        ("connections: {}", "the file"),
        ("connections: []\nextra: 1", "the file"),
        ("connections: [sesame: *sesame", "line 1, column 23"),
        ("connections: []\nconnections: []", "line 2"),
        ("connections: []\n\x07", "the file"),
        ("connections: [{[a]: b}]", "line 1, column 16"),
        ("connections: [!!timestamp sesame]", "line 1, column 15"),
        ("connections: !!python/name:os.system sesame", "line 1, column 14"),
        ("connections: [!!map sesame]", "line 1, column 15"),
    ],
)
def test_what_is_no_such_yaml_is_one_fault_that_quotes_nothing(
    tmp_path: Path, text: str, place: str
) -> None:
    found = one_fault(text, tmp_path)

    assert found.startswith(f"{place}: ")
    assert "sesame" not in found


def test_a_key_given_twice_is_a_fault_not_a_choice(tmp_path: Path) -> None:
    text = shops(("a", "s1")) + "    currency: EUR\n"

    assert one_fault(text, tmp_path) == "line 7: `currency` is given twice; keep one"


def test_no_fault_repeats_what_may_be_a_secret(tmp_path: Path) -> None:
    text = """\
connections:
  - shop: sesame one
    country: sesame
    currency: sesame
    active_since: sesame
    shopify: {webhook_secrets: "sesame", access_token: "ses ame", access_token_file: sesame}
    tiktok_events: [sesame, {access_token: [sesame], pixel_code: "sesame!", dialect: sesame}]
    shpat_sesamesesamesesamesesamesesame: 1
    tiktok_shop: sesame
"""

    found = faults(text, tmp_path)

    assert len(found) > 10
    assert "ses" not in " ".join(found)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConnectionsError, match="No such file"):
        FileConnections(tmp_path / "nowhere.yaml")
    (tmp_path / "latin").write_bytes(b"connections: [\xe9]")
    with pytest.raises(ConnectionsError, match="UTF-8"):
        FileConnections(tmp_path / "latin")


def test_ten_thousand_faults_make_a_message_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConnectionsError) as caught:
        of("connections: [" + "x, " * 2_000 + "x]", tmp_path)

    assert len(caught.value.faults) > 10_000
    assert caught.value.message.count("\n") < 110


# -- changes ---------------------------------------------------------------------------------------


async def test_a_changed_file_is_read_and_told(tmp_path: Path) -> None:
    connections = of(shops(("a", "a1")), tmp_path)
    told: list[int] = []
    unsubscribe = connections.subscribe(lambda: told.append(len(list(connections.shops()))))

    unchanged = await connections.refresh()
    (tmp_path / "connections.yaml").write_text(shops(("a", "a1"), ("b", "b1")))
    changed = await connections.refresh()
    unsubscribe()
    (tmp_path / "connections.yaml").write_text(shops(("c", "c1")))
    await connections.refresh()

    assert (unchanged, changed) == (False, True)
    assert told == [2]
    assert connections.shop("a") is None
    assert [one.key for one in connections.webhook_secrets("a")] == [b"c1"]


async def test_a_broken_new_file_changes_nothing_and_is_told_once(tmp_path: Path) -> None:
    connections = of(shops(("a", "sesame1")), tmp_path)
    path = tmp_path / "connections.yaml"

    with capture_logs() as logs:
        path.write_text("connections: [{shop: sesame two}]")
        answers = [await connections.refresh() for _ in range(3)]

    assert answers == [False] * 3
    assert connections.shop("a") is not None
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == ["connections_not_reloaded"]
    assert "connections[0].shop" in str(warnings)
    assert "sesame" not in str(warnings)


async def test_a_deleted_file_changes_nothing_and_its_return_is_noticed(tmp_path: Path) -> None:
    connections = of(shops(("a", "a1")), tmp_path)
    path = tmp_path / "connections.yaml"

    path.unlink()
    gone = await connections.refresh()
    path.write_text(shops(("b", "b1")))
    back = await connections.refresh()

    assert (gone, back) == (False, True)
    assert connections.shop("b") is not None


async def test_a_rotated_secret_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "hooks").write_text("old")
    text = shops(("a", "x")).replace("webhook_secrets: [x]", "webhook_secrets_file: hooks")
    connections = of(text, tmp_path)

    # As a secret volume does it: another file under the same name, of the same size.
    (tmp_path / "hooks.new").write_text("new")
    (tmp_path / "hooks.new").rename(tmp_path / "hooks")
    changed = await connections.refresh()

    assert changed
    assert [one.key for one in connections.webhook_secrets("a")] == [b"new"]


async def test_a_secret_file_that_comes_late_completes_the_change(tmp_path: Path) -> None:
    connections = of(shops(("a", "a1")), tmp_path)
    text = shops(("a", "x")).replace("webhook_secrets: [x]", "webhook_secrets_file: hooks")
    (tmp_path / "connections.yaml").write_text(text)

    early = await connections.refresh()
    (tmp_path / "hooks").write_text("new")
    late = await connections.refresh()

    assert (early, late) == (False, True)


async def test_a_change_of_the_same_size_is_noticed_by_its_time(tmp_path: Path) -> None:
    connections = of(shops(("a", "a1")), tmp_path)
    path = tmp_path / "connections.yaml"
    before = path.stat()

    path.write_text(shops(("b", "a1")))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))

    assert await connections.refresh()


async def test_while_it_runs_it_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(shops(("a", "a1")))
    connections = FileConnections(path, poll_s=0.01)
    changed, ready = asyncio.Event(), asyncio.Event()
    connections.subscribe(changed.set)

    running = asyncio.create_task(connections.run(ready.set))
    await ready.wait()
    path.write_text(shops(("a", "a1"), ("b", "b1")))
    async with asyncio.timeout(5):
        await changed.wait()
        connections.stop()
        await running

    assert connections.shop("b") is not None


# -- speed -----------------------------------------------------------------------------------------


def test_a_lookup_costs_about_a_microsecond_among_many_shops(tmp_path: Path) -> None:
    connections = of(shops(*((f"shop-{n}", f"s{n}") for n in range(500))), tmp_path)
    lookups: list[Callable[[], object]] = [
        lambda: connections.shop("shop-77"),
        lambda: connections.webhook_secrets("shop-77"),
        lambda: connections.webhook_secrets(None),
        lambda: connections.sinks("shop-77"),
    ]

    best_s = [min(timeit.repeat(one, number=1_000, repeat=20)) / 1_000 for one in lookups]

    # Loose, for busy machines: a search through 500 shops would cost ten times as much.
    assert max(best_s) < 3e-6
