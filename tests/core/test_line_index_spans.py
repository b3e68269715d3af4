from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.line import LineOutcome
from penstock.core.line_index import HEAD_BYTES, MAGIC, IndexWriter, LineIndex, header_span
from penstock.errors import BlobCorrupt

Read = Callable[[int, int], bytes]
KINDS = (
    (LineOutcome.OK, ""),
    (LineOutcome.ERROR, "429"),
    (LineOutcome.ERROR, "400"),
    (LineOutcome.BLOCKED, "SAFETY"),
)


def file_of(kinds: list[int]) -> bytes:
    """The index of lines of these kinds."""
    writer = IndexWriter()
    numbers = [writer.kind(outcome, code, retryable=False) for outcome, code in KINDS]
    for at, kind in enumerate(kinds, start=1):
        writer.add(numbers[kind], 0, 1, 10 * at, (at, at))
    return b"".join(bytes(piece) for piece in writer.pieces())


def only(data: bytes, spans: list[range]) -> Read:
    """A file of which nothing may be read but these bytes."""
    known = {at for span in spans for at in span}

    def read(offset: int, size: int) -> bytes:
        assert known.issuperset(range(offset, offset + size)), (offset, size)
        return data[offset : offset + size]

    return read


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_what_is_said_to_be_read_is_all_that_is_read(kinds: list[int], data: st.DataObject) -> None:
    """Whoever fetches the spans first needs no other byte of the file, and no span is too long."""
    file = file_of(kinds)
    header = header_span(file[:HEAD_BYTES])
    spans = [range(HEAD_BYTES), header]
    index = LineIndex(only(file, spans))
    wanted = data.draw(st.lists(st.sampled_from(range(1, len(kinds) + 1)), unique=True))
    read = [*spans, *index.spans(wanted)]
    for number in wanted:
        entry = LineIndex(only(file, read)).entry(number)
        assert (entry.outcome, entry.code) == KINDS[kinds[number - 1]]
    assert sum(len(span) for span in index.spans(wanted)) == 24 * len(wanted)
    outcome, code = KINDS[data.draw(st.integers(0, 3))]
    for by_code in (code, None):
        read = [*spans, index.searched(is_by_code=by_code is not None)]
        found = LineIndex(only(file, read)).numbers([outcome], code=by_code)
        expected = [
            at
            for at, kind in enumerate(kinds, start=1)
            if KINDS[kind][0] is outcome and by_code in {None, KINDS[kind][1]}
        ]
        assert list(found) == expected
        assert all(before < after for before, after in pairwise(expected))


@pytest.mark.parametrize("head", [b"", MAGIC, b"x" * 16, MAGIC + b"\xff" * 8])
def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    """Garbage does not say where a header is, nor how much memory it needs."""
    with pytest.raises(BlobCorrupt):
        header_span(head)
