"""The endpoints about catalogs themselves: create, list, places, event sources."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sandbox.tiktok.catalog.book import (
    CATALOGS_PER_BC,
    Call,
    CatalogBook,
    Verdict,
    id_in,
    number_in,
    object_in,
    page_info,
    text_in,
)
from sandbox.tiktok.catalog.places import CURRENCIES, CURRENCIES_OF, REGIONS
from sandbox.tiktok.catalog.shelf import Catalog
from sandbox.tiktok.verdict import Problem, Refused

NAME_MAX: Final = 128
PAGE_SIZE_MAX: Final = 1000
TYPES: Final = (
    "ECOM",
    "HOTEL",
    "FLIGHT",
    "DESTINATION",
    "ENTERTAINMENT",
    "AUTO_VEHICLE",
    "AUTO_MODEL",
    "MINI_SERIES",
)
_NO_CHOICE: Final = Problem(40002, "Not a valid choice.")
_NO_COUNTRY: Final = Problem(40002, "Invalid or unsupported country")
_FULL: Final = Problem(40002, "The Business Center has too many catalogs.")


def create(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/create/`: region and currency stay for ever."""
    fields = object_in(call)
    bc_id, name = id_in(fields, "bc_id"), text_in(fields, "name")
    if len(name) > NAME_MAX:
        raise Refused(Problem(40002, f"Longer than maximum {NAME_MAX}."), "name")
    catalog_type = _choice(fields, "catalog_type", TYPES)
    conf = fields.get("catalog_conf")
    if not isinstance(conf, dict):
        raise Refused(Problem(40002, "Missing data for required field."), "catalog_conf")
    region = text_in(conf, "region_code")
    if region not in REGIONS:
        raise Refused(_NO_COUNTRY, "catalog_conf.region_code")
    told = {
        "bc_id": bc_id,
        "name": name,
        "catalog_type": catalog_type,
        "region": region,
        "currency": _choice(conf, "currency", CURRENCIES),
        "channel": _choice({"channel": "CLIENT"} | conf, "channel", ("PARTNER", "CLIENT")),
    }
    if len(book.of_bc(bc_id)) >= CATALOGS_PER_BC:
        raise Refused(_FULL, "bc_id")

    def act(_: object) -> object:
        settings = msgspec.structs.replace(book.defaults, **told)
        return {"catalog_id": book.make(book.next_id(), settings).id}

    return Verdict(act=act)


def _choice(fields: dict[str, Any], name: str, values: tuple[str, ...] | list[str]) -> str:
    found = text_in(fields, name)
    if found not in values:
        raise Refused(_NO_CHOICE, name)
    return found


def listed(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/get/`, which says `country` where `create` says `region_code`."""
    query = call.query
    bc_id = id_in(query, "bc_id")
    page_size = number_in(query, "page_size", 10, PAGE_SIZE_MAX)
    page = number_in(query, "page", 1, CATALOGS_PER_BC)
    asked = query.get("catalog_id")
    found = [
        catalog
        for catalog in book.of_bc(bc_id)
        if asked in {None, "", catalog.id}
        and book.access.refusal_of_catalog(call.token, catalog.id) is None
    ]
    part = found[(page - 1) * page_size : page * page_size]
    data = {
        "list": [_shown(catalog) for catalog in part],
        "page_info": page_info(page, page_size, len(found)),
    }
    return Verdict(act=lambda _: data)


def _shown(catalog: Catalog) -> dict[str, Any]:
    told, created = catalog.settings, _time_text(catalog.created_s)
    conf = {"country": told.region, "currency": told.currency, "channel": told.channel}
    return {
        "catalog_id": catalog.id,
        "catalog_name": told.name,
        "catalog_type": told.catalog_type,
        "ad_creation_eligible": "AVAILABLE" if catalog.items else "NOT_AVAILABLE",
        "create_time": created,
        "update_time": created,
        "bc_info": {"bc_id": told.bc_id, "bc_name": "Sandbox Business Center"},
        "catalog_conf": conf,
    }


def _time_text(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"


def regions(_book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/available_country/get/`."""
    id_in(call.query, "bc_id")
    return Verdict(act=lambda _: {"region_codes": REGIONS})


def currencies(_book: CatalogBook, _call: Call) -> Verdict:
    """`/catalog/location_currency/get/`."""
    data = [{"location": place, "currency": found} for place, found in CURRENCIES_OF.items()]
    return Verdict(act=lambda _: {"list": data})


def bind(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/eventsource/bind/`."""
    catalog, source = _source_in(book, call)

    def act(_: object) -> object:
        catalog.bound[source] = None
        return {}

    return Verdict(catalog=catalog, act=act)


def unbind(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/eventsource/unbind/`."""
    catalog, source = _source_in(book, call)
    if source not in catalog.bound:
        raise Refused(Problem(40007, "The event source is not bound."), "pixel_code")

    def act(_: object) -> object:
        catalog.bound.pop(source, None)
        return {}

    return Verdict(catalog=catalog, act=act)


def _source_in(book: CatalogBook, call: Call) -> tuple[Catalog, tuple[str, str, str]]:
    fields = object_in(call)
    catalog = book.opened(call, fields)
    advertiser = id_in(fields, "advertiser_id")
    pixel, app = (text_in(fields, name) if fields.get(name) else "" for name in _SOURCES)
    if not pixel and not app:
        raise Refused(Problem(40002, "Either pixel_code or app_id is required."), "pixel_code")
    problem = book.access.refusal_of_source(call.token, pixel) if pixel else None
    if problem is not None:
        raise Refused(problem, "pixel_code")
    return catalog, (advertiser, pixel, app)


_SOURCES: Final = ("pixel_code", "app_id")


def bound(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/eventsource_bind/get/`."""
    catalog = book.opened(call, call.query)
    sources = [
        {"event_source_name": f"Sandbox source {pixel or app}", "pixel_code": pixel, "app_id": app}
        for _, pixel, app in catalog.bound
    ]
    data = {"catalog_id": catalog.id, "event_sources": sources}
    return Verdict(catalog=catalog, act=lambda _: data)
