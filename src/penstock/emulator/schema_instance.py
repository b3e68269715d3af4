"""A valid, seeded instance of a response schema.

It reads both dialects that a request can carry: the OpenAPI subset of `responseSchema` (upper-case
types, `nullable`) and the JSON Schema of `responseJsonSchema` (`$ref`, `$defs`, type lists). What
it cannot honour (a `pattern`, contradicting bounds) it ignores: real models do no better.
"""

import math
import random
from typing import Final

Schema = dict[str, object]

# Below this depth only what is required is built, so a recursive schema comes to an end.
_DEPTH_OPTIONAL_MAX: Final = 5
_DEPTH_MAX: Final = 40
_ITEMS_EXTRA_MAX: Final = 2
_WORDS: Final = (
    "river",
    "stone",
    "valve",
    "ledger",
    "amber",
    "signal",
    "harbour",
    "meadow",
    "copper",
    "lantern",
)
_OF_KIND: Final[tuple[tuple[str, object], ...]] = (
    ("array", ["river"]),
    ("string", "river"),
    ("boolean", True),
    ("object", {"river": "stone"}),
)
_FORMATS: Final = {
    "date-time": "2026-03-14T09:26:53Z",
    "date": "2026-03-14",
    "time": "09:26:53Z",
    "duration": "P3DT4H",
    "email": "mill@example.com",
    "uuid": "3f1c6c2e-7a55-4f0e-9a51-0c6a3a6f9b11",
    "uri": "https://example.com/mill",
    "hostname": "mill.example.com",
    "ipv4": "192.0.2.17",
    "ipv6": "2001:db8::17",
}


def make_instance(schema: Schema, seed: int) -> object:
    """An instance of `schema`, the same for the same seed; plain JSON values."""
    return _Maker(schema, random.Random(seed)).make(schema, 0)


def make_misfit(schema: Schema, seed: int) -> object:
    """A value that does not fit `schema`, the same for the same seed; None if all may fit.

    An object lacks its first required member; anything else is of another type.
    """
    maker = _Maker(schema, random.Random(seed))
    kinds = maker.kinds(schema, 0)
    required = schema.get("required")
    if kinds == {"object"} and isinstance(required, list) and required:
        made = maker.make(schema, 0)
        if isinstance(made, dict):
            return {name: value for name, value in made.items() if name != required[0]}
    if kinds is None:
        return None
    return next((value for kind, value in _OF_KIND if kind not in kinds), None)


