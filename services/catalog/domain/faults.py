"""What is wrong with a product or a variant, before it is said of which."""

from __future__ import annotations

from dataclasses import dataclass

from services.catalog.domain.items import Note, Refusal


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong, by its stable code, the merchant's name of the field, and advice."""

    code: str
    field: str
    message: str

    def note(self, variant_id: str = "") -> Note:
        """As something that was put right; without a variant it is the whole product's."""
        return Note(variant_id, self.code, self.field, self.message)


def refusal(variant_id: str, sku_id: str, faults: list[Fault]) -> Refusal:
    """One refusal for all `faults` of a variant: the first gives code and field."""
    first = faults[0]
    message = " Also: ".join(f"{fault.message}" for fault in faults)
    return Refusal(variant_id, sku_id, first.code, first.field, message)
