"""A schema -> one of the same meaning that the provider's importer takes.

The importer makes a column of each member and refuses names with `$`, and members that are a list
once and a text once. Only what JSON Schema (2020-12) says to be the same is put in place of it, and
only where a schema may stand: what looks like one in an `enum` or a `default` is data.
"""

import re
from typing import Any, Final

import msgspec

from penstock.core.gemini_request import SCHEMA

Node = dict[str, Any]

LEVELS_MAX: Final = 40
"""Schemas within schemas; the provider refuses far less. Deeper ones keep their references."""

GROWTH_MAX: Final = 4
"""What a schema may weigh without references, in times what it weighs with them."""

GROWTH_FREE: Final = 1_000
"""What it may weigh in any case."""

_MEMBER_WEIGHT: Final = 8

_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
"""Members that say something of a value and ask nothing of it."""

_DROPPED: Final = frozenset({"$schema", "$comment", "$id"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "defs"})
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_ONES: Final = frozenset(
    {
        "items",
        "additionalProperties",
        "contains",
        "not",
        "if",
        "then",
        "else",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_BESIDE_TYPE: Final = frozenset({"anyOf", "allOf", "oneOf", "not", "if", "const", "$ref"})
"""What may refuse null although `type` allows it, or stands where `anyOf` would go."""

_ANCHORS: Final = frozenset({"$id", "$anchor", "$dynamicAnchor"})
_MAY_BE_NULL: Final = frozenset({"default", "example"})
_REFERENCE: Final = re.compile(r"#/(\$defs|definitions)/([^/%~]+)")


_JSON_MARKS: Final = (b'"$', b'"type":[', b"null", b'"properties":{}')


class _Unresolvable(Exception):
    """A reference cannot be replaced without changing what the schema means."""


def provider_schema(schema: Node, done: set[str], *, is_json: bool) -> Node:
    """Return the schema for the provider; itself if nothing is to be done.

    `is_json` tells JSON Schema from the provider's own dialect. What is done is added to `done`.
    """
    if not _may_need_it(schema, is_json=is_json):
        return schema
    mine: set[str] = set()
    try:
        after = _Copier(schema, mine, is_json=is_json).root(schema)
    except _Unresolvable:
        mine.clear()
        after = _Copier(None, mine, is_json=is_json).root(schema)
    done |= mine
    return after if mine else schema


def _may_need_it(schema: Node, *, is_json: bool) -> bool:
    """Tell by the bytes whether anything could be to do; to copy a schema takes far longer."""
    text = msgspec.json.encode(schema)
    marks = _JSON_MARKS if is_json else (*_JSON_MARKS, b"_")
    return any(mark in text for mark in marks)


class _Copier:
    """Copies one schema; without the whole of it, references stay."""

    def __init__(self, whole: Node | None, done: set[str], *, is_json: bool) -> None:
        self._whole = whole
        self._done = done
        self._is_json = is_json
        self._left: int | None = None

    def root(self, schema: Node) -> Node:
        """Return the copy of the whole schema."""
        if self._whole is not None and "$ref" in schema:
            # Its own definitions stand beside it, which nothing else may.
            raise _Unresolvable
        # The definitions first: whether they are needed shows in what names them.
        kept = {name: inner for name, inner in schema.items() if name not in _DEFINITIONS}
        after: Node = self._copy(kept, (), is_root=True)
        for name in _DEFINITIONS & schema.keys():
            self._settle_definitions(name, schema[name], after)
        return after

    def _settle_definitions(self, name: str, definitions: object, after: Node) -> None:
        if self._whole is not None and (name == "$defs" or "schema_reference" in self._done):
            # Nothing names them any more.
            self._done.add("schema_reference")
        else:
            after[name] = self._map(definitions, ())

    def _copy(self, node: object, stack: tuple[str, ...], *, is_root: bool = False) -> Any:  # noqa: ANN401  # JSON
        if type(node) is not dict:
            return node
        if len(stack) > LEVELS_MAX and self._whole is not None:
            raise _Unresolvable
        if self._whole is not None:
            if "$ref" in node:
                return self._resolved(node, stack)
            if not is_root and not _ANCHORS.isdisjoint(node):
                raise _Unresolvable
        after: Node = {}
        for name, inner in node.items():
            self._add(after, self._name(name, node), inner, stack, is_root=is_root)
        return self._json_types(after) if self._is_json else self._own_types(after)

    def _name(self, name: str, node: Node) -> str:
        """Return the provider's own spelling in its own dialect."""
        camel = None if self._is_json else SCHEMA.camel_of.get(name)
        if camel is None or node.get(camel) is not None:
            return name
        self._done.add("snake_case_member")
        return camel

    def _add(
        self, after: Node, name: str, inner: object, stack: tuple[str, ...], *, is_root: bool
    ) -> None:
        below = (*stack, "")
        if name in _DROPPED and (is_root or name != "$id"):
            self._done.add("schema_annotation")
        elif inner is None and not self._is_json and name not in _MAY_BE_NULL:
            self._done.add("null_member")
        elif name == "properties" and inner == {}:
            self._done.add("schema_empty")
        elif name in _MAPS:
            after[name] = self._map(inner, below)
        elif name in _LISTS and type(inner) is list:
            after[name] = [self._copy(one, below) for one in inner]
        elif name in _ONES:
            after[name] = self._copy(inner, below)
        else:
            after[name] = inner

    def _map(self, schemas: object, stack: tuple[str, ...]) -> object:
        if type(schemas) is not dict:
            return schemas
        return {name: self._copy(one, stack) for name, one in schemas.items()}

    def _resolved(self, node: Node, stack: tuple[str, ...]) -> object:
        """Return what a reference names, with the notes that stand beside the reference."""
        target = self._target(node["$ref"], stack)
        beside = {name: inner for name, inner in node.items() if name not in ("$ref", "$comment")}
        if not beside.keys() <= _NOTES or not beside.keys().isdisjoint(target):
            raise _Unresolvable
        if self._left is None:
            self._left = GROWTH_MAX * _weight(self._whole) + GROWTH_FREE
        self._left -= _weight(target)
        if self._left < 0:
            raise _Unresolvable
        self._done.add("schema_reference")
        return self._copy({**target, **beside}, (*stack, str(node["$ref"])))

    def _target(self, reference: object, stack: tuple[str, ...]) -> Node:
        """Return the definition; raises `_Unresolvable` for another kind, and for a circle."""
        found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        definitions = self._whole.get(found[1]) if found and self._whole else None
        target = definitions.get(found[2]) if found and isinstance(definitions, dict) else None
        if type(target) is not dict or reference in stack:
            raise _Unresolvable
        return target

    def _own_types(self, node: Node) -> Node:
        """Return a node of the provider's dialect with one type: its null is `nullable`."""
        types = _type_list(node)
        rest = [one for one in types if one.lower() != "null"]
        if len(rest) != 1 or (rest != types and node.get("nullable") is False):
            return node
        self._done.add("schema_types")
        after = {**node, "type": rest[0]}
        return after if rest == types else {**after, "nullable": True}

    def _json_types(self, node: Node) -> Node:
        """Return a node of JSON Schema without a list of types, and without null among values."""
        after = _one_type(node)
        if after is not node:
            self._done.add("schema_types")
        return after


def _one_type(node: Node) -> Node:
    types = _type_list(node)
    values = node.get("enum")
    holds_null = type(values) is list and any(one is None for one in values)
    if len(types) == 1:
        return {**node, "type": types[0]}
    if not (types or (holds_null and "type" not in node)) or not _BESIDE_TYPE.isdisjoint(node):
        return node
    asks = {name: inner for name, inner in node.items() if not _is_note(name)}
    notes = {name: inner for name, inner in node.items() if _is_note(name)}
    if asks.keys() == {"type"}:
        return {**notes, "anyOf": [{"type": one} for one in types]}
    rest = [one for one in types if one != "null"]
    takes_null = holds_null or "enum" not in node
    if rest == types != [] or len(rest) > 1 or not takes_null:
        return node
    if rest:
        asks["type"] = rest[0]
    if holds_null:
        asks["enum"] = [one for one in node["enum"] if one is not None]
        if not asks["enum"]:
            return node
    return {**notes, "anyOf": [asks, {"type": "null"}]}


def _type_list(node: Node) -> list[str]:
    """Return the list of types of a node; empty where it has none that is a sound one."""
    types = node.get("type")
    if type(types) is not list or not all(type(one) is str for one in types):
        return []
    return types if len(set(types)) == len(types) else []


def _is_note(name: str) -> bool:
    return name in _NOTES or name.startswith("$") or name == "definitions"


def _weight(value: object) -> int:
    """Return what a value weighs, roughly its bytes; it is nested no deeper than a line may be."""
    if type(value) is dict:
        return sum(_MEMBER_WEIGHT + len(name) + _weight(inner) for name, inner in value.items())
    if type(value) is list:
        return sum(_MEMBER_WEIGHT + _weight(inner) for inner in value)
    return len(value) if type(value) is str else _MEMBER_WEIGHT
