"""What an operation costs, and the leaky bucket that it is taken from.

Shopify publishes the idea, not the formula: an object is a point, a scalar and money are free, a
mutation is ten, a connection grows with what it asks for, though less than in proportion. The
growth here is the square root, fitted to recorded answers: one node 3 points, fifty nodes 9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_composite_type,
)

SINGLE_COST_MAX: Final = 1000
PAGE_MAX: Final = 250
_FREE: Final = frozenset(
    {
        "MoneyBag",
        "MoneyV2",
        "PageInfo",
        # As recorded: starting or cancelling an operation is 10 points, whatever is read of it.
        "BulkOperationRunQueryPayload",
        "BulkOperationCancelPayload",
    }
)
_TRANSPARENT: Final = frozenset({"nodes", "edges", "node"})
_MUTATION: Final = 10


class Bucket:
    """One app's points at one shop."""

    def __init__(self, capacity: float, restore_per_s: float) -> None:
        self.capacity = capacity
        self.restore_per_s = restore_per_s
        self.available = capacity
        self._at_s: float | None = None

    def take(self, points: float, now_s: float) -> bool:
        """Takes `points` if there are so many."""
        if self._at_s is not None:
            gained = (now_s - self._at_s) * self.restore_per_s
            self.available = min(self.capacity, self.available + gained)
        self._at_s = now_s
        if points > self.available:
            return False
        self.available -= points
        return True

    def refund(self, points: float) -> None:
        """Gives back what was taken and not used."""
        self.available = min(self.capacity, self.available + max(0.0, points))

    def status(self) -> dict[str, float]:
        """As `throttleStatus` shows it."""
        return {
            "maximumAvailable": self.capacity,
            "currentlyAvailable": math.floor(self.available),
            "restoreRate": self.restore_per_s,
        }


class Costing:
    """Prices one operation, as asked or as answered."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._fragments = {
            one.name.value: one
            for one in document.definitions
            if isinstance(one, FragmentDefinitionNode)
        }
        self._operation = next(
            one for one in document.definitions if isinstance(one, OperationDefinitionNode)
        )
        self.largest_page = 0

    @property
    def name(self) -> str:
        """Of the operation; empty where it has none."""
        return self._operation.name.value if self._operation.name else ""

    @property
    def is_mutation(self) -> bool:
        return self._operation.operation is OperationType.MUTATION

    def roots(self) -> dict[str, str]:
        """The root fields that are asked for: their names, by the keys that answers have."""
        return self._roots_in(self._operation.selection_set)

    def _roots_in(self, selected: SelectionSetNode) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in selected.selections:
            if isinstance(one, FieldNode):
                found[(one.alias or one.name).value] = one.name.value
            elif isinstance(one, InlineFragmentNode):
                found |= self._roots_in(one.selection_set)
            elif isinstance(one, FragmentSpreadNode):
                found |= self._roots_in(self._fragments[one.name.value].selection_set)
        return found

    def points(self, data: Mapping[str, Any] | None = None) -> int:
        """What it asks for, or with `data` what it was answered."""
        root = self._schema.get_root_type(self._operation.operation)
        base = _MUTATION if self.is_mutation else 0
        found = self._selected(self._operation.selection_set, root, data)
        return max(1, math.ceil(base + found))

    def _selected(self, selected: SelectionSetNode | None, parent: Any, data: Any) -> float:
        total = 0.0
        for one in selected.selections if selected else ():
            if isinstance(one, FieldNode):
                total += self._field(one, parent, data)
            elif isinstance(one, InlineFragmentNode):
                condition = one.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                total += self._selected(one.selection_set, inner, data)
            elif isinstance(one, FragmentSpreadNode):
                fragment = self._fragments[one.name.value]
                inner = self._schema.get_type(fragment.type_condition.name.value)
                total += self._selected(fragment.selection_set, inner, data)
        return total

    def _field(self, node: FieldNode, parent: Any, data: Any) -> float:
        name = node.name.value
        definition = getattr(parent, "fields", {}).get(name)
        kind = get_named_type(definition.type) if definition else None
        if kind is None or not is_composite_type(kind) or kind.name in _FREE:
            return 0.0
        value = data.get(name) if isinstance(data, Mapping) else None
        if data is not None and not value:
            return 0.0
        if name in _TRANSPARENT and parent.name.endswith(("Connection", "Edge")):
            inner = value[0] if isinstance(value, Sequence) and value else value
            return self._selected(node.selection_set, kind, inner)
        count = self._count(node, value)
        inner = value[0] if isinstance(value, list) and value else value
        child = self._selected(node.selection_set, kind, inner)
        if isinstance(kind, GraphQLObjectType) and kind.name.endswith("Connection"):
            return 2 + math.ceil(math.sqrt(count)) * (1 + child)
        return count * (1 + child) if name == "nodes" else math.sqrt(count) * (1 + child)

    def _count(self, node: FieldNode, value: Any) -> int:
        """How many a field asks for, or was answered."""
        if isinstance(value, list):
            return len(value)
        if isinstance(value, Mapping) and isinstance(value.get("nodes"), list):
            return len(value["nodes"])
        asked = 1
        for argument in node.arguments or ():
            if argument.name.value in {"first", "last"}:
                asked = self._number(argument.value)
                self.largest_page = max(self.largest_page, asked)
            elif argument.name.value == "ids" and isinstance(argument.value, VariableNode):
                asked = len(self._variables.get(argument.value.name.value) or ())
                self.largest_page = max(self.largest_page, asked)
        return asked

    def _number(self, value: object) -> int:
        if isinstance(value, IntValueNode):
            return int(value.value)
        if isinstance(value, VariableNode):
            return int(self._variables.get(value.name.value) or 0)
        return 0
