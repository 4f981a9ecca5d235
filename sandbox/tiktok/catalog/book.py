"""The catalogs there are, and what an endpoint needs to know of a call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from sandbox.tiktok.access import CATALOG_FORBIDDEN, Access
from sandbox.tiktok.catalog.feedlog import Now
from sandbox.tiktok.catalog.settings import CatalogSettings
from sandbox.tiktok.catalog.shelf import Catalog
from sandbox.tiktok.catalog.texts import MISSING
from sandbox.tiktok.config import SandboxConfig
from sandbox.tiktok.faults import Plan
from sandbox.tiktok.verdict import Problem, Refused

CATALOGS_PER_BC: Final = 2000
_NOT_JSON: Final = Problem(40002, "the body is not valid JSON")
_NO_TEXT: Final = Problem(40002, "Not a valid string.")
_FIRST_ID: Final = 7_300_000_000_000_000_001


class Call(NamedTuple):
    """A request to a catalog endpoint as it came."""

    token: str
    query: Mapping[str, str]
    body: bytes | None
    """None for a GET."""

    now: Now
    base_url: str


@dataclass(slots=True)
class Verdict:
    """What the service would answer, and what it would do for it."""

    code: int = 0
    message: str = "OK"
    act: Callable[[Plan], object] | None = None
    """Does the work, under the faults that struck the request, and gives the answer's data.

    Raises:
        Refused: the work cannot be done.
    """

    catalog: Catalog | None = None
    kind: str = ""
    """`upload`, `update`, `delete` or `item_batch`; `""` where nothing is written."""

    skus: Sequence[str] = field(default_factory=tuple)


class CatalogBook:
    """Every catalog, told or made on first use."""

    def __init__(self, config: SandboxConfig, access: Access, now_s: Callable[[], float]) -> None:
        self._config = config
        self.access = access
        self._now_s = now_s
        self.defaults = config.catalog_defaults
        self._ids = itertools.count(_FIRST_ID)
        self._catalogs: dict[str, Catalog] = {}
        self.reset()

    def reset(self) -> None:
        """Only the catalogs of the start are left, empty."""
        self._catalogs.clear()
        for catalog_id, settings in self._config.catalogs.items():
            self.make(catalog_id, settings)

    def next_id(self) -> str:
        return str(next(self._ids))

    def make(self, catalog_id: str, settings: CatalogSettings) -> Catalog:
        """A new, empty catalog."""
        made = Catalog(catalog_id, settings, self._now_s(), self.next_id)
        self._catalogs[catalog_id] = made
        return made

    def get(self, catalog_id: str) -> Catalog | None:
        return self._catalogs.get(catalog_id)

    def __iter__(self) -> Iterator[Catalog]:
        return iter(self._catalogs.values())

    def of_bc(self, bc_id: str) -> list[Catalog]:
        """The catalogs of a Business Center."""
        return [each for each in self if each.settings.bc_id == bc_id]

    def opened(self, call: Call, fields: Mapping[str, Any], *, needs_bc: bool = True) -> Catalog:
        """The catalog that a request is about, settled to its time.

        Raises:
            Refused: 40002 for missing ids, 40001 for a catalog that the token may not touch.
        """
        bc_id = id_in(fields, "bc_id") if needs_bc or fields.get("bc_id") is not None else ""
        catalog_id = id_in(fields, "catalog_id")
        problem = self.access.refusal_of_catalog(call.token, catalog_id)
        forbidden = Problem(40001, CATALOG_FORBIDDEN.format(catalog_id))
        if problem is not None:
            raise Refused(problem, "")
        catalog = self.get(catalog_id)
        if catalog is None:
            if not self._config.create_catalogs:
                raise Refused(forbidden, "")
            catalog = self.make(catalog_id, self.defaults)
        owner = catalog.settings.bc_id
        if not owner and bc_id:
            catalog.settings = msgspec.structs.replace(catalog.settings, bc_id=bc_id)
        elif bc_id and bc_id != owner:
            raise Refused(forbidden, "")
        catalog.settle(call.now)
        return catalog


def id_in(fields: Mapping[str, Any], name: str) -> str:
    """An id that must be there: digits as text.

    Raises:
        Refused: 40002, naming the field.
    """
    found = text_in(fields, name)
    if not (found.isascii() and found.isdigit()):
        raise Refused(Problem(40002, "Not a valid id."), name)
    return found


def text_in(fields: Mapping[str, Any], name: str) -> str:
    """A text that must be there.

    Raises:
        Refused: 40002, naming the field.
    """
    found = fields.get(name)
    if found is None or found == "":
        raise Refused(Problem(40002, f"{MISSING}."), name)
    if not isinstance(found, str):
        raise Refused(_NO_TEXT, name)
    return found


def number_in(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most` in a query.

    Raises:
        Refused: 40002, naming the parameter.
    """
    found = query.get(name)
    if found is None:
        return default
    if not (found.isascii() and found.isdigit() and 1 <= int(found[:12]) <= most):
        raise Refused(Problem(40002, f"Must be between 1 and {most}."), name)
    return int(found)


def object_in(call: Call) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Refused: 40002.
    """
    try:
        found = msgspec.json.decode(call.body or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(_NOT_JSON, "") from None
    if not isinstance(found, dict):
        raise Refused(Problem(40002, "the body is no JSON object"), "")
    return found


def page_info(page: int, page_size: int, total: int) -> dict[str, int]:
    """How TikTok tells which part of a list it gives."""
    pages = -(-total // page_size)
    counted = {"total_number": total, "total_page": pages}
    return {"page": page, "page_size": page_size} | counted
