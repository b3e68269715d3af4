"""Which lines a later round sends again: one rule for who sends them and who merges the answers."""

from collections.abc import Iterator

from penstock.core.line_index import LineIndex
from penstock.core.options import Selection


def selected_lines(
    index: LineIndex, selection: Selection, *, first: int = 1, last: int | None = None
) -> Iterator[int]:
    """Yield the numbers of the selected lines between two, in order, as the index counts them.

    A line is selected if it ended as one of the chosen outcomes and, if only those are wanted that
    another try may mend, in a way that may be mended. A line that got the answer of an identical
    one ended exactly as that one did, so both are selected or none is; only the leader is sent.
    """
    kinds = {
        number
        for number, kind in enumerate(index.kinds)
        if kind.outcome in selection.outcomes and (kind.retryable or not selection.only_retryable)
    }
    return index.of_kinds(kinds, after=first - 1, until=last)
