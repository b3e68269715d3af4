"""stripes: whoever writes which part of an output, it is the one that a single process writes."""

import hashlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lifecycle.fakes import answer_of, input_of, request_of, row_of
from tests.lifecycle.merging import JOB, Made, helping, merge_all
from tests.lifecycle.reading import Reading

from penstock.core.line import LineOutcome
from penstock.core.options import Selection
from penstock.errors import BlobCorrupt, Problem, StorageFull
from penstock.lifecycle.behind import Behind
from penstock.lifecycle.disk import sync, write_at
from penstock.lifecycle.rows import RECORD, Reader
from penstock.lifecycle.stripes import (
    AHEAD,
    BLOCK_BYTES,
    HASH_BYTES,
    STRIPE_LINES,
    SYNC_BYTES,
    Splicer,
    Stripe,
    Stripes,
    help_with,
)

LINES = 3 * STRIPE_LINES + 5
TEXTS = [f"t{number}" for number in range(1, LINES + 1)]
RAW = input_of(TEXTS)
NOW = b'"2026-11-22T16:00:00Z"'


def rows_of(numbers: range, **members: object) -> list[bytes]:
    """Good rows of these lines."""
    return [row_of(JOB, number, f"t{number}", **members) for number in numbers]


def test_each_number_of_processes_writes_the_same(tmp_path: Path) -> None:
    """Alone, with one and with two others: output, row index, sums and hash are equal."""
    rows = rows_of(range(1, LINES + 1))
    random.Random(7).shuffle(rows)  # noqa: S311  # reproducible, not secret
    alone = merge_all(tmp_path, RAW, rows)
    for others in range(3):
        assert merge_all(tmp_path, RAW, rows, others=others) == alone
    assert (alone.merged.counts.ok, len(alone.lines)) == (LINES, LINES)


SPOILT: dict[str, Callable[[int], list[bytes]]] = {
    "missing": lambda _number: [],
    "failed": lambda number: [row_of(JOB, number, f"t{number}", status="Bad Request")],
    "truncated": lambda number: [
        row_of(JOB, number, f"t{number}").replace(b'"STOP"', b'"MAX_TOKENS"')
    ],
    "without a time": lambda number: [row_of(JOB, number, f"t{number}", processed_time=None)],
    "twice": lambda number: [row_of(JOB, number, f"t{number}")] * 2,
    "long": lambda number: [
        row_of(JOB, number, f"t{number}", response=answer_of("x" * (BLOCK_BYTES + 1)))
    ],
}


@given(
    spoilt=st.dictionaries(st.integers(1, LINES), st.sampled_from(sorted(SPOILT)), max_size=5),
    first=st.integers(1, LINES),
    seed=st.integers(0, 2**32),
    others=st.integers(0, 2),
)
@settings(deadline=None, max_examples=30)
def test_whatever_happens_to_lines_each_has_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    spoilt: dict[int, str],
    first: int,
    seed: int,
    others: int,
) -> None:
    """For any faults, any order of rows and any part of the input: the same as from one process."""
    folder = tmp_path_factory.getbasetemp()
    numbers = range(first, LINES + 1)
    rows = [
        one
        for number in numbers
        for one in (
            SPOILT[spoilt[number]](number)
            if number in spoilt
            else rows_of(range(number, number + 1))
        )
    ]
    random.Random(seed).shuffle(rows)  # noqa: S311  # reproducible, not secret
    alone = merge_all(folder, RAW, rows, numbers=numbers)
    assert merge_all(folder, RAW, rows, numbers=numbers, others=others) == alone


def compact(line: object) -> bytes:
    """As most programs write JSON."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()


def spaced(line: object) -> bytes:
    """As Python's own `json.dumps` does."""
    return json.dumps(line).encode()


def odd(line: object) -> bytes:
    """As a person might."""
    return json.dumps(line, separators=(" ,\t", " :  ")).encode()


@given(
    spellings=st.lists(st.sampled_from([compact, spaced, odd]), min_size=1, max_size=5),
    own=st.lists(
        st.dictionaries(st.sampled_from(["custom_id", "n", "naïve"]), st.integers(), max_size=3),
        min_size=1,
        max_size=5,
    ),
    texts=st.lists(
        st.sampled_from(["plain", "naïve", 'a "quote"', "a, b"]), min_size=1, max_size=3
    ),
)
@settings(deadline=None, max_examples=40)
def test_whoever_looks_at_a_line_it_is_spelled_as_it_came(
    tmp_path_factory: pytest.TempPathFactory,
    spellings: list[Callable[[object], bytes]],
    own: list[dict[str, int]],
    texts: list[str],
) -> None:
    """Compared with a form, parsed or judged with care: the same bytes, with the caller's."""
    folder = tmp_path_factory.getbasetemp()
    numbers = range(1, 31)
    asked = [texts[number % len(texts)] for number in numbers]
    lines = [
        spellings[number % len(spellings)](
            {**own[number % len(own)], "request": request_of(asked[number - 1])}
        )
        for number in numbers
    ]
    raw = b"".join(line + b"\n" for line in lines)
    rows = [row_of(JOB, number, asked[number - 1]) for number in numbers]
    made = [merge_all(folder, raw, rows), merge_all(folder, raw, rows, others=1)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reader, "_alike", lambda *_: None)
        made.append(merge_all(folder, raw, rows))
        patched.setattr(Reader, "_good", lambda *_: None)
        made.append(merge_all(folder, raw, rows))
    assert all(one.output == made[0].output for one in made)
    assert all(one.merged == made[0].merged for one in made)
    outputs = made[0].output.splitlines()
    assert all(line[1:-1] in output for line, output in zip(lines, outputs, strict=True))
    assert [orjson.loads(one)["request"] for one in outputs] == [
        orjson.loads(line)["request"] for line in lines
    ]


