"""Watch the provider job until it ends.

The set of states that end a job is ours: the vendor's own client polls for ever on
PARTIALLY_SUCCEEDED. A state that nobody has heard of is reported and polling goes on.
"""

import msgspec

from penstock.core.job import Job, JobId, StopReason
from penstock.core.state import JobState
from penstock.errors import ProviderError
from penstock.fault import fault
from penstock.lifecycle.peek import Looker
from penstock.lifecycle.ports import Backoff, Ports, began_at, why_stop
from penstock.lifecycle.reconcile import cancel_others
from penstock.providers.provider import ENDED, NOT_ENDED, ProviderJob

_LOST_STATE = "JOB_STATE_FAILED"


class _Watch(msgspec.Struct, kw_only=True):
    """What one watcher remembers between polls; nothing that a restart may not forget."""

    backoff: Backoff
    looker: Looker
    is_alone: bool = False
    """Whether the label was listed once more, to find a second provider job."""
    is_stopping: bool = False
    """Whether this process has asked the provider to end the job."""
    unknown_since: float | None = None
    """Since when the provider does not know the job."""


async def wait(ports: Ports, job_id: JobId) -> None:
    """Move the job from RUNNING to COLLECTING when the provider has ended it."""
    backoff = Backoff(ports.timing.retry_seconds_min, ports.timing.retry_seconds_max)
    async with Looker(ports) as looker:
        await _watch(ports, job_id, _Watch(backoff=backoff, looker=looker))


async def _watch(ports: Ports, job_id: JobId, watch: _Watch) -> None:
    while True:
        job = await ports.job(job_id)
        if job.state is not JobState.RUNNING or job.provider_job is None or job.waits_for_shards:
            # The last of its shards to end moves a parent on.
            return
        try:
            delay = await _poll(ports, job, job.provider_job, watch)
            fault("poll.committed")
            if watch.unknown_since is None:
                watch.backoff.worked()
        except ProviderError as error:
            await _say(ports, job, ports.clock.now(), status_detail=error.message)
            delay = watch.backoff.failed()
        if job.cancel_requested_at is None:
            await ports.alarm.wait(job_id, delay)
        else:
            # The cancel is known, and passed on or about to be; the alarm would ring for ever.
            await ports.clock.sleep(delay)


async def _poll(ports: Ports, job: Job, name: str, watch: _Watch) -> float:
    """Look once, act on what is seen, and return how long to wait before the next look."""
    if not watch.is_alone:
        found = await ports.provider.find(job.label, ports.location_of(job))
        await cancel_others(ports, job.id, name, found)
        watch.is_alone = True
    fault("poll.before")
    seen = await ports.provider.get(name)
    fault("poll.answered")
    now = ports.clock.now()
    if seen is None:
        return await _unknown(ports, job, watch, now)
    watch.unknown_since = None
    if seen.state in ENDED:
        await _ended(ports, job, seen, now)
        return 0.0
    await _note(ports, job, seen, now)
    watch.looker.begin(job, seen)
    # Read again: one that is seen running for the first time did not expire in the queue.
    reason = job.stop_reason or why_stop(await ports.job(job.id), ports.limits, now)
    if reason is not None and not watch.is_stopping:
        await _stop(ports, job, name, reason)
        watch.is_stopping = True
        return ports.timing.poll_seconds_min
    return _interval(ports, job, now)


async def _stop(ports: Ports, job: Job, name: str, reason: StopReason) -> None:
    """Ask the provider to end the job; a process that takes over asks once more.

    The reason is committed first: after a crash between the two, the provider's CANCELLED would
    otherwise look like its own doing, and the owner's cancel would end as a failure.
    """
    if job.stop_reason is None:
        await _say(
            ports,
            job,
            ports.clock.now(),
            stop_reason=reason.value,
            status_detail=_STOPPING[reason],
        )
    fault("cancel.before_provider")
    await ports.provider.cancel(name)
    fault("cancel.sent")


_STOPPING = {
    StopReason.CANCELLED: "The provider was asked to cancel the job.",
    StopReason.QUEUE_EXPIRED: "Waited too long in the queue; the provider was asked to end it.",
    StopReason.RUN_EXPIRED: "Ran too long; the provider was asked to end it.",
}


async def _note(ports: Ports, job: Job, seen: ProviderJob, now: float) -> None:
    changes: dict[str, object] = {}
    is_unknown = False
    if seen.state != job.provider_state:
        changes["provider_state"] = seen.state
        changes["provider_state_since"] = now
        if seen.state == "JOB_STATE_CANCELLING":
            changes["status_detail"] = "The provider is ending the job."
        elif seen.state in NOT_ENDED:
            changes["status_detail"] = "The provider has the job."
        else:
            is_unknown = True
            changes["status_detail"] = f"The provider reports the unknown state {seen.state[:60]}."
    if seen.has_started and job.running_since is None:
        changes["running_since"] = now
    if changes and await _say(ports, job, now, **changes) and is_unknown:
        await ports.jobs.event(job.id, now, "unknown_provider_state", seen.state[:60])


async def _say(ports: Ports, job: Job, now: float, **changes: object) -> bool:
    # A process that froze after its look may wake up in a job that is collected or has ended, or in
    # another round.
    return await ports.jobs.note(
        job.id, now, only_from=JobState.RUNNING, only_attempt=job.attempt, **changes
    )


async def _ended(ports: Ports, job: Job, seen: ProviderJob, now: float) -> None:
    await ports.jobs.move(
        job.id,
        JobState.COLLECTING,
        now,
        only_from=JobState.RUNNING,
        only_attempt=job.attempt,
        provider_state=seen.state,
        provider_state_since=now,
        provider_output=seen.output_folder,
        error_code=None if seen.error_code is None else f"provider_error_{seen.error_code}",
        error_message=seen.error_message or None,
        status_detail="The provider has ended the job; collecting the answers.",
    )


async def _unknown(ports: Ports, job: Job, watch: _Watch, now: float) -> float:
    """A confirmed job that is unknown may come back (stale reads do that), so give it time."""
    if watch.unknown_since is None:
        watch.unknown_since = now
    if now - watch.unknown_since >= ports.timing.lost_seconds:
        await ports.jobs.move(
            job.id,
            JobState.COLLECTING,
            now,
            only_from=JobState.RUNNING,
            only_attempt=job.attempt,
            provider_state=_LOST_STATE,
            provider_state_since=now,
            error_code="provider_lost_job",
            error_message="The provider confirmed the job and later did not know it any more.",
            status_detail="The provider does not know the job any more.",
        )
        return 0.0
    await _say(ports, job, now, status_detail="The provider does not know the job just now.")
    return watch.backoff.failed()


def _interval(ports: Ports, job: Job, now: float) -> float:
    """Poll young jobs often and old ones seldom: a twentieth of the age, within bounds."""
    age = now - began_at(job)
    return min(max(ports.timing.poll_seconds_min, age / 20), ports.timing.poll_seconds_max)
