"""Settings of catalogs: what the file says of them, and what is refused in file and calls alike."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import protovalidate
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from libs.connections import ConnectionsError, FileConnections
from libs.connections.checks import CATALOG_TARGETS, faults
from libs.connections.index import ConnectionIndex
from libs.errors import ServiceError
from libs.settings import Secret
from services.auth.specs import SETTINGS_UNFIT, changed_by, merged, refuse_paths
from tidewire.connections.v1 import connection_pb2 as pb

HEAD = """\
connections:
  - shop: a
    country: US
    currency: USD
    active_since: 2026-11-22T00:00:00Z
    shopify: {webhook_secrets: [s]}
    tiktok_catalog:
"""
NEEDED = "access_token: sesame, business_center_id: '1'"
EVERYTHING = f"""\
      - {{{NEEDED}, catalog_id: '2'}}
      - access_token: sesame
        business_center_id: '1'
        catalog_id: '3'
        dialect: item_batch
        country: FR
        currency: EUR
        language: fr
        fallback_languages: [de, pt-BR]
        item_id: variant_id
        brand: Example & Søn
        condition: used
        storefront_url: https://example.com/fr
        online_location_ids: ['007', '12']
        preorder_tag: coming soon
        field_rules:
          gender: "tag:for:"
          custom_label_0: metafield:custom.season
          brand: [metafield:custom.maker, vendor]
        rounding: down
        round_to_minor: 5
        check_images: true
        feed_id: '9'
        submit_spacing_s: 0
