"""A response schema in Google's dialect as JSON Schema, and how much work a schema may make.

`responseSchema` is a subset of OpenAPI's schemas in the spelling of a protocol buffer: type names
in either case, `nullable`, counts as text. What is not translated is left out, so a schema only
ever gets weaker here: no answer is accused by a rule that we did not understand.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

DEPTH_MAX: Final = 200
"""Levels of a schema, references followed."""

NODES_MAX: Final = 20_000
"""Values in a schema, references followed: naming each definition twice doubles it each time."""

PATTERNS_MAX: Final = 50
PATTERN_NODES: Final = 400
"""What a regular expression counts: it takes that much longer to compile, and that much memory."""

_UNEVALUATED: Final = frozenset({"unevaluatedProperties", "unevaluatedItems"})
"""Each looks through all that stands beside it once more: a few within each other take hours."""

_DYNAMIC: Final = frozenset({"$dynamicRef", "$recursiveRef"})

Schema = dict[str, Any]

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_COUNTS: Final = (
    ("minItems", "min_items"),
    ("maxItems", "max_items"),
    ("minLength", "min_length"),
    ("maxLength", "max_length"),
    ("minProperties", "min_properties"),
    ("maxProperties", "max_properties"),
)
_BOUNDS: Final = ("minimum", "maximum")
_NULL: Final[Schema] = {"type": "null"}


class NotJudged(Exception):
    """The schema is none that we can judge by; the line is not worse for it."""


def to_json_schema(schema: object) -> Schema:
    """Translate a `responseSchema`; raise `NotJudged` if it is none."""
    return _translated(schema, 0)


def _translated(schema: object, depth: int) -> Schema:
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        raise NotJudged
    made: Schema = {}
    kind = _kind(schema)
    if kind is not None:
        made["type"] = kind
    _add_values(schema, made)
    _add_children(schema, made, depth + 1)
    reference = schema.get("ref", schema.get("$ref"))
    if isinstance(reference, str):
        made["$ref"] = reference.replace("#/defs/", "#/$defs/", 1)
    return _or_null(made) if schema.get("nullable") is True else made


def _kind(schema: Schema) -> str | None:
    kind = schema.get("type")
    if kind is None or kind == "TYPE_UNSPECIFIED":
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise NotJudged
    return kind.lower()


def _add_values(schema: Schema, made: Schema) -> None:
    values = schema.get("enum")
    # For numbers the dialect writes the values as text, which no answer would equal.
    if isinstance(values, list) and values and made.get("type", "string") == "string":
        made["enum"] = values
    for camel, snake in _COUNTS:
        count = _member(schema, camel, snake)
        if count is not None:
            made[camel] = _whole(count)
    for name in _BOUNDS:
        if schema.get(name) is not None:
            made[name] = schema[name]
    pattern = schema.get("pattern")
    if pattern is not None:
        made["pattern"] = pattern
    required = schema.get("required")
    if required is not None:
        made["required"] = required


def _add_children(schema: Schema, made: Schema, depth: int) -> None:
    for ours, theirs in (("properties", "properties"), ("$defs", "defs")):
        named = _member(schema, ours, theirs)
        if named is None:
            continue
        if not isinstance(named, dict):
            raise NotJudged
        made[ours] = {name: _translated(child, depth) for name, child in named.items()}
    if schema.get("items") is not None:
        made["items"] = _translated(schema["items"], depth)
    branches = _member(schema, "anyOf", "any_of")
    if branches is not None:
        if not isinstance(branches, list):
            raise NotJudged
        made["anyOf"] = [_translated(branch, depth) for branch in branches]
    others = _member(schema, "additionalProperties", "additional_properties")
    if isinstance(others, dict):
        made["additionalProperties"] = _translated(others, depth)
    elif others is False:
        made["additionalProperties"] = False


def _or_null(made: Schema) -> Schema:
    if "$ref" in made:
        made["allOf"] = [{"anyOf": [{"$ref": made.pop("$ref")}, _NULL]}]
    # Added to each rule and not put around them, so that a path still says which member is wrong.
    if "type" in made:
        made["type"] = [made["type"], "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    if "anyOf" in made:
        made["anyOf"] = [*made["anyOf"], _NULL]
    return made


def _member(schema: Schema, camel: str, snake: str) -> Any:  # noqa: ANN401 - any JSON value
    return schema.get(camel, schema.get(snake))


def _whole(count: object) -> int:
    # A 64-bit number is text in the JSON of a protocol buffer.
    if isinstance(count, str) and count.isascii() and count.isdigit():
        return int(count[:20])
    if isinstance(count, int | float) and not isinstance(count, bool) and count == int(count):
        return int(count)
    raise NotJudged


class Weight:
    """How much work a schema makes: its values, with those behind its references."""

    def __init__(self, schema: object) -> None:
        """Weigh it; raise `NotJudged` if it is none, too large or refers to anything but itself."""
        if not isinstance(schema, dict):
            raise NotJudged
        self.is_recursive = False
        self.patterns = 0
        self._root = schema
        self._costs: dict[int, int] = {}
        dialect = schema.get("$schema")
        if isinstance(dialect, str) and "draft-04" in dialect:
            raise NotJudged
        self.nodes = self._cost(schema, 0) + PATTERN_NODES * self.patterns
        if self.patterns > PATTERNS_MAX:
            raise NotJudged

    def _cost(self, value: object, depth: int) -> int:
        if not isinstance(value, dict | list):
            return 1
        if depth > DEPTH_MAX:
            raise NotJudged
        known = self._costs.get(id(value))
        if known == 0:
            # The validator remembers what it found behind a reference that leads back.
            self.is_recursive = True
            return 1
        if known is not None:
            return known
        self._costs[id(value)] = 0
        if isinstance(value, list):
            total = 1 + sum(self._cost(child, depth + 1) for child in value)
        else:
            total = self._cost_of_object(value, depth + 1)
        if total > NODES_MAX:
            raise NotJudged
        self._costs[id(value)] = total
        return total

    def _cost_of_object(self, schema: Mapping[str, object], depth: int) -> int:
        total = 1
        for name, child in schema.items():
            total += self._cost(child, depth)
            if name == "pattern" and isinstance(child, str):
                self.patterns += 1
            elif name == "patternProperties" and isinstance(child, dict):
                self.patterns += len(child)
            elif name == "$ref" and isinstance(child, str):
                total += self._cost(self._target(child), depth)
            elif name in _UNEVALUATED or (name in _DYNAMIC and isinstance(child, str)):
                raise NotJudged
            elif name == "$id" and isinstance(child, str) and schema is not self._root:
                # References below it would begin elsewhere than at the root.
                raise NotJudged
        return total

    def _target(self, reference: str) -> object:
        if reference == "#":
            return self._root
        if not reference.startswith("#/"):
            raise NotJudged
        found: object = self._root
        for step in unquote(reference[2:]).split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise NotJudged
        return found
