"""What the steps act on, and the two ways in which they wait.

Steps are plain async functions over these ports, so that the same code runs in production, in tests
with another clock and under a simulator. A step may be killed at any point and run again from its
start: it reads the job, does what is missing, and returns when the job has left its phase.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from penstock.blobs.bucket import Bucket
from penstock.blobs.spool import Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock
from penstock.core.job import Job, JobId, StopReason
from penstock.core.limits import Limits
from penstock.core.models import Model
from penstock.errors import InternalError
from penstock.providers.provider import Provider
from penstock.settings import Timing
from penstock.store.jobs import Jobs
from penstock.store.looks import Looks

_log = logging.getLogger(__name__)

COLLECTORS_MAX: Final = 2
"""Large outputs that are put together at once; more would only share the cores and the disk."""


class Alarm(Protocol):
    """Waiting that an owner's cancel cuts short."""

    async def wait(self, job_id: JobId, seconds: float) -> None:
        """Return after `seconds`, or as soon as the job's cancel is seen."""
        ...


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside a step."""

    clock: Clock
    jobs: Jobs
    looks: Looks
    spool: Spool
    """Working files of this process."""
    blobs: Blobs
    """Inputs and outputs."""
    bucket: Bucket
    bucket_prefix: str
    provider: Provider
    location: str
    """Overrides the models' own location; empty means none."""
    models: Mapping[str, Model]
    limits: Limits
    timing: Timing
    alarm: Alarm
    collectors: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(COLLECTORS_MAX)
    )
    """How many jobs may have processes of their own that collect."""
    lookers: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(1))
    """How many running jobs are looked at; the outputs of those that have ended come first."""

    async def job(self, job_id: JobId) -> Job:
        """Return the job, which must exist."""
        job = await self.jobs.load(job_id)
        if job is None:
            raise InternalError(f"The job {job_id} has a workflow, but no row.")
        return job

    def model(self, job: Job) -> Model:
        """Return the catalogue's entry; one that was removed meanwhile still runs by its id."""
        return self.models.get(job.model) or Model(id=job.model)

    def location_of(self, job: Job) -> str:
        """Return where the job runs."""
        return self.location or self.model(job).location

    def folder(self, job_id: JobId, attempt: int) -> str:
        """Return the bucket folder of one attempt; its own, so that no two ever mix."""
        return f"{self.bucket_prefix}/{job_id}/a{attempt}"


class Backoff:
    """Delays that double from `first` to `most`, for one series of failures."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def failed(self) -> float:
        """Return how long to wait after one more failure."""
        delay, self._next = self._next, min(self._next * 2, self._most)
        return delay

    def worked(self) -> None:
        """Start over from the first delay."""
        self._next = self._first


def began_at(job: Job) -> float:
    """Return when the round of the job began."""
    return job.created_at if job.round_began_at is None else job.round_began_at


def why_stop(job: Job, limits: Limits, now: float) -> StopReason | None:
    """Return why the job should end now, or None; a cancel wins over an expiry."""
    if job.cancel_requested_at is not None:
        return StopReason.CANCELLED
    if job.running_since is None:
        if now >= began_at(job) + limits.queue_seconds_max:
            return StopReason.QUEUE_EXPIRED
    elif now >= job.running_since + limits.run_seconds_max:
        return StopReason.RUN_EXPIRED
    return None


class CancelWatch:
    """The `Alarm` of a running server: one query a second for the cancels of all jobs."""

    def __init__(self, jobs: Jobs, clock: Clock, seconds: float) -> None:
        self._jobs = jobs
        self._clock = clock
        self._seconds = seconds
        self._waiting: dict[JobId, asyncio.Event] = {}

    async def run(self) -> None:
        """Look for cancels for ever."""
        while True:
            await self._clock.sleep(self._seconds)
            try:
                await self._look()
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # A missed look only costs a second; a dead loop would leave cancels unheard.
                _log.exception("looking for cancels failed; trying again")

    async def _look(self) -> None:
        if not self._waiting:
            return
        for job_id in await self._jobs.cancel_requested():
            event = self._waiting.get(job_id)
            if event is not None:
                event.set()

    async def wait(self, job_id: JobId, seconds: float) -> None:
        """Return after `seconds`, or as soon as the job's cancel is seen."""
        event = self._waiting.setdefault(job_id, asyncio.Event())
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        cancelled = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({sleep, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            cancelled.cancel()
            self._waiting.pop(job_id, None)
