"""What a job has so far, as the server's answers say it."""

from typing import Final

import httpx2

from penstock.client.errors import OutputNotReady
from penstock.client.models import JobRecord, Partial

LOOKS_MAX: Final = 10
"""How often a first look is asked after: a server looks with its next poll, in a minute at most."""

ACCEPTED: Final = 202
TAKEN_AT: Final = "X-Penstock-Taken-At"

_PAUSE_SECONDS_MAX: Final = 60


def pause_seconds(answer: httpx2.Response) -> float:
    """Return when to ask again."""
    pause = answer.headers.get("Retry-After", "")
    return min(int(pause) if pause.isdigit() else 1, _PAUSE_SECONDS_MAX)


def nothing_yet(job: JobRecord) -> OutputNotReady:
    """Return the error for a job of which no line can be had."""
    return OutputNotReady(
        f"0 of {job.stats.total_count:,} lines so far: {job.request_id} is {job.status}, "
        "and the provider has offered no finished line",
        job=job,
        hint="ask again later; not every job shows lines before its end",
    )


def partial_of(job: JobRecord) -> Partial | None:
    """Return what is known of the newest look at a job that runs."""
    return None if job.outcome is None or job.outcome.output_url else job.outcome.partial
