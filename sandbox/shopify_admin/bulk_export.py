"""Runs a bulk query over a shop: one JSON object a line, as Shopify writes them.

A query becomes functions once, and each object goes through them: an export of a hundred thousand
variants takes seconds, which field by field through a GraphQL engine takes minutes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
    value_from_ast,
)

from sandbox.shopify_admin.bulk_rules import fragments_in, is_connection, operation_in
from sandbox.shopify_admin.fields import FIELDS, Attribute, UnmodelledError, getter_of, type_name
from sandbox.shopify_admin.store import Store

Json = dict[str, Any]
Read = Callable[[Any], Any]

_PAGE_FIELDS: Final = frozenset({"first", "last", "after", "before"})
_BATCH: Final = 20
"""Root objects whose children are written together, connection by connection."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Shape:
    """How objects of one place in a query are read."""

    fields: list[tuple[str, Read]] = field(default_factory=list)
    """The key in the answer, and how its value is read."""

    children: list[_Children] = field(default_factory=list)

    def line(self, found: Any, parent_id: str | None) -> bytes:
        made = {key: read(found) for key, read in self.fields}
        if parent_id is not None:
            made["__parentId"] = parent_id
        return _encode(made).replace(b"/", b"\\/") + b"\n"


Shaped = Callable[[Any], _Shape]
"""The shape that fits an object: of interfaces there are several."""


@dataclass(slots=True)
class _Children:
    """A connection below a node."""

    read: Read
    shaped: Shaped


@dataclass(slots=True)
class Export:
    """A query made ready. `objects` and `roots` count what was written so far."""

    top: list[tuple[Sequence[Any], Shaped]]
    grouped: bool
    objects: int = 0
    roots: int = 0

    def lines(self) -> Iterator[list[bytes]]:
        """All lines, in pieces of a size that does not depend on how much there is."""
        for found, shaped in self.top:
            for begin in range(0, len(found), 1 if self.grouped else _BATCH):
                batch = found[begin : begin + (1 if self.grouped else _BATCH)]
                made: list[bytes] = []
                if self.grouped:
                    self._under(batch, shaped, None, made)
                else:
                    self._by_level(batch, shaped, made)
                self.roots += len(batch)
                self.objects += len(made)
                yield made

    def _under(
        self, found: Iterable[Any], shaped: Shaped, parent_id: str | None, made: list[bytes]
    ) -> None:
        """Each object, and all that is under it."""
        for one in found:
            shape = shaped(one)
            made.append(shape.line(one, parent_id))
            for child in shape.children:
                self._under(child.read(one), child.shaped, id_of(one), made)

    def _by_level(self, found: Sequence[Any], shaped: Shaped, made: list[bytes]) -> None:
        """All objects of a level before any of the next."""
        level: list[tuple[Any, Shaped, str | None]] = [(one, shaped, None) for one in found]
        while level:
            below: list[tuple[Any, Shaped, str | None]] = []
            for one, fitting, parent_id in level:
                shape = fitting(one)
                made.append(shape.line(one, parent_id))
                if shape.children:
                    own_id = id_of(one)
                    for child in shape.children:
                        below += [(each, child.shaped, own_id) for each in child.read(one)]
            level = below


def id_of(found: Any) -> str:
    """The global id."""
    if isinstance(found, dict):
        return str(found["id"])
    return str(getter_of(type_name(found) or "", "id")(found, {}))


def shuffled(pieces: Iterable[list[bytes]], rng: Random, window: int) -> Iterator[list[bytes]]:
    """The same lines in disorder: each may come before or after any of about `window` others."""
    held: list[bytes] = []
    for piece in pieces:
        out: list[bytes] = []
        for line in piece:
            if len(held) < window:
                held.append(line)
                continue
            place = int(rng.random() * window)
            out.append(held[place])
            held[place] = line
        yield out
    rng.shuffle(held)
    yield held


def prepared(
    document: DocumentNode, schema: GraphQLSchema, store: Store, *, grouped: bool
) -> Export:
    """An export of a query that was judged good.

    Raises:
        UnmodelledError: the query asks for what this shop does not have.
        SearchError: it searches as this shop cannot.
    """
    operation = operation_in(document)
    assert operation is not None
    fragments = fragments_in(document)
    maker = _Maker(schema, fragments, plain=False)
    top: list[tuple[Sequence[Any], Shaped]] = []
    for node in maker.fields_of(operation.selection_set, "QueryRoot"):
        definition = schema.query_type.fields[node.name.value]  # type: ignore[union-attr]
        if not is_connection(definition.type):
            continue
        found = store.all_of(node.name.value, maker.arguments(node, definition))
        if found is None:
            raise UnmodelledError(f"this sandbox has no QueryRoot.{node.name.value} in bulk")
        fitting = _Maker(schema, fragments, plain=bool(found) and isinstance(found[0], dict))
        top.append((found, fitting.connection(node, definition.type)))
    return Export(top, grouped)