"""


def of(text: str, directory: Path) -> FileConnections:
    path = directory / "connections.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return FileConnections(path)


def catalogs(text: str, directory: Path) -> Sequence[pb.Connection]:
    return of(text, directory).connections("a", pb.CONNECTION_KIND_TIKTOK_CATALOG)


def test_a_shop_has_several_catalogs_and_every_setting_arrives(tmp_path: Path) -> None:
    plain, french = catalogs(EVERYTHING, tmp_path)

    assert [plain.connection_id, french.connection_id] == ["a.catalog.2", "a.catalog.3"]
    assert plain.tiktok_catalog == pb.CatalogSettings(
        business_center_id="1",
        catalog_id="2",
        dialect="product_upload",
        country="US",
        currency="USD",
        language="en",
    )
    assert french.tiktok_catalog == pb.CatalogSettings(
        business_center_id="1",
        catalog_id="3",
        dialect="item_batch",
        country="FR",
        currency="EUR",
        language="fr",
        fallback_languages=["de", "pt-BR"],
        item_id="variant_id",
        brand="Example & Søn",
        condition="used",
        storefront_url="https://example.com/fr",
        online_location_ids=["007", "12"],
        preorder_tag="coming soon",
        field_rules=[
            pb.CatalogFieldRule(target="custom_label_0", source="metafield:custom.season"),
            pb.CatalogFieldRule(target="gender", source="tag:for:"),
            pb.CatalogFieldRule(target="brand", source="metafield:custom.maker"),
            pb.CatalogFieldRule(target="brand", source="vendor"),
        ],
        rounding="down",
        round_to_minor=5,
        check_images=True,
        feed_id="9",
        submit_spacing_s=0,
    )


def test_what_the_file_said_before_there_were_more_settings_is_not_taken_for_a_change(
    tmp_path: Path,
) -> None:
    plain, _ = catalogs(EVERYTHING, tmp_path)

    said = sha256(plain.tiktok_catalog.SerializeToString(deterministic=True)).hexdigest()

    before = b"\n\x011\x12\x012\x1a\x0eproduct_upload" + b'"\x02US*\x03USD2\x02en'
    assert said == sha256(before).hexdigest()


def test_every_setting_is_known_to_the_file(tmp_path: Path) -> None:
    _, french = catalogs(EVERYTHING, tmp_path)
    (only_market,) = catalogs(
        f"      - {{{NEEDED}, catalog_id: '2', market_prices_only: true}}\n", tmp_path
    )

    said = {field.name for field, _ in french.tiktok_catalog.ListFields()}
    assert only_market.tiktok_catalog.market_prices_only
    assert said | {"market_prices_only"} == {
        field.name for field in pb.CatalogSettings.DESCRIPTOR.fields
    }


async def test_a_catalogs_token_stays_secret_beside_its_settings(tmp_path: Path) -> None:
    connections = of(EVERYTHING, tmp_path)

    entry = connections.entry("a")
    assert "sesame" not in f"{entry} {vars(connections)}"
    assert await connections.access_token("a.catalog.3") == Secret("sesame")


def test_a_catalog_that_comes_twice_is_a_fault(tmp_path: Path) -> None:
    one = f"      - {{{NEEDED}, catalog_id: '2'}}\n"

    with pytest.raises(ConnectionsError) as caught:
        of(one + one, tmp_path)

    [fault] = caught.value.faults
    assert fault.startswith("connections[0].tiktok_catalog[1].catalog_id: is the same as in")


@pytest.mark.parametrize(
    ("said", "place", "advice"),
    [
        ("dialect: xml", "dialect", "product_upload, item_batch"),
        ("country: UK", "country", "US or GB"),
        ("currency: euro", "currency", "ISO 4217"),
        ("language: English", "language", "ISO 639"),
        ("fallback_languages: fr", "fallback_languages", "should be a list"),
        ("fallback_languages: [FR]", "fallback_languages[0]", "ISO 639"),
        ("fallback_languages: [en]", "fallback_languages", "remove it"),
        ("fallback_languages: [fr, de, fr]", "fallback_languages", "remove it"),
        ("fallback_languages: [fr, de, es, it, nl, pl]", "fallback_languages", "more than 5"),
        ("item_id: barcode", "item_id", "sku, variant_id"),
        (f"brand: {'x' * 151}", "brand", "150"),
        ("condition: NEW", "condition", "new, refurbished, used"),
        ("storefront_url: http://example.com", "storefront_url", "https://example.com"),
        ("storefront_url: 'https://example.com/?a=b'", "storefront_url", "without ?"),
        ("online_location_ids: [gid-1]", "online_location_ids[0]", "admin"),
        ("preorder_tag: [a]", "preorder_tag", "one tag"),
        ("field_rules: [vendor]", "field_rules", "should be a mapping"),
        ("field_rules: {title: vendor}", "field_rules", "no known field"),
        ("field_rules: {colour: vendor}", "field_rules", "did you mean `color`?"),
        ("field_rules: {color: colour}", "field_rules.color", "option:<name>"),
        ("field_rules: {color: 'metafield:colour'}", "field_rules.color", "<namespace>.<key>"),
        ("field_rules: {color: [vendor, colour]}", "field_rules.color[1]", "option:<name>"),
        ("field_rules: {color: [vendor, vendor]}", "field_rules", "keep one"),
        (
            f"field_rules: {{color: [{', '.join(f'text:{n}' for n in range(21))}]}}",
            "field_rules",
            "more than 20",
        ),
        ("rounding: even", "rounding", "nearest, up, down"),
        ("round_to_minor: 0.5", "round_to_minor", "whole number"),
        ("market_prices_only: true, rounding: up", "rounding", "remove one"),
        ("market_prices_only: true, round_to_minor: 5", "round_to_minor", "remove one"),
        ("check_images: yes", "check_images", "true, false"),
        ("feed_id: a b", "feed_id", "catalog manager"),
        ("submit_spacing_s: 4000", "submit_spacing_s", "from 0 to 3600"),
        ("spacing: 5", "", "no known field"),
    ],
)
def test_a_fault_names_the_field_and_says_what_to_write(
    tmp_path: Path, said: str, place: str, advice: str
) -> None:
    with pytest.raises(ConnectionsError) as caught:
        of(f"      - {{{NEEDED}, catalog_id: '2', {said}}}\n", tmp_path)

    [fault] = caught.value.faults
    where, _, why = fault.partition(": ")
    assert where == "connections[0].tiktok_catalog[0]" + (f".{place}" if place else "")
    assert advice in why


def test_the_file_knows_the_same_fields_for_rules_as_the_schema() -> None:
    for target in CATALOG_TARGETS:
        protovalidate.validate(pb.CatalogFieldRule(target=target, source="vendor"))
    with pytest.raises(protovalidate.ValidationError):
        protovalidate.validate(pb.CatalogFieldRule(target="custom_label_5", source="vendor"))


# -- calls -----------------------------------------------------------------------------------------


def connection(**more: object) -> pb.Connection:
    settings = pb.CatalogSettings(business_center_id="1", catalog_id="2", **more)  # type: ignore[arg-type]  # fields by name
    return pb.Connection(
        connection_id="a.catalog.2",
        shop="a",
        kind=pb.CONNECTION_KIND_TIKTOK_CATALOG,
        tiktok_catalog=settings,
    )


RULE = pb.CatalogFieldRule(target="color", source="option:Colour")


@pytest.mark.parametrize(
    ("more", "path", "advice"),
    [
        ({"storefront_url": "ftp://example.com"}, "storefront_url", "https://"),
        ({"storefront_url": "https://example.com/#x"}, "storefront_url", "without ? and #"),
        ({"field_rules": [RULE, RULE]}, "field_rules", "color the same source twice"),
        ({"field_rules": [pb.CatalogFieldRule(target="title", source="vendor")]},
         "field_rules[0].target", "custom_label_0"),
        ({"field_rules": [RULE, pb.CatalogFieldRule(target="size", source="sku")]},
         "field_rules[1].source", "option:<name>"),
        ({"language": "fr", "fallback_languages": ["fr"]}, "fallback_languages", "twice"),
        ({"market_prices_only": True, "rounding": "up"}, "rounding", "market_prices_only"),
    ],
)  # fmt: skip
def test_settings_of_a_call_are_held_to_the_same_rules(
    more: dict[str, object], path: str, advice: str
) -> None:
    [fault] = faults(connection(**more))

    assert fault.path == f"tiktok_catalog.{path}"
    assert advice in fault.why


def test_each_setting_can_be_changed_alone_and_taken_back() -> None:
    wanted = connection(
        brand="B", fallback_languages=["fr"], field_rules=[RULE], submit_spacing_s=0
    )
    names = ("brand", "fallback_languages", "field_rules", "submit_spacing_s")
    mask = FieldMask(paths=[f"tiktok_catalog.{name}" for name in names])
    known = connection(condition="used", brand="A", fallback_languages=["de", "es"])
    refuse_paths(known, mask)

    new = changed_by(known, wanted, mask)
    back = changed_by(new, connection(), mask)

    wanted.tiktok_catalog.condition = "used"
    assert new == wanted
    assert back == connection(condition="used")


def test_a_change_that_does_not_fit_what_is_there_is_refused_by_name() -> None:
    with pytest.raises(ServiceError) as caught:
        changed_by(
            connection(rounding="up"),
            connection(market_prices_only=True),
            FieldMask(paths=["tiktok_catalog.market_prices_only"]),
        )

    assert (caught.value.code, caught.value.path) == (SETTINGS_UNFIT, "tiktok_catalog.rounding")


def test_a_catalog_that_is_connected_again_keeps_what_is_not_said_anew() -> None:
    known = connection(field_rules=[RULE], submit_spacing_s=5, brand="A")

    found = merged(connection(submit_spacing_s=0), known)

    assert found == connection(field_rules=[RULE], submit_spacing_s=0, brand="A")


def test_services_that_are_told_of_connections_find_all_catalogs_of_a_shop(tmp_path: Path) -> None:
    index = ConnectionIndex()
    told = catalogs(EVERYTHING, tmp_path)

    for one in told:
        index.put(pb.Connection.FromString(one.SerializeToString()))

    assert list(index.connections("a", pb.CONNECTION_KIND_TIKTOK_CATALOG)) == list(told)
