"""What a download's request headers ask for: an encoding, a part, nothing if nothing changed.

Pure functions after RFC 9110; what a header says unclearly is read as if it were not there, because
the whole file without encoding is always a right answer.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from penstock.errors import Refused

_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]{0,99})-([0-9]{0,99})", re.IGNORECASE)


class RangeNotSatisfiable(Refused):
    """The range begins behind the end of the file."""

    code = "range_not_satisfiable"
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def prefers_zstd(accepted: Sequence[str]) -> bool:
    """Tell whether zstd is named in Accept-Encoding and liked no less than the plain bytes.

    A mere `*` gets the plain bytes, which everybody can read, unless they are ruled out.
    """
    weights = _weights(",".join(accepted))
    others = weights.get("*", 0.0)
    identity = weights.get("identity", others)
    if "zstd" not in weights:
        return others > 0 and identity == 0
    return 0 < weights["zstd"] >= identity


def _weights(accepted: str) -> dict[str, float]:
    weights = {}
    for element in accepted.split(","):
        name, _, weight = (word.strip() for word in element.partition(";"))
        found = _WEIGHT.fullmatch(weight)
        if found is not None or not weight:
            weights[name.lower()] = 1.0 if found is None else float(found[1])
    return weights


def is_known(tags: Sequence[str], etag: str) -> bool:
    """Tell whether If-None-Match names the entity tag; the comparison is the weak one."""
    named = [tag.strip().removeprefix("W/") for tag in ",".join(tags).split(",")]
    return "*" in named or etag in named


def part_of(wanted: str | None, size: int) -> range | None:
    """Return the one range of bytes that is wanted, or None for the whole file.

    Several ranges in one request serve nobody and multiply the work of one, so a list of them gets
    the whole file, which a server may always send. Raises `RangeNotSatisfiable`.
    """
    found = None if wanted is None else _RANGE.fullmatch(wanted.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1]:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, stop = size - min(int(found[2]), size), size
    if start >= stop:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes; the range asks for none of them.",
            hint="Ask for bytes before the end, or without Range for the whole file.",
        )
    return range(start, stop)
