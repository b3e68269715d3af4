"""Fetch the provider's output, merge it into input order and write the terminal state.

Nothing that the provider claims is trusted over what was read: a job that it calls succeeded may
hold failed, missing or doubled lines, and its own counts are not used.
"""

import asyncio
import re
from typing import Final

from penstock.core.job import Job, JobId, StopReason
from penstock.core.state import JobState
from penstock.errors import BlobError, ProviderError, Unavailable
from penstock.lifecycle.collector import Collected, Conclude
from penstock.lifecycle.gather import Gather
from penstock.lifecycle.merge import Merged, Missing
from penstock.lifecycle.ports import Backoff, Ports
from penstock.lifecycle.stop import finish_of
from penstock.providers.provider import ENDED_WITH_OUTPUT
from penstock.store.jobs import Finish

_OUTPUT_FILE: Final = re.compile(r"predictions(\.jsonl(-\d+-of-\d+)?|_\d+\.jsonl)\Z")
"""The provider's output files; `incremental_predictions.jsonl` repeats rows and is ignored."""


async def collect(ports: Ports, job_id: JobId) -> None:
    """Move the job from COLLECTING to its terminal state."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    begun_at = ports.clock.now()
    while True:
        job = await ports.job(job_id)
        if job.state is not JobState.COLLECTING:
            return
        try:
            await _collect(ports, job)
        except (ProviderError, BlobError, Unavailable) as error:
            now = ports.clock.now()
            if now >= begun_at + ports.timing.collect_seconds:
                await ports.jobs.finish(job_id, now, _unreadable(error.message))
                return
            await ports.jobs.note(job_id, now, status_detail=error.message)
            await ports.clock.sleep(backoff.failed())


async def _collect(ports: Ports, job: Job) -> None:
    price = ports.model(job).price
    # In a thread, as all that opens files: a busy disk may take its time.
    gather = await asyncio.to_thread(
        Gather, ports.spool, job.id, job.input_bytes, price, ports.collectors
    )
    async with gather:
        await _fetch(ports, job, gather)
        collected = await gather.conclude(
            Conclude(
                missing=_missing(job),
                now=ports.clock.now(),
                only_with_rows=job.provider_state not in ENDED_WITH_OUTPUT,
            )
        )
        await gather.commit()
    if collected.merged is None:
        await ports.jobs.finish(job.id, ports.clock.now(), _without_output(ports, job))
        return
    await _report(ports, job, collected)
    await ports.jobs.finish(job.id, ports.clock.now(), _finish(ports, job, collected.merged))


async def _fetch(ports: Ports, job: Job, gather: Gather) -> None:
    root = ports.bucket.uri("")
    if job.provider_output is None or not job.provider_output.startswith(root):
        if job.provider_state in ENDED_WITH_OUTPUT:
            raise BlobError("The provider calls the job succeeded, but names no output folder.")
        return
    folder = job.provider_output.removeprefix(root).rstrip("/") + "/"
    names = [
        name
        for name in await ports.bucket.list(folder)
        if _OUTPUT_FILE.match(name.rsplit("/", 1)[-1])
    ]
    if not names and job.provider_state in ENDED_WITH_OUTPUT:
        raise BlobError(f"The provider calls the job succeeded, but {folder} holds no output.")
    for name in names:
        await _read(ports, name, gather)


async def _read(ports: Ports, name: str, gather: Gather) -> None:
    """Feed one shard; the next block comes over the network while this one is written."""
    feeding = asyncio.create_task(gather.feed(b""))
    try:
        async for block in ports.bucket.read(name):
            await asyncio.shield(feeding)
            feeding = asyncio.create_task(gather.feed(block))
    finally:
        # Also after a failed read: nobody may close the files under a thread that writes them.
        await asyncio.gather(feeding, return_exceptions=True)
    await feeding
    gather.end_shard()


def _missing(job: Job) -> Missing:
    """Say why a line has no row; the end of the job tells which it is."""
    if job.stop_reason is StopReason.CANCELLED:
        return Missing(code="cancelled", message="The job was cancelled before this line was done.")
    if job.stop_reason is not None or job.provider_state == "JOB_STATE_EXPIRED":
        return Missing(code="expired", message="The job's time ended before this line was done.")
    return Missing(code="missing_row", message="The provider gave no row for this line.")


async def _report(ports: Ports, job: Job, collected: Collected) -> None:
    for kind, count in (
        ("duplicate_rows", collected.duplicates),
        ("foreign_rows", collected.strangers),
    ):
        if count:
            await ports.jobs.event(job.id, ports.clock.now(), kind, str(count))


def _finish(ports: Ports, job: Job, merged: Merged) -> Finish:
    ended = (
        Finish(state=JobState.SUCCEEDED, detail=_summary(merged))
        if job.provider_state in ENDED_WITH_OUTPUT
        else _without_output(ports, job)
    )
    return Finish(
        state=ended.state,
        detail=ended.detail,
        error_code=ended.error_code,
        error_message=ended.error_message,
        counts=merged.counts,
        cost_micro_dollars=merged.cost_micro_dollars,
        output_bytes=merged.output_bytes,
        output_sha256=merged.output_sha256,
    )


def _summary(merged: Merged) -> str:
    if merged.counts.failed == 0:
        return "All lines were answered."
    return f"{merged.counts.failed} lines failed; their status says why."


def _without_output(ports: Ports, job: Job) -> Finish:
    """Return the end of a job that the provider did not complete."""
    if job.stop_reason is not None:
        return finish_of(job.stop_reason, ports)
    word = (job.provider_state or "").removeprefix("JOB_STATE_").lower()
    message = job.error_message or f"The provider ended the job as {word} without saying why."
    return Finish(
        state=JobState.FAILED,
        detail=message,
        error_code=job.error_code or f"provider_{word}",
        error_message=message,
    )


def _unreadable(message: str) -> Finish:
    return Finish(
        state=JobState.FAILED,
        detail=message,
        error_code="provider_output_unreadable",
        error_message=message,
    )
