"""The durable engine, as `lifecycle/durable` uses it: queues, recorded steps, take-over.

A model of DBOS, because the real one brings its own threads and database. What is ours is real: the
steps, what is done with their errors, which phase follows, the reaper, and the look for jobs
without a workflow.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from tests.simulation.scheduler import Killed
from tests.simulation.worker import Body, BodyClock, StoreDown

from penstock.core.job import JobId, OrgId
from penstock.lifecycle.accept import Phase, Stager
from penstock.lifecycle.durable import NOTHING, STEPS, Engine, workflow_id
from penstock.lifecycle.reap import Reaper

if TYPE_CHECKING:
    from tests.simulation.world import World

STAGE_SECONDS = 15.0
"""Between looks; a running server looks each second, which here would be most of the work."""

_log = logging.getLogger(__name__)


class Workflow(msgspec.Struct, kw_only=True):
    """One row of the engine."""

    phase: Phase
    job_id: JobId
    run: int
    status: str = "ENQUEUED"
    owner: str = ""
    claims: int = 0
    """How often somebody began to run it; the engine's fence."""
    following: str = ""
    """What the recorded step returned; empty until it is recorded."""


class SimEngine:
    """The engine in one process."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._world: World = body.world
        self._ports = body.ports
        self._working: set[asyncio.Task[Any]] = set()
        self._open: set[str] = set()
        self.executor_id = body.name
        self.is_open = False
        """Whether it listens to the queues."""
        body.has_work = lambda: bool(self._open)
        self._clock = BodyClock(body, is_routine=True)
        self._stager = Stager(body.ports, self)
        self._reaper = Reaper(
            cast(Any, body.workers), self._clock, body.ports.timing, body.name, self
        )

    async def live(self) -> None:
        """Be a worker until death."""
        try:
            if not self._world.works_unannounced:
                await self._reaper.announce()
            self.is_open = True
            await self._reaper.begin(alone=False)
        except StoreDown:
            # A server that cannot begin ends, and is started again.
            self._body.die("while it began")
        self._body.create_task(self._reaper.run())
        while True:
            try:
                await self._stager.look()
            except Exception:  # noqa: BLE001  # as `Stager.run` does
                self._world.reach("looking for jobs failed")
            await self._clock.sleep(STAGE_SECONDS)

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue the workflow; one that exists already stays as it is."""
        # Who goes first is a matter of time, and here all orders of events are played.
        del org_id, priority
        await self._body.point("before engine.start")
        name = workflow_id(phase, job_id, run)
        if name not in self._world.workflows:
            self._world.workflows[name] = Workflow(phase=phase, job_id=job_id, run=run)
            self._world.dispatch(name)
        await self._body.point("after engine.start")

    async def is_dead(self, phase: Phase, job_id: JobId, run: int) -> bool:
        """Return whether the workflow has ended."""
        await self._body.point("before engine.is_dead")
        found = self._world.workflows.get(workflow_id(phase, job_id, run))
        return found is not None and found.status in {"SUCCESS", "ERROR"}

    async def take_over(self, executor_id: str) -> int:
        """Put the pending workflows of a dead executor back into their queue."""
        rates = None if self._has_pending(executor_id) else self._body.rates.routine
        await self._body.point("before engine.take_over", rates)
        count = 0
        for name, workflow in self._world.workflows.items():
            if workflow.owner == executor_id and workflow.status == "PENDING":
                workflow.status, workflow.owner = "ENQUEUED", ""
                self._world.dispatch(name)
                count += 1
        if count:
            self._world.reach("work taken over")
            if executor_id in self._world.living():
                self._world.reach("work of a living process taken over")
        await self._body.point("after engine.take_over", rates)
        return count

    def _has_pending(self, executor_id: str) -> bool:
        return any(
            one.owner == executor_id and one.status == "PENDING"
            for one in self._world.workflows.values()
        )

    async def run(self, name: str) -> None:
        """Run a workflow, without its step if that is recorded."""
        workflow = self._world.workflows[name]
        if workflow.owner != self.executor_id or workflow.status != "PENDING":
            # Frozen between the claim and now, and somebody took over.
            return
        workflow.claims += 1
        claim = workflow.claims
        self._open.add(name)
        try:
            status = await self._run(workflow, claim)
        except Killed:
            raise
        except Exception:  # noqa: BLE001  # the engine records it, and the stager starts it anew
            status = "ERROR"
            self._world.reach("workflow died of an error")
        finally:
            self._open.discard(name)
        if workflow.claims == claim and workflow.owner == self.executor_id and status:
            workflow.status = status

    async def _until_it_answers(self, work: Callable[[], Awaitable[Any]]) -> object:
        return await Engine._until_it_answers(cast(Engine, self), work)

    async def _run(self, workflow: Workflow, claim: int) -> str:
        if not workflow.following:
            for each in STEPS[workflow.phase]:
                step = self._world.steps.get(each.__name__, each)
                await Engine._step(cast(Engine, self), each.__name__, step, workflow.job_id)
            following = await Engine._following(cast(Engine, self), workflow.job_id)
            await self._body.point("before engine.record")
            if workflow.claims != claim or workflow.owner != self.executor_id:
                self._world.reach("engine refused the step of a zombie")
                return ""
            workflow.following = following
            await self._body.point("after engine.record")
        following = workflow.following
        if following not in {NOTHING, workflow.phase.value}:
            job = self._world.jobs.rows[workflow.job_id]
            await self.start(
                Phase(following), workflow.job_id, workflow.run, job.org_id, job.priority
            )
        return "SUCCESS"
