"""Look at what the provider has exported of a job that still runs, where somebody asked for it.

A look goes on beside the polls and is never in their way: a cancel is heard and an expiry seen
while it reads, whatever becomes of it is a line in the log, and it ends with the watch. It writes
two files and their names, and nothing that counts: the state, the money and the final output come
from `collect`, which reads everything again.

    wish (API) -> rows so far -> files of the job, durable -> their names in the row -> files before

A process that dies on this way leaves files that no row names; `prune` removes them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from secrets import token_hex
from types import TracebackType
from typing import Final, Self

from penstock.core.job import Job, JobId
from penstock.core.look import PENDING, Look, index_name, is_wanted, look_of, output_name
from penstock.core.state import TERMINAL, JobState
from penstock.errors import BlobCorrupt, BlobError, ProviderError, Unavailable
from penstock.fault import fault
from penstock.lifecycle.collector import Conclude
from penstock.lifecycle.concatenate import Concatenation
from penstock.lifecycle.exported import output_files
from penstock.lifecycle.gather import Gather
from penstock.lifecycle.inflow import ROW_BYTES_MAX
from penstock.lifecycle.job_files import files_of
from penstock.lifecycle.join import append_ended
from penstock.lifecycle.merge import Merged, Missing
from penstock.lifecycle.ports import Ports
from penstock.providers.provider import ProviderJob

_log = logging.getLogger(__name__)

_CAN_PASS: Final = (ProviderError, BlobError, Unavailable, TimeoutError)
"""What a look may meet that is nobody's bug."""

_PENDING: Final = Missing(code=PENDING, message="The provider has not finished this line yet.")


class Looker:
    """Looks at one job while it is watched, at most one look at a time."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._task: asyncio.Task[None] | None = None
        self._begun_at = -float("inf")

    async def __aenter__(self) -> Self:
        """Return itself; no look outlives the block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a look that is not done; what it has written goes with it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def begin(self, job: Job, seen: ProviderJob) -> None:
        """Begin a look at the job if somebody wants one and it is not too early for it."""
        now = self._ports.clock.now()
        if not is_wanted(job) or (self._task is not None and not self._task.done()):
            return
        last = max(self._begun_at, job.partial_at or self._begun_at)
        if now - last < self._ports.timing.partial_seconds_min:
            return
        self._begun_at = now
        name = f"look at {job.id}"
        self._task = asyncio.create_task(look(self._ports, job, seen.output_folder), name=name)


async def look(ports: Ports, job: Job, folder: str | None) -> None:
    """Take one look; nothing that goes wrong with it concerns anybody else."""
    await _guarded(ports, job, partial(_look, ports, job, folder))
    if job.parent_id is not None:
        await _guarded(ports, job, partial(_look_at_parent, ports, job.parent_id))


async def _guarded(ports: Ports, job: Job, work: Callable[[], Awaitable[None]]) -> None:
    try:
        async with ports.lookers, asyncio.timeout(ports.timing.partial_seconds_max):
            await work()
    except _CAN_PASS as error:
        await _failed(ports, job, str(error) or "it took too long")
    except Exception:  # noqa: BLE001  # a boundary: the watch goes on whatever a look meets
        _log.exception("a look at %s failed", job.id)
        await _failed(ports, job, "an error of our own")


async def _failed(ports: Ports, job: Job, why: str) -> None:
    _log.warning("no look at %s: %s", job.id, why)
    try:
        await ports.looks.give_up(job.id)
        await ports.jobs.event(job.id, ports.clock.now(), "partial_failed", why[:300])
    except Unavailable as error:
        # Then the wish stays, and the next poll tries again.
        _log.warning("and nothing could be noted: %s", error.message)


async def _look(ports: Ports, job: Job, folder: str | None) -> None:
    at = ports.clock.now()
    names = await _names(ports, job, folder)
    found = await _gathered(ports, job, names, at) if names else None
    if found is not None:
        await _replace(ports, job, found)
    elif job.partial_name is None:
        await ports.looks.see_nothing(job, at)
    else:
        await ports.looks.give_up(job.id)


async def _names(ports: Ports, job: Job, folder: str | None) -> list[str]:
    """Return the objects that hold rows, as many of them as one look may read."""
    root = ports.bucket.uri("")
    where = folder or await _output_prefix(ports, job)
    if not where.startswith(root):
        return []
    below = where.removeprefix(root).rstrip("/") + "/"
    names = output_files(await ports.bucket.list(below))
    if len({name.rpartition("/")[0] for name in names}) > 1:
        # Two provider jobs wrote here; which of them is ours shows when ours has ended.
        return []
    left_bytes = ports.limits.partial_bytes_max
    chosen = []
    for name in names:
        left_bytes -= (await ports.bucket.stat(name)).size
        if left_bytes < 0:
            _log.warning("a look at %s reads no more than partial_bytes_max", job.id)
            break
        chosen.append(name)
    return chosen


async def _output_prefix(ports: Ports, job: Job) -> str:
    """Return where the provider job writes to; it need not say so before its end."""
    attempts = await ports.jobs.attempts(job.id)
    return next((one.output_prefix for one in attempts if one.provider_job == job.provider_job), "")


