"""Put into the bucket what the provider reads, in one object or in several (`provider_input`).

One object makes the job ready to be submitted. Several make shards, each of them ready. A later
round has one object: what does not fit is left for the next one. The table of identical lines is
durable before the job moves on. A large input is made in a process of its own (`supply`); all that
needs the bucket stays here.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec

from penstock.blobs.bucket import Stat
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.blobs.threads import in_thread
from penstock.core.job import Job, JobId, shard_id
from penstock.core.limits import Limits
from penstock.core.options import Options, RetryPolicy
from penstock.core.state import JobState
from penstock.errors import BlobCorrupt, ProviderError, Unavailable
from penstock.fault import fault
from penstock.ingest.problems import PROBLEMS, read_problems
from penstock.lifecycle.ports import Backoff, Ports, why_stop
from penstock.lifecycle.preparer import Order
from penstock.lifecycle.provider_input import Bounds, Cut, Source
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.lifecycle.supply import Supply, open_supply
from penstock.lifecycle.twins import TWINS
from penstock.store.jobs import Finish

INPUT_NAME: Final = "input.jsonl"

_CANNOT_BE_DONE_NOW: Final = (ProviderError, BlobCorrupt, Unavailable)


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """An object in the bucket."""

    name: str
    size: int
    cut: Cut


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the input."""

    objects: list[_Written]
    left_out: list[int]
    too_large_bytes: int

    @property
    def twin_count(self) -> int:
        """How many lines get the answer of another one."""
        return sum(one.cut.twins for one in self.objects)


async def prepare(ports: Ports, job_id: JobId) -> None:
    """Move the job from ACCEPTED to PREPARED, however long the bucket is out of reach."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    while True:
        job = await ports.job(job_id)
        if job.state is not JobState.ACCEPTED:
            return
        reason = why_stop(job, ports.limits, ports.clock.now())
        if reason is not None:
            await stop_unsubmitted(ports, job, reason)
            return
        try:
            made = await _make(ports, job)
        except _CANNOT_BE_DONE_NOW as error:
            await ports.jobs.note(
                job_id, ports.clock.now(), only_attempt=job.attempt, status_detail=error.message
            )
            await ports.alarm.wait(job_id, backoff.failed())
            continue
        fault("prepare.finalised")
        await _record(ports, job, made)
        fault("prepare.recorded")
        return


async def _record(ports: Ports, job: Job, made: _Made) -> None:
    now = ports.clock.now()
    refusal = _refusal(made, ports.limits)
    if refusal is not None:
        await ports.jobs.finish(job.id, now, refusal, only_attempt=job.attempt)
        return
    # Of a later round it was found out in the first one.
    twin_count = made.twin_count if job.selection is None else job.twin_count
    if len(made.objects) > 1:
        shards = [_shard(ports, job, made, number) for number in range(1, len(made.objects) + 1)]
        await ports.jobs.begin_shards(job, shards, now, twin_count=twin_count)
        return
    (only,) = made.objects
    await ports.jobs.move(
        job.id,
        JobState.PREPARED,
        now,
        only_from=JobState.ACCEPTED,
        only_attempt=job.attempt,
        provider_input=ports.bucket.uri(only.name),
        twin_count=twin_count,
        status_detail=f"{only.size} bytes are in the provider's bucket.",
    )


def _shard(ports: Ports, job: Job, made: _Made, number: int) -> Job:
    """Return the job that answers one object's range of lines."""
    written = made.objects[number - 1]
    lines = range(written.cut.first, written.cut.last + 1)
    return msgspec.structs.replace(
        job,
        id=shard_id(job.id, number),
        parent_id=job.id,
        state=JobState.PREPARED,
        first_line=lines.start,
        last_line=lines.stop - 1,
        line_count=len(lines),
        input_bytes=written.size,
        updated_at=ports.clock.now(),
        run=0,
        attempt=0,
        provider_input=ports.bucket.uri(written.name),
        twin_count=written.cut.twins,
        problem_count=sum(line in lines for line in made.left_out),
        reserved_micro_dollars=None,
        estimate=None,
        # What is tried again is its parent's business.
        options=Options(retry=RetryPolicy(attempts=0)),
        # Nobody looks for a shard.
        name=None,
        labels={},
        status_detail=f"{written.size} bytes are in the provider's bucket.",
    )


