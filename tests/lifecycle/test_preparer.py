"""preparer: the provider's input is that of the rules, told plainly; here and in frames alike."""

import io
import os
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lifecycle.fakes import index_rows, input_of

from penstock.core.line import LineKey, LineOutcome
from penstock.core.line_index import IndexWriter
from penstock.core.options import Selection
from penstock.errors import BlobCorrupt
from penstock.ingest.index import pack_rows
from penstock.lifecycle.preparer import HEAD, ORDER, SAID, SAYS, Damaged, Order, State, serve
from penstock.lifecycle.provider_input import (
    BLOCK_BYTES,
    READ_BYTES,
    Bounds,
    Cut,
    ProviderInput,
    Source,
)

TAG = "abcd1234"
WIDE = Bounds(bytes_max=2**30, lines_max=1_000)
AGAIN = Selection(outcomes=(LineOutcome.ERROR,))


class Made(msgspec.Struct, kw_only=True):
    """All that becomes of an input."""

    objects: list[bytes] = []
    states: list[State] = []
    leaders: list[int] = []


class Files:
    """Files of a test with their descriptors."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def open(self, name: str, data: bytes = b"") -> int:
        """Write a file and open it."""
        path = self._folder / name
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDWR)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def source(self, raw: bytes, **more: Any) -> Source:  # noqa: ANN401  # fields of the source
        """Store an input."""
        rows = index_rows(raw)
        return Source(
            input=self.open("input", raw),
            index=self.open("index", pack_rows(rows)),
            tag=TAG,
            line_count=len(rows),
            **more,
        )

    def chosen(self, outcomes: list[LineOutcome]) -> int:
        """Store a row index of lines that ended like this."""
        index = IndexWriter()
        for outcome in outcomes:
            index.add(index.kind(outcome, "x", retryable=False), 0, 1, 10)
        return self.open("base_index", b"".join(index.pieces()))

    def framed(self, source: Source, bounds: Bounds) -> list[tuple[bytes, bytes]]:
        """Return the frames that a process writes: what each is, and what it holds."""
        frames = self.open("frames")
        told = msgspec.json.encode(Order(source=source, bounds=bounds)) + b"\n"
        serve(io.BytesIO(told), frames)
        return list(frames_of((self._folder / "frames").read_bytes()))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """A folder."""
    with ExitStack() as stack:
        yield Files(tmp_path, stack)


def frames_of(written: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Take frames apart."""
    at = 0
    while at < len(written):
        kind, size = HEAD.unpack_from(written, at)
        at += HEAD.size + size
        yield kind, written[at - size : at]


def here(source: Source, bounds: Bounds) -> Made:
    """Make an input in this process."""
    made, found = ProviderInput(source, bounds), Made()

    def say() -> None:
        found.states.append(
            State(is_over=made.is_over, cut=made.cut, too_large_bytes=made.too_large_bytes)
        )

    say()
    while not made.is_over:
        found.objects.append(b"".join(made.blocks()))
        say()
    found.leaders = made.leaders.tolist()
    return found


def elsewhere(frames: list[tuple[bytes, bytes]]) -> Made:
    """Put together what a process wrote."""
    found = Made()
    for kind, data in frames[:-1]:
        if kind == SAYS:
            said = SAID.decode(data)
            assert isinstance(said, State)
            found.states.append(said)
            found.objects += [] if said.is_over else [b""]
        else:
            found.objects[-1] += data
    found.leaders = array("I", frames[-1][1]).tolist()
    return found


