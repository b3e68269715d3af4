"""line_index: what is written is what is found, and a damaged file is told from an index."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.line import LineOutcome
from penstock.core.line_index import (
    CODE_CHARACTERS,
    HEAD_BYTES,
    KINDS_MAX,
    MESSAGE_CHARACTERS,
    OTHER,
    TWIN,
    IndexWriter,
    LineIndex,
    header_span,
    packed_tokens,
)
from penstock.errors import BlobCorrupt

KINDS = [
    (LineOutcome.OK, "", False),
    (LineOutcome.TRUNCATED, "MAX_TOKENS", False),
    (LineOutcome.ERROR, "429", True),
    (LineOutcome.ERROR, "400", False),
    (LineOutcome.MISSING, "missing_row", True),
]
LINES = st.lists(
    st.tuples(
        st.integers(0, len(KINDS) - 1),
        st.sampled_from([None, (0, 2), (TWIN, 1), (TWIN, 255)]),
        st.integers(1, 2**32 - 1),
        st.integers(0, 2**33),
        st.integers(0, 2**33),
    ),
    max_size=40,
)


def packed(writer: IndexWriter) -> bytes:
    """The file that a writer makes."""
    return b"".join(writer.pieces())


def opened(data: bytes) -> LineIndex:
    """The index in these bytes."""
    return LineIndex(lambda offset, size: data[offset : offset + size])


def written(lines: list[tuple[int, tuple[int, int] | None, int, int, int]]) -> IndexWriter:
    """A writer that has got these lines, all of round 1 where nothing else is said."""
    writer = IndexWriter()
    for place, mark, length, prompt, output in lines:
        outcome, code, retryable = KINDS[place]
        writer.codes.append(writer.kind(outcome, code, f"message of {code}", retryable=retryable))
        writer.lengths.append(length)
        writer.tokens.append(packed_tokens(prompt, output))
        if mark is not None:
            writer.mark(*mark)
    return writer


@given(LINES)
@settings(deadline=None)
def test_every_line_is_found_as_it_was_added(
    lines: list[tuple[int, tuple[int, int] | None, int, int, int]],
) -> None:
    """Outcome, code, flags, round, place and tokens come back; 25 bytes a line behind a header."""
    data = packed(written(lines))
    index = opened(data)
    offset = 0
    for number, (place, mark, length, prompt, output) in enumerate(lines, start=1):
        entry = index.entry(number)
        flags, round_ = mark or (0, 1)
        assert (entry.number, entry.outcome, entry.code, entry.is_retryable) == (
            number,
            *KINDS[place],
        )
        assert (entry.is_twin, entry.round) == (bool(flags), round_)
        assert (entry.offset, entry.length) == (offset, length)
        assert entry.prompt_tokens == min(prompt, 2**32 - 1)
        assert entry.output_tokens == min(output, 2**32 - 1)
        offset += length
    assert index.line_count == len(lines)
    assert len(data) == header_span(data[:HEAD_BYTES]).stop + 25 * len(lines)


@given(LINES, st.sets(st.sampled_from(LineOutcome)), st.integers(0, 40), st.integers(0, 45))
@settings(deadline=None)
def test_lines_are_found_by_what_became_of_them(
    lines: list[tuple[int, tuple[int, int] | None, int, int, int]],
    outcomes: set[LineOutcome],
    after: int,
    until: int,
) -> None:
    """By outcome, by code and by kind, from a line on and up to one: what a look at each says."""
    index = opened(packed(written(lines)))
    places = [place for place, *_ in lines]

    def numbers(wanted: Callable[[LineOutcome, str], bool]) -> list[int]:
        return [
            number
            for number, place in enumerate(places, start=1)
            if number > after and wanted(KINDS[place][0], KINDS[place][1])
        ]

    chosen = tuple(sorted(outcomes))
    assert list(index.numbers(chosen, after=after)) == numbers(
        lambda outcome, _: not chosen or outcome in chosen
    )
    assert list(index.numbers((), code="429", after=after)) == numbers(
        lambda _, code: code == "429"
    )
    retryable = {number for number, kind in enumerate(index.kinds) if kind.retryable}
    assert list(index.of_kinds(retryable, after=after, until=until)) == [
        number
        for number in numbers(lambda _, code: code in {"429", "missing_row"})
        if number <= until
    ]


@given(LINES)
@settings(deadline=None)
def test_a_kind_knows_its_lines(
    lines: list[tuple[int, tuple[int, int] | None, int, int, int]],
) -> None:
    """Groups cost nothing to read: how many lines, the first of them, and what it says."""
    index = opened(packed(written(lines)))
    assert sum(kind.lines for kind in index.kinds) == len(lines)
    for kind in index.kinds:
        found = list(index.numbers([kind.outcome], code=kind.code))
        assert (len(found), found[0]) == (kind.lines, kind.first_line)
        assert kind.message == f"message of {kind.code}"


@given(LINES, st.integers(0, 40))
@settings(deadline=None)
def test_two_indexes_one_behind_the_other_are_one(
    lines: list[tuple[int, tuple[int, int] | None, int, int, int]], cut: int
) -> None:
    """Lines that are taken over from other indexes are as if they had been added."""
    joined = IndexWriter(7)
    for some in (lines[:cut], lines[cut:]):
        index = opened(packed(written(some)))
        joined.extend(index.columns(1, index.line_count))
    assert packed(joined) == packed(written(lines))
    assert joined.output_bytes == sum(length for _, _, length, _, _ in lines)


def test_add_says_all_of_a_line_at_once() -> None:
    """The plain way is the same as the columns; places of many lines are written in pieces."""
    writer = IndexWriter(3)
    kind = writer.kind(LineOutcome.OK, "", retryable=False)
    for _ in range(70_000):
        writer.add(kind, TWIN, 2, 10, (3, 4))
    last = opened(packed(writer)).entry(70_000)
    assert (last.is_twin, last.round, last.offset, last.length) == (True, 2, 699_990, 10)
    assert (last.prompt_tokens, last.output_tokens) == (3, 4)


def test_the_round_holds_where_nothing_else_is_said() -> None:
    """Who answers a whole round says it once."""
    writer = IndexWriter(3)
    writer.codes.append(writer.kind(LineOutcome.OK, "", retryable=False))
    writer.lengths.append(1)
    writer.tokens.append(0)
    assert opened(packed(writer)).entry(1).round == 3


def test_kinds_are_bounded_whatever_a_provider_says() -> None:
    """Codes and messages are cut, and beyond a number all codes of an outcome are `other`."""
    writer = IndexWriter()
    numbers = {
        writer.kind(LineOutcome.ERROR, f"{number}-" + "x" * 500, "y" * 5_000, retryable=False)
        for number in range(2 * KINDS_MAX)
    }
    kinds = writer.kinds()
    assert len(numbers) == len(kinds) == KINDS_MAX + 1
    for number in sorted(numbers):
        writer.add(number, 0, 1, 1)
    index = opened(packed(writer))
    assert list(index.numbers([LineOutcome.ERROR])) == list(range(1, len(numbers) + 1))
    assert (kinds[-1].code, kinds[-1].message) == (OTHER, "")
    assert len(kinds[0].code) == CODE_CHARACTERS
    assert len(kinds[0].message) == MESSAGE_CHARACTERS


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_line_that_is_not_there_is_none(number: int) -> None:
    """Lines count from 1, as people do."""
    index = opened(packed(written([(0, None, 5, 1, 1), (2, None, 5, 1, 1)])))
    with pytest.raises(IndexError):
        index.entry(number)


@pytest.mark.parametrize("place", [0, 8])
def test_a_file_that_is_no_index_is_refused(place: int) -> None:
    """Another file, one of an impossible header, one with a garbled header, one cut short."""
    data = packed(written([(0, None, 5, 1, 1)]))
    spoilt = data[:place] + b"\xff" * 4 + data[place + 4 :]
    for bad in (b"", data[:10], spoilt, data[:16] + b"!" + data[17:], data[:20]):
        with pytest.raises(BlobCorrupt):
            opened(bad)


def test_a_column_that_is_cut_short_is_damage() -> None:
    """A file that ends before its lines do gives no line."""
    data = packed(written([(0, None, 5, 1, 1)] * 9))
    with pytest.raises(BlobCorrupt):
        opened(data[:-1]).entry(9)


def test_a_kind_that_nobody_declared_is_damage() -> None:
    """A code beyond the table is not guessed at, neither for one line nor when lines are copied."""
    writer = written([(0, None, 5, 1, 1)])
    data = packed(writer)
    at = header_span(data[:HEAD_BYTES]).stop + 1
    spoilt = opened(data[:at] + b"\x07" + data[at + 1 :])
    with pytest.raises(BlobCorrupt):
        spoilt.entry(1)
    with pytest.raises(BlobCorrupt):
        writer.extend(spoilt.columns(1, 1))