def _refusal(made: _Made, limits: Limits) -> Finish | None:
    """Return the end of a job that has nothing that the provider would take."""
    if made.too_large_bytes:
        message = (
            f"A line has {made.too_large_bytes} bytes with our key, over the provider's limit of "
            f"{limits.provider_bytes_max} for all of its input."
        )
        code = "provider_input_too_large"
    elif not made.objects:
        message, code = "There is no line that could be sent.", "nothing_to_send"
    else:
        return None
    return Finish(state=JobState.FAILED, detail=message, error_code=code, error_message=message)


async def _make(ports: Ports, job: Job) -> _Made:
    """Write all objects, and the table of identical lines if there are any."""
    async with AsyncExitStack() as stack:
        source = await _source(ports, job, stack)
        bounds = Bounds(
            bytes_max=ports.limits.provider_bytes_max,
            lines_max=ports.limits.provider_lines_max,
            # A later round is one object: even shares of all lines would leave chosen ones behind.
            shards=job.options.shards if job.selection is None else 1,
        )
        order = Order(source=source, bounds=bounds)
        supply = await open_supply(order, job.input_bytes)
        stack.push_async_callback(supply.close)
        made = _Made(
            objects=await _put_all(ports, job, supply),
            left_out=source.left_out,
            too_large_bytes=supply.state.too_large_bytes,
        )
        # Later rounds know the leaders of the first one.
        if made.twin_count and not made.too_large_bytes and job.selection is None:
            await _keep_leaders(ports, job, await supply.leaders())
        return made


async def _put_all(ports: Ports, job: Job, supply: Supply) -> list[_Written]:
    objects: list[_Written] = []
    while not supply.state.is_over:
        # A name of this run's own: a process that was frozen over its upload must not bring back
        # an input that was taken away from a late create meanwhile.
        name = f"{ports.folder(job.id, job.attempt + 1)}/{token_hex(4)}-{INPUT_NAME}"
        async with aclosing(_read(supply)) as blocks:
            stat: Stat = await ports.bucket.put(name, blocks)
        cut = supply.state.cut
        if supply.state.too_large_bytes or cut is None:
            break
        fault("prepare.object_written")
        objects.append(_Written(name=name, size=stat.size, cut=cut))
        if job.selection is not None:
            break
    return objects


async def _read(supply: Supply) -> AsyncGenerator[bytes, None]:
    async with aclosing(supply.blocks()) as blocks:
        async for block in blocks:
            yield block
            fault("prepare.half_written")


async def _keep_leaders(ports: Ports, job: Job, leaders: bytes) -> None:
    part = await asyncio.to_thread(ports.spool.begin, job.id, TWINS)
    try:
        await asyncio.to_thread(part.write, leaders)
        # Another run may have put the same there before.
        await ports.blobs.commit(job.id, {TWINS: part}, is_again=True)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(part.discard))
        raise
    fault("prepare.twins_kept")


async def _source(ports: Ports, job: Job, stack: AsyncExitStack) -> Source:
    """Return the lines that are to be sent; the files are open as long as the stack."""

    async def opened(name: str) -> int:
        path = await stack.enter_async_context(ports.blobs.local(job.id, name))
        return await in_thread(partial(_open, path, stack))

    left_out: list[int] = []
    if job.problem_count:
        async with ports.blobs.local(job.id, PROBLEMS) as path:
            left_out = list(await asyncio.to_thread(read_problems, path))
    is_again = job.selection is not None
    return Source(
        input=await opened(INPUT),
        index=await opened(INPUT_INDEX),
        tag=job.line_tag,
        line_count=job.line_count,
        left_out=left_out,
        # Later rounds know the leaders of the first one.
        deduplicate=job.options.deduplicate and not is_again,
        selection=job.selection,
        # No round begins after an output without an index.
        base_index=await opened(job.index_name or "") if is_again else None,
        twins=await opened(TWINS) if is_again and job.twin_count else None,
    )


def _open(path: Path, stack: AsyncExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor
