"""Identical requests: which line is the first of its like.

A table of fingerprints, open addressing with linear steps, made once for as many lines as there can
be: 12 bytes a place and at most half of the places taken, so 200,000 lines take 6 MB whatever they
hold. A fingerprint is Python's own hash of bytes, which is several times faster than a digest that
could be trusted alone; so where two are equal the requests themselves are compared.
"""

import os
from array import array
from collections.abc import Callable
from typing import Any, Final

import orjson

from penstock.errors import BlobCorrupt

TWINS: Final = "twins"
"""The file of a job with identical lines: for each line the number of its leader as u32, its own if
it leads. There is none where all lines differ."""

NUMBER_BYTES: Final = 4


def spelled(request: Any) -> bytes:  # noqa: ANN401  # whatever the JSON holds
    """Return a request as text, the same in whatever order its members are."""
    return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


class Table:
    """The leaders so far; numbers of lines count from 1."""

    def __init__(self, lines_max: int) -> None:
        places = 2 << max(lines_max, 1).bit_length()
        self._mask = places - 1
        self._prints = array("q", bytes(8 * places))
        self._numbers = array("I", bytes(NUMBER_BYTES * places))

    @property
    def size_bytes(self) -> int:
        """Memory of the table."""
        return sum(len(each) * each.itemsize for each in (self._prints, self._numbers))

    def leader(self, spelling: bytes, number: int, spelled_of: Callable[[int], bytes]) -> int:
        """Return the line that came first with this request; the first time, `number` itself.

        `spelled_of` returns the spelling of a line that was given before.
        """
        fingerprint, mask = hash(spelling), self._mask
        prints, numbers = self._prints, self._numbers
        at = fingerprint & mask
        while first := numbers[at]:
            if prints[at] == fingerprint and spelled_of(first) == spelling:
                return int(first)
            at = (at + 1) & mask
        prints[at], numbers[at] = fingerprint, number
        return number


def pack_leaders(leaders: "array[int]") -> bytes:
    """Return the file of these leaders."""
    # As the machine has them: all that we run on are little-endian.
    return leaders.tobytes()


def read_leaders(twins: int, lines: int) -> "array[int]":
    """Return the leader of each line by the file's descriptor.

    Raises `BlobCorrupt` if the file is of other lines.
    """
    packed = os.pread(twins, NUMBER_BYTES * lines + 1, 0)
    if len(packed) != NUMBER_BYTES * lines:
        raise BlobCorrupt(f"The file {TWINS} is not of {lines} lines.")
    return unpack_leaders(packed)


def unpack_leaders(packed: bytes) -> "array[int]":
    """Return the leaders in some part of the file."""
    return array("I", packed)
