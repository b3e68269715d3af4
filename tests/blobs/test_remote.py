"""Object storage that fails: nothing half is left where that can be helped, and it is said."""

from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.blobs.places import all_of, names_of, opened, part_of, put, streamed
from tests.emulator.driver import Emulator, fresh_emulator
from tests.wire import wire

from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.blobs.store import Blobs
from penstock.errors import BlobCorrupt, BlobsUnavailable

JOB = "req_aaaaaaaaaaaaaaaaaaaaaaaaaa"
OTHER = "req_bbbbbbbbbbbbbbbbbbbbbbbbbb"
ROOT = "penstock/here/jobs"
STAMP = {"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 01:00:00 GMT"}


@pytest.fixture
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A Cloud Storage of this test alone."""
    with fresh_emulator(tmp_path_factory.mktemp("emulator")) as made:
        yield made


@pytest.fixture
async def blobs(emulator: Emulator, spool: Spool) -> AsyncIterator[Blobs]:
    """A place in it."""
    async with opened("gs", emulator.url, "here", spool) as made:
        yield made


def parts_of(spool: Spool) -> dict[str, Part]:
    """An input and its index, written by another process."""
    made = {name: part_of(spool, JOB, name, name.encode()) for name in (INPUT, INPUT_INDEX)}
    for part in made.values():
        part.close()
    return made


def fail(emulator: Emulator, call: str, name: str) -> None:
    """Have the storage refuse one kind of call for one name."""
    emulator.rule(when={"call": call, "path": f"{ROOT}/{name}"}, then={"status": 403})


async def test_objects_have_the_documented_names(
    emulator: Emulator, blobs: Blobs, spool: Spool
) -> None:
    """An operator finds a job's files by its id."""
    await blobs.commit(JOB, parts_of(spool))
    assert emulator.names() == [f"here/jobs/{JOB}/{name}" for name in (INPUT_INDEX, INPUT)]


async def test_half_a_commit_is_taken_back(emulator: Emulator, blobs: Blobs, spool: Spool) -> None:
    """What was put before the failure goes; the parts are still the caller's."""
    fail(emulator, "object_write", f"*/{INPUT_INDEX}")
    parts = parts_of(spool)
    with pytest.raises(BlobsUnavailable, match="could not write") as caught:
        await blobs.commit(JOB, parts)
    assert caught.value.retry_after_seconds
    assert emulator.names() == []
    assert all(part.path.is_file() for part in parts.values())


async def test_what_may_be_in_use_is_not_taken_back(
    emulator: Emulator, blobs: Blobs, spool: Spool
) -> None:
    """A second try of the same submission must not remove the files of the first."""
    await blobs.commit(JOB, parts_of(spool))
    fail(emulator, "object_write", f"*/{INPUT_INDEX}")
    with pytest.raises(BlobsUnavailable):
        await blobs.commit(JOB, parts_of(spool), is_again=True)
    assert await names_of(blobs) == {JOB: [INPUT_INDEX, INPUT]}


async def test_a_put_that_is_not_confirmed_has_failed(spool: Spool) -> None:
    """Bytes that changed on the way to the storage are not committed, and are removed."""

    def answer(request: Request) -> Response:
        if request.url.path.startswith("/storage/v1/"):
            return JSONResponse({"name": "x", "size": str(len(INPUT)), "crc32c": "AAAAAA=="})
        return Response(status_code=204 if request.method == "DELETE" else 200, headers=STAMP)

    with wire(answer) as server:
        async with opened("gs", server.url, "here", spool) as blobs:
            with pytest.raises(BlobsUnavailable, match="CRC32C"):
                await blobs.commit(JOB, parts_of(spool))
    assert [one.method for one in server.requests] == ["PUT", "GET", "DELETE"]


async def test_a_flipped_bit_is_a_corrupt_file(
    emulator: Emulator, blobs: Blobs, spool: Spool
) -> None:
    """What comes back different is not given to anybody, and not kept."""
    await put(blobs, spool, JOB, input_jsonl=b"x" * 100_000)
    emulator.rule(when={"call": "object_read", "path": f"{ROOT}/*"}, then={"corrupt": True})
    with pytest.raises(BlobCorrupt, match="CRC32C"):
        await all_of(blobs, JOB, INPUT)
    assert spool.clear_incoming() == 0


@pytest.mark.parametrize("call", ["object_read", "object_list", "object_delete"])
async def test_a_storage_that_is_away_is_said(
    emulator: Emulator, blobs: Blobs, spool: Spool, call: str
) -> None:
    """Whatever is asked of it, the answer is the one that may be tried again."""
    await put(blobs, spool, JOB, input_jsonl=b"lines")
    emulator.rule(when={"call": call}, then={"status": 403})
    asked = {
        "object_read": (
            lambda: all_of(blobs, JOB, INPUT),
            lambda: streamed(blobs, JOB, INPUT, range(3)),
            lambda: blobs.find(JOB, INPUT, 5),
        ),
        "object_list": (lambda: names_of(blobs), lambda: blobs.remove_job(JOB)),
        "object_delete": (lambda: blobs.remove(JOB, INPUT), lambda: blobs.remove_job(JOB)),
    }
    for ask in asked[call]:
        with pytest.raises(BlobsUnavailable, match="The object storage failed"):
            await ask()
    assert spool.clear_incoming() == 0


async def test_what_lies_deeper_is_nobodys(emulator: Emulator, blobs: Blobs, spool: Spool) -> None:
    """Objects that we would not write there are neither listed nor removed."""
    await put(blobs, spool, JOB, input_jsonl=b"lines")
    foreign = [f"here/jobs/{JOB}/a1/input.jsonl", "here/jobs/notes.txt", "here/other"]
    for name in foreign:
        emulator.put(name, b"x")
    await put(blobs, spool, OTHER, input_jsonl=b"lines")
    assert await names_of(blobs) == {JOB: [INPUT], OTHER: [INPUT]}
    for job_id in (JOB, OTHER):
        await blobs.remove_job(job_id)
    assert sorted(emulator.names()) == sorted(foreign)
