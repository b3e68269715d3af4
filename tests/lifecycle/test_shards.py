"""shards: every row finds its line, however it comes, and garbage is never an answer."""

import json
import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.fakes import answer_of, chunks_of, input_of, request_of, row_of
from tests.lifecycle.reading import Reading

from penstock.core.job import Counts, JobId, tag_of
from penstock.core.line import LineKey
from penstock.core.models import SEED_CATALOGUE
from penstock.errors import StorageFull
from penstock.lifecycle.inflow import ROW_BYTES_MAX, SEGMENT_BYTES
from penstock.lifecycle.rows import (
    ANSWERED,
    CONFLICTING,
    NO_ROW,
    ONE_ROW,
    ROW,
    UNREADABLE,
)

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
OTHER = JobId("req_bbbbbbbbbbbbbbbbbbbbbbbbbb")
KEYS = LineKey(tag_of(JOB))
LINES = 6
INPUT = input_of(f"text {number}" for number in range(1, LINES + 1))
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price

Index = list[tuple[int, bytes]]
Reader = Callable[..., Reading]


@pytest.fixture
def read(tmp_path: Path) -> Iterable[Reader]:
    """Read shards, each given as its chunks, for a job of six lines."""
    with ExitStack() as stack:
        yield lambda *shards: stack.enter_context(Reading(tmp_path, JOB, INPUT, PRICE)).feed(
            *shards
        )


def index_of(shards: Reading) -> Index:
    """What is known of each line."""
    return [
        (shards.flag(number), shards.row(number) if shards.flag(number) else b"")
        for number in range(1, LINES + 1)
    ]


def row(number: int, **members: object) -> bytes:
    """A good row of our job."""
    return row_of(JOB, number, f"text {number}", **members)


def answer(number: int) -> bytes:
    """What is kept of it."""
    return bytes(ROW.decode(row(number)).response)


def test_rows_in_any_order_find_their_lines(read: Reader) -> None:
    """Order means nothing: the key does."""
    shards = read([b"\n".join([row(3), row(1), row(2)]) + b"\n"])
    assert [shards.flag(number) for number in (1, 2, 3, 4)] == [ANSWERED] * 3 + [NO_ROW]
    assert [shards.row(number) for number in (1, 2, 3)] == [answer(1), answer(2), answer(3)]
    assert (shards.shards.rows, shards.strangers, shards.shards.duplicates) == (3, 0, 0)


def test_the_last_row_may_lack_its_newline(read: Reader) -> None:
    """The end of a shard ends its row; the next shard starts a new one."""
    shards = read([row(1)], [row(2) + b"\n"], [])
    assert (shards.shards.rows, shards.row(1), shards.row(2)) == (2, answer(1), answer(2))


def test_blank_lines_and_carriage_returns_are_no_rows(read: Reader) -> None:
    """White space between rows is nobody's row."""
    shards = read([b"\n\r\n  \n" + row(1) + b"\r\n\n"])
    assert (shards.shards.rows, shards.strangers) == (1, 0)


def test_a_truncated_last_row_is_unreadable(read: Reader) -> None:
    """Half a row whose key is readable is known as this line's, and as no answer."""
    shards = read([row(1) + b"\n" + b'{"key":"%s","resp' % KEYS.of(2).encode()])
    assert (shards.flag(1), shards.flag(2)) == (ANSWERED, UNREADABLE)


def test_a_truncated_row_without_its_key_is_a_stranger(read: Reader) -> None:
    """Half a row that names no line is counted and dropped."""
    shards = read([row(1)[:15]])
    assert (shards.shards.rows, shards.strangers) == (0, 1)


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
    assert (shards.shards.rows, shards.strangers, shards.row(1)) == (1, 1, answer(1))


def test_a_row_that_is_not_utf8_is_unreadable(read: Reader) -> None:
    """Bytes that no JSON may hold spoil the row and only this row."""
    bad = row(1).replace(b"answer 1", b"answer \xff")
    shards = read([bad + b"\n" + row(2)])
    assert (shards.flag(1), shards.flag(2)) == (UNREADABLE, ANSWERED)


def test_a_row_in_good_utf8_is_read(read: Reader) -> None:
    """Text beyond ASCII is an answer like any other."""
    shards = read([row(1, response=answer_of("grüße 漢"))])
    assert shards.flag(1) == ANSWERED


def test_a_bottomless_row_is_unreadable(read: Reader) -> None:
    """Nesting without end is a corrupt row, not a crash."""
    bomb = b'{"key":"%s","x":' % KEYS.of(1).encode() + b"[" * 50_000
    shards = read([bomb + b"\n" + row(2)])
    assert (shards.flag(1), shards.flag(2)) == (UNREADABLE, ANSWERED)


