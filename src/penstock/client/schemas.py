"""What an answer shall look like: a type or JSON schema as what the provider takes, and back.

What is sent is `responseSchema`, Google's own dialect, and never `responseJsonSchema`: a batch is
imported as a table, whose columns cannot have the names and the mixed types that JSON schemas are
made of. References are written out, and what that dialect cannot say is refused here, at once, and
not by the provider after hours. Words that only make an answer stricter are left out; whoever
parses the answer into the type still has them checked.
"""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from penstock.client.errors import ClientError

DEPTH_MAX: Final = 11
"""Objects within each other in an answer: a request may have 15 levels, and 4 are used above it."""

Kind = Literal["text", "integer", "number", "boolean", "json"]
"""What is in a column; lists and objects are JSON text."""

Json = dict[str, Any]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_KEPT: Final = (
    "description",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
)
_FORMATS: Final = frozenset({"date", "date-time", "time", "duration"})
_UNSAYABLE: Final = {
    "prefixItems": "an array whose places differ (a tuple)",
    "patternProperties": "members by a pattern",
    "if": "a condition",
    "not": "an exclusion",
    "dependentSchemas": "a condition",
    "$dynamicRef": "a dynamic reference",
}
_KINDS: Final[dict[str, Kind]] = {
    "STRING": "text",
    "INTEGER": "integer",
    "NUMBER": "number",
    "BOOLEAN": "boolean",
}
_VALUES: Final = "_value"
"""The column of an answer that is not an object."""


class SchemaInvalid(ClientError):
    """The schema is none that a batch can be asked for."""

    code = "invalid_schema"


class Column(msgspec.Struct, frozen=True):
    """A column that answers fill."""

    name: str
    kind: Kind


class Asked(msgspec.Struct, frozen=True):
    """What is asked of every answer, and how it is read."""

    config: Json
    """Members of `generationConfig`."""
    columns: tuple[Column, ...]
    is_object: bool

    def values(self, text: str) -> tuple[Any, ...] | None:
        """Return what an answer has for each column; None if it is not JSON.

        What is of another kind than its column is None as well: the answer's outcome says so.
        """
        try:
            answer = _ANY.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        if not self.is_object:
            return (_fitting(answer, self.columns[0].kind),)
        if not isinstance(answer, dict):
            return None
        return tuple(_fitting(answer.get(column.name), column.kind) for column in self.columns)


_ANY: Final = msgspec.json.Decoder()


def asked(schema: Any) -> Asked:  # noqa: ANN401  # any type there is
    """Return what to send for a type, or for a JSON schema; raises `SchemaInvalid`.

    It takes pydantic models, dataclasses, msgspec structs, TypedDicts, and whatever else msgspec
    has a schema for, such as `Literal["yes", "no"]` or `list[str]`.
    """
    found = schema if isinstance(schema, Mapping) else json_schema(schema)
    made = _Translation(found).made()
    columns = tuple(
        Column(name, _kind(child)) for name, child in made.get("properties", {}).items()
    )
    is_object = made.get("type") == "OBJECT"
    if not is_object:
        columns = (Column(_VALUES, _kind(made)),)
    config = {"responseMimeType": "application/json", "responseSchema": made}
    return Asked(config, columns, is_object)


def json_schema(kind: Any) -> Json:  # noqa: ANN401  # any type there is
    """Return the JSON schema of a type; raises `SchemaInvalid`."""
    try:
        if hasattr(kind, "model_json_schema"):
            made: Json = kind.model_json_schema()
            return made
        adapter = _adapter(kind)
        if adapter is not None:
            found: Json = adapter.json_schema()
            return found
        return msgspec.json.schema(kind)
    except (TypeError, ValueError, NameError, RuntimeError) as error:
        raise SchemaInvalid(
            f"there is no JSON schema for {_called(kind)}: {error}",
            hint="use a pydantic model, dataclass, msgspec Struct, TypedDict or JSON schema",
        ) from error