class _Maker:
    def __init__(self, root: Schema, rng: random.Random) -> None:
        self._root = root
        self._rng = rng

    def make(self, schema: object, depth: int) -> object:
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        values = schema.get("enum")
        if isinstance(values, list) and values:
            return self._rng.choice(values)
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in {"integer", "number"}:
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self._rng.random() < 0.5  # noqa: PLR2004 - a fair coin needs no name
        return None if kind == "null" else self._string(schema)

    def kinds(self, schema: object, depth: int) -> set[str] | None:
        """The types that a schema allows; None where it names none, or none that is sure."""
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            return None
        reference = schema.get("$ref", schema.get("ref"))
        if isinstance(reference, str):
            return self.kinds(self._target(reference), depth + 1)
        declared = schema.get("type")
        named = declared if isinstance(declared, list) else [declared]
        found = {kind.lower() for kind in named if isinstance(kind, str)}
        branches = schema.get("anyOf", schema.get("any_of", schema.get("oneOf")))
        if not found and isinstance(branches, list):
            each = [self.kinds(branch, depth + 1) for branch in branches]
            if None in each:
                return None
            found = set().union(*(kinds for kinds in each if kinds))
        if not found or "type_unspecified" in found:
            return None
        return found | ({"null"} if schema.get("nullable") is True else set())

    def _resolve(self, schema: Schema) -> Schema:
        """Follow `$ref`, merge `allOf`, choose a branch of `anyOf` or `oneOf`."""
        for _ in range(_DEPTH_MAX):
            reference = schema.get("$ref", schema.get("ref"))
            branches = schema.get("anyOf", schema.get("any_of", schema.get("oneOf")))
            if isinstance(reference, str):
                rest = {k: v for k, v in schema.items() if k not in {"$ref", "ref"}}
                schema = {**rest, **self._target(reference)}
            elif isinstance(schema.get("allOf"), list):
                schema = _merged(schema)
            elif isinstance(branches, list) and branches:
                rest = {k: v for k, v in schema.items() if k not in {"anyOf", "any_of", "oneOf"}}
                schema = {**rest, **self._branch(branches)}
            else:
                break
        return schema

    def _target(self, reference: str) -> Schema:
        found: object = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if key and isinstance(found, dict):
                found = found.get(key)
        return found if isinstance(found, dict) else {}

    def _branch(self, branches: list[object]) -> Schema:
        """Prefer a branch without a reference, so that recursion has an end."""
        usable = [b for b in branches if isinstance(b, dict)]
        flat = [b for b in usable if "$ref" not in b and b.get("type") not in {"null", "NULL"}]
        return self._rng.choice(flat or usable or [{}])

    def _kind(self, schema: Schema) -> str:
        declared = schema.get("type")
        if isinstance(declared, list):
            real = [t for t in declared if t != "null"]
            declared = self._rng.choice(real) if real else "null"
        if isinstance(declared, str) and declared != "TYPE_UNSPECIFIED":
            return declared.lower()
        if "properties" in schema:
            return "object"
        return "array" if "items" in schema or "prefixItems" in schema else "string"

    def _object(self, schema: Schema, depth: int) -> dict[str, object]:
        properties = schema.get("properties")
        known: Schema = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        needed = set(required) if isinstance(required, list) else set()
        ordering = schema.get("propertyOrdering", schema.get("property_ordering"))
        order = [k for k in ordering if k in known] if isinstance(ordering, list) else []
        made: dict[str, object] = {}
        for key in [*order, *(k for k in known if k not in order)]:
            if key in needed or depth < _DEPTH_OPTIONAL_MAX:
                made[key] = self.make(known[key], depth + 1)
        extra = schema.get("additionalProperties", True)
        for key in sorted(needed - known.keys()):
            made[key] = self.make(extra if isinstance(extra, dict) else {}, depth + 1)
        smallest = _whole(schema, "minProperties", "min_properties", default=0)
        while len(made) < smallest and extra is not False:
            value = self.make(extra if isinstance(extra, dict) else {}, depth + 1)
            made[f"member_{len(made)}"] = value
        return made

    def _array(self, schema: Schema, depth: int) -> list[object]:
        least = _whole(schema, "minItems", "min_items", default=0)
        most = _whole(schema, "maxItems", "max_items", default=least + _ITEMS_EXTRA_MAX)
        wanted = least
        if depth < _DEPTH_OPTIONAL_MAX:
            wanted = self._rng.randint(least, max(least, min(most, least + _ITEMS_EXTRA_MAX)))
        leading = schema.get("prefixItems")
        first = leading[:most] if isinstance(leading, list) else []
        made = [self.make(s, depth + 1) for s in first]
        unique = schema.get("uniqueItems") is True
        items = schema.get("items", {})
        tries = 0
        while len(made) < wanted and items is not False and tries < wanted * 20:
            tries += 1
            value = self.make(items, depth + 1)
            if not (unique and value in made):
                made.append(value)
        return made

    def _number(self, schema: Schema, *, whole: bool) -> int | float:
        low = _number(schema, "minimum")
        high = _number(schema, "maximum")
        step = _number(schema, "multipleOf") or (1 if whole else None)
        above = _number(schema, "exclusiveMinimum")
        below = _number(schema, "exclusiveMaximum")
        edge = 1 if whole else 1e-3
        if above is not None and (low is None or above >= low):
            low = above + (step or edge)
        if below is not None and (high is None or below <= high):
            high = below - (step or edge)
        low = low if low is not None else (0 if high is None else high - 100)
        high = high if high is not None else low + 100
        if step is None:
            value = round(self._rng.uniform(low, high), 3)
            return min(max(value, low), high)
        first = math.ceil(low / step)
        count = max(first, math.floor(high / step))
        picked = self._rng.randint(first, count) * step
        return int(picked) if whole else picked

    def _string(self, schema: Schema) -> str:
        known = _FORMATS.get(str(schema.get("format")))
        least = _whole(schema, "minLength", "min_length", default=0)
        most = _whole(schema, "maxLength", "max_length", default=max(least, 40))
        if known is not None and least <= len(known) <= most:
            return known
        text = " ".join(self._rng.choice(_WORDS) for _ in range(self._rng.randint(1, 4)))
        while len(text) < least:
            text += " " + self._rng.choice(_WORDS)
        return text[:most]


def _merged(schema: Schema) -> Schema:
    merged = {k: v for k, v in schema.items() if k != "allOf"}
    parts = schema["allOf"]
    for part in parts if isinstance(parts, list) else []:
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            before = merged.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                merged[key] = {**before, **value}
            elif isinstance(before, list) and isinstance(value, list) and key == "required":
                merged[key] = [*before, *value]
            else:
                merged[key] = value
    return merged


def _whole(schema: Schema, *names: str, default: int) -> int:
    """A count; Google's dialect writes int64 as text."""
    for name in names:
        value = schema.get(name)
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
    return default


def _number(schema: Schema, name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
