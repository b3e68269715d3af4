"""Tables: columns that fit the terminal for people, tabs and whole cells for a pipe."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from penstock.cli.failure import clean

_GAP: Final = "  "
_CELL_CHARS_MIN: Final = 8
"""No column gets narrower than this, however narrow the terminal is."""


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> list[str]:
    """Return one line per row without a power over the terminal; aligned if there is a width.

    What does not fit is cut in the widest columns and marked.
    """
    cleaned = [[clean(cell) for cell in row] for row in rows]
    if not width:
        return ["\t".join(row) for row in cleaned]
    shown = [list(headings), *cleaned]
    widths = _fitting([max(len(row[at]) for row in shown) for at in range(len(headings))], width)
    return [
        _GAP.join(
            _cut(cell, most).ljust(most) for cell, most in zip(row, widths, strict=True)
        ).rstrip()
        for row in shown
    ]


def terminal_width() -> int:
    """Return the columns of the terminal; 0 if nobody looks."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def moment(at: float | None) -> str:
    """Return a time in UTC, or a dash."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _fitting(widths: list[int], width: int) -> list[int]:
    room = width - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _CELL_CHARS_MIN:
        widths[widths.index(max(widths))] -= 1
    return widths


def _cut(cell: str, most: int) -> str:
    return cell if len(cell) <= most else cell[: most - 1] + "…"