def test_the_same_row_twice_is_one_answer(read: Reader) -> None:
    """A duplicate that says the same is counted, and the first row stays."""
    again = row(1, processed_time="2026-11-22T17:00:00Z")
    shards = read([row(1) + b"\n" + again])
    assert (shards.flag(1), shards.shards.duplicates, shards.row(1)) == (ANSWERED, 1, answer(1))


def test_rows_that_come_again_among_others_move_none_of_them(read: Reader) -> None:
    """Each line keeps its own answer, whether its first row came in the same segment or before."""
    numbers = [3, 1, 3, 2, 1, 4]
    shards = read([b"\n".join(map(row, numbers))], [b"\n".join([row(2), row(6), row(4)])])
    assert [shards.row(number) for number in (1, 2, 3, 4, 6)] == list(map(answer, (1, 2, 3, 4, 6)))
    assert (shards.shards.rows, shards.shards.duplicates, shards.flag(5)) == (5, 4, NO_ROW)


@pytest.mark.parametrize("members", [{"response": {"candidates": []}}, {"status": "Bad Request"}])
def test_two_different_rows_prove_neither(read: Reader, members: dict[str, object]) -> None:
    """Rows that differ in answer or status make the line conflicting."""
    shards = read([row(1) + b"\n" + row(1, **members)])
    assert (shards.flag(1), shards.shards.duplicates) == (CONFLICTING, 0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_good_row_beside_an_unreadable_one_proves_nothing(read: Reader, order: int) -> None:
    """One readable row of two is not believed, whichever comes first."""
    rows = [row(1), row(1)[:-40] + b"\xff}"]
    shards = read([b"\n".join(rows[::order])])
    assert shards.flag(1) == CONFLICTING


def test_a_third_row_does_not_heal_a_conflict(read: Reader) -> None:
    """Once conflicting, a line stays so."""
    shards = read([b"\n".join([row(1), row(1, status="x"), row(1), row(1)])])
    assert (shards.flag(1), shards.shards.duplicates) == (CONFLICTING, 0)


def test_a_huge_row_is_skipped_in_bounded_memory(read: Reader) -> None:
    """A row beyond the limit is dropped as it streams by, and the next one is read."""
    # Zeros that nobody writes to cost no memory.
    shards = read([bytes(ROW_BYTES_MAX + 1), b"more", b"of it\n" + row(1) + b"\n"])
    assert (shards.shards.rows, shards.strangers, len(shards.segments)) == (1, 1, 1)


def test_a_huge_row_at_the_end_is_one_stranger(read: Reader) -> None:
    """Its missing newline changes nothing, and the next shard is not part of it."""
    shards = read([bytes(ROW_BYTES_MAX + 1)], [row(1)])
    assert (shards.shards.rows, shards.strangers) == (1, 1)


def test_a_huge_row_is_not_copied_to_the_disk_while_it_is_skipped(
    read: Reader, tmp_path: Path
) -> None:
    """Blocks of which nothing will be read do not reach the file."""
    read([bytes(ROW_BYTES_MAX + 1), bytes(1000), bytes(1000), b"\n" + row(1)])
    assert (tmp_path / "rows").stat().st_size == ROW_BYTES_MAX + 2 + len(row(1))


def test_a_repeated_row_is_compared_before_its_block_is_on_the_disk(read: Reader) -> None:
    """Both rows of a pair may come with one block."""
    filler = b" " * 4_000_000 + b"\n"
    shards = read([row(1) + b"\n" + filler + row(1) + b"\n" + row(1, status="x") + b"\n"])
    assert (shards.flag(1), shards.shards.duplicates) == (CONFLICTING, 1)


def test_a_disk_that_fails_is_noticed_at_once(read: Reader) -> None:
    """What the disk says about a block is raised where the block is fed."""
    shards = read()
    shards._file.close()
    with pytest.raises(StorageFull, match="Bad file descriptor"):
        shards.inflow.feed(row(1))


def test_small_rows_are_read_together(read: Reader) -> None:
    """A segment ends with the first block of whole rows beyond its size, and with its shard."""
    filler = b" " * (SEGMENT_BYTES // 2) + b"\n"
    shards = read([filler, filler, row(1) + b"\n", row(2)], [row(3)])
    assert [one.size for one in shards.segments] == [
        2 * len(filler),
        len(row(1)) + 1 + len(row(2)),
        len(row(3)),
    ]
    assert shards.shards.rows == 3


@pytest.mark.parametrize(
    "doubtful",
    [
        row(1, status="Bad Request"),
        row(1, request=request_of("another text")),
        row(1, request=7),
        row(1, response={"candidates": []}),
        row(1, response=answer_of("x") | {"unheard_of": 1}),
        row(1, processed_time="\x01" * 10),
    ],
)
def test_what_is_not_good_beyond_doubt_is_left_to_care(read: Reader, doubtful: bytes) -> None:
    """Such a row is its line's, and is neither an answer yet nor counted."""
    shards = read([doubtful])
    assert shards.flag(1) == ONE_ROW
    assert (shards.totals.tokens(), shards.totals.spent().lines) == (Counts(), 0)


@pytest.mark.parametrize(
    "line",
    [
        b'{"request":REQUEST,"own":1}',
        b'{"status":1,"request":REQUEST}',
        b'{"\\u0073tatus":1,"request":REQUEST}',
        b'{"response":1,"request":REQUEST}',
        b'{"own":{"a":1,"request":{}},"request":REQUEST}',
        b'{"request":REQUEST }',
        b' {"request":REQUEST}',
        b' {"own":1,"request":REQUEST}',
        b'{"request" :REQUEST}',
        b'{"request":  REQUEST}',
    ],
)
def test_a_line_that_is_spelled_otherwise_is_left_to_care(tmp_path: Path, line: bytes) -> None:
    """Only a line that goes into the output as it stands is answered without care."""
    raw = line.replace(b"REQUEST", orjson.dumps(request_of("text 1")))
    with Reading(tmp_path, JOB, raw) as shards:
        assert shards.feed([row(1)]).flag(1) == ONE_ROW


@pytest.mark.parametrize(
    "line",
    [
        b'{"request":REQUEST}',
        b'{"request": REQUEST}',
        b'{"custom_id":"1","request":REQUEST}',
        b'{"custom_id": "1", "request": REQUEST}',
        b'{"own":"a,\\"request\\":","request":REQUEST}',
        b'{"own": 1.0,"b":[ ],"request":REQUEST}',
        b'{"own": {"a": 1, "request": 2}, "request": REQUEST}',
        b'{"own" :1\t,\t"request" : REQUEST}',
        b'{"\\u006fwn":1,"request":REQUEST}',
    ],
)
@pytest.mark.parametrize("dumps", [orjson.dumps, lambda value: json.dumps(value).encode()])
def test_a_line_whose_request_is_last_is_answered(
    tmp_path: Path, line: bytes, dumps: Callable[[object], bytes]
) -> None:
    """It goes into the output as it stands, in whatever spelling; Python's own has spaces."""
    raw = line.replace(b"REQUEST", dumps(request_of("text 1")))
    with Reading(tmp_path, JOB, raw) as shards:
        assert shards.feed([row(1)]).flag(1) == ANSWERED


@pytest.mark.parametrize(
    ("asked", "echoed", "flag"),
    [
        ("naïve \U0001f600", "naïve \U0001f600", ANSWERED),
        ("naïve", "naive", ONE_ROW),
        ("naïve", None, ONE_ROW),
        ("naïve", 7, ONE_ROW),
    ],
)
def test_a_text_may_be_spelled_with_escapes(
    tmp_path: Path, asked: str, echoed: object, flag: int
) -> None:
    """Python writes in ASCII what the provider echoes in UTF-8: the text is compared."""
    raw = json.dumps({"request": request_of(asked)}).encode()
    echo = {"contents": [{"role": "user", "parts": [{"text": echoed}]}]}
    with Reading(tmp_path, JOB, raw) as shards:
        assert shards.feed([row(1, request=echo)]).flag(1) == flag


CONTENTS = b'[{"role":"user","parts":[{"text":"text 1"}]}]'
PLAIN = b'"request":{"contents":' + CONTENTS + b"}"


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (b'{"request":{"contents":%s,"systemInstruction":{"parts":[]}}}', ANSWERED),
        (b'{"request":{"systemInstruction":{"parts":[]},"contents":%s}}', ANSWERED),
        (b'{"custom_id":"a b","request":{"contents":%s}}', ANSWERED),
        (b'{"request":{"x":"' + b"x" * 5000 + b'","contents":%s}}', ANSWERED),
        (b'{"request":{"contents":[ {"parts":[{"text":"text 1"}]} ]}}', ANSWERED),
        (b'{"request":{"x":{"contents":%s},"contents":[{"parts":[{"text":"b"}]}]}}', ONE_ROW),
        (b'{"request":{"x":"\\"contents\\":","contents":%s}}', ANSWERED),
        (b'{"request":{"contents":%s,"x":{}},"y":{"z":1}}', ONE_ROW),
        (b'{"request":{"contents":%s1}}', ONE_ROW),
        (b'{"request":{"contents":[]}}', ONE_ROW),
    ],
)
def test_an_echo_is_found_in_its_line(tmp_path: Path, line: bytes, flag: int) -> None:
    """The row's contents are compared with the request's own, wherever they stand in it."""
    raw = line.replace(b"%s", CONTENTS)
    with Reading(tmp_path, JOB, raw) as shards:
        assert shards.feed([row(1)]).flag(1) == flag


