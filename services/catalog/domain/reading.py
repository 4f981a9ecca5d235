"""Reads what TikTok says of single products and of catalogs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote_from_bytes

import msgspec

from services.catalog.domain.answers import id_of, words_of
from services.catalog.domain.feed_log import CatalogFacts, Review

IDS_MAX: Final = 200
"""Ids of one request; TikTok takes 1,000, but a URL of theirs is cut off by servers on the way."""

IDS_BYTES_MAX: Final = 7_000
"""Of the ids as they stand in the URL, so that with all the rest it stays below 8 KiB."""

_TO_BE_HAD: Final = frozenset({"IN_STOCK", "AVAILABLE_FOR_ORDER", "PREORDER"})
_IMAGE_TROUBLE: Final = frozenset({"FAIL", "FILTERED", "NOT_SUPPORTED", "NO_FOUND", "NOT_FOUND"})
_REASONS_MAX: Final = 20


def id_chunks(sku_ids: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """The ids, each once, in parts that fit into one URL, with the encoded parameter of each."""
    part: list[str] = []
    size = 0
    for sku_id in dict.fromkeys(sku_ids):
        length = len(_encoded([sku_id]))
        if part and (len(part) == IDS_MAX or size + length > IDS_BYTES_MAX):
            yield part, _encoded(part)
            part, size = [], 0
        part.append(sku_id)
        size += length
    if part:
        yield part, _encoded(part)


def rows_of(data: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """The entries of a list answer."""
    listed = data.get("list")
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def pages_of(data: Mapping[str, object]) -> int:
    """How many pages there are; 1 where TikTok does not say."""
    info = data.get("page_info")
    total = info.get("total_page") if isinstance(info, Mapping) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else 1


def reviews_of(asked: Sequence[str], rows: Sequence[Mapping[str, object]]) -> list[Review]:
    """The reviews of those of `rows` that were asked for, one an item."""
    wanted = frozenset(asked)
    found: dict[str, Review] = {}
    for row in rows:
        sku_id = id_of(row.get("sku_id"))
        if sku_id in wanted:
            found[sku_id] = _review(sku_id, row)
    return list(found.values())


def facts_of(catalog_id: str, rows: Sequence[Mapping[str, object]]) -> CatalogFacts | None:
    """What `rows` say of a catalog; None where it is not among them."""
    for row in rows:
        if id_of(row.get("catalog_id")) != catalog_id:
            continue
        conf = _mapping(row.get("catalog_conf"))
        # Catalogs are made with `region_code`, and told of with `country`.
        region = conf.get("country") or conf.get("region_code") or row.get("country")
        return CatalogFacts(
            words_of(region or row.get("region_code")),
            words_of(conf.get("currency") or row.get("currency")),
            words_of(conf.get("channel") or row.get("channel")),
            words_of(row.get("catalog_name") or row.get("name")),
        )
    return None


def _encoded(sku_ids: Sequence[str]) -> str:
    return quote_from_bytes(msgspec.json.encode(sku_ids), safe="")


def _review(sku_id: str, row: Mapping[str, object]) -> Review:
    audit = _mapping(row.get("audit"))
    status = words_of(audit.get("audit_status") or row.get("audit_status")).lower()
    return Review(sku_id, status, _is_usable(status, row), tuple(_reasons(status, audit, row)))


def _is_usable(status: str, row: Mapping[str, object]) -> bool:
    """Whether all that is said agrees that it can be advertised; approval alone is not enough."""
    eligible = words_of(row.get("ad_creation_eligible")).upper()
    active = words_of(row.get("active_status")).upper()
    availability = words_of(row.get("availability")).upper().replace(" ", "_")
    return (
        status == "approved"
        and eligible in ("AVAILABLE", "")
        and active in ("ACTIVATED", "")
        and bool(eligible or active)
        and (availability in _TO_BE_HAD or (not availability and bool(eligible)))
    )


def _reasons(status: str, audit: Mapping[str, object], row: Mapping[str, object]) -> Iterator[str]:
    if status == "approved":
        return
    # The table of fields has it beside the audit, the example inside, a client calls it otherwise.
    for place in (audit, row):
        for name in ("rejected_info", "reject_info"):
            listed = place.get(name)
            for entry in (listed if isinstance(listed, list) else [])[:_REASONS_MAX]:
                said = _mapping(entry)
                parts = (words_of(said.get("reason")), words_of(said.get("suggestion")))
                if any(parts):
                    yield ": ".join(one for one in parts if one)
    advice = words_of(audit.get("suggestion"))
    if advice:
        yield advice
    image = words_of(row.get("image_status")).upper()
    if image in _IMAGE_TROUBLE:
        yield f"the image is {image}: it is too small, of another format, or cannot be fetched"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
