"""What a job has so far: have the server look, and find the link to what it saw."""

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from penstock.client.errors import OutputNotReady
from penstock.client.models import JobRecord, Partial
from penstock.client.wire import Wire

LOOKS_MAX: Final = 10
"""How often a first look is asked after: a server looks with its next poll, in a minute at most."""

_PAUSE_SECONDS_MAX: Final = 60
_ACCEPTED: Final = 202
_TAKEN_AT: Final = "X-Penstock-Taken-At"


def await_look(wire: Wire, get: Callable[[str], JobRecord], request_id: str) -> JobRecord:
    """Return a job that has a look or an output; raise `OutputNotReady` if there is neither.

    A newer look is asked for by the same call; whoever wants that comes again a little later.
    """
    path = f"/requests/{quote(request_id, safe='')}/output"
    for _ in range(LOOKS_MAX):
        answer = wire.exchange("HEAD", path, params={"partial": "true"})
        job = get(request_id)
        if answer.status_code != _ACCEPTED:
            return job
        if _TAKEN_AT in answer.headers or job.status != "processing":
            break
        pause = answer.headers.get("Retry-After", "")
        wire.sleep(min(int(pause) if pause.isdigit() else 1, _PAUSE_SECONDS_MAX))
    raise OutputNotReady(
        f"0 of {job.stats.total_count:,} lines so far: {job.request_id} is {job.status}, "
        "and the provider has offered no finished line",
        job=job,
        hint="ask again later; not every job shows lines before its end",
    )


def partial_of(job: JobRecord) -> Partial | None:
    """Return what is known of the newest look at a job that runs."""
    return None if job.outcome is None or job.outcome.output_url else job.outcome.partial
