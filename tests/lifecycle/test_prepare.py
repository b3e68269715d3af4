"""prepare: the provider's input carries our key and the request, and waits for the bucket."""

import re
from collections.abc import AsyncIterator

import orjson
import pytest
from tests.lifecycle.fakes import Fate, Killed, World, input_of, mortal, request_of

from penstock.blobs.bucket import Stat
from penstock.blobs.local import LocalBlobs
from penstock.core.job import Attempt, Job, JobId, tag_of
from penstock.core.limits import Limits
from penstock.core.line import LineKey
from penstock.core.options import Options
from penstock.core.state import JobState
from penstock.errors import BlobCorrupt, Problem, ProviderUnreachable, StorageFull
from penstock.ingest.problems import PROBLEMS, pack_problem
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.provider_input import BLOCK_BYTES
from penstock.settings import Timing

HOUR = 3600.0
DOWN = ProviderUnreachable("Cloud Storage could not write: connection refused")


def uploaded(world: World, job_id: JobId) -> list[bytes]:
    """The lines that are in the bucket; those of the last run, if there were several."""
    names = [name for name in world.bucket.objects if name.startswith(f"penstock/{job_id}/a1/")]
    return world.bucket.objects[names[-1]].splitlines()


async def test_a_line_is_our_key_and_the_request(world: World) -> None:
    """Each uploaded line has exactly `key` and `request`, numbered in input order."""
    job = await world.with_input(input_of(["a", "b"]))
    await prepare(world.ports(), job.id)
    lines = [orjson.loads(line) for line in uploaded(world, job.id)]
    keys = LineKey(tag_of(job.id))
    assert [list(line) for line in lines] == [["key", "request"]] * 2
    assert [line["key"] for line in lines] == [keys.of(1), keys.of(2)]
    assert lines[1]["request"]["contents"][0]["parts"] == [{"text": "b"}]


async def test_a_callers_key_never_overrides_ours(world: World) -> None:
    """The caller's own members, `key` included, do not travel."""
    job = await world.with_input(b'{"key":"mine","request":{"a":1},"custom_id":"c","key":"k-0"}\n')
    await prepare(world.ports(), job.id)
    key = LineKey(tag_of(job.id)).of(1)
    assert uploaded(world, job.id) == [b'{"key":"%s","request":{"a":1}}' % key.encode()]


async def test_duplicate_members_inside_a_request_travel_once(world: World) -> None:
    """The request is serialised anew, so the importer never sees a doubled member."""
    job = await world.with_input(b'{"request": {"a" : 1, "a": 2, "n": 1e2}}\n')
    await prepare(world.ports(), job.id)
    assert uploaded(world, job.id)[0].endswith(b'"request":{"a":2,"n":100.0}}')


async def test_blank_lines_and_carriage_returns_are_skipped(world: World) -> None:
    """The index leads from request to request; what lies between is not uploaded."""
    job = await world.with_input(b'\n \r\n{"request":{"n":1}}\r\n\r\n\n{"request":{"n":2}}')
    await prepare(world.ports(), job.id)
    requests = [orjson.loads(line)["request"] for line in uploaded(world, job.id)]
    assert requests == [{"n": 1}, {"n": 2}]


async def test_a_prepared_job_names_its_input(world: World) -> None:
    """The state moves to PREPARED with the address of the uploaded object."""
    job = await world.with_input(input_of(["a"]))
    await prepare(world.ports(), job.id)
    after = await world.now(job)
    assert after.state is JobState.PREPARED
    (name,) = world.bucket.objects
    assert re.fullmatch(rf"penstock/{job.id}/a1/[0-9a-f]{{8}}-input\.jsonl", name)
    assert after.provider_input == f"gs://fake/{name}"
    assert await world.kinds(job) == ["accepted", "prepared"]


