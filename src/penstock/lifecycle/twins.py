"""Identical requests: which line is the first of its like.

A table of digests, open addressing with linear steps, made once for as many lines as there can be:
20 bytes a place and at most half of the places taken, so 200,000 lines take 10 MB whatever they
hold. Of 128 bits a digest, two different requests out of a billion share one with a chance of one
to 10^21; a wrong answer for that reason is not what will go wrong.
"""

import hashlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from typing import Any, Final

import orjson

from penstock.errors import BlobCorrupt

TWINS: Final = "twins"
"""The file of a job with identical lines: for each line the number of its leader as u32, its own if
it leads. There is none where all lines differ."""

NUMBER_BYTES: Final = 4
_DIGEST: Final = Struct("<QQ")


def digest_of(request: Any) -> bytes:  # noqa: ANN401  # whatever the JSON holds
    """Return the digest of a request, in whatever order its members are."""
    spelled = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(spelled, digest_size=_DIGEST.size).digest()


class Table:
    """The leaders so far; numbers of lines count from 1."""

    def __init__(self, lines_max: int) -> None:
        places = 2 << max(lines_max, 1).bit_length()
        self._mask = places - 1
        self._low = array("Q", bytes(8 * places))
        self._high = array("Q", bytes(8 * places))
        self._numbers = array("I", bytes(NUMBER_BYTES * places))

    @property
    def size_bytes(self) -> int:
        """Memory of the table."""
        return sum(len(each) * each.itemsize for each in (self._low, self._high, self._numbers))

    def leader(self, digest: bytes, number: int) -> int:
        """Return the line that came first with this digest; the first time, `number` itself."""
        low, high = _DIGEST.unpack(digest)
        at = low & self._mask
        while first := self._numbers[at]:
            if self._low[at] == low and self._high[at] == high:
                return int(first)
            at = (at + 1) & self._mask
        self._low[at], self._high[at], self._numbers[at] = low, high, number
        return number


def pack_leaders(leaders: "array[int]") -> bytes:
    """Return the file of these leaders."""
    # As the machine has them: all that we run on are little-endian.
    return leaders.tobytes()


def read_leaders(path: Path, lines: int) -> "array[int]":
    """Return the leader of each line; raise `BlobCorrupt` if the file is of other lines."""
    packed = path.read_bytes()
    if len(packed) != NUMBER_BYTES * lines:
        raise BlobCorrupt(f"The file {TWINS} has {len(packed)} bytes for {lines} lines.")
    return unpack_leaders(packed)


def unpack_leaders(packed: bytes) -> "array[int]":
    """Return the leaders in some part of the file."""
    return array("I", packed)


def count_twins(leaders: Iterable[int]) -> int:
    """Return how many lines get the answer of another one."""
    return sum(leader != number for number, leader in enumerate(leaders, start=1))
