"""Tables: columns that fit the terminal for people, tabs and whole cells for a pipe."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from penstock.client.screen import begin, cells, clean

UNLIMITED: Final = 1_000_000
"""The width of a terminal on which nothing is to be cut."""

_GAP: Final = "  "
_CELL_CHARS_MIN: Final = 8
"""No column gets narrower than this, however narrow the terminal is."""

_SHORT_CHARS: Final = 14
"""Before a column is dropped, wider ones are cut so far."""

_MIDDLE: Final = frozenset({"NAME", "MODEL", "URL", "FILE"})
"""What these say is told apart by both of its ends; of an id the beginning is enough."""

_MARGIN: Final = " " * 10


def columns(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = 0,
    *,
    drop: Sequence[str] = (),
) -> list[str]:
    """Return one line per row without a power over the terminal; aligned if there is a width.

    What does not fit is cut in the widest columns and marked; where that is not enough, columns are
    left out in the order of `drop`.
    """
    cleaned = [[clean(cell) for cell in row] for row in rows]
    if not width:
        return ["\t".join(row) for row in cleaned]
    shown = [list(headings), *cleaned]
    widths = [max(cells(row[at]) for row in shown) for at in range(len(headings))]
    if sum(widths) + _gaps(widths) > width:
        # A column that says nothing is the first to go.
        empty = {name for at, name in enumerate(headings) if _is_empty(at, cleaned)} & set(drop)
        shown = [
            [row[at] for at, name in enumerate(headings) if name not in empty] for row in shown
        ]
        headings = [name for name in headings if name not in empty]
        drop = [name for name in drop if name not in empty]
        widths = [max(cells(row[at]) for row in shown) for at in range(len(headings))]
    kept = _kept(headings, widths, width, drop)
    fitting = _fitting([widths[at] for at in kept], width)
    return [
        _GAP.join(
            _padded(cut(row[at], most, in_the_middle=headings[at] in _MIDDLE), most)
            for at, most in zip(kept, fitting, strict=True)
        ).rstrip()
        for row in shown
    ]


def terminal_width() -> int:
    """Return the columns of the terminal; 0 if nobody looks."""
    is_seen = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_seen else 0


def error_width() -> int:
    """Return the columns of the terminal that standard error is; 0 if it is none."""
    is_seen = sys.stderr is not None and sys.stderr.isatty()
    return shutil.get_terminal_size().columns if is_seen else 0


def moment(at: float | None) -> str:
    """Return a time in UTC, or a dash."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def cut(text: str, most: int, *, in_the_middle: bool = False) -> str:
    """Return as much of the text as fits into so many columns, with a mark for the rest."""
    if cells(text) <= most:
        return text
    room = most - 1
    tail = room // 2 if in_the_middle else 0
    end = begin(text[::-1], tail)[::-1] if tail else ""
    while end and unicodedata.combining(end[0]):
        # Its letter is among what was cut.
        end = end[1:]
    return begin(text, room - tail) + "…" + end


def wrapped(lines: Sequence[str], width: int, *, margin: str = _MARGIN) -> list[str]:
    """Return lines of a sheet, with what does not fit below, further to the right."""
    if not width or width >= UNLIMITED:
        return list(lines)
    shown: list[str] = []
    for line in lines:
        if cells(line) <= width:
            shown.append(line)
        else:
            # The spaces between a name and its value stay: only the rest is made anew.
            indent = line[: len(line) - len(line.lstrip())]
            shown += wrap(
                line.strip(),
                width,
                initial_indent=indent,
                subsequent_indent=margin,
                replace_whitespace=False,
                drop_whitespace=True,
            )
    return shown


def _is_empty(at: int, rows: Sequence[Sequence[str]]) -> bool:
    return all(row[at] in {"", "-"} for row in rows)


def _kept(
    headings: Sequence[str], widths: Sequence[int], width: int, drop: Sequence[str]
) -> list[int]:
    """Return which columns are shown: all, if they fit when wide ones are cut a little."""
    kept = list(range(len(headings)))
    for name in drop:
        if sum(min(widths[at], _SHORT_CHARS) for at in kept) + _gaps(kept) <= width:
            break
        kept.remove(list(headings).index(name))
    return kept


def _fitting(widths: list[int], width: int) -> list[int]:
    room = width - _gaps(widths)
    while sum(widths) > room and max(widths) > _CELL_CHARS_MIN:
        # What stands first names the row, so it is cut after the others.
        others = widths[1:] if max(widths[1:], default=0) > _SHORT_CHARS else widths
        most = max(others)
        widths[len(widths) - 1 - widths[::-1].index(most)] -= 1
    return widths


def _gaps(shown: Sequence[int]) -> int:
    return len(_GAP) * (len(shown) - 1)


def _padded(cell: str, most: int) -> str:
    return cell + " " * (most - cells(cell))
