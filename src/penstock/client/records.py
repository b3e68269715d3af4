"""What can be read off a job's record: where its output is, and what is worth telling of it."""

from urllib.parse import quote

from penstock.client.errors import OutputNotReady, StillRunning
from penstock.client.models import JobRecord
from penstock.client.options import Found


def job_path(request_id: str) -> str:
    """Return the path of a job."""
    return "/requests/" + quote(request_id, safe="")


def face_of(job: JobRecord) -> tuple[object, ...]:
    """Return what of a job is worth telling."""
    waiting = job.waiting
    place = None if waiting is None else (waiting.reason, waiting.position, waiting.shards)
    return job.status, job.state, job.stats, place


def fits(job: JobRecord, wanted: Found) -> bool:
    """Return whether a job is one of those that were asked for."""
    name, labels = wanted.get("name"), wanted.get("labels") or {}
    named = name is None or job.name == name
    begins = (job.name or "").startswith(wanted.get("name_prefix") or "")
    known = job.labels or {}
    has_labels = all(known.get(key) == value for key, value in labels.items())
    return named and begins and has_labels and job.request_id.startswith(wanted.get("prefix") or "")


def output_url(job: JobRecord) -> str:
    """Return where the output is; raises `OutputNotReady`, which says why there is none."""
    outcome = job.outcome
    found = outcome and (outcome.output_url or next(iter(outcome.output_download_urls or ()), None))
    if found:
        return found
    if not job.done:
        raise OutputNotReady(
            f"{job.request_id} is {job.status}: its output is not ready",
            job=job,
            hint=f"see how it goes: penstock status {job.request_id}",
        )
    raise OutputNotReady(
        f"{job.request_id} is {job.status} and has no output"
        + (f": {job.reason}" if job.reason else ""),
        job=job,
        hint="when the cause is gone, submit the file again",
    )


def still_running(job: JobRecord, timeout_seconds: float | None) -> StillRunning:
    """Return the error for a wait that ends before the job does."""
    request_id = job.request_id
    return StillRunning(
        f"stopped waiting for {request_id} after {timeout_seconds:g} s; the job continues",
        job=job,
        hint=f"see how it goes: penstock status {request_id}; wait for it again: "
        f"client.jobs.get({request_id!r}), or penstock wait {request_id}",
    )
