"""The steps over object storage, and collectors that come too late; on a real emulator."""

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx2
import msgspec
import pytest
from tests.blobs.places import all_of, names_of, opened
from tests.emulator.driver import Emulator
from tests.lifecycle.fakes import NAME, SUCCEEDED, World, index_rows, input_of, row_of

from penstock.blobs.bucket import Bucket
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.clock import SystemClock
from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.ingest.index import pack_rows
from penstock.lifecycle.collect import collect
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.submit import submit
from penstock.lifecycle.wait import wait
from penstock.providers.fixed_token import FixedToken
from penstock.providers.vertex import Vertex
from penstock.settings import Timing
from penstock.store.jobs import Finish, Jobs

FOLDER = "out/x/prediction-model-1"
ROOT = "penstock/blobs/jobs"


@pytest.fixture
async def ports(world: World, emulator: Emulator) -> AsyncIterator[Ports]:
    """Ports on the emulator, with the jobs' files in its Cloud Storage, too."""
    token = FixedToken("any")
    async with (
        httpx2.AsyncClient(timeout=30.0) as http,
        opened("gs", emulator.url, "blobs", world.spool) as blobs,
    ):
        world.blobs = blobs
        yield world.ports(
            provider=Vertex("penstock-emulator", token, http, emulator.url),
            bucket=Bucket("penstock", emulator.url, token, http, SystemClock()),
            timing=Timing(collect_seconds=600.0),
        )


async def with_input(world: World, texts: list[str], **changes: object) -> Job:
    """Commit a job whose input is in the object storage, as the API does."""
    raw = input_of(texts)
    rows = index_rows(raw)
    job = await world.job(line_count=len(rows), input_bytes=len(raw), **changes)
    parts = {name: world.spool.begin(job.id, name) for name in (INPUT, INPUT_INDEX)}
    parts[INPUT].write(raw)
    parts[INPUT_INDEX].write(pack_rows(rows))
    await world.blobs.commit(job.id, parts)
    return job


async def ended(world: World, emulator: Emulator, texts: list[str]) -> Job:
    """Commit a job that the provider has answered."""
    job = await with_input(
        world,
        texts,
        state="collecting",
        attempt=1,
        provider_job=NAME,
        provider_state=SUCCEEDED,
        provider_output=f"gs://penstock/{FOLDER}",
    )
    rows = [row_of(job.id, number, text) for number, text in enumerate(texts, start=1)]
    emulator.put(f"{FOLDER}/predictions.jsonl", b"\n".join(rows) + b"\n")
    return job


async def test_a_job_goes_through_all_steps(world: World, ports: Ports) -> None:
    """The row names the output, nothing else is beside the input, and no working copy is left."""
    job = await with_input(world, ["red", "green", "blue"])
    for step in (prepare, submit, wait, collect):
        await step(ports, job.id)
    after = await world.now(job)
    assert (after.state, after.status_detail) == (JobState.SUCCEEDED, "All lines were answered.")
    name = after.output_name or ""
    index = after.index_name or ""
    assert await names_of(world.blobs) == {job.id: [INPUT_INDEX, INPUT, index, name]}
    assert len((await all_of(world.blobs, job.id, name)).splitlines()) == 3
    assert world.spool.clear_incoming() == 0


async def test_preparing_waits_for_the_storage(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """An input that cannot be fetched is noted with the job and fetched a little later."""
    job = await with_input(world, ["a"])
    emulator.rule(when={"call": "object_read", "path": f"{ROOT}/*"}, then={"status": 403}, times=1)
    await prepare(ports, job.id)
    assert world.alarm.waited == [2.0]
    assert (await world.now(job)).state is JobState.PREPARED
    assert world.spool.clear_incoming() == 0


async def test_collecting_waits_for_the_storage(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """An output that cannot be put is collected again, under another name."""
    job = await ended(world, emulator, ["a"])
    emulator.rule(
        when={"call": "object_write", "path": f"{ROOT}/*/output-*"}, then={"status": 403}, times=1
    )
    await collect(ports, job.id)
    after = await world.now(job)
    assert (after.state, world.clock.slept) == (JobState.SUCCEEDED, [2.0])
    assert (await names_of(world.blobs))[job.id] == [
        *(INPUT_INDEX, INPUT, after.index_name, after.output_name)
    ]
    assert world.spool.clear_incoming() == 0


class Between:
    """A store in which something happens just before the end of a job is written."""

    def __init__(self, jobs: Jobs, *ends: Finish | None) -> None:
        """Write these ends first; None stands for the very end that is asked for."""
        self._jobs = jobs
        self._ends = ends

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the store has
        return getattr(self._jobs, name)

    async def finish(self, job_id: Any, at: float, finish: Finish, **only: Any) -> bool:  # noqa: ANN401
        """Be too late."""
        for end in self._ends:
            await self._jobs.finish(job_id, at, end or finish, **only)
        return await self._jobs.finish(job_id, at, finish, **only)


def between(ports: Ports, *ends: Finish | None) -> Ports:
    """Return the same ports over such a store."""
    return msgspec.structs.replace(ports, jobs=cast(Jobs, Between(ports.jobs, *ends)))


async def test_an_output_that_came_too_late_is_removed(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """Somebody else ended the job meanwhile: his output stays, this one's goes."""
    job = await ended(world, emulator, ["a"])
    other = Finish(state=JobState.SUCCEEDED, detail="", output_name="output-00000001.jsonl")
    part = world.spool.begin(job.id, "x")
    part.write(b"his")
    await world.blobs.commit(job.id, {"output-00000001.jsonl": part})
    await collect(between(ports, other), job.id)
    assert (await world.now(job)).output_name == other.output_name
    assert await names_of(world.blobs) == {job.id: [INPUT_INDEX, INPUT, other.output_name]}
    assert await all_of(world.blobs, job.id, other.output_name or "") == b"his"


async def test_an_end_that_was_written_twice_keeps_its_output(
    world: World, ports: Ports, emulator: Emulator
) -> None:
    """A store that repeats a commit of unknown outcome says "too late" to the winner, too."""
    job = await ended(world, emulator, ["a"])
    await collect(between(ports, None), job.id)
    after = await world.now(job)
    assert after.state is JobState.SUCCEEDED
    assert after.output_name in (await names_of(world.blobs))[job.id]
