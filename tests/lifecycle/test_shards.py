"""shards: every row finds its line, however it comes, and garbage is never an answer."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.fakes import chunks_of, request_of, row_of

from penstock.core.job import JobId, tag_of
from penstock.core.line import LineKey
from penstock.lifecycle.shards import (
    CONFLICTING,
    NO_ROW,
    ONE_ROW,
    ROW_BYTES_MAX,
    UNREADABLE,
    Shards,
)

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
OTHER = JobId("req_bbbbbbbbbbbbbbbbbbbbbbbbbb")
KEYS = LineKey(tag_of(JOB))
LINES = 6

Index = list[tuple[int, bytes]]
Reader = Callable[..., Shards]


@pytest.fixture
def read(tmp_path: Path) -> Iterable[Reader]:
    """Read shards, each given as its chunks, into an index."""
    opened: list[Shards] = []

    def run(*shards: Iterable[bytes], lines: int = LINES) -> Shards:
        made = Shards(tmp_path / f"{len(opened)}.scratch", lines, KEYS)
        opened.append(made)
        for shard in shards:
            for chunk in shard:
                made.feed(chunk)
            made.end_shard()
        return made

    yield run
    for one in opened:
        one.close()


def index_of(shards: Shards) -> Index:
    """What is known of each line."""
    return [
        (shards.flag(number), shards.row(number) if shards.flag(number) else b"")
        for number in range(1, LINES + 1)
    ]


def row(number: int, **members: object) -> bytes:
    """A good row of our job."""
    return row_of(JOB, number, f"text {number}", **members)


def test_rows_in_any_order_find_their_lines(read: Reader) -> None:
    """Order means nothing: the key does."""
    shards = read([b"\n".join([row(3), row(1), row(2)]) + b"\n"])
    assert [shards.flag(number) for number in (1, 2, 3, 4)] == [ONE_ROW] * 3 + [NO_ROW]
    assert [shards.row(number) for number in (1, 2, 3)] == [row(1), row(2), row(3)]
    assert (shards.rows, shards.strangers, shards.duplicates) == (3, 0, 0)


def test_the_last_row_may_lack_its_newline(read: Reader) -> None:
    """The end of a shard ends its row; the next shard starts a new one."""
    shards = read([row(1)], [row(2) + b"\n"], [])
    assert (shards.rows, shards.row(1), shards.row(2)) == (2, row(1), row(2))


def test_blank_lines_and_carriage_returns_are_no_rows(read: Reader) -> None:
    """White space between rows is nobody's row."""
    shards = read([b"\n\r\n  \n" + row(1) + b"\r\n\n"])
    assert (shards.rows, shards.strangers) == (1, 0)


def test_a_truncated_last_row_is_unreadable(read: Reader) -> None:
    """Half a row whose key is readable is known as this line's, and as no answer."""
    shards = read([row(1) + b"\n" + b'{"key":"%s","resp' % KEYS.of(2).encode()])
    assert (shards.flag(1), shards.flag(2)) == (ONE_ROW, UNREADABLE)


def test_a_truncated_row_without_its_key_is_a_stranger(read: Reader) -> None:
    """Half a row that names no line is counted and dropped."""
    shards = read([row(1)[:15]])
    assert (shards.rows, shards.strangers) == (0, 1)


