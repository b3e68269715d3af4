"""A batch prediction job as the emulator remembers it, and as the API shows it."""

from typing import Any, Final

import msgspec

from penstock.emulator.faults import Subject, Then
from penstock.emulator.timestamps import rfc3339

QUEUED: Final = "JOB_STATE_QUEUED"
PENDING: Final = "JOB_STATE_PENDING"
RUNNING: Final = "JOB_STATE_RUNNING"
SUCCEEDED: Final = "JOB_STATE_SUCCEEDED"
FAILED: Final = "JOB_STATE_FAILED"
CANCELLING: Final = "JOB_STATE_CANCELLING"
CANCELLED: Final = "JOB_STATE_CANCELLED"
EXPIRED: Final = "JOB_STATE_EXPIRED"
PARTIALLY_SUCCEEDED: Final = "JOB_STATE_PARTIALLY_SUCCEEDED"
WAITING: Final = frozenset({QUEUED, PENDING})
WORKING: Final = frozenset({RUNNING, CANCELLING})
TERMINAL: Final = frozenset({SUCCEEDED, FAILED, CANCELLED, EXPIRED, PARTIALLY_SUCCEEDED})

_BEFORE: Final = {RUNNING: PENDING, PENDING: QUEUED, QUEUED: QUEUED}
"""What a state that goes backwards goes back to; an ended job goes back to RUNNING."""


class Job(msgspec.Struct, kw_only=True):
    """One job. Times are microseconds since the epoch; `usage` is what the account would pay for.

    `landed` is False for a create whose answer was lost and that only takes effect at `created_us`.
    """

    sequence: int
    id: str
    location: str
    display_name: str
    model: str
    input_uris: list[str]
    output_prefix: str
    created_us: int
    updated_us: int
    labels: dict[str, str] = {}
    state: str = PENDING
    landed: bool = True
    held: bool = False
    started_us: int | None = None
    ended_us: int | None = None
    cancelled_us: int | None = None
    output_directory: str | None = None
    error: dict[str, Any] | None = None
    lines: int | None = None
    successful: int = 0
    failed: int = 0
    incomplete: int = 0
    usage: dict[str, int] = {}


def shown(job: Job, project_number: str, then: Then | None = None) -> dict[str, Any]:
    """The resource: camelCase, int64 as text, zero counts and unset members absent.

    A rule may have another state or other counts told than the true ones.
    """
    state = _told_state(job, then)
    body: dict[str, Any] = {
        "name": resource_name(job, project_number),
        "displayName": job.display_name,
        "model": job.model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": job.input_uris}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": job.output_prefix},
        },
        "state": state,
        "createTime": rfc3339(job.created_us),
        "updateTime": rfc3339(job.updated_us),
        "modelVersionId": "1",
    }
    if job.labels:
        body["labels"] = job.labels
    if job.started_us is not None:
        body["startTime"] = rfc3339(job.started_us)
    if job.ended_us is not None:
        body["endTime"] = rfc3339(job.ended_us)
    if job.output_directory is not None:
        body["outputInfo"] = {"gcsOutputDirectory": job.output_directory}
    counts = {
        "successfulCount": job.successful,
        "failedCount": job.failed,
        "incompleteCount": job.incomplete,
    }
    stats = {name: str(count) for name, count in counts.items() if count}
    if then is not None and then.stats is not None:
        stats = then.stats
    if stats:
        body["completionStats"] = stats
    if job.error is not None:
        body["error"] = job.error
    return body


def _told_state(job: Job, then: Then | None) -> str:
    if then is None:
        return job.state
    if then.backwards:
        return _BEFORE.get(job.state, RUNNING)
    return then.state or job.state


def subject_of(job: Job, *, is_known: bool = False) -> Subject:
    """What fault rules may ask about a job."""
    return Subject(
        display_name=job.display_name, state=job.state, number=job.sequence, is_known=is_known
    )


def resource_name(job: Job, project_number: str) -> str:
    """The name carries the project's number, whatever the caller wrote."""
    return f"projects/{project_number}/locations/{job.location}/batchPredictionJobs/{job.id}"
