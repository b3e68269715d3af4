"""Fetch the provider's output, merge it into input order and write the terminal state.

Nothing that the provider claims is trusted over what was read: a job that it calls succeeded may
hold failed, missing or doubled lines, and its own counts are not used. What cannot be read is tried
again for `collect_seconds`; then the rest is delivered, and every line that lacks its row says why.
"""

import asyncio
import logging
from typing import Final

import msgspec

from penstock.core.job import Job, JobId, StopReason
from penstock.core.line import LineOutcome
from penstock.core.quotas import day_of
from penstock.core.state import JobState
from penstock.errors import BlobError, ProviderError, Unavailable
from penstock.fault import fault
from penstock.lifecycle.again import conclude
from penstock.lifecycle.collector import Collected, Conclude
from penstock.lifecycle.ending import summary_of, with_output
from penstock.lifecycle.exported import output_files
from penstock.lifecycle.gather import Files, Gather
from penstock.lifecycle.job_files import files_of
from penstock.lifecycle.join import join
from penstock.lifecycle.merge import Merged, Missing
from penstock.lifecycle.peek import forget_look
from penstock.lifecycle.ports import Backoff, Ports
from penstock.lifecycle.stop import finish_of
from penstock.providers.provider import ENDED_WITH_OUTPUT
from penstock.store.jobs import Finish

_log = logging.getLogger(__name__)

_UNREADABLE: Final = "provider_output_unreadable"

_CANNOT_BE_READ: Final = (ProviderError, BlobError, Unavailable)
"""What the bucket, a file in it or a process that reads it may be; all of it can pass."""


class _GivenUp(msgspec.Struct, frozen=True):
    """The end of all waiting."""

    names: list[str]
    """The files that can be read."""
    why: str
    """What kept us from the others."""


async def collect(ports: Ports, job_id: JobId) -> None:
    """Move the job from COLLECTING to its terminal state."""
    await _collect_until_done(ports, job_id)
    await forget_look(ports, job_id)


async def _collect_until_done(ports: Ports, job_id: JobId) -> None:
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    begun_at = ports.clock.now()
    while True:
        job = await ports.job(job_id)
        if job.state is not JobState.COLLECTING:
            return
        try:
            await _collect(ports, job)
        except _CANNOT_BE_READ as error:
            now = ports.clock.now()
            if now >= begun_at + ports.timing.collect_seconds:
                await _give_up(ports, job, error.message)
                return
            await ports.jobs.note(job_id, now, status_detail=error.message)
            await ports.clock.sleep(backoff.failed())


async def _give_up(ports: Ports, job: Job, why: str) -> None:
    """End the job with what can be read of its output."""
    last = why
    # Once more without any file, if one that could just be read cannot be read again.
    for names in (await _readable(ports, job), list[str]()):
        try:
            await _collect(ports, job, _GivenUp(names, why))
        except _CANNOT_BE_READ as error:
            last = error.message
            _log.warning("giving up on the output of %s, %s", job.id, last)
        else:
            return
    # Our own files are out of reach, so there is nothing to put the lines into.
    await _end_without(ports, job, _unreadable(last))


async def _readable(ports: Ports, job: Job) -> list[str]:
    """Return the files that can be read to their end, where their checksum is known to be right.

    So a file is read twice; rows of one that turns out corrupt must not have been taken for good.
    """
    try:
        names = await _names(ports, job)
    except _CANNOT_BE_READ as error:
        _log.warning("the output of %s cannot be listed: %s", job.id, error.message)
        return []
    readable = []
    for name in names:
        try:
            async for _ in ports.bucket.read(name):
                pass
        except _CANNOT_BE_READ as error:
            _log.warning("a file of %s is left out: %s", job.id, error.message)
        else:
            readable.append(name)
    return readable


async def _collect(ports: Ports, job: Job, given_up: _GivenUp | None = None) -> None:
    if job.waits_for_shards:
        await join(ports, job)
        return
    async with files_of(ports, job) as files:
        await _collect_with(ports, job, files, given_up)


