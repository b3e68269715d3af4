"""The engine: DBOS Transact behind one door. The only module that imports `dbos`.

Why DBOS, its price and how it is contained: docs/decisions/0002 and 0027. In short: three short
workflows a job (`prepare`, `run`, `collect`), chained by deterministic ids; each is one recorded
step, which may run again from its start; the state that matters is in our `jobs` table. A fresh
executor id per start and our own reaper, because the open-source core never takes over a dead
executor's work; a constant application version, because the default is a hash of the code and would
strand running jobs at every upgrade; JSON, never pickle.
"""

import asyncio
import contextvars
import logging
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SetEnqueueOptions,
    SetWorkflowID,
)
from dbos._queue import queue_worker_thread

from penstock.core.job import JobId, OrgId
from penstock.errors import DatabaseUnavailable
from penstock.fault import fault
from penstock.lifecycle.accept import PHASES, Phase, Stager
from penstock.lifecycle.bell import Bell, listen
from penstock.lifecycle.collect import collect
from penstock.lifecycle.ports import Backoff, CancelWatch, Ports
from penstock.lifecycle.prepare import prepare
from penstock.lifecycle.reap import Reaper
from penstock.lifecycle.submit import submit
from penstock.lifecycle.turns import Slots, Turns
from penstock.lifecycle.wait import wait
from penstock.store.postgres import ENGINE_SCHEMA
from penstock.store.workers import Workers

T = TypeVar("T")

_log = logging.getLogger(__name__)

APPLICATION_VERSION: Final = "1"
"""Never changed: a workflow belongs to the version that began it. Steps evolve by DBOS.patch()."""

EXECUTOR_THREADS_MAX: Final = 32
"""The engine's default is unbounded; 840 threads were seen on SQLite (reference/engine.md 8)."""

RECOVERIES_MAX: Final = 1_000_000
"""The default of 100 would bury a job that lives through a hundred restarts."""

QUEUE_POLL_SECONDS: Final = 1.0
"""Between looks for what other processes put into the queues; for this one's there is a bell."""

RING_FROM: Final = 2
"""So many workflows at a time, or all slots of an organisation: the end of one of them may be what
another waits for. Who is alone keeps nobody waiting, and a look costs some milliseconds."""

LISTENERS_END_SECONDS: Final = 10.0
"""How long the end waits for a look that goes on, as the engine waits for its own threads."""

OLD_QUEUE_POLL_SECONDS: Final = 5.0
"""Of the queues without partitions: what older versions left there still runs, and so does what
they put there while a rolling upgrade goes on. They are named like the phases."""

BY_TURNS: Final = frozenset({Phase.PREPARE, Phase.COLLECT})
"""The phases with few slots that change hands often. There are too many jobs at the provider to
wait for turns in memory, and a slot there is held for hours."""

ORGS_INSIDE: Final = 16
"""The jobs of so many organisations are taken up at once for a phase that goes by turns; beyond
that lots are drawn, too. A job that waits for its turn costs about 30 KB."""

DATABASE_RETRY_SECONDS_MIN: Final = 0.5
DATABASE_RETRY_SECONDS_MAX: Final = 4.0
"""Between two tries of a step while the database is down; a job goes on soon after it is back."""

Step = Callable[[Ports, JobId], Awaitable[None]]
STEPS: Final[Mapping[Phase, tuple[Step, ...]]] = MappingProxyType(
    {Phase.PREPARE: (prepare,), Phase.RUN: (submit, wait), Phase.COLLECT: (collect,)}
)

NOTHING: Final = "nothing"
"""Follows the last phase."""

_ALIVE: Final = frozenset({"PENDING", "ENQUEUED", "DELAYED"})