def test_any_number_of_kinds_of_requests_is_compared(tmp_path: Path) -> None:
    """What was learned of the lines before is no reason to take or to refuse one."""
    numbers = range(1, 601)
    line = b'{"request":{"contents":%s,"x":%d}}'
    contents = {n: CONTENTS.replace(b"text 1", b"text %d" % n) for n in numbers}
    raw = b"\n".join(line % (contents[n], n) for n in numbers)
    with Reading(tmp_path, JOB, raw) as shards:
        # Each third one echoes its neighbour.
        shards.feed([b"\n".join(row_of(JOB, n, f"text {n + (n % 3 == 0)}") for n in numbers)])
        found = [shards.flag(n) for n in numbers]
    assert found == [ONE_ROW if n % 3 == 0 else ANSWERED for n in numbers]


@pytest.mark.parametrize(
    "echo",
    [
        b'"request":{"contents":' + CONTENTS + b',"x":"\xff"}',
        b'"x":"\xff",' + PLAIN,
        b'"x":{"contents":"\xff"},' + PLAIN,
        PLAIN.replace(b'"contents"', b'"\\u0063ontents"') + b',"x":"\xff"',
        b'"request":{"contents":[{"parts":[{"text":"text 1"}],"role":"\xff"}]}',
    ],
)
def test_every_byte_of_a_row_has_to_be_text(read: Reader, echo: bytes) -> None:
    """Also what nobody reads; the same row with a letter instead is an answer."""
    bad = row(1).replace(PLAIN, echo)
    found = [
        read([some + b"\n" + row(2, x="\u00fc")]).flag(1)
        for some in (bad, bad.replace(b"\xff", b"y"))
    ]
    assert found == [UNREADABLE, ANSWERED]


