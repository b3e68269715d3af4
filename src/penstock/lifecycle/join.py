"""Collect a job that was cut into shards: put their outputs one behind the other.

All of them have ended, each as any job does. One that brought no output becomes lines that say why;
if none did, the job ends as the first of them that failed. The shards' own files are of no use once
the job's output is recorded, and are removed.
"""

import asyncio
import logging
from collections.abc import Sequence

from penstock.core.job import Job, StopReason
from penstock.core.line import LineOutcome
from penstock.core.quotas import day_of
from penstock.core.state import JobState
from penstock.errors import BlobError, Unavailable
from penstock.fault import fault
from penstock.lifecycle.again import conclude
from penstock.lifecycle.concatenate import Concatenation
from penstock.lifecycle.ending import summary_of, with_output
from penstock.lifecycle.job_files import files_of
from penstock.lifecycle.merge import Merged, Missing
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.stop import finish_of
from penstock.store.jobs import Finish

_log = logging.getLogger(__name__)


async def join(ports: Ports, job: Job) -> None:
    """Move the job from COLLECTING to its end, or to its next round."""
    shards = await ports.jobs.shards_of(job.id)
    fault("join.listed")
    ended = _ended(ports, job, shards)
    if any(_has_output(shard) for shard in shards):
        is_written = await _join(ports, job, shards, ended)
    else:
        now = ports.clock.now()
        is_written = await ports.jobs.finish(job.id, now, ended, only_attempt=job.attempt)
    if is_written:
        await _forget(ports, shards)


async def _join(ports: Ports, job: Job, shards: Sequence[Job], ended: Finish) -> bool:
    price = ports.model(job).price_on(day_of(job.created_at))
    async with files_of(ports, job) as files:
        whole = await asyncio.to_thread(Concatenation, files, job, price)
        async with whole:
            for shard in shards:
                await append_ended(ports, whole, shard)
                fault("join.half_written")
            merged = await whole.conclude()
            fault("join.written")
            await whole.commit()
            fault("join.finalised")
    finish = with_output(_told(ended, merged), merged, whole.output_name, whole.index_name)
    is_written = await conclude(ports, job, finish)
    if not is_written and (await ports.job(job.id)).output_name != whole.output_name:
        # It came too late: somebody else put them together.
        await ports.blobs.remove(job.id, whole.output_name)
        await ports.blobs.remove(job.id, whole.index_name)
    return is_written


async def append_ended(ports: Ports, whole: Concatenation, shard: Job) -> None:
    """Append the output of a shard that has ended, or why it has none."""
    if shard.output_name is not None and shard.index_name is not None:
        async with (
            ports.blobs.local(shard.id, shard.output_name) as output,
            ports.blobs.local(shard.id, shard.index_name) as index,
        ):
            await whole.append(shard, output, index)
        return
    await whole.append_missing(shard.line_range, _missing(shard), ports.clock.now())


def _missing(shard: Job) -> Missing:
    """Say why none of a shard's lines has an answer."""
    if shard.state is JobState.CANCELLED:
        message = "The job was cancelled before this line was done."
        return Missing(outcome=LineOutcome.CANCELLED, code="cancelled", message=message)
    code = shard.error_code or "shard_failed"
    if code in {StopReason.QUEUE_EXPIRED, StopReason.RUN_EXPIRED}:
        message = "The job's time ended before this line was done."
        return Missing(outcome=LineOutcome.EXPIRED, code="expired", message=message)
    message = shard.error_message or shard.status_detail
    return Missing(outcome=LineOutcome.ERROR, code=code, message=message)


def _ended(ports: Ports, job: Job, shards: Sequence[Job]) -> Finish:
    """Return the end of a job whose shards ended like that."""
    states = {shard.state for shard in shards}
    if JobState.CANCELLED in states and job.cancel_requested_at is not None:
        return finish_of(StopReason.CANCELLED, ports)
    if JobState.SUCCEEDED in states:
        return Finish(state=JobState.SUCCEEDED, detail="")
    first = next(shard for shard in shards if shard.state is JobState.FAILED)
    return Finish(
        state=JobState.FAILED,
        detail=first.status_detail,
        error_code=first.error_code,
        error_message=first.error_message,
    )


def _told(ended: Finish, merged: Merged) -> Finish:
    if ended.state is not JobState.SUCCEEDED:
        return ended
    return Finish(state=JobState.SUCCEEDED, detail=summary_of(merged))


def _has_output(shard: Job) -> bool:
    return shard.output_name is not None


async def _forget(ports: Ports, shards: Sequence[Job]) -> None:
    """Remove the files of the shards."""
    for shard in shards:
        try:
            await ports.blobs.remove_job(shard.id)
        except (BlobError, Unavailable) as error:
            # `prune` finds them.
            _log.warning("the files of the shard %s stay for now: %s", shard.id, error.message)
    fault("join.forgotten")
