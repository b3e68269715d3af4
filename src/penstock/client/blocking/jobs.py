# Made from penstock/client/aio/jobs.py by tools/make_blocking.py; edit that one.

"""The jobs of the key's organisation: `client.jobs.submit(…)` gives a handle on a new one."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Unpack

from penstock.client.blocking.api import OUTAGE_SECONDS_MAX, POLL_GROWTH, POLL_SECONDS_MAX, Api
from penstock.client.blocking.io import call
from penstock.client.blocking.job import Job
from penstock.client.errors import ConnectionFailed, LimitReached, ServerFailed
from penstock.client.options import Found, JobOptions, submit_options
from penstock.client.part import Progress
from penstock.client.records import fits, still_running
from penstock.client.sources import Source, readable

PAGE_JOBS = 100
"""What is asked for at once; a server with smaller pages gives fewer."""

AUTO = "auto"


class Jobs:
    """Submits jobs, and finds them again."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def submit(
        self,
        source: Source,
        *,
        model: str,
        idempotency_key: str = AUTO,
        on_progress: Progress | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Send requests, and return a handle on the job, which the server then has durably.

        `source` is the path of a JSONL file, an open one, its bytes, requests one by one, or a
        frame with the columns `request` or `prompt`, and `key`. Requests one by one are
        dictionaries in the form of a line, plain requests, or texts, which are prompts; they lie in
        a temporary file until they are sent, and those without a key get the number of their line.

        Nothing is sent twice into two jobs: large files go on where they were cut, small ones have
        an idempotency key, made for this call unless one is given; with a key of your own the same
        submission is the same job for a week, also from another process. `options` are those of
        `JobOptions`: `name`, `labels`, `max_cost` in dollars, `retry`, `priority`, `on_invalid`,
        `deduplicate` and `shards`.

        Raises `InputInvalid` with every bad line's place when lines are wrong, and `LimitReached`,
        whose `quota` says which one, when the organisation may not have more.
        """
        with call(readable, source) as file:
            record = self._api.submit(
                file,
                model=model,
                on_progress=on_progress,
                priority=options.get("priority"),
                idempotency_key=None if idempotency_key == AUTO else idempotency_key,
                **submit_options(options),
            )
        return Job(self._api, record)

    def get(self, job_id: str) -> Job:
        """Return a handle on a job by its id, from any process on any day."""
        return Job(self._api, self._api.get(job_id))

    def list(self, *, status: str | None = None, **found: Unpack[Found]) -> Iterator[Job]:
        """Yield jobs, newest first: of a status, with a name, with all of these `labels`.

        `name_prefix` is how a name begins, `prefix` how an id does.
        """
        cursor = None
        while True:
            page = self._api.list(PAGE_JOBS, cursor=cursor, status=status, **found)
            for record in page.requests:
                # A server from before jobs had names passes over the question.
                if fits(record, found):
                    yield Job(self._api, record)
            cursor = page.next_cursor
            if cursor is None:
                return

    def as_completed(
        self,
        jobs: Iterable[Job],
        *,
        timeout_seconds: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> Iterator[Job]:
        """Yield jobs as they end, however they do; look at `status`, or call `wait` of each.

        Raises `StillRunning` when the time is over; the jobs themselves go on.
        """
        open_jobs = list_of(jobs)
        started = answered = now()
        pause = 1.0
        while open_jobs:
            for job in list_of(open_jobs):
                try:
                    job.refresh()
                    answered = now()
                except (ConnectionFailed, ServerFailed, LimitReached):
                    if now() - answered > OUTAGE_SECONDS_MAX:
                        raise
                if job.done:
                    open_jobs.remove(job)
                    pause = 1.0
                    yield job
            if not open_jobs:
                return
            left = None if timeout_seconds is None else timeout_seconds - (now() - started)
            if left is not None and left <= 0:
                raise still_running(open_jobs[0].record, timeout_seconds)
            self._api.wire.sleep(pause if left is None else min(pause, left))
            pause = min(pause * POLL_GROWTH, POLL_SECONDS_MAX)

    def wait_all(
        self, jobs: Sequence[Job], *, timeout_seconds: float | None = None
    ) -> Sequence[Job]:
        """Wait until all have ended, however they did, and return them as they were given."""
        for _ in self.as_completed(jobs, timeout_seconds=timeout_seconds):
            pass
        return jobs


def list_of(jobs: Iterable[Job]) -> list[Job]:
    """Return them as a list, which is also the name of a method above."""
    return list(jobs)