def test_a_response_inside_the_response_is_not_taken_for_it(read: Reader) -> None:
    """The bytes that are delivered are those of the row's own member, wherever it stands."""
    parts = [{"functionResponse": {"name": "f", "response": {"a": 1}}}]
    response = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    for members in ({"response": response}, {"response": response, "zz": {"response": 1}}):
        shards = read([row(1, **members)])
        record = next(shards.shards.records())
        flag, delivered = record[1], shards.shards.kept(record)
        assert (flag, delivered) == (ANSWERED, orjson.dumps(response))


def test_only_what_is_delivered_stays_counted(read: Reader) -> None:
    """Rows are counted when they are read; one that gives way to doubt or to the first is not."""
    again = row(1, processed_time="2026-11-22T17:00:00Z")
    shards = read([b"\n".join([row(1), again, row(2), row(2, status="x"), row(3)])])
    spent = shards.totals.spent()
    assert (spent.lines, spent.prompt_tokens, spent.output_tokens) == (2, 4, 6)
    assert spent.micro_dollars == 2 * (2 * 250_000 + 3 * 1_500_000) // 10**6


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
    row(5, processed_time="grüße"),
]
ECHOES_ANOTHER = row_of(JOB, 5, "grüße")


@given(
    rows=st.lists(st.sampled_from([*FRAGMENTS, ECHOES_ANOTHER]), max_size=20),
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
    for chunks in ([data], list(chunks_of(data, cuts))):
        with Reading(tmp_path_factory.getbasetemp(), JOB, INPUT, PRICE) as shards:
            shards.feed(chunks)
            sums = shards.totals.sums
            results.append((index_of(shards), shards.strangers, shards.shards.duplicates, sums))
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
    for order, count in ((rows, 1), (shuffled, shard_count)):
        with Reading(tmp_path_factory.getbasetemp(), JOB, INPUT, PRICE) as shards:
            shards.feed(*([b"\n".join(order[start::count])] for start in range(count)))
            flags = [shards.flag(line) for line in range(1, LINES + 1)]
            totals = shards.totals.sums
            results.append((flags, shards.shards.rows, shards.strangers, totals))
    assert results[0] == results[1]