def test_twins_problems_and_rounds_are_as_from_one_process(tmp_path: Path) -> None:
    """Lines that get another's answer or keep their own stand between the stripes of others."""
    leaders = list(range(1, LINES + 1))
    texts = list(TEXTS)
    leaders[700 - 1], texts[700 - 1] = 2, "t2"
    raw = input_of(texts)
    problems = {5: Problem(code="bad", message="Bad.", line=5)}
    known: dict[str, Any] = {"leaders": leaders, "problems": problems}
    rows = rows_of(range(1, LINES - 3))
    made: list[Made] = []
    for others in (None, 1):
        first = merge_all(tmp_path, raw, rows, **known, others=others)
        again = Selection(outcomes=(LineOutcome.MISSING,))
        second = merge_all(
            tmp_path,
            raw,
            rows_of(range(LINES - 3, LINES + 1)),
            **known,
            base=first,
            selection=again,
            others=others,
        )
        made += [first, second]
    assert made[:2] == made[2:]


class Bench:
    """An output of some stripes, and what is known of its lines."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path = folder / "output"
        self._stack = stack
        reading = stack.enter_context(Reading(folder, JOB, RAW))
        reading.feed([b"\n".join(rows_of(range(1, LINES + 1)))])
        self._records = b"".join(records for _, records in reading.shards.stripes(LINES))
        self._reading = reading
        self.output = self.open(os.O_RDWR | os.O_CREAT)
        self.splicer = self.splicer_to(self.output)

    def open(self, flags: int, path: Path | None = None) -> int:
        """Open the output, or another file, for as long as the test takes."""
        descriptor = os.open(path or self.path, flags)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def splicer_to(self, output: int) -> Splicer:
        """Return what writes stripes to this file."""
        return Splicer(self._reading.lines, self._reading.kept, output)

    def put_all(self, stripes: Stripes, count: int = 64) -> None:
        """Give all lines, so many at a time."""
        for first in range(1, LINES + 1, count):
            some = self._records[RECORD.size * (first - 1) : RECORD.size * (first - 1 + count)]
            stripes.put(first, some, self.size(first, some), NOW)

    def size(self, first: int, records: bytes) -> int:
        """Return how long the lines will be."""
        found = list(RECORD.iter_unpack(records))
        own = self._reading.lines.lengths(first, len(found))
        around = len(b'{"status":"","processed_time":,,"response":}\n') - 2
        return sum(own) + sum(around + int(one[2]) + int(one[5]) for one in found)

    def stripe(self) -> Stripe:
        """Return a stripe of one line."""
        some = self._records[: RECORD.size]
        return Stripe(1, 0, self.size(1, some), NOW, some)

    def written(self) -> bytes:
        """The bytes of the output."""
        return self.path.read_bytes()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A job with some stripes."""
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """What is written of the lines of the bench."""
    folder = tmp_path / "expected"
    folder.mkdir()
    return merge_all(folder, RAW, rows_of(range(1, LINES + 1))).output


def test_what_a_process_leaves_is_done_by_the_first(bench: Bench, expected: bytes) -> None:
    """Another process that cannot write does nothing for long, and its stripes are not lost."""
    broken = bench.splicer_to(bench.open(os.O_RDONLY))
    with helping(broken) as other, closing(Stripes(bench.splicer, bench.output, [other])) as all_:
        bench.put_all(all_)
        all_.finish()
    assert bench.written() == expected


