"""The lines that were put aside because they are bad, and what is wrong with each.

The file `problems` of a job has one JSON array `[number, problem]` a line, in the order of the
input. The number is that of the line index: requests counted from 1, blank lines not counted. The
problem's own `line` counts the lines of the file, as an editor does.
"""

from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import BlobCorrupt, Problem

PROBLEMS: Final = "problems"
"""The file's name among those of its job; there is none where no line was put aside."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    number: int
    problem: Problem


_ENCODER: Final = msgspec.json.Encoder()
_ROW: Final = msgspec.json.Decoder(_Row)


def pack_problem(number: int, problem: Problem) -> bytes:
    """Return the row of one line that was put aside."""
    return _ENCODER.encode(_Row(number, problem)) + b"\n"


def read_problems(path: Path) -> dict[int, Problem]:
    """Return the problems by the number of their request line, in its order.

    There are at most `limits.quarantine_lines_max` of them. Raises `BlobCorrupt` for a file that we
    cannot have written.
    """
    found: dict[int, Problem] = {}
    with path.open("rb") as rows:
        for packed in rows:
            try:
                row = _ROW.decode(packed)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BlobCorrupt(f"The file {PROBLEMS} is damaged: {error}.") from error
            found[row.number] = row.problem
    return found
