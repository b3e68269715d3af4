"""The outline of a line: what stands outside its strings, in memory that does not grow with them.

Parsing a line of 64 MiB into Python objects can cost twenty times its size, when it is all braces,
or four times, when one emoji makes every character of a text four bytes wide. So the lines that are
too long to be parsed are judged by their outline. All functions expect sound JSON.
"""

import re
from typing import Final

from penstock.core.uri import CHARACTERS_MAX

STEP_BYTES: Final = 1_048_576
"""Marks handled at once: a list of a whole long line's pieces would be many times its size."""

TEXT_BYTES: Final = 256
"""Texts longer than this are left out of what is parsed, unless they could be an address."""

ADDRESS_BYTES: Final = 6 * CHARACTERS_MAX + 2
"""No address that is allowed is longer, in whatever spelling, with its quotes."""

_MARKS_TO_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b'{}[],"')


def _spelled(word: bytes) -> bytes:
    """Return a pattern for the word in a JSON string, each letter as it is or as an escape."""
    both = zip(word.lower(), word.upper(), strict=True)
    return b"".join(rb"(?:%c|\\u00(?:%02x|%02x))" % (low, low, high) for low, high in both)


_ADDRESS: Final = re.compile(b'"(?:%b|%b)' % (_spelled(b"gs:"), _spelled(b"https:")), re.IGNORECASE)
_COLON: Final = re.compile(rb"[ \t\r]*:")
_BACKSLASH: Final = ord("\\")


def marks_of(text: bytes) -> bytes:
    """Return the brackets and commas that stand outside strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side change nothing for what follows; most strings vanish here.
    marks = text.translate(None, _NOT_MARKS).replace(b'""', b"")
    inside = 0
    outside = []
    for start in range(0, len(marks), STEP_BYTES):
        parts = marks[start : start + STEP_BYTES].split(b'"')
        outside.append(b"".join(parts[inside::2]))
        inside ^= (len(parts) - 1) & 1
    return b"".join(outside)


def values_most(marks: bytes) -> int:
    """Return how many values a line with these marks can hold at most."""
    # Each value is the first in its container or has a comma before it.
    return 1 + marks.count(b",") + marks.count(b"[") + marks.count(b"{")


def objects_deeper(marks: bytes, limit: int) -> bool:
    """Tell whether objects are nested more than `limit` deep, whatever arrays are between."""
    return _peel(marks.translate(None, b"[],"), limit)


def deeper(marks: bytes, limit: int) -> bool:
    """Tell whether objects and arrays are nested more than `limit` deep."""
    return _peel(marks.translate(_MARKS_TO_BRACES, b","), limit)


def _peel(braces: bytes, limit: int) -> bool:
    """Tell whether balanced braces are nested more than `limit` deep; each round peels one."""
    for _ in range(limit):
        if not braces:
            return False
        braces = braces.replace(b"{}", b"")
    return bool(braces)


def without_texts(line: bytes) -> bytes:
    """Return the line with its long texts emptied.

    Names of members stay, whatever their length, and so does what a file could be named by: an
    address that is allowed is the same one afterwards, and any other text is none.
    """
    kept = []
    at = 0
    while (begin := line.find(b'"', at)) >= 0:
        end = _string_end(line, begin + 1)
        size = end - begin
        named = size <= ADDRESS_BYTES and _ADDRESS.match(line, begin)
        if size > TEXT_BYTES and not named and not _COLON.match(line, end):
            kept.append(line[at:begin] + b'""')
        else:
            kept.append(line[at:end])
        at = end
    kept.append(line[at:])
    return b"".join(kept)


def _string_end(line: bytes, at: int) -> int:
    """Return the index after the quote that ends the string whose inside begins at `at`."""
    while True:
        quote = line.find(b'"', at)
        first = quote
        while line[first - 1] == _BACKSLASH:
            first -= 1
        if (quote - first) % 2 == 0:
            return quote + 1
        at = quote + 1
