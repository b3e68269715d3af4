"""selection: which lines a later round sends again, by the row index alone."""

import pytest

from penstock.core.line import LineOutcome
from penstock.core.line_index import TWIN, IndexWriter, LineIndex
from penstock.core.options import Selection
from penstock.lifecycle.selection import selected_lines

LINES = [
    (LineOutcome.OK, "", False),
    (LineOutcome.ERROR, "429", True),
    (LineOutcome.ERROR, "400", False),
    (LineOutcome.MISSING, "missing_row", True),
    (LineOutcome.TRUNCATED, "MAX_TOKENS", False),
    (LineOutcome.ERROR, "429", True),
]


@pytest.fixture
def index() -> LineIndex:
    """One line of each kind, the last a twin of the second."""
    writer = IndexWriter()
    for number, (outcome, code, retryable) in enumerate(LINES, start=1):
        kind = writer.kind(outcome, code, retryable=retryable)
        writer.add(kind, TWIN if number == len(LINES) else 0, 1, 10)
    data = b"".join(writer.pieces())
    return LineIndex(lambda offset, size: data[offset : offset + size])


@pytest.mark.parametrize(
    ("outcomes", "only_retryable", "expected"),
    [
        (("error", "missing"), True, [2, 4, 6]),
        (("error", "missing"), False, [2, 3, 4, 6]),
        (("truncated",), False, [5]),
        (("truncated",), True, []),
        (("blocked",), False, []),
        ((), False, []),
    ],
)
def test_outcomes_and_what_may_be_mended_select_lines(
    index: LineIndex, outcomes: tuple[str, ...], expected: list[int], *, only_retryable: bool
) -> None:
    """What an owner chose is all sent; by itself only what another try may mend."""
    selection = Selection(outcomes=tuple(map(LineOutcome, outcomes)), only_retryable=only_retryable)
    assert list(selected_lines(index, selection)) == expected
    assert list(selected_lines(index, selection, first=3, last=5)) == [
        number for number in expected if 3 <= number <= 5
    ]
