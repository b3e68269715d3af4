"""collector: what a process does that collects, here without a process."""

import hashlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import msgspec
import orjson
import pytest
from tests.fake_clock import START
from tests.lifecycle.fakes import input_of, row_of
from tests.lifecycle.reading import Reading

from penstock.core.job import Counts, JobId, tag_of
from penstock.core.models import SEED_CATALOGUE
from penstock.lifecycle.collector import (
    ANSWER,
    Answer,
    Collected,
    Conclude,
    Full,
    Mark,
    Marked,
    Numbered,
    Order,
    Pause,
    Read,
    Setup,
    Task,
    read_ahead,
    serve,
)
from penstock.lifecycle.inflow import Segment
from penstock.lifecycle.merge import Missing
from penstock.lifecycle.totals import Sums

JOB = JobId("req_aaaaaaaaaaaaaaaaaaaaaaaaaa")
PRICE = SEED_CATALOGUE["gemini-3-flash-preview"].price
TEXTS = [f"t{number}" for number in range(1, 6)]
CONCLUDE = Conclude(
    missing=Missing(code="missing_row", message="No row."), now=START, only_with_rows=True
)


class Bench:
    """The files of one job, and what processes say that work on them one after the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        shards = stack.enter_context(Reading(folder, JOB, input_of(TEXTS), PRICE))
        self._inflow = shards.inflow
        self.task = Task(
            tag=tag_of(JOB),
            price=PRICE,
            round=1,
            first_line=1,
            last_line=len(TEXTS),
            rows=[shards.rows],
            kept=shards.kept,
            input=self.open("input"),
            index=self.open("index"),
        )
        self.output = self.open("output")
        self.output_index = self.open("output_index")
        self.found = [self.open("found0"), self.open("found1")]
        self.turns = self.open("turns")

    def open(self, name: str) -> int:
        """Open a file for as long as the test takes."""
        path = Path(name) if name.startswith("/") else self._folder / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def shard(self, *numbers: int) -> Segment:
        """Let a shard with these rows arrive."""
        block = b"\n".join(row_of(JOB, number, f"t{number}") for number in numbers)
        self._inflow.feed(block)
        return self._inflow.end_shard()[0]

    def setup(self, mine: int, others: Sequence[int] = ()) -> Setup:
        """Return what a process is told first."""
        return Setup(
            task=self.task,
            output=self.output,
            output_index=self.output_index,
            found=self.found,
            turns=self.turns,
            mine=mine,
            others=list(others),
        )

    def serve(self, mine: int, *orders: Order, others: Sequence[int] = ()) -> list[Answer]:
        """Give orders to a process; return its answers."""
        told = b"".join(
            msgspec.json.encode(one) + b"\n" for one in (self.setup(mine, others), *orders)
        )
        answers = io.BytesIO()
        serve(io.BytesIO(told), answers)
        return [ANSWER.decode(line) for line in answers.getvalue().splitlines()]

    def written(self) -> list[bytes]:
        """The lines of the output."""
        return (self._folder / "output").read_bytes().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A job of five lines."""
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def test_two_processes_make_one_output(bench: Bench) -> None:
    """Each reads some segments, one concludes: answers in order, sums of both."""
    segments = [bench.shard(5, 4), bench.shard(1), bench.shard(3, 1)]
    orders: list[Order] = [*map(Numbered, count(), segments), Pause()]
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(bench.serve, mine, *orders) for mine in range(2)]
        answers = [answer for one in both for answer in one.result(20)]
    reads = [one for one in answers if isinstance(one, Read)]
    tokens = sum(one.sums.plain[0].prompt_tokens for one in reads)
    told = msgspec.structs.replace(CONCLUDE, reads=reads)
    (collected,) = bench.serve(0, told)
    assert isinstance(collected, Collected)
    assert collected.merged is not None
    assert (len(reads), tokens, collected.duplicates) == (2, 10, 1)
    assert collected.merged.counts == Counts(ok=4, missing=1, prompt_tokens=8, candidates_tokens=12)
    texts = [orjson.loads(line)["request"] for line in bench.written()]
    assert [one["contents"][0]["parts"][0]["text"] for one in texts] == TEXTS


def test_a_process_speaks_over_its_pipes(bench: Bench) -> None:
    """Standard input has the orders, standard output the answers, and the end is no error."""
    done = subprocess.run(
        [sys.executable, "-c", "from penstock.lifecycle.collector import main; main()"],
        input=msgspec.json.encode(bench.setup(0)) + b"\n" + msgspec.json.encode(Pause()) + b"\n",
        stdout=subprocess.PIPE,
        pass_fds=bench.setup(0).files,
        check=True,
    )
    assert ANSWER.decode(done.stdout) == Read(Sums(), 0, {})


