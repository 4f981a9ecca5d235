"""The dialects by name."""

from __future__ import annotations

from services.catalog.domain.dialect import Dialect
from services.catalog.domain.dialect_item_batch import ItemBatch
from services.catalog.domain.dialect_product_upload import ProductUpload
from services.catalog.domain.settings import DialectName

_DIALECTS: dict[DialectName, Dialect] = {
    DialectName.PRODUCT_UPLOAD: ProductUpload(),
    DialectName.ITEM_BATCH: ItemBatch(),
}


def dialect_of(name: DialectName) -> Dialect:
    return _DIALECTS[name]