async def test_each_run_has_an_input_of_its_own(world: World) -> None:
    """A process that was frozen over its upload neither moves the job nor brings an input back."""
    job = await world.with_input(input_of(["a"]))
    ports = world.ports()
    put = world.bucket.put

    async def overtaken(name: str, blocks: AsyncIterator[bytes]) -> Stat:
        world.bucket.put = put  # type: ignore[method-assign]  # only once
        await prepare(ports, job.id)
        await world.jobs.intend(batch_intent(await world.now(job)))
        return await put(name, blocks)

    world.bucket.put = overtaken  # type: ignore[method-assign]  # freezes in the upload
    await prepare(ports, job.id)
    after = await world.now(job)
    assert after.state is JobState.SUBMITTING
    assert len(world.bucket.objects) == 2
    assert await world.kinds(job) == ["accepted", "prepared", "intent"]


def batch_intent(job: Job) -> Attempt:
    """Make the first attempt of a job."""
    return Attempt(
        job_id=job.id,
        number=1,
        intent_at=job.updated_at,
        input_uri=job.provider_input or "",
        output_prefix="",
        label=job.id,
    )


async def test_blocks_stay_small(world: World) -> None:
    """An input of several megabytes goes up in blocks of about `BLOCK_BYTES`."""
    job = await world.with_input(input_of(f"{n}" + "x" * 100_000 for n in range(40)))
    await prepare(world.ports(), job.id)
    assert len(world.bucket.blocks) == 4
    assert max(world.bucket.blocks) < BLOCK_BYTES + 101_000
    assert len(uploaded(world, job.id)) == 40


async def test_an_input_that_fills_its_last_block_ends_there(world: World) -> None:
    """No empty block is sent after a block that ends exactly with the input."""
    job = await world.with_input(input_of(["x" * BLOCK_BYTES]))
    await prepare(world.ports(), job.id)
    assert len(world.bucket.blocks) == 1


async def test_an_unreachable_bucket_keeps_the_job_queued(world: World) -> None:
    """The reason stands on the job while it waits, and the upload is tried again."""
    job = await world.with_input(input_of(["a"]))
    world.bucket.fail("put", DOWN, DOWN)
    details = []

    async def look() -> None:
        now = await world.now(job)
        details.append((now.state, now.status_detail))

    world.clock.at(1, look)
    await prepare(world.ports(), job.id)
    assert details == [(JobState.ACCEPTED, DOWN.message)]
    assert world.alarm.waited == [2.0, 4.0]
    assert (await world.now(job)).state is JobState.PREPARED


