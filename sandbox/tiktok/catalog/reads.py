"""The endpoints that show items and logs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from sandbox.tiktok.catalog.book import Call, CatalogBook, Verdict, number_in, page_info, text_in
from sandbox.tiktok.catalog.feedlog import LANGUAGES
from sandbox.tiktok.catalog.review import product_of, review_of, shown
from sandbox.tiktok.catalog.shelf import Catalog
from sandbox.tiktok.verdict import Problem, Refused

IDS_MAX: Final = 1000
PAGE_SIZE_MAX: Final = 500
ROWS_MAX: Final = 100_000
CSV_PATH: Final = "/catalog_feed_logs"


def log(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/product/log/`."""
    catalog = book.opened(call, call.query)
    log_id = text_in(call.query, "feed_log_id")
    language = call.query.get("language", "en")
    if language not in LANGUAGES:
        raise Refused(Problem(40002, "Not a valid choice."), "language")
    found = catalog.logs.get(log_id)
    if found is None:
        raise Refused(Problem(40007, "Not exist."), "feed_log_id")
    csv_url = f"{call.base_url}{CSV_PATH}/{catalog.id}/{log_id}/{language}.csv"
    data = found.shown(catalog.id, catalog.settings, call.now, csv_url, language)
    return Verdict(catalog=catalog, act=lambda _: {"product_feed_log": data})


def products(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/product/get/`: by SKU, by TikTok's own id, or page by page."""
    query = call.query
    catalog = book.opened(call, query)
    page_size = number_in(query, "page_size", 10, PAGE_SIZE_MAX)
    page = number_in(query, "page", 1, ROWS_MAX)
    if page * page_size > ROWS_MAX:
        raise Refused(Problem(40002, f"page * page_size is above {ROWS_MAX}."), "page")
    for name in ("conditions", "order", "product_set_ids"):
        if query.get(name):
            raise Refused(Problem(40002, "The sandbox does not know this parameter."), name)
    skus = _asked(query, catalog)
    total = len(catalog.items) if skus is None else len(skus)
    start = (page - 1) * page_size
    if skus is None:
        skus = catalog.ordered()
    part = skus[start : start + page_size]

    def act(_: object) -> object:
        told, now = catalog.settings, call.now
        listed = [shown(sku, catalog.items[sku], told, now) for sku in part]
        return {"list": listed, "page_info": page_info(page, page_size, total)}

    return Verdict(catalog=catalog, act=act)


def _asked(query: Any, catalog: Catalog) -> list[str] | None:
    """The SKUs that a query names and the catalog has; None where it names none."""
    skus, product_ids = query.get("sku_ids"), query.get("product_ids")
    if skus and product_ids:
        raise Refused(Problem(40002, "Not together with product_ids."), "sku_ids")
    if skus:
        return [sku for sku in dict.fromkeys(_ids(skus, "sku_ids")) if sku in catalog.items]
    if not product_ids:
        return None
    wanted = set(_ids(product_ids, "product_ids"))
    return [sku for sku, item in catalog.items.items() if item.product_id in wanted]


def _ids(text: str, name: str) -> list[str]:
    try:
        found = msgspec.json.decode(text.encode(), type=list[str])
    except (msgspec.DecodeError, UnicodeError):
        raise Refused(Problem(40002, "Not a JSON list of strings."), name) from None
    if len(found) > IDS_MAX:
        raise Refused(Problem(40002, f"Longer than maximum {IDS_MAX}."), name)
    return found


def overview(book: CatalogBook, call: Call) -> Verdict:
    """`/catalog/overview/`."""
    catalog = book.opened(call, call.query)
    audits: Counter[str] = Counter(approved=0, rejected=0, processing=0)
    told = catalog.settings
    if told.review_rules or told.image_rules:
        for sku, item in catalog.items.items():
            audits[review_of(sku, item, product_of(item), told, call.now).audit] += 1
    else:
        for sku, item in catalog.items.items():
            audits[review_of(sku, item, {}, told, call.now).audit] += 1
    return Verdict(catalog=catalog, act=lambda _: dict(audits))
