"""Values drawn from a schema, and what an attacker makes of them."""

import random
from typing import Any, Final

Json = Any

HOSTILE: Final = (
    "",
    " ",
    "0",
    "-1",
    "1e400",
    "NaN",
    "null",
    "true",
    "9" * 30,
    "9223372036854775808",
    "..",
    "../../etc/passwd",
    "%2e%2e%2f",
    "a/b",
    "a\\b",
    "\x00",
    "a\x00b",
    "\r\nX-Injected: 1",
    "\x1b[31m",
    "\x7f",
    "\u0000\u202e\ufeff",
    "é" * 10,
    "\U0001f4a9",
    "\ud800",
    "x" * 300,
    "x" * 5_000,
    "' OR '1'='1",
    '"; DROP TABLE jobs; --',
    "{{7*7}}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "=1+1",
    "%s%n%d",
    "*",
    "?",
    "#",
    "[]",
    "{}",
    "gs://bucket/name",
    "file:///etc/passwd",
    "http://169.254.169.254/",
    "http://127.0.0.1:1/x",
    "https://user:pass@host.test/",
    "req_00000000000000000000000000",
    "upl_00000000000000000000000000000000",
    "org_1",
    "2026-11-23T00:00:00Z",
    "aGVsbG8",
    "?1",
    "?0",
)
_ODD: Final[tuple[Json, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    10**300,
    1.5,
    1e308,
    "",
    [],
    {},
    [[]],
    "x",
)
_TOKENS: Final = (b"\x00", b"\xff", b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\r\n", b"\n")
_DEPTH_MAX: Final = 6


def drawn(rng: random.Random, schema: Json, schemas: Json, depth: int = 0) -> Json:
    """Return a value that the schema more or less describes."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    if depth > _DEPTH_MAX:
        return None
    for key in ("enum", "examples"):
        if schema.get(key):
            return rng.choice(schema[key])
    for key in ("oneOf", "anyOf"):
        if key in schema and "properties" not in schema:
            return drawn(rng, rng.choice(schema[key]), schemas, depth + 1)
    kind = schema.get("type", "string")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        needed = schema.get("required", ())
        return {
            name: drawn(rng, each, schemas, depth + 1)
            for name, each in properties.items()
            if name in needed or rng.random() < 0.5
        }
    if kind == "array":
        each = schema.get("items", {})
        return [drawn(rng, each, schemas, depth + 1) for _ in range(rng.randrange(4))]
    return _scalar(rng, kind)


def _scalar(rng: random.Random, kind: str) -> Json:
    if kind == "integer":
        return rng.choice((0, 1, 2, 50, -1, 2**31, 2**53, 2**63, rng.randrange(10**6)))
    if kind == "number":
        return rng.choice((0.0, 0.5, -1.5, 1e308, rng.random()))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    return rng.choice(("name", "owner", "developer", "hello", rng.choice(HOSTILE)))


def bent_json(rng: random.Random, value: Json) -> Json:
    """Return the value with one of its places changed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        chance = rng.random()
        rest = {each: member for each, member in value.items() if each != name}
        if chance < 0.15:
            return rest
        if chance < 0.25:
            return {**value, rng.choice(HOSTILE): rng.choice(_ODD)}
        return {**value, name: bent_json(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], bent_json(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(HOSTILE) + value[at:]
    chance = rng.random()
    if chance < 0.05:
        return _nested(rng.choice((70, 500)))
    return rng.choice(_ODD) if chance < 0.5 else rng.choice(HOSTILE)


def _nested(depth: int) -> Json:
    value: Json = []
    for _ in range(depth):
        value = [value]
    return value


def bent_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few of them changed, lost, doubled or put in."""
    bent = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(bent) + 1)
        chance = rng.randrange(6)
        if chance == 0:
            bent[at:at] = rng.choice(_TOKENS)
        elif chance == 1:
            del bent[at : at + rng.randrange(1, 9)]
        elif chance == 2:
            bent[at : at + 1] = bytes([rng.randrange(256)])
        elif chance == 3:
            bent[at:at] = bent[max(0, at - rng.randrange(1, 30)) : at]
        elif chance == 4:
            bent[at:at] = rng.randbytes(rng.randrange(1, 12))
        else:
            del bent[at:]
    return bytes(bent)