@pytest.mark.parametrize(
    "foreign",
    [
        row_of(OTHER, 1, "another job's"),
        orjson.dumps({"request": request_of("no key"), "response": {}}),
        orjson.dumps({"key": 7, "response": {}}),
        orjson.dumps({"key": None}),
        orjson.dumps({"key": KEYS.of(LINES + 1)}),
        orjson.dumps({"key": KEYS.of(0)}),
        orjson.dumps({"key": KEYS.of(1) + " "}),
        orjson.dumps({"key": KEYS.of(1).replace("-000001", "-0000001")}),
        b"[1, 2]",
        b"null",
        b"not json at all",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_rows_that_are_not_ours_are_counted_and_dropped(read: Reader, foreign: bytes) -> None:
    """Foreign, unkeyed and garbage rows name no line and never reach one."""
    shards = read([foreign + b"\n" + row(1)])
    assert (shards.rows, shards.strangers, shards.row(1)) == (1, 1, row(1))


def test_a_row_that_is_not_utf8_is_unreadable(read: Reader) -> None:
    """Bytes that no JSON may hold spoil the row and only this row."""
    bad = row(1).replace(b"answer 1", b"answer \xff")
    shards = read([bad + b"\n" + row(2)])
    assert (shards.flag(1), shards.flag(2)) == (UNREADABLE, ONE_ROW)


def test_a_row_in_good_utf8_is_read(read: Reader) -> None:
    """Text beyond ASCII is an answer like any other."""
    shards = read([row_of(JOB, 1, "grüße 漢")])
    assert shards.flag(1) == ONE_ROW


def test_a_bottomless_row_is_unreadable(read: Reader) -> None:
    """Nesting without end is a corrupt row, not a crash."""
    bomb = b'{"key":"%s","x":' % KEYS.of(1).encode() + b"[" * 50_000
    shards = read([bomb + b"\n" + row(2)])
    assert (shards.flag(1), shards.flag(2)) == (UNREADABLE, ONE_ROW)


def test_the_same_row_twice_is_one_answer(read: Reader) -> None:
    """A duplicate that says the same is counted, and the first row stays."""
    again = row(1, processed_time="2026-11-22T17:00:00Z")
    shards = read([row(1) + b"\n" + again])
    assert (shards.flag(1), shards.duplicates, shards.row(1)) == (ONE_ROW, 1, row(1))


@pytest.mark.parametrize("members", [{"response": {"candidates": []}}, {"status": "Bad Request"}])
def test_two_different_rows_prove_neither(read: Reader, members: dict[str, object]) -> None:
    """Rows that differ in answer or status make the line conflicting."""
    shards = read([row(1) + b"\n" + row(1, **members)])
    assert (shards.flag(1), shards.duplicates) == (CONFLICTING, 0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_good_row_beside_an_unreadable_one_proves_nothing(read: Reader, order: int) -> None:
    """One readable row of two is not believed, whichever comes first."""
    rows = [row(1), row(1)[:-40] + b"\xff}"]
    shards = read([b"\n".join(rows[::order])])
    assert shards.flag(1) == CONFLICTING


def test_a_third_row_does_not_heal_a_conflict(read: Reader) -> None:
    """Once conflicting, a line stays so."""
    shards = read([b"\n".join([row(1), row(1, status="x"), row(1), row(1)])])
    assert (shards.flag(1), shards.duplicates) == (CONFLICTING, 0)


def test_a_huge_row_is_skipped_in_bounded_memory(read: Reader) -> None:
    """A row beyond the limit is dropped as it streams by, and the next one is read."""
    # Zeros that nobody writes to cost no memory.
    shards = read([bytes(ROW_BYTES_MAX + 1), b"more", b"of it\n" + row(1) + b"\n"])
    assert (shards.rows, shards.strangers, len(shards._tail)) == (1, 1, 0)


def test_a_huge_row_at_the_end_is_one_stranger(read: Reader) -> None:
    """Its missing newline changes nothing, and the next shard is not part of it."""
    shards = read([bytes(ROW_BYTES_MAX + 1)], [row(1)])
    assert (shards.rows, shards.strangers) == (1, 1)


def test_a_huge_row_is_not_copied_to_the_disk_while_it_is_skipped(
    read: Reader, tmp_path: Path
) -> None:
    """Blocks of which nothing will be read do not reach the scratch file."""
    read([bytes(ROW_BYTES_MAX + 1), bytes(1000), bytes(1000), b"\n" + row(1)])
    assert (tmp_path / "0.scratch").stat().st_size == ROW_BYTES_MAX + 2 + len(row(1))


def test_a_repeated_row_is_compared_before_its_block_is_on_the_disk(read: Reader) -> None:
    """The first row of a pair may still be on its way to the scratch file."""
    filler = b" " * 4_000_000 + b"\n"
    shards = read([row(1) + b"\n" + filler + row(1) + b"\n" + row(1, status="x") + b"\n"])
    assert (shards.flag(1), shards.duplicates) == (CONFLICTING, 1)


def test_a_disk_that_fails_is_noticed_before_the_shard_ends(tmp_path: Path) -> None:
    """An error of the writing thread comes up where the shard is read."""
    shards = Shards(tmp_path / "scratch", LINES, KEYS)
    shards._file.close()
    shards.feed(row(1))
    with pytest.raises(ValueError, match="closed"):
        shards.end_shard()
    shards.close()


FRAGMENTS = [
    *[row(number) for number in range(1, LINES + 1)],
    row(1, status="different"),
    row(2, processed_time=None),
    row(3)[:-9],
    row(4).replace(b"answer", b"\xfe"),
    row_of(OTHER, 1, "foreign"),
    b"",
    b"\r",
    b"garbage",
    row_of(JOB, 5, "grüße"),
]


@given(
    rows=st.lists(st.sampled_from(FRAGMENTS), max_size=20),
    cuts=st.lists(st.integers(0, 2**20), max_size=12),
    ends=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_any_chunking_gives_the_same_index(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], cuts: list[int], *, ends: bool
) -> None:
    """Where the blocks are cut is invisible in the result."""
    data = b"\n".join(rows) + (b"\n" if ends else b"")
    results = []
    for number, chunks in enumerate([[data], list(chunks_of(data, cuts))]):
        folder = tmp_path_factory.getbasetemp()
        shards = Shards(folder / f"shards{number}.scratch", LINES, KEYS)
        for chunk in chunks:
            shards.feed(chunk)
        shards.end_shard()
        results.append((index_of(shards), shards.strangers, shards.duplicates))
        shards.close()
    assert results[0] == results[1]


@given(
    rows=st.lists(st.sampled_from(FRAGMENTS), max_size=20),
    seed=st.integers(0, 2**32),
    shard_count=st.integers(1, 4),
)
@settings(deadline=None, max_examples=200)
def test_any_order_over_any_shards_gives_the_same_verdicts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], seed: int, shard_count: int
) -> None:
    """Rows may come in any order and in any file; what is known of each line is the same."""
    shuffled = rows[:]
    random.Random(seed).shuffle(shuffled)  # noqa: S311  # reproducible, not secret
    results = []
    for number, order in enumerate([rows, shuffled]):
        folder = tmp_path_factory.getbasetemp()
        shards = Shards(folder / f"orders{number}.scratch", LINES, KEYS)
        count = 1 if number == 0 else shard_count
        for start in range(count):
            shards.feed(b"\n".join(order[start::count]))
            shards.end_shard()
        flags = [shards.flag(line) for line in range(1, LINES + 1)]
        results.append((flags, shards.rows, shards.strangers))
        shards.close()
    assert results[0] == results[1]
