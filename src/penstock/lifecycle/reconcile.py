"""Settle an intent whose create has no recorded answer.

Steps, each one safe to repeat after a crash (reference/reliability.md 2.4):

1. list by label: a provider job of an attempt that still has its input is adopted, the oldest
   first, and any other live one is cancelled;
2. none: wait until `settle_seconds` after the intent, and list again;
3. none: commit the fence, then move the input to the next attempt's folder, so that a create that
   lands from now on finds no input and costs nothing. In this order, because from the commit on
   nobody records a job that may be about to lose its input;
4. wait `fence_seconds`, list again: one that read the input just before the fence is adopted; one
   that still pends is waited for; a dead one is dropped, never adopted;
5. none: back to PREPARED, and `lifecycle/submit` may commit a new intent.

Alternatives rejected: trusting list-then-create alone paid 351 jobs twice in 8,000 in the
simulation; a lease or lock cannot help, because the provider knows no fencing token.
"""

from typing import Final

import msgspec

from penstock.core.job import Attempt, Job, JobId
from penstock.core.state import JobState
from penstock.errors import BlobError, BlobMissing, ProviderError
from penstock.fault import fault
from penstock.lifecycle.ports import Backoff, Ports, why_stop
from penstock.lifecycle.prepare import INPUT_NAME
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.providers.provider import ENDED, ENDED_WITH_OUTPUT, ENDED_WITHOUT, ProviderJob

_READ_ITS_INPUT: Final = ENDED_WITH_OUTPUT | {"JOB_STATE_RUNNING"}


def display_name(job_id: JobId, attempt: int) -> str:
    """Return the provider job's name for people, which also tells the attempt."""
    return f"penstock-{job_id}-a{attempt}"


class _Watch(msgspec.Struct):
    """What one reconciliation remembers; nothing that a restart may not forget."""

    attempt: int = 0
    away_since: float = 0.0
    """Since when the input of `attempt` is known to be away; a restart looks, and waits, anew."""


async def reconcile(ports: Ports, job: Job) -> None:
    """Move the job from SUBMITTING to RUNNING, PREPARED or an end; return after any such move."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    watch = _Watch()
    while True:
        job = await ports.job(job.id)
        if job.state is not JobState.SUBMITTING:
            return
        attempts = await ports.jobs.attempts(job.id)
        # Taken before the list: a process that freezes over it learns nothing about later.
        now = ports.clock.now()
        try:
            fault("reconcile.before_list")
            found = await ports.provider.find(attempts[-1].label, ports.location_of(job))
            delay = await _settle(_Look(job, attempts, found, now), ports, watch)
        except (ProviderError, BlobError) as error:
            await ports.jobs.note(job.id, ports.clock.now(), status_detail=error.message)
            delay = backoff.failed()
        if delay > 0:
            # The owner's cancel does not shorten this wait: it is what makes the answer certain.
            await ports.clock.sleep(delay)


class _Look(msgspec.Struct, frozen=True):
    """One look at everything that there is to know."""

    job: Job
    attempts: list[Attempt]
    found: list[ProviderJob]
    """What the provider listed at `now` or later."""
    now: float


async def _settle(look: _Look, ports: Ports, watch: _Watch) -> float:
    """Take the next step; return how long to wait before the one after it, 0 if none is left."""
    job, attempts, found, now = look.job, look.attempts, look.found, look.now
    newest = attempts[-1]
    candidates = adoptable(job, attempts, found)
    if candidates:
        await _adopt(ports, job, attempts, candidates[0], found)
        return 0.0
    if newest.fenced_at is None:
        settled_at = newest.intent_at + ports.timing.settle_seconds
        if now < settled_at:
            fault("reconcile.settling")
            await ports.jobs.note(job.id, now, status_detail="Looking for the provider's job.")
            return min(ports.timing.look_seconds, settled_at - now)
        await ports.jobs.fence(job.id, newest.number, now, ports.bucket.uri(_target(ports, newest)))
        return 0.0
    if watch.attempt != newest.number:
        await _take_away(ports, newest)
        watch.attempt, watch.away_since = newest.number, ports.clock.now()
        return min(ports.timing.look_seconds, ports.timing.fence_seconds)
    sure_at = watch.away_since + ports.timing.fence_seconds
    if now < sure_at:
        return min(ports.timing.look_seconds, sure_at - now)
    reason = why_stop(job, ports.limits, now)
    if any(one.state not in ENDED for one in found):
        # Pending without an input: it will run and fail for free, or it read the input in time.
        if reason is not None:
            await cancel_others(ports, job.id, "", found)
        return ports.timing.look_seconds
    if reason is not None:
        await stop_unsubmitted(ports, job, reason)
    else:
        await ports.jobs.move(
            job.id,
            JobState.PREPARED,
            now,
            only_attempt=newest.number,
            status_detail="No provider job exists; trying again.",
        )
    return 0.0


def adoptable(job: Job, attempts: list[Attempt], found: list[ProviderJob]) -> list[ProviderJob]:
    """Return the provider jobs that may be ours to keep: what already costs money, then by age.

    A job of a fenced attempt counts only if it certainly took its input before the fence;
    otherwise it is dead or will be, and adopting it would wait for ever.
    """
    fenced = {display_name(job.id, one.number) for one in attempts if one.fenced_at is not None}
    ours = [one for one in found if one.display_name not in fenced or _took_input(one)]
    return sorted(ours, key=lambda one: (one.state in ENDED_WITHOUT, not _took_input(one)))


def _took_input(job: ProviderJob) -> bool:
    if job.state in ENDED_WITHOUT:
        # A job that found no input may have started, too; but it wrote nothing.
        return job.has_started and job.output_folder is not None
    return job.state in _READ_ITS_INPUT or job.has_started


async def _adopt(
    ports: Ports,
    job: Job,
    attempts: list[Attempt],
    chosen: ProviderJob,
    found: list[ProviderJob],
) -> None:
    numbers = {display_name(job.id, one.number): one.number for one in attempts}
    number = numbers.get(chosen.display_name, attempts[-1].number)
    now = ports.clock.now()
    newest = attempts[-1].number
    fault("reconcile.found")
    if await ports.jobs.record_provider_job(
        job.id, number, chosen.name, now, only_input=job.provider_input, adopted_in=newest
    ):
        # Only now: another worker may have settled it meanwhile, and kept one of the others.
        await cancel_others(ports, job.id, chosen.name, found)


async def cancel_others(ports: Ports, job_id: JobId, keep: str, found: list[ProviderJob]) -> None:
    """Cancel every live provider job of ours but one, and say so in the job's history."""
    for other in found:
        if other.name != keep and other.state not in ENDED:
            await ports.provider.cancel(other.name)
            await ports.jobs.event(job_id, ports.clock.now(), "duplicate_cancelled", other.name)


async def _take_away(ports: Ports, attempt: Attempt) -> None:
    source = _object_name(ports, attempt.input_uri)
    try:
        await ports.bucket.stat(source)
    except BlobMissing:
        # A crash came after the delete, and the copy is there. Or somebody emptied the bucket: then
        # the next create fails for free and its message says why.
        return
    await ports.bucket.copy(source, _target(ports, attempt))
    await ports.bucket.delete(source)
    fault("reconcile.input_removed")


def _target(ports: Ports, attempt: Attempt) -> str:
    return f"{ports.folder(attempt.job_id, attempt.number + 1)}/{INPUT_NAME}"


def _object_name(ports: Ports, uri: str) -> str:
    return uri.removeprefix(ports.bucket.uri(""))
