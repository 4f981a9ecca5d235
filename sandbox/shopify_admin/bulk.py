"""Bulk operations: started, run over the shop, cancelled, listed, and told of when they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from graphql import GraphQLError, GraphQLSchema

from libs.clock import Clock
from sandbox.shopify.model import stamp
from sandbox.shopify_admin.access import SCOPE_OF_ROOT, Caller
from sandbox.shopify_admin.bulk_export import Export, prepared, shuffled
from sandbox.shopify_admin.bulk_files import BulkFiles, Output
from sandbox.shopify_admin.bulk_rules import judged
from sandbox.shopify_admin.bulk_script import (
    BulkFaults,
    BulkSettings,
    Fail,
    NoWebhook,
    Stuck,
)
from sandbox.shopify_admin.fields import UnmodelledError
from sandbox.shopify_admin.premises import Town
from sandbox.shopify_admin.search import SearchError
from sandbox.shopify_admin.shapes import gid, windowed
from sandbox.shopify_admin.store import Store

Json = dict[str, Any]

AT_ONCE: Final = 5
AT_ONCE_BEFORE_2026: Final = 1
LIFE_MAX_S: Final = 10 * 86_400.0
"""An operation that has not ended by then fails (contracts: shopify.md 4)."""

LIMIT_TEXT: Final = "Bulk operations limit reached. Please try again later."
_POLL_S: Final = 0.02
_SLICE_S: Final = 0.01
"""Time that an export holds the loop at a time."""

_FIRST_NUMBER: Final = 7_700_000_001
_UNFINISHED: Final = frozenset({"CREATED", "RUNNING", "CANCELING"})
_SCOPE_OF_CONNECTION: Final = {**SCOPE_OF_ROOT, "inventoryLevels": ("read_inventory",)}
_TERM: Final = re.compile(r"(\w+):(\S+)")


@dataclass(slots=True, eq=False)
class Operation:
    """One run of a query."""

    number: int
    domain: str
    app_id: str
    query: str
    origin: str
    created_at_s: float
    begun_s: float
    """Monotonic, as all that this module waits for."""

    export: Export
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    denied: bool = False
    status: str = "CREATED"
    error_code: str | None = None
    objects: int = 0
    roots: int = 0
    ended_at_s: float | None = None
    output: Output | None = None
    took_s: float = 0.0

    @property
    def id(self) -> str:
        return gid("BulkOperation", self.number)

    @property
    def is_over(self) -> bool:
        return self.status not in _UNFINISHED

    def shown(self, url: str | None) -> Json:
        """As GraphQL has it; `url` is where its output is."""
        ended = self.ended_at_s if self.status in {"COMPLETED", "EXPIRED"} else None
        has_size = self.status == "COMPLETED" and self.output is not None
        return {
            "__typename": "BulkOperation",
            "id": self.id,
            "status": self.status,
            "type": "QUERY",
            "errorCode": self.error_code,
            "query": self.query,
            "createdAt": _instant(self.created_at_s),
            "completedAt": None if ended is None else _instant(ended),
            "objectCount": str(self.objects),
            "rootObjectCount": str(self.roots),
            "fileSize": str(self.output.size_bytes) if has_size and self.output else None,
            "url": url if self.status in {"COMPLETED", "CANCELED"} else None,
            "partialDataUrl": url if self.status == "FAILED" else None,
        }

    def webhook_body(self) -> Json:
        """bulk_operations/finish, in lower case as webhooks have it."""
        ended = self.ended_at_s if self.status == "COMPLETED" else None
        return {
            "admin_graphql_api_id": self.id,
            "completed_at": None if ended is None else _stamp(ended),
            "created_at": _stamp(self.created_at_s),
            "error_code": self.error_code and self.error_code.lower(),
            "status": self.status.lower(),
            "type": "query",
        }


class Bulk:
    """The bulk operations of every shop."""

    def __init__(self, clock: Clock, town: Town, store: Callable[[str], Store]) -> None:
        self.faults = BulkFaults()
        self.files = BulkFiles(clock, self.faults)
        self.operations: list[Operation] = []
        self._clock = clock
        self._town = town
        self.store = store
        self._settings: dict[str, BulkSettings] = {}
        self._numbers = itertools.count(_FIRST_NUMBER)
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, domain: str, settings: BulkSettings) -> None:
        """Sets the pace of a shop; of all that have none of their own with an empty domain."""
        self._settings[domain] = settings

    def settings(self, domain: str) -> BulkSettings:
        return self._settings.get(domain) or self._settings.get("") or BulkSettings()

    def let_go(self) -> None:
        """Ends what runs, and removes all outputs."""
        for task in self._tasks:
            task.cancel()
        self.files.remove()

    def equipped(
        self, domain: str, caller: Caller, version: str, schema: GraphQLSchema, origin: str
    ) -> Caller:
        """The caller with the roots and mutations of bulk operations."""
        asking = _Asking(self, domain, caller, version, schema, origin)
        roots = {
            "bulkOperation": asking.one,
            "bulkOperations": asking.listing,
            "currentBulkOperation": asking.current,
        }
        mutations = {
            "bulkOperationRunQuery": asking.run_query,
            "bulkOperationCancel": asking.cancel,
        }
        return Caller(
            caller.app_id,
            caller.scopes,
            {**caller.roots, **roots},
            {**caller.mutations, **mutations},
        )

    def of(self, domain: str, app_id: str) -> list[Operation]:
        """The operations of an app at a shop, the oldest first."""
        return [one for one in self.operations if (one.domain, one.app_id) == (domain, app_id)]

    def node(self, operation: Operation) -> Json:
        """As it is now, with its address while there is one."""
        output = operation.output
        if output is not None and self.files.is_expired(output):
            operation.status = "EXPIRED" if operation.status == "COMPLETED" else operation.status
            output = None
        url = self.files.url_of(operation.origin, output) if output is not None else None
        return operation.shown(url)

    def start(self, asked: Operation, *, grouped: bool) -> None:
        """Lets an operation run; the loop must be running."""
        asked.export.grouped = grouped
        self.operations.append(asked)
        task = asyncio.get_running_loop().create_task(self._run(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def made(self, domain: str, app_id: str, query: str, origin: str, export: Export) -> Operation:
        now_s = self._clock.now_ns() / 1e9
        number = next(self._numbers)
        begun_s = self._clock.monotonic_s()
        return Operation(number, domain, app_id, query, origin, now_s, begun_s, export)

    async def _run(self, operation: Operation) -> None:
        settings = self.settings(operation.domain)
        await self._wait(operation, operation.begun_s + settings.created_s)
        if operation.status == "CREATED":
            operation.status = "RUNNING"
        began_s = self._clock.monotonic_s()
        try:
            error_code = await self._exported(operation, settings)
        except (GraphQLError, KeyError, TypeError, AttributeError):
            error_code = "INTERNAL_SERVER_ERROR"
        operation.took_s = self._clock.monotonic_s() - began_s
        await self._wait(operation, began_s + settings.duration_s)
        operation.error_code = error_code
        operation.ended_at_s = self._clock.now_ns() / 1e9
        if operation.status == "CANCELING":
            operation.status, operation.error_code = "CANCELED", None
        else:
            operation.status = "FAILED" if error_code else "COMPLETED"
        await self._tell(operation, settings)

    async def _wait(self, operation: Operation, until_s: float) -> None:
        """Until the clock says so, or the operation is cancelled."""
        # The clock may be one that tests turn by hand: its own sleep would turn it.
        while not operation.cancelled.is_set() and self._clock.monotonic_s() < until_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(operation.cancelled.wait(), _POLL_S)

    async def _exported(self, operation: Operation, settings: BulkSettings) -> str | None:
        """Writes the output; the code of an error that ends it early."""
        if operation.denied:
            return "ACCESS_DENIED"
        if self.faults.strike(operation.domain, Stuck):
            await self._wait(operation, operation.begun_s + LIFE_MAX_S)
            return "TIMEOUT"
        fail = self.faults.strike(operation.domain, Fail)
        last = fail.after_lines if fail else None
        pieces: Iterator[list[bytes]] = operation.export.lines()
        if settings.shuffle:
            pieces = shuffled(pieces, Random(settings.seed), settings.window)
        output = self.files.create(operation.domain, operation.number, settings.url_valid_s)
        operation.output = output
        with output.open() as file:
            slept_s = self._clock.monotonic_s()
            for piece in pieces:
                if last is not None and operation.objects + len(piece) >= last:
                    del piece[last - operation.objects :]
                file.writelines(piece)
                operation.objects += len(piece)
                operation.roots = operation.export.roots
                if operation.cancelled.is_set() or operation.objects == last:
                    break
                if self._clock.monotonic_s() - slept_s > _SLICE_S:
                    await asyncio.sleep(0)
                    slept_s = self._clock.monotonic_s()
        output.seal(self._clock.now_ns() / 1e9)
        if not output.size_bytes or (fail and not fail.partial):
            operation.output = None
        return fail.error_code if fail else None

    async def _tell(self, operation: Operation, settings: BulkSettings) -> None:
        if self.faults.strike(operation.domain, NoWebhook):
            return
        await self._town.send(
            operation.domain,
            operation.app_id,
            "bulk_operations/finish",
            operation.webhook_body(),
            settings.webhook_secret,
            settings.webhook_url,
        )


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who asks, where, and by which version."""

    bulk: Bulk
    domain: str
    caller: Caller
    version: str
    schema: GraphQLSchema
    origin: str

    def _own(self) -> list[Operation]:
        return self.bulk.of(self.domain, self.caller.app_id)

    def one(self, _info: object, id: str) -> Json | None:  # noqa: A002  # GraphQL's name
        if not id.startswith(gid("BulkOperation", "")):
            raise GraphQLError(f"Invalid id: {id}", extensions={"code": "RESOURCE_NOT_FOUND"})
        found = next((each for each in self._own() if each.id == id), None)
        return None if found is None else self.bulk.node(found)

    def current(self, _info: object, type: str = "QUERY") -> Json | None:  # noqa: A002
        own = self._own() if type == "QUERY" else []
        return self.bulk.node(own[-1]) if own else None

    def listing(  # GraphQL's names
        self,
        info: object,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        query: str | None = None,
        sortKey: str = "CREATED_AT",  # noqa: N803
        reverse: bool = False,  # noqa: FBT001, FBT002
        **_others: object,
    ) -> Json:
        if first is None and last is None:
            raise _bad("you must provide one of first or last")
        if first is not None and last is not None:
            raise _bad("providing both first and last is not supported")
        wanted = dict(_TERM.findall(query or ""))
        unknown = set(wanted) - {"status", "operation_type"}
        if unknown:
            raise _bad(f"this sandbox does not search by {', '.join(sorted(unknown))}")
        nodes = [self.bulk.node(each) for each in self._own()]
        nodes = [each for each in nodes if _is_wanted(each, wanted)]
        if sortKey == "COMPLETED_AT":
            nodes.sort(key=lambda node: node["completedAt"] or "")
        # Newest first, as recorded; `reverse` turns that round.
        return windowed(nodes if reverse else nodes[::-1])(
            info, first=first if first is not None else last, after=after
        )

    def run_query(self, _info: object, query: str, groupObjects: bool = False) -> Json:  # noqa: FBT001, FBT002, N803
        found = judged(query, self.schema)
        if found.errors or found.document is None:
            return _refused([_error(text) for text in found.errors])
        running = [each for each in self._own() if not each.is_over]
        at_once = AT_ONCE if self.version >= "2026-01" else AT_ONCE_BEFORE_2026
        if len(running) >= at_once:
            return _refused([self._too_many(running)])
        store = self.bulk.store(self.domain)
        try:
            export = prepared(found.document, self.schema, store, grouped=groupObjects)
        except (UnmodelledError, SearchError) as error:
            return _refused([_error(str(error))])
        made = self.bulk.made(self.domain, self.caller.app_id, query, self.origin, export)
        needed = (_SCOPE_OF_CONNECTION.get(name) for name in found.connections)
        made.denied = any(scopes and self.caller.lacks(*scopes) for scopes in needed)
        shown = self.bulk.node(made)
        self.bulk.start(made, grouped=groupObjects)
        return {"bulkOperation": shown, "userErrors": []}

    def _too_many(self, running: list[Operation]) -> Json:
        code = self.bulk.settings(self.domain).limit_code
        listed = ", ".join(each.id for each in running)
        text = (
            LIMIT_TEXT
            if code == "LIMIT_REACHED"
            else f"A bulk query operation for this app and shop is already in progress: {listed}."
        )
        return {"field": None, "message": text, "code": code}

    def cancel(self, _info: object, id: str) -> Json:  # noqa: A002
        found = next((each for each in self._own() if each.id == id), None)
        if found is None:
            text = "Bulk operation does not exist"
            return {
                "bulkOperation": None,
                "userErrors": [{"field": ["id"], "message": text}],
            }
        errors: list[Json] = []
        if found.is_over:
            text = f"A bulk operation cannot be canceled when it is {found.status.lower()}"
            errors = [{"field": None, "message": text}]
        else:
            found.status = "CANCELING"
            found.cancelled.set()
        return {"bulkOperation": self.bulk.node(found), "userErrors": errors}


def _is_wanted(node: Json, wanted: dict[str, str]) -> bool:
    status = wanted.get("status", "").strip("'\"").upper()
    kind = wanted.get("operation_type", "").strip("'\"").upper()
    return status in {"", node["status"]} and kind in {"", node["type"]}


def _bad(text: str) -> GraphQLError:
    return GraphQLError(text, extensions={"code": "BAD_REQUEST"})


def _error(text: str) -> Json:
    return {"field": ["query"], "message": text, "code": "INVALID"}


def _refused(errors: list[Json]) -> Json:
    return {"bulkOperation": None, "userErrors": errors}


def _instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp(at_s: float) -> str:
    return stamp(datetime.fromtimestamp(at_s, UTC), -300)
