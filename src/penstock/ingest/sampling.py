"""Looks at some lines of a stored input, spread evenly over it, to guess what all of them cost.

The index says where each line is, so a gigabyte costs as much as a megabyte: at most five hundred
lines, and eight megabytes of them, or one line where that is more.
"""

import hashlib
import math
import os
from pathlib import Path
from typing import Any, Final

import orjson

from penstock.core.estimate import SAMPLE_LINES_MAX, Sample
from penstock.core.tokens import LineGuess, Traits, guess_line
from penstock.ingest.index import ROW_BYTES, unpack_row

SAMPLE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of the lines that are looked at."""

_GOLDEN: Final = 0.618_033_988_75
_DIGEST_BYTES: Final = 16


def sample_of(input_path: Path, index_path: Path, traits: Traits) -> Sample:
    """Return what some of the lines may have and get; the same ones for the same input.

    Lines that are no requests (where bad ones are put aside) are left out, and not counted.
    """
    with input_path.open("rb", buffering=0) as lines, index_path.open("rb", buffering=0) as index:
        input_bytes = os.fstat(lines.fileno()).st_size
        line_count = os.fstat(index.fileno()).st_size // ROW_BYTES
        looked = 0
        guesses: list[tuple[LineGuess, int, bytes]] = []
        left_bytes = SAMPLE_BYTES_MAX
        for number in _spread(line_count):
            packed = os.pread(index.fileno(), ROW_BYTES, number * ROW_BYTES)
            offset, size = unpack_row(packed, 0)
            if looked and size > left_bytes:
                break
            left_bytes -= size
            looked += 1
            request = _request(os.pread(lines.fileno(), size, offset))
            if request is not None:
                digest = hashlib.blake2b(orjson.dumps(request), digest_size=_DIGEST_BYTES)
                guesses.append((guess_line(request, traits), size, digest.digest()))
    good_share = len(guesses) / max(1, looked)
    return Sample(
        line_count=round(line_count * good_share),
        input_bytes=round(input_bytes * good_share),
        guesses=tuple(guess for guess, _, _ in guesses),
        sizes_bytes=tuple(size for _, size, _ in guesses),
        digests=tuple(digest for _, _, digest in guesses),
    )


def _spread(line_count: int) -> list[int]:
    """Return the lines to look at, counted from 0: evenly spread, and so is any first part."""
    count = min(line_count, SAMPLE_LINES_MAX)
    step = max(1, round(count * _GOLDEN))
    while math.gcd(step, count) > 1:
        step += 1
    return [place * step % count * line_count // count for place in range(count)]


def _request(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    request = value.get("request") if isinstance(value, dict) else None
    return request if isinstance(request, dict) else None