def test_a_process_whose_hash_is_behind_leaves_the_writing_to_others(
    bench: Bench, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the other one has room for more; here it could not write anything itself."""
    monkeypatch.setattr("penstock.lifecycle.stripes.HASH_BEHIND_BYTES", -1)
    broken = bench.splicer_to(bench.open(os.O_RDONLY))
    with helping(bench.splicer) as other, closing(Stripes(broken, bench.output, [other])) as all_:
        bench.put_all(all_, LINES // (3 * AHEAD))
        all_.finish()
    assert bench.written() == expected


def test_a_process_without_others_writes_however_far_its_hash_is_behind(
    bench: Bench, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody to wait for any more."""
    monkeypatch.setattr("penstock.lifecycle.stripes.HASH_BEHIND_BYTES", -1)
    silent, ends = socket.socketpair()
    with closing(Stripes(bench.splicer, bench.output, [silent.detach()])) as all_:
        ends.close()
        bench.put_all(all_)
        all_.finish()
    assert bench.written() == expected


def test_a_process_that_is_gone_is_not_waited_for(bench: Bench, expected: bytes) -> None:
    """One that ended before the first stripe, or with stripes in hand, changes nothing."""
    gone, ended = socket.socketpair()
    ended.close()
    silent, ends = socket.socketpair()
    with closing(Stripes(bench.splicer, bench.output, [gone.detach(), silent.detach()])) as all_:
        bench.put_all(all_)
        ends.close()
        all_.finish()
    assert bench.written() == expected


def test_a_process_that_ends_while_it_is_given_more_is_not_waited_for(
    bench: Bench, expected: bytes
) -> None:
    """What could not be sent to the end is done by the first."""
    mine, theirs = socket.socketpair()
    # It still hears, and nothing can be said to it.
    mine.shutdown(socket.SHUT_WR)
    with theirs, closing(Stripes(bench.splicer, bench.output, [mine.detach()])) as all_:
        bench.put_all(all_)
        all_.finish()
    assert bench.written() == expected


def test_what_is_heard_in_parts_is_put_together(bench: Bench, expected: bytes) -> None:
    """The socket may cut an answer anywhere."""
    mine, theirs = socket.socketpair()
    with theirs, closing(Stripes(bench.splicer, bench.output, [mine.detach()])) as all_:
        bench.put_all(all_, LINES)
        bench.splicer.write(Stripe(1, 0, len(expected), NOW, bench._records))
        answer = (0).to_bytes(8, "little")
        theirs.sendall(answer[:3])
        all_._hear(all_._others[0], wait=True)
        theirs.sendall(answer[3:])
        all_.finish()
    assert bench.written() == expected


@pytest.mark.parametrize("heard", [b"", b"\x09\0\0\0xyz", b"\x03\0\0\0xyz"])
def test_a_socket_that_ends_anywhere_ends_the_help(bench: Bench, heard: bytes) -> None:
    """Nothing is written for a stripe that did not come whole."""
    mine, theirs = socket.socketpair()
    mine.sendall(heard)
    mine.close()
    help_with(theirs.detach(), bench.splicer)
    assert bench.written() == b""


def test_a_stripe_that_is_not_what_was_read_is_an_error(bench: Bench) -> None:
    """Lines of another length than was said would leave a gap or overwrite their neighbours."""
    wrong = msgspec.structs.replace(bench.stripe(), size=7)
    with pytest.raises(BlobCorrupt, match="not what was read"):
        bench.splicer.write(wrong)


def test_an_output_that_lost_its_end_is_an_error(bench: Bench) -> None:
    """Hashed is what the file has."""
    with closing(Stripes(bench.splicer, bench.output, [])) as stripes:
        stripes._written(0, 1)
        with pytest.raises(BlobCorrupt, match="shorter"):
            stripes.finish()


def test_an_output_is_made_durable_and_hashed_on_the_way(bench: Bench) -> None:
    """Every so many bytes the disk is asked; what is written behind a gap waits for it."""
    with closing(Stripes(bench.splicer, bench.output, [])) as stripes:
        write_at(bench.output, b"x", SYNC_BYTES)
        stripes._apart[SYNC_BYTES] = 1
        stripes.append(bytes(SYNC_BYTES))
        assert (stripes._whole, stripes._synced) == (SYNC_BYTES + 1,) * 2
        stripes._hashing.wait()
        # Of what is left, only the end of the output is hashed.
        assert stripes._hashed == SYNC_BYTES // HASH_BYTES * HASH_BYTES
        stripes.size = SYNC_BYTES + 1
        assert stripes.finish() == hashlib.sha256(bytes(SYNC_BYTES) + b"x").hexdigest()


def test_what_the_disk_says_on_the_way_comes_up_at_the_end(bench: Bench) -> None:
    """A file that cannot be made durable is an error of the job."""
    reading, writing = os.pipe()
    with closing(Stripes(bench.splicer, bench.output, [])) as stripes:
        stripes._syncing.do(sync, writing)
        with pytest.raises(StorageFull, match="could not write"):
            stripes.finish()
    os.close(reading)
    os.close(writing)


def test_a_full_disk_is_an_error_of_who_writes(bench: Bench) -> None:
    """Nobody goes on with an output that has no room."""
    full = bench.open(os.O_RDWR, Path("/dev/full"))
    with closing(Stripes(bench.splicer_to(full), full, [])) as stripes:
        with pytest.raises(StorageFull, match="No space left"):
            stripes.append(b"x")
        with pytest.raises(StorageFull, match="No space left"):
            bench.put_all(stripes)


def test_a_thread_is_idle_when_its_task_has_ended() -> None:
    """Before the first task and after each; who must not wait asks for that."""
    with Behind("penstock-test") as behind:
        found = [behind.is_idle]
        reading, writing = os.pipe()
        behind.do(lambda descriptor: os.read(descriptor, 1), reading)
        found.append(behind.is_idle)
        os.write(writing, b"x")
        behind.wait()
        found.append(behind.is_idle)
    assert found == [True, False, True]
    os.close(reading)
    os.close(writing)
