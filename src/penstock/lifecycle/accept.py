"""Give every open job a workflow: new ones, and those whose workflow died of an error.

The API only commits a row; this loop finds it. It is also the safety net: whatever goes wrong
between a row and its workflow, the next look repairs it, because workflow ids are deterministic and
starting one twice is a no-op.
"""

import asyncio
import logging
from collections import Counter
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from penstock.core.job import JobId, OrgId
from penstock.core.state import JobState
from penstock.fault import fault
from penstock.lifecycle.ports import Ports
from penstock.store.jobs import OpenJob

_log = logging.getLogger(__name__)


class Phase(StrEnum):
    """The workflows of a job, each on its own queue with its own concurrency.

    A queue has a partition for each organisation, with a concurrency of its own.
    """

    PREPARE = "prepare"
    RUN = "run"
    COLLECT = "collect"


PHASES: Final = MappingProxyType(
    {
        JobState.ACCEPTED: Phase.PREPARE,
        JobState.PREPARED: Phase.RUN,
        JobState.SUBMITTING: Phase.RUN,
        JobState.RUNNING: Phase.RUN,
        JobState.COLLECTING: Phase.COLLECT,
    }
)


STARTS_MAX: Final = 16
"""Workflows that are started before the next look. Each takes some milliseconds, and whoever comes
while a thousand of somebody else's are started must not wait for all of them."""


AHEAD_MAX: Final = 64
"""Jobs of one organisation that the engine is told of before they are prepared. The others stay in
our table: to put a thousand there takes half a minute, in which nobody else's could be. It bounds
what one organisation prepares at a time on all workers, and is four times what four workers do."""


class Workflows(Protocol):
    """What the loop asks of the engine."""

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue the workflow; one that exists already stays as it is."""
        ...

    async def is_dead(self, phase: Phase, job_id: JobId, run: int) -> bool:
        """Return whether the workflow has ended, whichever way."""
        ...


class Stager:
    """The loop; `nudge` wakes it before its time."""

    def __init__(self, ports: Ports, workflows: Workflows) -> None:
        self._ports = ports
        self._workflows = workflows
        self._asked_at: dict[tuple[Phase, JobId, int], float] = {}
        self._wake = asyncio.Event()

    def nudge(self) -> None:
        """Look again at once, for example because a job was just accepted."""
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # The loop outlives any error, because every open job depends on it.
                _log.exception("looking for jobs failed; trying again")
            await self._pause()

    async def look(self) -> None:
        """Start what has no workflow, and start anew what lost its workflow to an error."""
        open_jobs = await self._ports.jobs.open_jobs()
        now = self._ports.clock.now()
        doubt_seconds = self._ports.timing.doubt_seconds
        # Forgets what has ended; the time is when the workflow was started or last asked after.
        asked_at: dict[tuple[Phase, JobId, int], float] = {}
        found: list[OpenJob] = []
        ahead: Counter[OrgId] = Counter()
        for job in open_jobs:
            wanted = _wanted(job)
            if wanted not in self._asked_at:
                found.append(job)
                continue
            asked_at[wanted] = self._asked_at[wanted]
            ahead[job.org_id] += job.state is JobState.ACCEPTED
            if now > max(job.updated_at, asked_at[wanted]) + doubt_seconds:
                asked_at[wanted] = now
                await self._doubt(job, now)
        due = _due(_by_turns(found), ahead)
        for job in due[:STARTS_MAX]:
            fault("stage.found")
            await self._workflows.start(*_wanted(job), job.org_id, job.priority)
            fault("stage.enqueued")
            asked_at[_wanted(job)] = now
        self._asked_at = asked_at
        if len(due) > STARTS_MAX:
            self.nudge()

    async def _doubt(self, job: OpenJob, now: float) -> None:
        phase = PHASES[job.state]
        if await self._workflows.is_dead(phase, job.id, job.run):
            _log.warning("the workflow %s of %s died; starting it anew", phase, job.id)
            await self._ports.jobs.next_run(
                job.id, job.run, now, f"the {phase} workflow had died", only_from=job.state
            )

    async def _pause(self) -> None:
        sleep = asyncio.ensure_future(self._ports.clock.sleep(self._ports.timing.stage_seconds))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleep, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
        self._wake.clear()


def _wanted(job: OpenJob) -> tuple[Phase, JobId, int]:
    return PHASES[job.state], job.id, job.run


def _by_turns(jobs: list[OpenJob]) -> list[OpenJob]:
    """Return the first job of each organisation, then the second of each, and so on.

    Within an organisation the lowest number is first, and of these the oldest change.
    """
    before: Counter[OrgId] = Counter()
    turns: list[tuple[int, float, int]] = []
    order = sorted(range(len(jobs)), key=lambda at: jobs[at].priority)
    for at in order:
        org_id = jobs[at].org_id
        turns.append((before[org_id], jobs[at].updated_at, at))
        before[org_id] += 1
    return [jobs[at] for _, _, at in sorted(turns)]


def _due(jobs: list[OpenJob], ahead: Counter[OrgId]) -> list[OpenJob]:
    """Return those that are to start now, where so many wait to be prepared already.

    The new ones first: what is further on has its workflow already, unless something went wrong.
    """
    due = []
    for job in jobs:
        if job.state is JobState.ACCEPTED:
            if ahead[job.org_id] >= AHEAD_MAX:
                continue
            ahead[job.org_id] += 1
        due.append(job)
    return sorted(due, key=lambda job: job.state is not JobState.ACCEPTED)