class Engine:
    """Runs the workflows of this process; one per process, because DBOS is a singleton."""

    def __init__(
        self,
        ports: Ports,
        workers: Workers,
        watch: CancelWatch,
        system_database: sa.Engine,
        slots: Mapping[Phase, Slots],
    ) -> None:
        self._ports = ports
        self._watch = watch
        self._slots = slots
        self._turns = {phase: Turns(slots[phase]) for phase in BY_TURNS}
        self.executor_id = uuid.uuid4().hex
        self._stager = Stager(ports, self)
        self._reaper = Reaper(workers, ports.clock, ports.timing, self.executor_id, self)
        self._tasks: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[Any]] = set()
        self._workflows: dict[Phase, Callable[[str, int], Any]] = {}
        self._bells = {phase: Bell() for phase in Phase}
        self._listeners: list[threading.Thread] = []
        self._running: dict[Phase, set[str]] = {phase: set() for phase in Phase}
        self._stranded: set[str] = set()
        self._system_database = system_database
        self._has_company = False
        self._dbos: DBOS | None = None

    async def begin(self, *, alone: bool) -> None:
        """Start to work; `alone` says that no other process shares the database."""
        config: DBOSConfig = {
            "name": "penstock",
            # Without its URL, in which a password would stand.
            "system_database_engine": self._system_database,
            "dbos_system_schema": ENGINE_SCHEMA,
            "executor_id": self.executor_id,
            "application_version": APPLICATION_VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "max_executor_threads": EXECUTOR_THREADS_MAX,
            "log_level": "WARNING",
        }
        self._dbos = DBOS(config=config)
        for phase in Phase:
            self._workflows[phase] = self._register(phase)
        self._leave_queues()
        await self._reaper.announce()
        # Launched inside the loop, so that steps run on this loop and share its connections.
        DBOS.launch()
        for phase in Phase:
            await self._listen(phase)
        self._has_company = not alone
        await self._reaper.begin(alone=alone)
        loops = {"stager": self._stager.run(), "cancel watch": self._watch.run()}
        if not alone:
            # Nobody reads the heartbeat of one that is alone, and on SQLite each commit of it holds
            # the readers back until the disk has synced.
            loops["reaper"] = self._reaper.run()
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def end(self) -> None:
        """Stop to work. Workflows stay pending, and another process takes them over at once."""
        fault("stop.begun")
        for bell in self._bells.values():
            bell.set()
        # The engine would leave running steps to themselves, on ports that are closed next.
        ending = [*self._tasks, *self._working]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.to_thread(self._end_threads)
        # The engine had made its threads those of the loop, and they have ended with it; whoever is
        # closed after it has files and processes to wait for.
        own = ThreadPoolExecutor(thread_name_prefix="penstock-end")
        asyncio.get_running_loop().set_default_executor(own)
        if self._has_company:
            await self._reaper.leave()

    def _end_threads(self) -> None:
        for listener in self._listeners:
            listener.join(LISTENERS_END_SECONDS)
        DBOS.destroy(destroy_registry=True)

    def nudge(self) -> None:
        """Look for new jobs at once."""
        self._stager.nudge()

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        """Enqueue the workflow; one that exists already stays as it is."""
        # The engine knows no number below 1.
        place = SetEnqueueOptions(queue_partition_key=org_id, priority=max(priority, 1))
        with SetWorkflowID(workflow_id(phase, job_id, run)), place:
            await DBOS.enqueue_workflow_async(
                queue_name(phase), self._workflows[phase], str(job_id), run
            )
        self._bells[phase].ring()

    async def is_dead(self, phase: Phase, job_id: JobId, run: int) -> bool:
        """Return whether the workflow has ended, whichever way, or will never begin."""
        name = workflow_id(phase, job_id, run)
        status = await DBOS.get_workflow_status_async(name)
        if status is None:
            return False
        if status.status == "PENDING" and status.executor_id == self.executor_id:
            return self._is_stranded(phase, name)
        return status.status not in _ALIVE

    def _is_stranded(self, phase: Phase, name: str) -> bool:
        """Return whether a workflow is ours by its row, and by two looks nobody runs it.

        The engine takes workflows off a queue and then starts them. If the database fails in
        between, it forgets them, and nobody else may have them as long as this process lives.
        Looked at twice, because one that was just taken is about to start.
        """
        if name in self._running[phase]:
            return False
        was_so = name in self._stranded
        self._stranded ^= {name}
        return was_so

    async def take_over(self, executor_id: str) -> int:
        """Run the pending workflows of a dead executor here; return how many."""
        # Private, because the public way (resume_workflow) is not conditional on the owner. A
        # contract test pins its behaviour for every upgrade.
        handles = await asyncio.to_thread(DBOS._recover_pending_workflows, [executor_id])  # noqa: SLF001
        for bell in self._bells.values():
            # They are back in their queues.
            bell.ring()
        return len(handles)

    def _leave_queues(self) -> None:
        """Have the engine's own threads look at the old queues only; ours hear a bell."""
        DBOS.listen_queues([phase.value for phase in Phase])

    async def _listen(self, phase: Phase) -> None:
        slots = self._slots[phase]
        inside = slots.each * ORGS_INSIDE if phase in BY_TURNS else slots.whole
        queue = await DBOS.register_queue_async(
            queue_name(phase),
            worker_concurrency=max(inside, slots.whole),
            partition_worker_concurrency=slots.each,
            polling_interval_sec=QUEUE_POLL_SECONDS,
            on_conflict="always_update",
        )
        await DBOS.register_queue_async(
            phase.value,
            worker_concurrency=slots.whole,
            polling_interval_sec=OLD_QUEUE_POLL_SECONDS,
            on_conflict="always_update",
        )
        # The engine's own loop, which is private, with an event of ours: the engine's own can only
        # be set for good. A contract test pins that it still takes one.
        serve = partial(queue_worker_thread, dbos=cast(DBOS, self._dbos), queue=queue)
        arguments = (self._bells[phase], serve, QUEUE_POLL_SECONDS)
        listener = threading.Thread(
            target=listen, args=arguments, name=f"listener {phase}", daemon=True
        )
        listener.start()
        self._listeners.append(listener)

    def _register(self, phase: Phase) -> Callable[[str, int], Any]:
        async def workflow(job_id: str, run: int) -> None:
            name = workflow_id(phase, JobId(job_id), run)
            task = cast(asyncio.Task[Any], asyncio.current_task())
            # The engine counts its slot as free when all of it has ended, and not sooner.
            task.add_done_callback(lambda _: self._ended(phase, name))
            self._running[phase].add(name)
            self._stranded.discard(name)
            await self._steps(phase, JobId(job_id))

        workflow.__qualname__ = workflow.__name__ = phase.value
        decorated: Callable[[str, int], Any] = DBOS.workflow(
            name=phase.value, max_recovery_attempts=RECOVERIES_MAX
        )(workflow)
        return decorated

    def _ended(self, phase: Phase, name: str) -> None:
        running = self._running[phase]
        if len(running) >= min(self._slots[phase].each, RING_FROM):
            # Somebody may wait for the slot.
            self._bells[phase].ring()
        running.discard(name)

    async def _steps(self, phase: Phase, job_id: JobId) -> None:
        first, *others = STEPS[phase]
        # One record for all: each commits what it did before the next one begins, so after a death
        # those that are done have nothing to do. Older versions recorded the first one alone, under
        # this name and with None, then the others, and what follows.
        following: str | None = await DBOS.run_step_async(
            {"name": first.__name__}, self._whole, phase, str(job_id)
        )
        if following is None:
            for step in others:
                await DBOS.run_step_async(
                    {"name": step.__name__}, self._in_turn, phase, (step,), str(job_id)
                )
            following = await DBOS.run_step_async(
                {"name": "following"}, self._following, str(job_id)
            )
        if following not in {None, NOTHING, phase.value}:
            job = await self._until_it_answers(lambda: self._ports.job(job_id))
            # Not this workflow's run: another round has one of its own.
            start = self.start(Phase(following), job_id, job.run, job.org_id, job.priority)
            # Nobody's child: the engine would look for a record of it, and keep one. A second start
            # is nothing, because of its id.
            await asyncio.create_task(start, context=contextvars.Context())

    async def _whole(self, phase: Phase, job_id: str) -> str:
        """Run all steps of a phase; return what follows."""
        await self._in_turn(phase, STEPS[phase], job_id)
        return await self._following(job_id)

    async def _in_turn(self, phase: Phase, steps: tuple[Step, ...], job_id: str) -> None:
        """Run steps, in their turn where there are turns."""
        if phase not in BY_TURNS:
            await self._all(steps, job_id)
            return
        job = await self._until_it_answers(lambda: self._ports.job(JobId(job_id)))
        task = cast(asyncio.Task[Any], asyncio.current_task())
        # One that waits for its turn is to be ended like one that works.
        self._working.add(task)
        try:
            async with self._turns[phase].take(job.org_id, job.priority):
                await self._all(steps, job_id)
        finally:
            self._working.discard(task)

    async def _all(self, steps: tuple[Step, ...], job_id: str) -> None:
        for step in steps:
            await self._step(step.__name__, step, job_id)

    async def _step(self, name: str, step: Step, job_id: str) -> None:
        """Run one step; an error is visible on the job before the engine records it."""

        async def run() -> None:
            try:
                await step(self._ports, JobId(job_id))
                fault("engine.step_done")
            except DatabaseUnavailable:
                raise
            except Exception as error:
                _log.exception("the step %s of %s failed", name, job_id)
                detail = f"Internal error in {name}: {type(error).__name__}. It is tried again."
                await self._ports.jobs.note(
                    JobId(job_id), self._ports.clock.now(), status_detail=detail
                )
                raise

        await self._until_it_answers(run)

    async def _following(self, job_id: str) -> str:
        job = await self._until_it_answers(lambda: self._ports.job(JobId(job_id)))
        phase = PHASES.get(job.state)
        return NOTHING if phase is None else phase.value

    async def _until_it_answers(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what may be repeated, again and again while the database is down.

        Left to the engine, the error would end the workflow, and its job would wait until the
        stager doubts it. The engine's own tables are down as well, and it waits for them alike.
        """
        task = cast(asyncio.Task[Any], asyncio.current_task())
        self._working.add(task)
        backoff = Backoff(DATABASE_RETRY_SECONDS_MIN, DATABASE_RETRY_SECONDS_MAX)
        try:
            while True:
                try:
                    return await work()
                except DatabaseUnavailable as error:
                    _log.warning("a step waits for the database: %s", error.message)
                    await self._ports.clock.sleep(backoff.failed())
        finally:
            self._working.discard(task)


def workflow_id(phase: Phase, job_id: JobId, run: int) -> str:
    """Return the deterministic id that makes starting a workflow twice a no-op."""
    return f"{phase.value}:{job_id}:{run}"


def queue_name(phase: Phase) -> str:
    """Return the queue with a partition for each organisation.

    Not the name that older versions used: on a queue with partitions the engine never sees what has
    none, and a process of the older version would take the partitions away from all when it starts.
    """
    return f"{phase.value}-by-org"