async def _gathered(ports: Ports, job: Job, names: list[str], at: float) -> Look | None:
    """Merge the rows so far and make the files durable; None if there is no row."""
    async with files_of(ports, job) as files:
        # Slots of its own: the final output of another job must not wait for a look.
        slots = asyncio.Semaphore(1)
        gather = await asyncio.to_thread(Gather, files, job, None, slots, "partial")
        async with gather:
            for name in names:
                await _read(ports, name, gather)
            fault("partial.read")
            told = Conclude(missing=_PENDING, now=at, only_with_rows=True)
            collected = await gather.conclude(told)
            if collected.merged is None:
                return None
            lines = job.line_count - collected.merged.counts.missing
            return await _committed(ports, job, gather, collected.merged, (lines, at))


async def _committed(
    ports: Ports,
    job: Job,
    written: Gather | Concatenation,
    merged: Merged,
    said: tuple[int, float],
) -> Look:
    """Make the files durable under names that say what is in them."""
    token, (lines, at) = token_hex(4), said
    found = Look(
        name=output_name(token, merged.output_bytes, merged.output_sha256),
        index_name=index_name(token),
        at=at,
        lines=lines,
        size_bytes=merged.output_bytes,
        sha256=merged.output_sha256,
    )
    written.output_name, written.index_name = found.name, found.index_name
    try:
        await written.commit()
    except BaseException:
        await _remove(ports, job.id, found.name, found.index_name)
        raise
    fault("partial.committed")
    return found


async def _read(ports: Ports, name: str, gather: Gather) -> None:
    """Feed the whole rows of one object; one that ends without a newline is half written."""
    async with aclosing(ports.bucket.read(name)) as blocks:
        async for rows in whole_rows(blocks):
            await gather.feed(rows)
    gather.end_shard()


async def whole_rows(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the bytes up to the last newline, however they are cut."""
    held: list[bytes] = []
    held_bytes = 0
    async for block in blocks:
        rows, newline, rest = block.rpartition(b"\n")
        if newline:
            yield b"".join((*held, rows, newline))
            held, held_bytes = [], 0
        held.append(rest)
        held_bytes += len(rest)
        if held_bytes > ROW_BYTES_MAX:
            raise BlobCorrupt("The provider's output has a row that is too long.")


async def _look_at_parent(ports: Ports, parent_id: JobId) -> None:
    """Put the looks at all shards of a job together, once each has been looked at.

    Whoever looks at the last of them does it; of two that think so the store lets one through.
    """
    parent = await ports.job(parent_id)
    shards = await ports.jobs.shards_of(parent_id)
    last = parent.partial_at or 0.0
    # By the time of their looks and not by the wish, which may be written anew meanwhile.
    waits = any(is_wanted(shard) and (shard.partial_at or 0.0) <= last for shard in shards)
    if waits or not is_wanted(parent):
        return
    at = ports.clock.now()
    async with files_of(ports, parent) as files:
        whole = await asyncio.to_thread(Concatenation, files, parent, None)
        async with whole:
            lines = 0
            for shard in shards:
                lines += await _append(ports, whole, shard)
            if lines == 0:
                await ports.looks.see_nothing(parent, at)
                return
            merged = await whole.conclude()
            found = await _committed(ports, parent, whole, merged, (lines, at))
    await _replace(ports, parent, found)


async def _append(ports: Ports, whole: Concatenation, shard: Job) -> int:
    """Append what there is of a shard; return how many lines of it have ended."""
    if shard.state in TERMINAL:
        await append_ended(ports, whole, shard)
        return shard.line_count
    found = look_of(shard)
    if found is None:
        await whole.append_missing(shard.line_range, _PENDING, ports.clock.now())
        return 0
    async with (
        ports.blobs.local(shard.id, found.name) as output,
        ports.blobs.local(shard.id, found.index_name) as index,
    ):
        await whole.append(shard, output, index)
    return found.lines


async def _replace(ports: Ports, job: Job, found: Look) -> None:
    """Name the new look and remove the one before it, or remove the new one if that is better."""
    if found.lines < (job.partial_lines or 0):
        # A list that is behind shows less than was there already.
        await ports.looks.give_up(job.id)
        await _remove(ports, job.id, found.name, found.index_name)
        return
    if not await ports.looks.put(job, found):
        # It came too late.
        await _remove(ports, job.id, found.name, found.index_name)
        return
    fault("partial.recorded")
    await _remove(ports, job.id, job.partial_name, job.partial_index_name)


async def _remove(ports: Ports, job_id: JobId, *names: str | None) -> None:
    for name in names:
        if name is not None:
            await ports.blobs.remove(job_id, name)


async def forget_look(ports: Ports, job_id: JobId) -> None:
    """Remove the look at a job that has left the provider; its output has everything in it."""
    job = await ports.job(job_id)
    if job.partial_name is None or job.state in {JobState.RUNNING, JobState.COLLECTING}:
        return
    try:
        await _remove(ports, job.id, job.partial_name, job.partial_index_name)
        await ports.looks.forget(job.id, job.partial_name)
    except (BlobError, Unavailable) as error:
        # The row has a better output by now, and `prune` finds the files.
        _log.warning("the last look at %s stays for now: %s", job.id, error.message)