def by_the_rules(
    requests: list[dict[str, Any]], wanted: list[int], bounds: Bounds, *, deduplicate: bool
) -> Made:
    """Return what the rules say, told once more and plainly."""
    keys, total = LineKey(TAG), len(requests)
    share = -(-total // bounds.shards)
    left = list(wanted)
    found = Made(leaders=list(range(1, total + 1)), states=[State(is_over=not left)])
    begins_at, too_large = 1, 0
    while left and not too_large:
        taken: dict[int, bytes] = {}
        twins = 0
        while left:
            number = left[0]
            request = requests[number - 1]
            row = orjson.dumps({"key": keys.of(number), "request": request}) + b"\n"
            like = [one for one in taken if requests[one - 1] == request]
            if taken and number >= begins_at + share:
                break
            if deduplicate and like:
                found.leaders[number - 1] = like[0]
                twins += 1
                left.pop(0)
                continue
            too_large = len(row) if len(row) > bounds.bytes_max else 0
            size = sum(map(len, taken.values())) + len(row)
            if too_large or len(taken) == bounds.lines_max or size > bounds.bytes_max:
                break
            taken[left.pop(0)] = row
        last = left[0] - 1 if left else total
        cut = Cut(first=begins_at, last=last, sent=len(taken), twins=twins)
        is_over = not left or too_large > 0
        found.states.append(State(is_over=is_over, cut=cut, too_large_bytes=too_large))
        found.objects.append(b"".join(taken.values()))
        begins_at = last + 1
    return found


requests_given = st.lists(
    st.fixed_dictionaries(
        {"contents": st.integers(0, 3)}, optional={"a": st.text("xy", max_size=30)}
    ),
    min_size=1,
    max_size=25,
)
bounds_given = st.builds(
    Bounds, bytes_max=st.integers(55, 400), lines_max=st.integers(1, 9), shards=st.integers(1, 6)
)


@given(requests_given, bounds_given, st.sets(st.integers(1, 25)), st.booleans(), st.data())
def test_it_is_made_by_the_rules_here_and_elsewhere(
    requests: list[dict[str, Any]],
    bounds: Bounds,
    left_out: set[int],
    deduplicate: bool,  # noqa: FBT001  # given by hypothesis
    data: st.DataObject,
) -> None:
    """Bytes, cuts, leaders and refusals are those of the rules, whichever process makes them."""
    raw = b"".join(
        orjson.dumps({"request": dict(data.draw(st.permutations(list(one.items()))))}) + b"\n"
        for one in requests
    )
    # The rules know a request as it is stored, whatever the order of its members.
    stored = [orjson.loads(line)["request"] for line in raw.splitlines()]
    numbers = [number for number in range(1, len(stored) + 1) if number not in left_out]
    expected = by_the_rules(stored, numbers, bounds, deduplicate=deduplicate)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = Files(Path(folder), stack)
        known = sorted(number for number in left_out if number <= len(stored))
        source = files.source(raw, left_out=known, deduplicate=deduplicate)
        assert here(source, bounds) == expected
        assert elsewhere(files.framed(source, bounds)) == expected


@given(
    st.lists(st.sampled_from([LineOutcome.OK, LineOutcome.ERROR]), min_size=1, max_size=12),
    st.sets(st.integers(1, 12)),
)
def test_a_later_round_sends_what_was_selected(
    outcomes: list[LineOutcome], left_out: set[int]
) -> None:
    """By the row index of the round before, and never what was put aside."""
    texts = [f"t{number}" for number in range(1, len(outcomes) + 1)]
    requests = [orjson.loads(line)["request"] for line in input_of(texts).splitlines()]
    numbers = [
        number
        for number, outcome in enumerate(outcomes, start=1)
        if outcome is LineOutcome.ERROR and number not in left_out
    ]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = Files(Path(folder), stack)
        source = files.source(
            input_of(texts),
            deduplicate=False,
            selection=AGAIN,
            base_index=files.chosen(outcomes),
            left_out=sorted(number for number in left_out if number <= len(texts)),
        )
        expected = by_the_rules(requests, numbers, WIDE, deduplicate=False)
        assert here(source, WIDE) == elsewhere(files.framed(source, WIDE)) == expected


def test_a_later_round_sends_the_leader(files: Files) -> None:
    """Of identical lines the one that was sent is sent again, by the table of the first round."""
    source = files.source(
        input_of(["a", "b", "b"]),
        deduplicate=False,
        selection=AGAIN,
        base_index=files.chosen([LineOutcome.OK, LineOutcome.ERROR, LineOutcome.ERROR]),
        twins=files.open("twins", array("I", [1, 2, 2]).tobytes()),
    )
    (only,) = here(source, WIDE).objects
    assert [orjson.loads(row)["key"][-1] for row in only.splitlines()] == ["2"]
    assert len(source.files) == 4


@pytest.mark.parametrize("size", [READ_BYTES - 60, READ_BYTES, 3 * READ_BYTES, BLOCK_BYTES + 1])
def test_lines_of_any_length_are_read_whole(files: Files, size: int) -> None:
    """Whether a line fits into one read or not, and wherever a read cuts it."""
    texts = ["a", "x" * size, "b", "y" * size, "c" * 70]
    source = files.source(b"\n\n".join(input_of(texts).splitlines()))
    frames = files.framed(source, WIDE)
    (only,) = elsewhere(frames).objects
    rows = [orjson.loads(row)["request"] for row in only.splitlines()]
    assert [one["contents"][0]["parts"][0]["text"] for one in rows] == texts


@pytest.mark.parametrize("raw", [b'{"request":{"a":1}}\n{"request":{"a":\n', b"\n\n?"])
def test_a_damaged_input_is_said(files: Files, raw: bytes) -> None:
    """What cannot be what we wrote is an error of that name, and the process says so."""
    source = files.source(raw)
    with pytest.raises(BlobCorrupt, match="of the stored input is damaged"):
        here(source, WIDE)
    said = SAID.decode(files.framed(source, WIDE)[-1][1])
    assert isinstance(said, Damaged)
    assert "of the stored input is damaged" in said.message


def test_a_process_speaks_over_its_pipes(files: Files) -> None:
    """Standard input has the order, standard output the frames, and nothing else."""
    source = files.source(input_of(["a", "b"]))
    order = Order(source=source, bounds=WIDE)
    assert ORDER.decode(msgspec.json.encode(order)) == order
    done = subprocess.run(
        [sys.executable, "-c", "from penstock.lifecycle.preparer import main; main()"],
        input=msgspec.json.encode(order) + b"\n",
        stdout=subprocess.PIPE,
        pass_fds=source.files,
        check=True,
    )
    assert elsewhere(list(frames_of(done.stdout))) == here(source, WIDE)


def test_a_process_that_nobody_reads_ends_in_order(files: Files) -> None:
    """When the pipe is gone there is nothing to say, and that is no error."""
    source = files.source(input_of(["a"]))
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", "from penstock.lifecycle.preparer import main; main()"],
        input=msgspec.json.encode(Order(source=source, bounds=WIDE)) + b"\n",
        stdout=writing,
        stderr=subprocess.PIPE,
        pass_fds=source.files,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
