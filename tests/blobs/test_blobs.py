"""What holds for every place of blobs: the data directory, Cloud Storage (ours), S3 (moto's)."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.blobs.places import all_of, names_of, opened, part_of, put, served, streamed

from penstock.blobs.objects import PART_BYTES
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.blobs.store import Blobs
from penstock.errors import BlobCorrupt, BlobMissing

JOB = "req_aaaaaaaaaaaaaaaaaaaaaaaaaa"
OTHER = "req_bbbbbbbbbbbbbbbbbbbbbbbbbb"
SIZE = 2 * PART_BYTES + 12_345
"""Three parts of an upload."""

DATA = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
LONG_AGO = 1.5e9
_prefixes = itertools.count()


@pytest.fixture(scope="module", params=["local", "gs", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which place."""
    return str(request.param)


@pytest.fixture(scope="module")
def url(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it is served, for the whole file."""
    with served(kind, tmp_path_factory.mktemp("emulator")) as address:
        yield address


@pytest.fixture
async def blobs(kind: str, url: str, spool: Spool) -> AsyncIterator[Blobs]:
    """The place, empty."""
    async with opened(kind, url, f"some/where-{next(_prefixes)}", spool) as made:
        yield made


def is_clean(spool: Spool) -> bool:
    """Whether nothing half done is left in the spool."""
    return spool.clear_incoming() == 0


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, SIZE])
async def test_what_is_committed_is_there(blobs: Blobs, spool: Spool, size: int) -> None:
    """A file of any size is whole under its name, and its part is gone."""
    await put(blobs, spool, JOB, input_jsonl=DATA[:size], input_idx=b"index")
    assert is_clean(spool)
    assert await all_of(blobs, JOB, INPUT) == DATA[:size]
    assert await all_of(blobs, JOB, INPUT_INDEX) == b"index"


async def test_a_file_has_a_path_for_a_while_only(blobs: Blobs, spool: Spool) -> None:
    """Several readers have one each at the same time, and none of them leaves anything behind."""
    await put(blobs, spool, JOB, input_jsonl=b"lines")
    async with blobs.local(JOB, INPUT) as first, blobs.local(JOB, INPUT) as second:
        assert first.read_bytes() == second.read_bytes() == b"lines"
    with pytest.raises(ValueError, match="the work failed"):
        async with blobs.local(JOB, INPUT):
            raise ValueError("the work failed")
    assert is_clean(spool)
    assert await names_of(blobs) == {JOB: [INPUT]}


@pytest.mark.parametrize(
    "part",
    [
        range(SIZE),
        range(1),
        range(SIZE - 1, SIZE),
        range(PART_BYTES - 1, PART_BYTES + 1),
        range(3, 3),
    ],
)
async def test_any_part_is_streamed(blobs: Blobs, spool: Spool, part: range) -> None:
    """Ranges are exact, over the borders of parts, too."""
    await put(blobs, spool, JOB, output_jsonl=DATA)
    assert await streamed(blobs, JOB, "output.jsonl", part) == DATA[part.start : part.stop]


async def test_a_stream_that_nobody_finishes_is_let_go(blobs: Blobs, spool: Spool) -> None:
    """Whoever reads may stop, and the file is there as before."""
    await put(blobs, spool, JOB, output_jsonl=DATA)
    stream = blobs.stream(JOB, "output.jsonl", range(SIZE))
    assert DATA.startswith(await anext(stream))
    await stream.aclose()
    assert await streamed(blobs, JOB, "output.jsonl", range(3)) == DATA[:3]


async def test_a_file_that_ends_too_early_is_noticed(blobs: Blobs, spool: Spool) -> None:
    """A stream is as long as was asked, or raises."""
    await put(blobs, spool, JOB, output_jsonl=b"short")
    with pytest.raises(BlobCorrupt, match="too early"):
        await streamed(blobs, JOB, "output.jsonl", range(2, 9))


async def test_finding_compares_the_size(blobs: Blobs, spool: Spool, tmp_path: Path) -> None:
    """A path is given where the file lies here; a file of another size is corrupt."""
    await put(blobs, spool, JOB, output_jsonl=b"lines")
    path = await blobs.find(JOB, "output.jsonl", 5)
    expected = None if blobs.is_shared else tmp_path / "data" / "jobs" / JOB / "output.jsonl"
    assert path == expected
    with pytest.raises(BlobCorrupt, match="5 bytes; 6 were recorded"):
        await blobs.find(JOB, "output.jsonl", 6)


async def test_what_is_missing_is_said(blobs: Blobs, spool: Spool) -> None:
    """Of a job that does not exist, and of one without this file, nothing is invented."""
    await put(blobs, spool, JOB, input_jsonl=b"lines")
    for job_id, name in ((OTHER, INPUT), (JOB, "output.jsonl")):
        with pytest.raises(BlobMissing):
            await blobs.find(job_id, name, 5)
        with pytest.raises(BlobMissing):
            await all_of(blobs, job_id, name)
        with pytest.raises(BlobMissing):
            await streamed(blobs, job_id, name, range(1))
    assert is_clean(spool)


async def test_a_second_commit_replaces_a_file(blobs: Blobs, spool: Spool) -> None:
    """A submission that is tried again writes the same names."""
    await put(blobs, spool, JOB, input_jsonl=b"a longer text")
    parts = {INPUT: part_of(spool, JOB, INPUT, b"second")}
    await blobs.commit(JOB, parts, is_again=True)
    assert await all_of(blobs, JOB, INPUT) == b"second"


async def test_removing_a_file_leaves_the_others(blobs: Blobs, spool: Spool) -> None:
    """One output goes, and doing it twice is fine."""
    await put(blobs, spool, JOB, input_jsonl=b"lines", output_jsonl=b"lines")
    for _ in range(2):
        await blobs.remove(JOB, "output.jsonl")
    assert await names_of(blobs) == {JOB: [INPUT]}


async def test_removing_a_job_leaves_the_others(blobs: Blobs, spool: Spool) -> None:
    """All files of a job go, and doing it twice is fine."""
    for job_id in (JOB, OTHER):
        await put(blobs, spool, job_id, input_jsonl=b"lines", input_idx=b"index")
    for _ in range(2):
        await blobs.remove_job(JOB)
    assert await names_of(blobs) == {OTHER: [INPUT_INDEX, INPUT]}


async def test_all_jobs_are_listed_with_their_ages(blobs: Blobs, spool: Spool) -> None:
    """Each job once, each file with the time at which it was written."""
    assert await names_of(blobs) == {}
    for number in range(3):
        await put(blobs, spool, f"{JOB[:-1]}{number}", input_jsonl=b"x", input_idx=b"y")
    found = [folder async for folder in blobs.folders()]
    assert sorted(folder.job_id for folder in found) == [f"{JOB[:-1]}{n}" for n in range(3)]
    for folder in found:
        assert sorted(folder.files) == [INPUT_INDEX, INPUT]
    # The emulator has a clock of its own.
    times = [written_at for folder in found for written_at in folder.files.values()]
    assert max(times) - min(times) < 60
    assert min(times) > LONG_AGO


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [range(1)],
        [range(SIZE - 5, SIZE)],
        [range(SIZE - 5, SIZE + 100)],
        [range(40, 50), range(7), range(PART_BYTES, PART_BYTES + 3), range(41, 45)],
    ],
)
async def test_any_pieces_are_read(blobs: Blobs, spool: Spool, parts: list[range]) -> None:
    """Each is exact, in any order, near or far; the end of the file cuts one off."""
    await put(blobs, spool, JOB, output_jsonl=DATA)
    expected = [DATA[part.start : part.stop] for part in parts]
    assert await blobs.pieces(JOB, "output.jsonl", parts) == expected


async def test_pieces_of_nothing_are_missing(blobs: Blobs, spool: Spool) -> None:
    """A file that is not there has no pieces."""
    await put(blobs, spool, JOB, input_jsonl=b"lines")
    with pytest.raises(BlobMissing):
        await blobs.pieces(JOB, "output.jsonl", [range(1)])
