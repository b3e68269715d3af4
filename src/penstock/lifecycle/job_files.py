"""The files that a job's rows are put together with, on this machine for as long as that takes."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import Job
from penstock.ingest.problems import PROBLEMS
from penstock.lifecycle.gather import Files
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.twins import TWINS


@asynccontextmanager
async def files_of(ports: Ports, job: Job) -> AsyncGenerator[Files]:
    """Give a job's files paths on this machine; a shard reads those of its parent."""
    async with AsyncExitStack() as stack:

        async def local(job_id: str, name: str) -> Path:
            return await stack.enter_async_context(ports.blobs.local(job_id, name))

        base_output = base_index = None
        if job.round > 1 and job.output_name is not None and job.index_name is not None:
            base_output = await local(job.id, job.output_name)
            base_index = await local(job.id, job.index_name)
        owner = job.input_id
        yield Files(
            spool=ports.spool,
            blobs=ports.blobs,
            input_path=await local(owner, INPUT),
            index_path=await local(owner, INPUT_INDEX),
            twins_path=await local(owner, TWINS) if job.twin_count else None,
            problems_path=await local(owner, PROBLEMS) if job.problem_count else None,
            base_output_path=base_output,
            base_index_path=base_index,
        )