def test_a_process_helps_once_it_has_said_what_it_read(bench: Bench) -> None:
    """It takes stripes over its socket, and goes on to the end of its orders when that ends."""
    (read,) = bench.serve(0, Numbered(0, bench.shard(5, 4, 3, 2, 1)), Pause())
    mine, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(bench.serve, 1, Pause(), others=[theirs.detach()])
        told = msgspec.structs.replace(CONCLUDE, reads=[read])
        (collected,) = bench.serve(0, told, others=[mine.detach()])
        assert second.result(20) == [Read(Sums(), 0, {})]
    assert isinstance(collected, Collected)
    assert collected.merged is not None
    digest = hashlib.sha256(b"".join(line + b"\n" for line in bench.written())).hexdigest()
    assert (collected.merged.counts.ok, collected.merged.output_sha256) == (5, digest)


def test_a_process_says_when_it_has_come_to_a_mark(bench: Bench) -> None:
    """Behind the rows that came before it; what it has found of them is written by then."""
    marked, read, last = bench.serve(0, Numbered(0, bench.shard(1)), Mark(), Pause(), Mark())
    assert (marked, last) == (Marked(), Marked())
    assert isinstance(read, Read)
    assert read.sums.plain[0].prompt_tokens == 2


def test_no_turn_is_taken_twice_and_none_is_left_out(bench: Bench) -> None:
    """Processes that share a file each get numbers of their own, whoever is faster."""
    program = (
        "import sys; from penstock.lifecycle.collector import take_turn\n"
        "print(*(take_turn(int(sys.argv[1])) for _ in range(20_000)))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(bench.turns)],
            stdout=subprocess.PIPE,
            pass_fds=[bench.turns],
        )
        for _ in range(2)
    ]
    taken = [[int(turn) for turn in one.communicate()[0].split()] for one in both]
    assert [sorted(turns) == turns for turns in taken] == [True, True]
    assert sorted(taken[0] + taken[1]) == list(range(40_000))


def test_without_a_row_nothing_is_written(bench: Bench) -> None:
    """If so ordered, a job without rows has no output."""
    assert bench.serve(0, CONCLUDE) == [Collected(duplicates=0, strangers=0, merged=None)]
    (collected,) = bench.serve(0, msgspec.structs.replace(CONCLUDE, only_with_rows=False))
    assert isinstance(collected, Collected)
    assert collected.merged is not None
    assert (collected.merged.counts, len(bench.written())) == (Counts(missing=5), 5)


def test_rows_of_nobody_are_added_up(bench: Bench) -> None:
    """Strangers of all processes are reported as one number."""
    (read,) = bench.serve(1, Numbered(0, bench.shard(9)), Pause())
    (collected,) = bench.serve(0, msgspec.structs.replace(CONCLUDE, reads=[read] * 2))
    assert collected == Collected(duplicates=0, strangers=2, merged=None)


def test_the_end_of_the_orders_is_the_end(bench: Bench) -> None:
    """A process whose server died has nothing to say and is done."""
    assert bench.serve(0, Numbered(0, bench.shard(1))) == []


@pytest.mark.parametrize("which", ["output", "found"])
def test_a_full_disk_is_said(bench: Bench, which: str) -> None:
    """The server is told that there was no room, whatever was written."""
    segment = bench.shard(1)
    full = bench.open("/dev/full")
    if which == "output":
        bench.output = full
        orders: list[Order] = [msgspec.structs.replace(CONCLUDE, only_with_rows=False)]
    else:
        bench.found[0] = full
        orders = [Numbered(0, segment)]
    assert bench.serve(0, *orders) == [Full("The server could not write: No space left on device.")]


def test_an_answer_that_cannot_be_kept_is_said(bench: Bench, tmp_path: Path) -> None:
    """Nothing is known of rows of which nothing is left."""
    (tmp_path / "unwritable").touch()
    with (tmp_path / "unwritable").open("rb") as unwritable:
        bench.task = msgspec.structs.replace(bench.task, kept=unwritable.fileno())
        (said,) = bench.serve(0, Numbered(0, bench.shard(1)))
    assert said == Full("The server could not write: Bad file descriptor.")
    assert os.fstat(bench.found[0]).st_size == 0


def test_a_file_is_read_ahead_where_the_system_can() -> None:
    """The part is asked for at once; a system without such a call is left alone."""
    asked: list[tuple[int, ...]] = []
    read_ahead(7, 3, 5, lambda *what: asked.append(what))
    read_ahead(7, 3, 5, None)
    assert asked == [(7, 3, 5, getattr(os, "POSIX_FADV_WILLNEED", 3))]
