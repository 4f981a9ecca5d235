"""What a bulk query must be like; the wording of the refusals is Shopify's own, as recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    parse,
    validate,
)

BYTES_MAX: Final = 65_535
CONNECTIONS_MAX: Final = 5
DEPTH_MAX: Final = 2
"""Of a connection below the root's, which is at 0."""

_SYNTAX: Final = "Invalid bulk query: syntax error, "


class Judged(NamedTuple):
    """A bulk query that was read, and what is wrong with it."""

    document: DocumentNode | None
    errors: list[str]
    connections: tuple[str, ...] = ()
    """Names of the connections that are asked for."""


def judged(query: str, schema: GraphQLSchema) -> Judged:
    """What Shopify says to a bulk query before it is taken."""
    size = len(query.encode())
    if size > BYTES_MAX:
        return Judged(None, [f"Query is too large ({size} bytes; maximum is {BYTES_MAX} bytes)"])
    try:
        document = parse(query)
    except GraphQLError as error:
        end = "<EOF>" in error.message
        return Judged(None, [_SYNTAX + ("unexpected end of file" if end else error.message)])
    operation = operation_in(document)
    if operation is None or operation.operation is not OperationType.QUERY:
        text = "Invalid operation type. Only `query` operations are supported."
        return Judged(document, [text])
    wrong = validate(schema, document)
    if wrong:
        return Judged(document, [f"Invalid bulk query: {wrong[0].message}"])
    survey = Survey(schema, fragments_in(document))
    survey.look(operation.selection_set, schema.query_type, None)
    return Judged(document, survey.errors(operation), tuple(survey.connections))


def operation_in(document: DocumentNode) -> OperationDefinitionNode | None:
    """The first operation."""
    found = (one for one in document.definitions if isinstance(one, OperationDefinitionNode))
    return next(found, None)


def fragments_in(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """The named fragments."""
    return {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }


def is_connection(kind: Any) -> bool:
    """Whether a field's type is a connection."""
    return str(getattr(get_named_type(kind), "name", "")).endswith("Connection")


@dataclass(frozen=True, slots=True)
class _Place:
    """The connection that one is in."""

    name: str
    depth: int
    has_id: bool
    in_list: bool


@dataclass(slots=True)
class Survey:
    """Walks a query and notes its connections."""

    schema: GraphQLSchema
    fragments: dict[str, FragmentDefinitionNode]
    connections: list[str] = field(default_factory=list)
    deepest: int = 0
    by_nodes: list[str] = field(default_factory=list)
    without_id: list[str] = field(default_factory=list)
    within_list: bool = False

    def errors(self, operation: OperationDefinitionNode) -> list[str]:
        """All that is wrong, in Shopify's words."""
        found: list[str] = []
        roots = {one.name.value for one in self.fields_of(operation.selection_set)}
        if roots & {"node", "nodes"}:
            found.append("Bulk queries cannot contain a top level `node` field.")
        if not self.connections:
            found.append("Bulk queries must contain at least one connection.")
        if self.by_nodes:
            listed = ", ".join(f"'{one}'" for one in self.by_nodes)
            found.append(
                "All connection fields in a bulk query must select their contents using 'edges' >"
                f" 'node', e.g: '{self.by_nodes[0]} {{ edges {{ node {{'. Selecting via 'nodes' is"
                f" not supported. Invalid connection fields: {listed}."
            )
        if len(self.connections) > CONNECTIONS_MAX:
            found.append(f"Bulk queries cannot contain more than {CONNECTIONS_MAX} connections.")
        if self.deepest > DEPTH_MAX:
            found.append(
                "Bulk queries cannot contain connections with a nesting depth greater than"
                f" {DEPTH_MAX}."
            )
        if self.without_id:
            found.append(
                "The parent 'node' field for a nested connection must select the 'id' field"
                " without an alias and must be of 'ID' return type. Connection fields without"
                f" 'id': {', '.join(self.without_id)}."
            )
        if self.within_list:
            found.append(
                "Queries that contain a connection field within a list field are not currently"
                " supported."
            )
        return found

    def look(self, selected: SelectionSetNode | None, parent: Any, place: _Place | None) -> None:
        """Notes what is selected of `parent`, at a place below a connection's node."""
        for one in selected.selections if selected else ():
            if isinstance(one, FieldNode):
                self._field(one, parent, place)
            elif isinstance(one, InlineFragmentNode):
                condition = one.type_condition
                inner = self.schema.get_type(condition.name.value) if condition else parent
                self.look(one.selection_set, inner, place)
            elif isinstance(one, FragmentSpreadNode):
                fragment = self.fragments[one.name.value]
                inner = self.schema.get_type(fragment.type_condition.name.value)
                self.look(fragment.selection_set, inner, place)

    def _field(self, node: FieldNode, parent: Any, place: _Place | None) -> None:
        definition = getattr(parent, "fields", {}).get(node.name.value)
        if definition is None:
            return
        if is_connection(definition.type):
            self._connection(node, get_named_type(definition.type), place)
            return
        listed = is_list_type(get_nullable_type(definition.type))
        inner = place or _Place("", -1, has_id=True, in_list=False)
        if listed:
            inner = _Place(inner.name, inner.depth, has_id=inner.has_id, in_list=True)
        self.look(node.selection_set, get_named_type(definition.type), inner)

    def _connection(self, node: FieldNode, kind: Any, place: _Place | None) -> None:
        depth = place.depth + 1 if place else 0
        self.connections.append(node.name.value)
        self.deepest = max(self.deepest, depth)
        self.within_list |= place is not None and place.in_list
        if place and not place.has_id and place.name not in self.without_id:
            self.without_id.append(place.name)
        name = node.name.value
        inside = {one.name.value for one in self.fields_of(node.selection_set)}
        if "nodes" in inside or "edges" not in inside:
            self.by_nodes.append(name)
            return
        edge = get_named_type(kind.fields["edges"].type)
        for edges in self.fields_of(node.selection_set):
            for inner in self.fields_of(edges.selection_set):
                if edges.name.value == "edges" and inner.name.value == "node":
                    has_id = any(
                        each.name.value == "id" and not each.alias
                        for each in self.fields_of(inner.selection_set)
                    )
                    below = _Place(name, depth, has_id=has_id, in_list=False)
                    self.look(inner.selection_set, get_named_type(edge.fields["node"].type), below)

    def fields_of(self, selected: SelectionSetNode | None) -> Iterator[FieldNode]:
        """The fields, those of fragments too."""
        for one in selected.selections if selected else ():
            if isinstance(one, FieldNode):
                yield one
            elif isinstance(one, InlineFragmentNode):
                yield from self.fields_of(one.selection_set)
            elif isinstance(one, FragmentSpreadNode):
                yield from self.fields_of(self.fragments[one.name.value].selection_set)