def parser(kind: Any) -> Callable[[str | bytes], Any]:  # noqa: ANN401  # any type
    """Return what reads an answer's text into the type; a JSON schema gives plain values.

    What it raises is a ValueError in each case, of pydantic or of msgspec.
    """
    if isinstance(kind, Mapping):
        return _ANY.decode
    if hasattr(kind, "model_validate_json"):
        read: Callable[[str | bytes], Any] = kind.model_validate_json
        return read
    adapter = _adapter(kind)
    if adapter is not None:
        adapted: Callable[[str | bytes], Any] = adapter.validate_json
        return adapted
    return msgspec.json.Decoder(kind).decode


def _adapter(kind: Any) -> Any:  # noqa: ANN401  # a class of an optional dependency
    """Return pydantic's adapter for one of its dataclasses; whoever made one has imported it."""
    pydantic = sys.modules.get("pydantic")
    is_theirs = dataclasses.is_dataclass(kind) and hasattr(kind, "__pydantic_validator__")
    return pydantic.TypeAdapter(kind) if pydantic is not None and is_theirs else None


class _Translation:
    """A JSON schema, or one in Google's dialect already, as one in Google's dialect."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []

    def made(self) -> Json:
        """Translate all of it."""
        return self._translated(self._root, "", 0)

    def _translated(self, schema: object, place: str, depth: int) -> Json:
        if not isinstance(schema, Mapping):
            raise _refusal(place, "anything at all is allowed", "say what type it has")
        if depth > DEPTH_MAX:
            raise _refusal(place, f"it is nested more than {DEPTH_MAX} deep", "make it flatter")
        reference = schema.get("$ref", schema.get("ref"))
        if isinstance(reference, str):
            return self._resolved(schema, reference, place, depth)
        for word, meaning in _UNSAYABLE.items():
            if word in schema:
                raise _refusal(place, f"{meaning} (`{word}`)", "describe it in another way")
        branches = self._branches(schema)
        if branches is not None:
            return self._any_of(schema, branches, place, depth)
        made = self._typed(schema, place)
        made.update({word: schema[word] for word in _KEPT if schema.get(word) is not None})
        if made["type"] == "OBJECT":
            self._add_members(schema, made, place, depth)
        elif made["type"] == "ARRAY":
            inner = schema.get("items")
            if not isinstance(inner, Mapping) or not inner:
                raise _refusal(place, "a list of anything", "say what the list holds")
            made["items"] = self._translated(inner, f"{place}[]", depth + 1)
        return made

    def _resolved(self, schema: Mapping[str, Any], reference: str, place: str, depth: int) -> Json:
        if reference in self._open:
            raise _refusal(
                place, "it contains itself", "a batch takes no circular schema: bound its depth"
            )
        found: object = self._root
        if not reference.startswith("#/"):
            raise _refusal(place, f"a reference to {reference!r}", "write the schema out")
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            raise _refusal(place, f"there is nothing at {reference!r}", "correct the reference")
        self._open.append(reference)
        made = self._translated(found, place, depth)
        self._open.pop()
        beside = schema.get("description")
        return {**made, "description": beside} if isinstance(beside, str) else made

    def _branches(self, schema: Mapping[str, Any]) -> list[Any] | None:
        """Return what an answer may be one of, as a list of schemas."""
        kind = schema.get("type")
        if isinstance(kind, list):
            beside = {word: value for word, value in schema.items() if word != "type"}
            values = beside.get("enum")
            if isinstance(values, list):
                beside["enum"] = [value for value in values if value is not None]
            return [{"type": "null"} if one == "null" else {**beside, "type": one} for one in kind]
        for word in ("anyOf", "any_of", "oneOf"):
            if isinstance(schema.get(word), list):
                return list(schema[word])
        whole = schema.get("allOf")
        return whole if isinstance(whole, list) and len(whole) == 1 else None

    def _any_of(
        self, schema: Mapping[str, Any], branches: list[Any], place: str, depth: int
    ) -> Json:
        kinds = [branch for branch in branches if not _is_null(branch)]
        if not kinds:
            raise _refusal(place, "nothing but null is allowed", "say what type it has")
        if len(kinds) == 1:
            made = self._translated(kinds[0], place, depth)
        else:
            made = {"anyOf": [self._translated(one, place, depth + 1) for one in kinds]}
        if len(kinds) < len(branches) or schema.get("nullable") is True:
            made["nullable"] = True
        if isinstance(schema.get("description"), str):
            made["description"] = schema["description"]
        return made

    def _typed(self, schema: Mapping[str, Any], place: str) -> Json:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        kind = schema.get("type")
        if kind is None and isinstance(values, list):
            kind = _type_of([value for value in values if value is not None])
        if kind is None and "properties" in schema:
            kind = "object"
        if not isinstance(kind, str) or kind.upper() not in {*_KINDS, "OBJECT", "ARRAY"}:
            raise _refusal(place, "it has no single type", "say what type it has")
        made: Json = {"type": kind.upper()}
        if schema.get("nullable") is True:
            made["nullable"] = True
        if isinstance(values, list):
            if None in values:
                made["nullable"] = True
            # The dialect has texts only, also for the values of numbers.
            made["enum"] = [_as_text(value) for value in values if value is not None]
        if schema.get("format") in _FORMATS:
            made["format"] = schema["format"]
        return made

    def _add_members(self, schema: Mapping[str, Any], made: Json, place: str, depth: int) -> None:
        members = schema.get("properties")
        others = schema.get("additionalProperties")
        if (
            (isinstance(others, Mapping) and others)
            or not isinstance(members, Mapping)
            or not members
        ):
            raise _refusal(
                place,
                "an object with names that are not known before",
                "ask for a list of objects with a name and a value",
            )
        for name in members:
            if not _NAME.fullmatch(str(name)):
                raise _refusal(
                    f"{place}.{name}", "that cannot be the name of a column", "use an alias"
                )
        made["properties"] = {
            name: self._translated(child, f"{place}.{name}", depth + 1)
            for name, child in members.items()
        }
        required = schema.get("required")
        if isinstance(required, list) and required:
            made["required"] = required
        # Without it the model answers in the order of the alphabet: a reason would follow what it
        # is the reason of.
        made["propertyOrdering"] = list(schema.get("propertyOrdering") or members)


def _refusal(place: str, what: str, hint: str) -> SchemaInvalid:
    where = place.lstrip(".") or "the schema"
    return SchemaInvalid(f"{where}: a batch cannot be asked for this: {what}", hint=hint)


def _is_null(schema: object) -> bool:
    return isinstance(schema, Mapping) and str(schema.get("type")).lower() == "null"


def _type_of(values: list[Any]) -> str | None:
    for kind, name in ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number")):
        if values and all(isinstance(value, kind) for value in values):
            return name
    return None


def _as_text(value: object) -> str:
    plain = value.value if isinstance(value, Enum) else value
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def _kind(schema: Json) -> Kind:
    return _KINDS.get(schema.get("type", ""), "json")


def _called(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else repr(kind)


def _fitting(value: object, kind: Kind) -> object:
    """Return the value as its column holds it, or None where it is of another kind."""
    if value is None:
        return None
    if kind == "json":
        return msgspec.json.encode(value).decode()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "number":
        return float(value) if is_number else None  # type: ignore[arg-type]  # it is a number
    if kind == "integer":
        return _whole(value) if is_number else None
    return value if isinstance(value, str if kind == "text" else bool) else None


_INTEGER_MAX: Final = 2**63 - 1


def _whole(value: Any) -> int | None:  # noqa: ANN401  # an int or a float
    """Return a number that a column of 64 bits can hold; models write 3.0 for 3."""
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if -_INTEGER_MAX <= value <= _INTEGER_MAX else None
