"""job_files: a job's rows are put together with its own files, a shard's with its parent's."""

from pathlib import Path

import msgspec
from tests.lifecycle.fakes import World, input_of

from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import JobId
from penstock.ingest.problems import PROBLEMS
from penstock.lifecycle.job_files import files_of
from penstock.lifecycle.twins import TWINS


def put(world: World, job_id: str, *names: str) -> None:
    """Store files that hold their names."""
    parts = {name: world.spool.begin(job_id, name) for name in names}
    for name, part in parts.items():
        part.write(name.encode())
    world.spool.commit(job_id, parts)


def names(*paths: Path | None) -> list[str | None]:
    """The folders and names of files."""
    return [None if path is None else f"{path.parent.name}/{path.name}" for path in paths]


async def test_a_plain_job_has_an_input_and_no_more(world: World) -> None:
    """What a job has not is not looked for."""
    job = await world.with_input(input_of(["a"]))
    async with files_of(world.ports(), job) as files:
        assert names(files.input_path, files.index_path) == [
            f"{job.id}/{INPUT}",
            f"{job.id}/{INPUT_INDEX}",
        ]
        more = files.twins_path, files.problems_path, files.base_output_path
        assert (*more, files.base_index_path) == (None,) * 4


async def test_a_shard_reads_the_files_of_its_parent(world: World) -> None:
    """Twins, problems and the input are of the whole; a shard has none of its own."""
    parent = await world.with_input(input_of(["a", "b"]), twin_count=1, problem_count=1)
    put(world, parent.id, TWINS, PROBLEMS)
    shard = msgspec.structs.replace(
        parent, id=JobId("req_shard"), parent_id=parent.id, first_line=2, last_line=2
    )
    async with files_of(world.ports(), shard) as files:
        found = names(files.input_path, files.twins_path, files.problems_path)
        assert found == [f"{parent.id}/{name}" for name in (INPUT, TWINS, PROBLEMS)]


async def test_a_later_round_reads_what_the_one_before_wrote(world: World) -> None:
    """The output and the row index that the row names; the first round has none to read."""
    job = await world.with_input(input_of(["a"]), output_name="out", index_name="out.index")
    put(world, job.id, "out", "out.index")
    async with files_of(world.ports(), job) as files:
        assert files.base_output_path is None
    async with files_of(world.ports(), msgspec.structs.replace(job, round=2)) as files:
        found = names(files.base_output_path, files.base_index_path)
        assert found == [f"{job.id}/out", f"{job.id}/out.index"]
