"""inflow: the rows that come out are those that went in, whichever file they stood in meanwhile."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import StorageFull
from penstock.lifecycle.inflow import FILE_BYTES, SEGMENT_BYTES, TAIL_BYTES_MAX, Inflow, Segment
from penstock.lifecycle.kept import ROOM_BYTES, Kept

FEW_BYTES = 2 * SEGMENT_BYTES


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    """Two empty files."""
    with ExitStack() as stack:
        opened = [stack.enter_context((tmp_path / name).open("w+b")) for name in ("one", "other")]
        yield [file.fileno() for file in opened]


def inflow_of(files: list[int]) -> Inflow:
    """Write to two files by turns."""
    inflow = Inflow(files[0], FEW_BYTES)
    inflow.alternate(files[1])
    return inflow


def rows_of(files: list[int], segments: list[Segment]) -> bytes:
    """What stands in the segments."""
    return b"".join(os.pread(files[one.file], one.size, one.offset) for one in segments)


@given(
    sizes=st.lists(st.integers(0, 3 * SEGMENT_BYTES // 2), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, SEGMENT_BYTES), min_size=1, max_size=5),
    shard_of=st.integers(1, 5),
    late=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_rows_are_whole_in_whatever_file_they_are(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    cuts: list[int],
    shard_of: int,
    late: bool,  # noqa: FBT001  # Hypothesis gives it
) -> None:
    """Rows, blocks and shards of any size: each byte once, in order, and segments end with rows.

    What is in a file is read at the last moment, when it is to be written again, or at once.
    """
    rows = [bytes([97 + place]) * size + b"\n" for place, size in enumerate(sizes)]
    folder = tmp_path_factory.mktemp("inflow")
    with (folder / "one").open("w+b") as one, (folder / "other").open("w+b") as other:
        files = [one.fileno(), other.fileno()]
        inflow = inflow_of(files)
        unread: list[list[Segment]] = [[], []]
        found = b""
        turns = 0
        for first in range(0, len(rows), shard_of):
            shard = b"".join(rows[first : first + shard_of])
            at = 0
            while at < len(shard):
                if inflow.is_full:
                    found += rows_of(files, unread[1 - inflow.file])
                    unread[1 - inflow.file] = []
                    inflow.turn()
                    turns += 1
                size = cuts[turns % len(cuts)]
                unread[inflow.file] += inflow.feed(shard[at : at + size])
                at += size
                if not late:
                    found += rows_of(files, unread[1 - inflow.file] + unread[inflow.file])
                    unread = [[], []]
            unread[inflow.file] += inflow.end_shard()
        ended = [segment for file in (1 - inflow.file, inflow.file) for segment in unread[file]]
        assert all(rows_of(files, [one]).endswith(b"\n") for one in ended)
        found += rows_of(files, ended)
    assert found == b"".join(rows)
    assert inflow.size == len(found)


def test_a_gigabyte_takes_two_small_files(files: list[int]) -> None:
    """Both are written again and again; a long row makes one larger, and only for a while."""
    inflow = inflow_of(files)
    largest = 0
    for block in (b"x" * 99_999 + b"\n", b"y" * (8 * FEW_BYTES), b"\n", b"z" * 99_999 + b"\n"):
        for _ in range(1 if len(block) != 100_000 else 100):
            if inflow.is_full:
                inflow.turn()
            inflow.feed(block)
        largest = max(largest, *(os.fstat(file).st_size for file in files))
    sizes = [os.fstat(file).st_size for file in files]
    assert largest > 8 * FEW_BYTES
    assert max(sizes) <= 2 * FEW_BYTES
    assert inflow.size > 8 * FEW_BYTES + 200 * 100_000 > sum(sizes)


def test_half_a_long_row_is_not_copied(files: list[int]) -> None:
    """Its end is waited for, however full the file is."""
    inflow = inflow_of(files)
    inflow.feed(b"x" * (TAIL_BYTES_MAX + 1))
    assert not inflow.is_full
    assert len(inflow.feed(b"\n")) == 1
    assert inflow.is_full


def test_a_full_disk_is_said_where_a_block_is_fed() -> None:
    """Nobody is told of rows that are not there."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        inflow = Inflow(full.fileno(), FILE_BYTES)
        with pytest.raises(StorageFull, match="No space left"):
            inflow.feed(b"row\n")
        assert inflow.size == 0


def test_what_is_kept_has_a_place_of_its_own(files: list[int]) -> None:
    """Several writers of one file take room in it, as much as they need, and never the same."""
    writers = [Kept(files[0]), Kept(files[0])]
    wanted = [10, ROOM_BYTES - 10, 1, 3 * ROOM_BYTES, 5]
    places: list[tuple[int, bytes]] = []
    for turn, size in enumerate(wanted):
        for mine, writer in enumerate(writers):
            data = b"%d%d" % (turn, mine)
            places.append((writer.room(size), data))
            writer.put(data)
    assert [os.pread(files[0], 2, place) for place, _ in places] == [data for _, data in places]
    starts = [place for place, _ in places]
    assert (len(set(starts)), starts[0]) == (len(starts), 0)
