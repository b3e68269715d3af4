"""Where in a line something stands, for people: JSON path, column, excerpt.

Only used for lines that are refused, and only on their first 64 KiB: a refusal has to be cheap
too, and the walk is plain Python. It takes any bytes; on a broken line it describes the part before
the break.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec
import orjson

SEARCHED_BYTES: Final = 65_536
"""How far into a line a spot is searched, in bytes."""

MARKS_SEARCHED: Final = 8_192
"""Lines with more marks in their first `SEARCHED_BYTES` are not walked to the end: it takes 60 ms
for a line of brackets, and a hundred lines are listed."""

EXCERPT_CHARACTERS: Final = 80
"""The longest excerpt, escapes included."""

_PATH_CHARACTERS: Final = 200
_KEY_CHARACTERS: Final = 40
_AROUND_BYTES: Final = 40
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],:]|[^\s"{}\[\],:]++', re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")
# Long runs are base64, keys or tokens: of no use to a reader, and perhaps secret.
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/=_-]{25,}")
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b"{}[],:")
_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))
_KEPT_OF_RUN: Final = 8


Keys = tuple[str | int | None, ...]
"""Members and indexes that lead from the line's object to a value."""


class Level(msgspec.Struct):
    """One open container: the key or index of the value that stands in it now."""

    key: str | int | None
    in_object: bool
    awaits_key: bool


class Value(msgspec.Struct, frozen=True):
    """One value of a line: its first byte's place, that byte, the containers around it.

    `levels` is the walk's own list and changes when the walk goes on: copying it for every value
    would make a deep line quadratic.
    """

    at: int
    opens: bytes
    levels: list[Level]


def values(line: bytes, searched_bytes: int = SEARCHED_BYTES) -> Iterator[Value]:
    """Yield each value of the line in its order, containers before what they hold."""
    levels: list[Level] = []
    for match in _TOKEN.finditer(line, 0, searched_bytes):
        token = match[0]
        top = levels[-1] if levels else None
        if token in b"}],:":
            _separate(levels, token)
        elif top and top.awaits_key:
            top.key = _key_text(token)
        else:
            yield Value(match.start(), token[:1], levels)
            if token in b"{[":
                opens_object = token == b"{"
                levels.append(Level(None if opens_object else 0, opens_object, opens_object))


def _is_walked(line: bytes) -> bool:
    """Tell whether the line has so few marks that the whole walk is cheap."""
    return len(line[:SEARCHED_BYTES].translate(None, _NOT_MARKS)) <= MARKS_SEARCHED


def _separate(levels: list[Level], token: bytes) -> None:
    if not levels:
        return
    top = levels[-1]
    if token in b"}]":
        levels.pop()
    elif token == b":":
        top.awaits_key = False
    elif isinstance(top.key, int):
        top.key += 1
    else:
        top.awaits_key = True


def _key_text(token: bytes) -> str:
    try:
        return str(orjson.loads(token))
    except orjson.JSONDecodeError:
        return token.strip(b'"').decode("utf-8", "replace")


def keys_of(levels: list[Level]) -> Keys:
    """Return the keys that lead through the open containers."""
    return tuple(level.key for level in levels)


def locate(line: bytes, keys: Keys) -> int:
    """Return the byte where the value at `keys` starts; of several the last, as parsers do.

    0 when there is none within `SEARCHED_BYTES`, or too much to look for it.
    """
    found = 0
    for value in values(line) if _is_walked(line) else ():
        if len(value.levels) == len(keys) and keys_of(value.levels) == keys:
            found = value.at
    return found


def keys_at(line: bytes, at: int) -> Keys:
    """Return the keys that lead to what stands at byte `at`.

    None beyond `SEARCHED_BYTES`, or when there is too much before it.
    """
    if at > SEARCHED_BYTES or not _is_walked(line[:at]):
        return ()
    levels: list[Level] = []
    for value in values(line[:at]):
        levels = value.levels
    keys = keys_of(levels)
    return keys[:-1] if keys and keys[-1] is None else keys


def json_path(keys: Keys) -> str:
    """Return the JSON path of the keys, such as `$.request.contents[0]`; long ones are cut."""
    path = "$"
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key is not None and _NAME.match(key):
            path += f".{key[:_KEY_CHARACTERS]}"
        else:
            path += f'["{escaped(key or "")[:_KEY_CHARACTERS]}"]'
    return path if len(path) <= _PATH_CHARACTERS else path[: _PATH_CHARACTERS - 1] + "…"


def column(line: bytes, at: int) -> int:
    """Return the 1-based column, in characters, of byte `at`; what is before it is UTF-8."""
    return 1 + len(line[:at].translate(None, _CONTINUATION_BYTES))


def escaped(text: str) -> str:
    """Return the text with everything that does not print, or would move a cursor, escaped."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def excerpt(line: bytes, at: int) -> str:
    """Return at most `EXCERPT_CHARACTERS` escaped characters around byte `at`."""
    start = max(0, at - _AROUND_BYTES)
    window = line[start : at + _AROUND_BYTES].decode("utf-8", "replace")
    text = _LONG_RUN.sub(lambda run: run[0][:_KEPT_OF_RUN] + "…", escaped(window))
    text = ("…" if start else "") + text
    if len(text) > EXCERPT_CHARACTERS:
        return text[: EXCERPT_CHARACTERS - 1] + "…"
    return text


def duplicate_at(line: bytes) -> tuple[int, Keys]:
    """Return `(byte, keys)` of the first value whose name its object has had before.

    `(0, ())` when there is none within `SEARCHED_BYTES`, or too much to look for it.
    """
    if not _is_walked(line):
        return 0, ()
    seen: list[set[str | int | None]] = []
    for value in values(line):
        depth = len(value.levels)
        del seen[depth:]
        if depth > len(seen):
            seen.append(set())
        if not depth or not value.levels[-1].in_object:
            continue
        key = value.levels[-1].key
        if key in seen[-1]:
            return value.at, keys_of(value.levels)
        seen[-1].add(key)
    return 0, ()
