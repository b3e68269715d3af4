"""End a job that has no provider job: cancelled by its owner, or expired in the queue."""

from penstock.core.job import Job, StopReason
from penstock.core.state import JobState
from penstock.lifecycle.ports import Ports
from penstock.store.jobs import Finish


def finish_of(reason: StopReason, ports: Ports) -> Finish:
    """Return the terminal state that a reason leads to, without any output."""
    hours = {
        StopReason.QUEUE_EXPIRED: ports.limits.queue_seconds_max / 3600,
        StopReason.RUN_EXPIRED: ports.limits.run_seconds_max / 3600,
    }
    if reason is StopReason.CANCELLED:
        return Finish(state=JobState.CANCELLED, detail="Cancelled by its owner.")
    doing = "in the queue" if reason is StopReason.QUEUE_EXPIRED else "running"
    message = f"The job was ended after {hours[reason]:g} hours {doing}."
    return Finish(
        state=JobState.FAILED,
        detail=message,
        error_code=reason.value,
        error_message=message,
    )


async def stop_unsubmitted(ports: Ports, job: Job, reason: StopReason) -> None:
    """Write the terminal state of a job for which no provider job exists or can come to exist."""
    finish = finish_of(reason, ports)
    if reason is StopReason.QUEUE_EXPIRED and job.status_detail:
        # The last reason why it waited is what its owner needs to know.
        message = f"{finish.error_message} Last known: {job.status_detail}"
        finish = Finish(
            state=finish.state,
            detail=message,
            error_code=finish.error_code,
            error_message=message,
        )
    # Another worker may have begun an attempt since this one read the job.
    await ports.jobs.finish(job.id, ports.clock.now(), finish, only_attempt=job.attempt)