async def test_after_72_hours_without_a_bucket_the_job_fails(world: World) -> None:
    """The queue's limit ends it, and the message names the last reason."""
    job = await world.with_input(input_of(["a"]))
    world.bucket.fail("put", *[DOWN] * 500)
    await prepare(world.ports(timing=Timing(retry_seconds_max=HOUR)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "queue_expired")
    assert after.error_message == (
        "The job was ended after 72 hours in the queue. Last known: " + DOWN.message
    )
    assert 72 * HOUR <= world.clock.now() - world.clock.begun <= 73 * HOUR
    assert world.bucket.objects == {}


async def test_a_cancel_before_prepare_costs_nothing(world: World) -> None:
    """The job ends cancelled; nothing was uploaded and no provider was asked."""
    job = await world.with_input(input_of(["a"]))
    await world.cancel(job)()
    await prepare(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert (world.bucket.objects, world.provider.posts, world.provider.finds) == ({}, [], 0)


async def test_a_cancel_while_the_bucket_is_away_ends_the_job(world: World) -> None:
    """A job that waits for the bucket sees the cancel after its wait."""
    job = await world.with_input(input_of(["a"]))
    world.bucket.fail("put", *[DOWN] * 100)
    world.clock.at(30, world.cancel(job))
    await prepare(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert world.clock.now() - world.clock.begun < 100


async def test_a_corrupt_upload_is_tried_again(world: World) -> None:
    """A checksum that differs is not a reason to give up, and never to go on."""
    job = await world.with_input(input_of(["a"]))
    world.bucket.fail("put", BlobCorrupt("CRC32C differs"))
    await prepare(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.PREPARED
    assert world.alarm.waited == [2.0]


@pytest.mark.parametrize("point", range(1, 7))
async def test_killed_anywhere_and_run_again_gives_the_same(world: World, point: int) -> None:
    """A crash before or after any call leaves nothing that the next run does not mend."""
    job = await world.with_input(input_of(["a", "b"]))
    with pytest.raises(Killed):
        await prepare(mortal(world.ports(), Fate(point).point), job.id)
    await prepare(world.ports(), job.id)
    requests = [orjson.loads(line)["request"] for line in uploaded(world, job.id)]
    assert requests == [request_of("a"), request_of("b")]
    assert (await world.now(job)).state is JobState.PREPARED
    assert await world.kinds(job) == ["accepted", "prepared"]


async def test_prepare_has_six_points_of_death(world: World) -> None:
    """The test above covers them all: load, upload and move, before and after."""
    job = await world.with_input(input_of(["a", "b"]))
    fate = Fate()
    await prepare(mortal(world.ports(), fate.point), job.id)
    assert fate.passed == 6


async def test_a_job_that_moved_on_is_left_alone(world: World) -> None:
    """A second run after the move does nothing."""
    job = await world.prepared()
    await prepare(world.ports(), job.id)
    assert world.bucket.blocks == []
    assert await world.kinds(job) == ["accepted"]


async def test_a_line_that_no_provider_job_can_hold_fails(world: World) -> None:
    """Where one line alone is over the provider's limit, that is said before any create."""
    job = await world.with_input(input_of(["a"]))
    await prepare(world.ports(limits=Limits(provider_bytes_max=50)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "provider_input_too_large")
    assert "over the provider's limit of 50" in (after.error_message or "")


async def test_lines_that_were_put_aside_do_not_travel(world: World) -> None:
    """The file of problems says which; the keys of the others stay those of their places."""
    job = await world.with_input(input_of(["a", "bad", "c"]), problem_count=1)
    part = world.spool.begin(job.id, PROBLEMS)
    part.write(pack_problem(2, Problem(code="x", message="y")))
    world.spool.commit(job.id, {PROBLEMS: part})
    await prepare(world.ports(), job.id)
    keys = [orjson.loads(line)["key"] for line in uploaded(world, job.id)]
    assert [key[-1] for key in keys] == ["1", "3"]


async def test_a_job_of_which_nothing_is_left_fails(world: World) -> None:
    """Where all lines were put aside there is nothing to send, and nothing is created."""
    job = await world.with_input(input_of(["bad"]), problem_count=1)
    part = world.spool.begin(job.id, PROBLEMS)
    part.write(pack_problem(1, Problem(code="x", message="y")))
    world.spool.commit(job.id, {PROBLEMS: part})
    await prepare(world.ports(), job.id)
    assert (await world.now(job)).error_code == "nothing_to_send"


async def test_a_disk_that_is_full_keeps_the_job_queued(world: World) -> None:
    """The table of identical lines is durable before the job moves on, or the job waits."""

    class Full(LocalBlobs):
        async def commit(self, *_: object, **__: object) -> None:
            raise StorageFull("The server could not write: no space left.")

    job = await world.with_input(input_of(["a", "a"]))
    world.blobs = Full(world.spool)
    ports = world.ports()
    world.blobs = LocalBlobs(world.spool)
    world.clock.at(1, world.cancel(job))
    await prepare(ports, job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert world.spool.clear_incoming() == 0


async def test_twins_can_be_sent_all(world: World) -> None:
    """Who switches it off has each line sent, and no table is kept."""
    job = await world.with_input(input_of(["a", "a"]), options=Options(deduplicate=False))
    await prepare(world.ports(), job.id)
    assert len(uploaded(world, job.id)) == 2
    assert (await world.now(job)).twin_count == 0
