"""Write the provider's input into the bucket: one line per request, named by our own key.

Each line is parsed and serialised again, never spliced: with splicing, a caller's duplicate member
could override our key. Only `key` and `request` travel; the caller's own members stay with us.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Final

import orjson

from penstock.blobs.bucket import Stat
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import Job, JobId, tag_of
from penstock.core.limits import Limits
from penstock.core.line import LineKey
from penstock.core.state import JobState
from penstock.errors import BlobCorrupt, ProviderError, Unavailable
from penstock.fault import fault
from penstock.ingest.index import ROW, ROW_BYTES
from penstock.lifecycle.ports import Backoff, Ports, why_stop
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.store.jobs import Finish

BLOCK_BYTES: Final = 1024 * 1024
"""How much is serialised in one go in a thread; larger blocks only cost memory."""

INDEX_ROWS: Final = 1024
"""How many rows of the line index are read in one go."""

INPUT_NAME: Final = "input.jsonl"


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
        # A name of this run's own: a process that was frozen over its upload must not bring back
        # an input that was taken away from a late create meanwhile.
        name = f"{ports.folder(job_id, 1)}/{token_hex(4)}-{INPUT_NAME}"
        try:
            stat = await _put(ports, job, name)
        except (ProviderError, BlobCorrupt, Unavailable) as error:
            await ports.jobs.note(job_id, ports.clock.now(), status_detail=error.message)
            await ports.alarm.wait(job_id, backoff.failed())
            continue
        fault("prepare.finalised")
        if stat.size > ports.limits.provider_bytes_max:
            await ports.jobs.finish(job_id, ports.clock.now(), _too_large(stat.size, ports.limits))
            return
        await ports.jobs.move(
            job_id,
            JobState.PREPARED,
            ports.clock.now(),
            only_from=JobState.ACCEPTED,
            provider_input=ports.bucket.uri(name),
            status_detail=f"{stat.size} bytes are in the provider's bucket.",
        )
        fault("prepare.recorded")
        return


def _too_large(size: int, limits: Limits) -> Finish:
    """Return the end of a job whose input outgrew the provider's limit with our keys."""
    message = (
        f"The provider's input has {size} bytes with our line keys, over its limit of "
        f"{limits.provider_bytes_max}. Split the file into two requests."
    )
    return Finish(
        state=JobState.FAILED,
        detail=message,
        error_code="provider_input_too_large",
        error_message=message,
    )


async def _put(ports: Ports, job: Job, name: str) -> Stat:
    async with (
        ports.blobs.local(job.id, INPUT) as input_path,
        ports.blobs.local(job.id, INPUT_INDEX) as index_path,
    ):
        blocks = provider_blocks(input_path, index_path, tag_of(job.id))
        return await ports.bucket.put(name, _read(blocks))


async def _read(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block
        fault("prepare.half_written")


def provider_blocks(input_path: Path, index_path: Path, tag: str) -> Iterator[bytes]:
    """Yield the provider's input in blocks of about `BLOCK_BYTES`, whole lines each."""
    keys = LineKey(tag)
    block = bytearray()
    for number, line in enumerate(read_lines(input_path, index_path), start=1):
        request = orjson.loads(line)["request"]
        block += orjson.dumps({"key": keys.of(number), "request": request})
        block += b"\n"
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def read_lines(input_path: Path, index_path: Path) -> Iterator[bytes]:
    """Yield the request lines of an input in order, without line ends or blank lines."""
    with input_path.open("rb", buffering=BLOCK_BYTES) as data, index_path.open("rb") as index:
        at = 0
        while packed := index.read(ROW_BYTES * INDEX_ROWS):
            for offset, length in ROW.iter_unpack(packed):
                # Blank lines lie between requests, so a relative move keeps the read-ahead.
                data.seek(offset - at, 1)
                yield data.read(length)
                at = offset + length