class _Maker:
    """Turns selections into functions."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], *, plain: bool
    ) -> None:
        self._plain = plain
        self._schema = schema
        self._fragments = fragments

    def arguments(self, node: FieldNode, definition: Any) -> Json:
        """The arguments of a field as literals give them; pages do not count in bulk."""
        given = {one.name.value: one.value for one in node.arguments or ()}
        return {
            name: value_from_ast(given[name], argument.type)
            if name in given
            else argument.default_value
            for name, argument in definition.args.items()
            if name not in _PAGE_FIELDS and (name in given or _is_given(argument.default_value))
        }

    def connection(self, node: FieldNode, kind: Any) -> Shaped:
        """The shapes of the nodes of a connection."""
        connection = get_named_type(kind)
        edge = get_named_type(connection.fields["edges"].type)
        selected = [
            inner.selection_set
            for edges in self.fields_of(node.selection_set, connection.name)
            if edges.name.value == "edges"
            for inner in self.fields_of(edges.selection_set, edge.name)
            if inner.name.value == "node" and inner.selection_set
        ]
        return self._shaped(selected, get_named_type(edge.fields["node"].type))

    def _shaped(self, selected: Sequence[SelectionSetNode], kind: Any) -> Shaped:
        if not is_abstract_type(kind):
            shape = self._shape(selected, kind.name)
            return lambda _found: shape
        shapes = {one.name: self._shape(selected, one.name) for one in self._told_of(kind)}
        return lambda found: shapes[type_name(found) or found["__typename"]]

    def _told_of(self, kind: Any) -> Iterable[Any]:
        """The types behind an interface that this shop has any of."""
        names = ("MediaImage", "Video") if kind.name == "Media" else ()
        possible = self._schema.get_possible_types(kind)
        return [one for one in possible if not names or one.name in names]

    def _shape(self, selected: Sequence[SelectionSetNode], name: str) -> _Shape:
        shape = _Shape()
        for part in selected:
            self._fill(shape, part, name, lambda found: found)
        return shape

    def _fill(self, shape: _Shape, selected: SelectionSetNode, name: str, reach: Read) -> None:
        """Adds what is selected; connections below plain objects are the node's own."""
        parent: Any = self._schema.get_type(name)
        for node in self.fields_of(selected, name):
            key = (node.alias or node.name).value
            if node.name.value == "__typename":
                shape.fields.append((key, lambda _found: name))
                continue
            definition = parent.fields[node.name.value]
            given = self.arguments(node, definition)
            read = _reader(name, node.name.value, given, plain=self._plain)
            if is_connection(definition.type):
                shape.children.append(
                    _Children(_reached(reach, read), self.connection(node, definition.type))
                )
                continue
            if not is_composite_type(get_named_type(definition.type)):
                shape.fields.append((key, read))
                continue
            value = self._composite(node, definition.type, shape, _maybe(reach, read))
            if value is not None:
                listed = is_list_type(get_nullable_type(definition.type))
                shape.fields.append((key, _then(read, value, listed=listed)))

    def _composite(self, node: FieldNode, kind: Any, shape: _Shape, reach: Read) -> Read | None:
        """How an object or a list of them is written; None where nothing but connections is."""
        assert node.selection_set
        inner = get_named_type(kind)
        if is_abstract_type(inner):
            shaped = self._shaped([node.selection_set], inner)
            return lambda found: {key: read(found) for key, read in shaped(found).fields}
        below = _Shape()
        self._fill(below, node.selection_set, inner.name, reach)
        shape.children += below.children
        fields = below.fields
        if not fields and below.children:
            return None
        if len(fields) == 1:
            [(only, read_only)] = fields
            return lambda found: {only: read_only(found)}
        if len(fields) == 2:  # money and texts: most objects in an export
            (first, read_first), (second, read_second) = fields
            return lambda found: {first: read_first(found), second: read_second(found)}
        return lambda found: {key: read(found) for key, read in fields}

    def fields_of(self, selected: SelectionSetNode | None, name: str) -> Iterator[FieldNode]:
        """The fields that are asked of a concrete type."""
        for one in selected.selections if selected else ():
            if isinstance(one, FieldNode):
                yield one
                continue
            if isinstance(one, InlineFragmentNode):
                condition, inner = one.type_condition, one.selection_set
            else:
                fragment = self._fragments[one.name.value]  # type: ignore[attr-defined]
                condition, inner = fragment.type_condition, fragment.selection_set
            if condition is None or self._is(name, condition.name.value):
                yield from self.fields_of(inner, name)

    def _is(self, name: str, wanted: str) -> bool:
        if name == wanted:
            return True
        abstract, concrete = self._schema.get_type(wanted), self._schema.get_type(name)
        return is_abstract_type(abstract) and self._schema.is_sub_type(abstract, concrete)  # type: ignore[arg-type]


def _is_given(default: object) -> bool:
    return str(default) != "Undefined"


def _reader(name: str, field_name: str, arguments: Json, *, plain: bool) -> Read:
    """How a field is read of a type; with `plain` all objects are mappings of webhooks' bodies.

    Raises:
        UnmodelledError: this shop does not have the field.
    """
    if plain:
        return lambda found: _of_mapping(found.get(field_name), arguments)
    if name not in FIELDS:
        return operator.itemgetter(field_name)
    getter = getter_of(name, field_name)
    if isinstance(getter, Attribute):
        return operator.attrgetter(getter.name)
    return lambda found: getter(found, arguments)


def _of_mapping(value: Any, arguments: Json) -> Any:
    if callable(value):
        value = value(None, **arguments)
    return value["nodes"] if isinstance(value, dict) and "pageInfo" in value else value


def _maybe(reach: Read, read: Read) -> Read:
    def through(found: Any) -> Any:
        reached = reach(found)
        return None if reached is None else read(reached)

    return through


def _reached(reach: Read, read: Read) -> Read:
    def through(found: Any) -> Any:
        reached = reach(found)
        return () if reached is None else read(reached)

    return through


def _then(read: Read, value: Read, *, listed: bool) -> Read:
    """Reads an object, or a list of them, and writes it."""
    if listed:
        return lambda found: [value(one) for one in read(found) or ()]

    def through(found: Any) -> Any:
        inner = read(found)
        return None if inner is None else value(inner)

    return through
