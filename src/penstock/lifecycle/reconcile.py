"""Settle an intent whose create has no recorded answer.

Steps, each one safe to repeat after a crash (reference/reliability.md 2.4):

1. list by label: a provider job of an attempt that still has its input is adopted, the oldest
   first, and any other live one is cancelled;
2. none: wait until `settle_seconds` after the intent, and list again;
3. none: move the input to the next attempt's folder, so that a create that lands from now on finds
   no input and costs nothing;
4. wait `fence_seconds`, list again: one that read the input just before the fence is adopted; one
   that still pends is waited for; a dead one is dropped, never adopted;
5. none: back to PREPARED, and `lifecycle/submit` may commit a new intent.

Alternatives rejected: trusting list-then-create alone paid 351 jobs twice in 8,000 in the
simulation; a lease or lock cannot help, because the provider knows no fencing token.
"""

from typing import Final

from penstock.core.job import Attempt, Job, JobId
from penstock.core.state import JobState
from penstock.errors import BlobError, BlobMissing, ProviderError
from penstock.lifecycle.ports import Backoff, Ports, why_stop
from penstock.lifecycle.prepare import INPUT_NAME
from penstock.lifecycle.stop import stop_unsubmitted
from penstock.providers.provider import ENDED, ENDED_WITH_OUTPUT, ENDED_WITHOUT, ProviderJob

_READ_ITS_INPUT: Final = ENDED_WITH_OUTPUT | {"JOB_STATE_RUNNING"}
_LOOK_SECONDS: Final = 5.0
"""Between lists while we wait; finding the job early ends the wait early."""


def display_name(job_id: JobId, attempt: int) -> str:
    """Return the provider job's name for people, which also tells the attempt."""
    return f"penstock-{job_id}-a{attempt}"


async def reconcile(ports: Ports, job: Job) -> None:
    """Move the job from SUBMITTING to RUNNING, PREPARED or an end; return after any such move."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    while True:
        job = await ports.job(job.id)
        if job.state is not JobState.SUBMITTING:
            return
        attempts = await ports.jobs.attempts(job.id)
        # Taken before the list: a process that freezes over it learns nothing about later.
        now = ports.clock.now()
        try:
            found = await ports.provider.find(attempts[-1].label, ports.location_of(job))
            delay = await _settle(ports, job, attempts, found, now)
        except (ProviderError, BlobError) as error:
            await ports.jobs.note(job.id, ports.clock.now(), status_detail=error.message)
            delay = backoff.failed()
        if delay > 0:
            # The owner's cancel does not shorten this wait: it is what makes the answer certain.
            await ports.clock.sleep(delay)


async def _settle(
    ports: Ports, job: Job, attempts: list[Attempt], found: list[ProviderJob], now: float
) -> float:
    """Take the next step; return how long to wait before the one after it, 0 if none is left.

    `found` is what the provider listed at `now` or later.
    """
    newest = attempts[-1]
    candidates = adoptable(job, attempts, found)
    if candidates and await _is_half_fenced(ports, newest, candidates[0]):
        await _fence(ports, job, newest)
        return min(_LOOK_SECONDS, ports.timing.fence_seconds)
    if candidates:
        await _adopt(ports, job, attempts, candidates[0], found)
        return 0.0
    if newest.fenced_at is None:
        settled_at = newest.intent_at + ports.timing.settle_seconds
        if now < settled_at:
            await ports.jobs.note(job.id, now, status_detail="Looking for the provider's job.")
            return min(_LOOK_SECONDS, settled_at - now)
        await _fence(ports, job, newest)
        return min(_LOOK_SECONDS, ports.timing.fence_seconds)
    sure_at = newest.fenced_at + ports.timing.fence_seconds
    if now < sure_at:
        return min(_LOOK_SECONDS, sure_at - now)
    reason = why_stop(job, ports.limits, now)
    if any(one.state not in ENDED for one in found):
        # Pending without an input: it will run and fail for free, or it read the input in time.
        if reason is not None:
            await cancel_others(ports, job.id, "", found)
        return _LOOK_SECONDS
    if reason is not None:
        await stop_unsubmitted(ports, job, reason)
    else:
        await ports.jobs.move(
            job.id, JobState.PREPARED, now, status_detail="No provider job exists; trying again."
        )
    return 0.0


def adoptable(job: Job, attempts: list[Attempt], found: list[ProviderJob]) -> list[ProviderJob]:
    """Return the provider jobs that may be ours to keep: live ones first, then by age.

    A job of a fenced attempt counts only if it certainly took its input before the fence;
    otherwise it is dead or will be, and adopting it would wait for ever.
    """
    fenced = {display_name(job.id, one.number) for one in attempts if one.fenced_at is not None}
    ours = [one for one in found if one.display_name not in fenced or _took_input(one)]
    return sorted(ours, key=lambda one: one.state in ENDED_WITHOUT)


def _took_input(job: ProviderJob) -> bool:
    return job.state in _READ_ITS_INPUT or (job.has_started and job.state not in ENDED_WITHOUT)


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
    await ports.jobs.record_provider_job(job.id, number, chosen.name, now, "adopted")
    await cancel_others(ports, job.id, chosen.name, found)


async def cancel_others(ports: Ports, job_id: JobId, keep: str, found: list[ProviderJob]) -> None:
    """Cancel every live provider job of ours but one, and say so in the job's history."""
    for other in found:
        if other.name != keep and other.state not in ENDED:
            await ports.provider.cancel(other.name)
            await ports.jobs.event(job_id, ports.clock.now(), "duplicate_cancelled", other.name)


async def _is_half_fenced(ports: Ports, attempt: Attempt, chosen: ProviderJob) -> bool:
    """Return whether a crash took the input away without the fence's commit.

    A create that landed since then looks like one of an attempt with its input, and is dead.
    """
    if attempt.fenced_at is not None or _took_input(chosen):
        return False
    try:
        await ports.bucket.stat(_object_name(ports, attempt.input_uri))
    except BlobMissing:
        return True
    return False


async def _fence(ports: Ports, job: Job, attempt: Attempt) -> None:
    source = _object_name(ports, attempt.input_uri)
    target = f"{ports.folder(job.id, attempt.number + 1)}/{INPUT_NAME}"
    try:
        await ports.bucket.stat(source)
    except BlobMissing:
        # A crash came between the delete and the commit below, and the copy is there. Or somebody
        # emptied the bucket: then the next create fails for free and its message says why.
        pass
    else:
        await ports.bucket.copy(source, target)
        await ports.bucket.delete(source)
    await ports.jobs.fence(job.id, attempt.number, ports.clock.now(), ports.bucket.uri(target))


def _object_name(ports: Ports, uri: str) -> str:
    return uri.removeprefix(ports.bucket.uri(""))