async def _collect_with(ports: Ports, job: Job, files: Files, given_up: _GivenUp | None) -> None:
    price = ports.model(job).price_on(day_of(job.created_at))
    # In a thread, as all that opens files: a busy disk may take its time.
    gather = await asyncio.to_thread(Gather, files, job, price, ports.collectors)
    async with gather:
        for name in await _names(ports, job) if given_up is None else given_up.names:
            await _read(ports, name, gather)
        collected = await gather.conclude(
            Conclude(
                missing=_missing(job, given_up),
                now=ports.clock.now(),
                only_with_rows=job.provider_state not in ENDED_WITH_OUTPUT,
            )
        )
        fault("collect.merged")
        await gather.commit()
        fault("collect.finalised")
    if collected.merged is None:
        await _end_without(ports, job, _without_output(ports, job))
        return
    await _report(ports, job, collected)
    ended = _ended(ports, job, collected.merged, given_up)
    finish = with_output(ended, collected.merged, gather.output_name, gather.index_name)
    if not await conclude(ports, job, finish):
        await _remove(ports, job.id, gather)


async def _end_without(ports: Ports, job: Job, finish: Finish) -> None:
    """End the job, or only this round of it, without an output."""
    await ports.jobs.finish(job.id, ports.clock.now(), finish, only_attempt=job.attempt)


async def _remove(ports: Ports, job_id: JobId, gather: Gather) -> None:
    """Remove an output that came too late."""
    job = await ports.job(job_id)
    # A commit that was repeated after an unclear answer says the same as one that came too late.
    if job.output_name != gather.output_name:
        await ports.blobs.remove(job_id, gather.output_name)
        await ports.blobs.remove(job_id, gather.index_name)


async def _names(ports: Ports, job: Job) -> list[str]:
    """Return the names of the output's files; raise if a job that has one shows none."""
    root = ports.bucket.uri("")
    if job.provider_output is None or not job.provider_output.startswith(root):
        if job.provider_state in ENDED_WITH_OUTPUT:
            raise BlobError("The provider calls the job succeeded, but names no output folder.")
        return []
    folder = job.provider_output.removeprefix(root).rstrip("/") + "/"
    names = output_files(await ports.bucket.list(folder))
    if not names and job.provider_state in ENDED_WITH_OUTPUT:
        raise BlobError(f"The provider calls the job succeeded, but {folder} holds no output.")
    fault("collect.listed")
    return names


async def _read(ports: Ports, name: str, gather: Gather) -> None:
    """Feed one shard; the next block comes over the network while this one is written."""
    feeding = asyncio.create_task(gather.feed(b""))
    try:
        async for block in ports.bucket.read(name):
            await asyncio.shield(feeding)
            feeding = asyncio.create_task(gather.feed(block))
            fault("collect.half_read")
    finally:
        # Also after a failed read: nobody may close the files under a thread that writes them.
        await asyncio.gather(feeding, return_exceptions=True)
    await feeding
    gather.end_shard()


def _missing(job: Job, given_up: _GivenUp | None) -> Missing:
    """Say why a line has no row; the end of the job tells which it is."""
    if given_up is not None:
        # The record says what kept us from it; that names the operator's bucket, and is said once.
        return Missing(code=_UNREADABLE, message="The provider's output could not be read.")
    if job.stop_reason is StopReason.CANCELLED:
        return Missing(
            outcome=LineOutcome.CANCELLED,
            code="cancelled",
            message="The job was cancelled before this line was done.",
        )
    if job.stop_reason is not None or job.provider_state == "JOB_STATE_EXPIRED":
        return Missing(
            outcome=LineOutcome.EXPIRED,
            code="expired",
            message="The job's time ended before this line was done.",
        )
    if job.provider_state == "JOB_STATE_CANCELLED":
        # Nobody here asked for it: the provider's own limit of 24 hours, or a hand in its console.
        return Missing(
            outcome=LineOutcome.CANCELLED,
            code="cancelled",
            message="The provider cancelled the job before this line was done.",
        )
    return Missing(code="missing_row", message="The provider gave no row for this line.")


async def _report(ports: Ports, job: Job, collected: Collected) -> None:
    for kind, count in (
        ("duplicate_rows", collected.duplicates),
        ("foreign_rows", collected.strangers),
    ):
        if count:
            await ports.jobs.event(job.id, ports.clock.now(), kind, str(count))


def _ended(ports: Ports, job: Job, merged: Merged, given_up: _GivenUp | None) -> Finish:
    """Return the end of a job whose output is written."""
    if job.provider_state not in ENDED_WITH_OUTPUT:
        return _without_output(ports, job)
    if given_up is not None and merged.counts.failed == job.line_count:
        return _unreadable(given_up.why)
    return Finish(state=JobState.SUCCEEDED, detail=summary_of(merged))


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
        error_code=_UNREADABLE,
        error_message=message,
    )
