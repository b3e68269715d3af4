"""accept: every open job gets its workflow once, and a new one if that dies."""

import asyncio
import itertools

import pytest
from tests.fake_clock import START
from tests.lifecycle.fakes import World

from penstock.core.job import JobId, OrgId
from penstock.core.state import TERMINAL, JobState
from penstock.lifecycle.accept import AHEAD_MAX, PHASES, STARTS_MAX, Phase, Stager
from penstock.lifecycle.ports import Ports
from penstock.settings import Timing
from penstock.store.store import Store

Started = tuple[Phase, JobId, int]


class FakeWorkflows:
    """An engine that starts nothing and knows who is dead."""

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.places: list[tuple[str, int]] = []
        self.dead: set[Started] = set()
        self.asked: list[Started] = []
        self.failures = 0
        self.on_start = asyncio.Event()

    async def start(
        self, phase: Phase, job_id: JobId, run: int, org_id: OrgId, priority: int
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is gone")
        self.started.append((phase, job_id, run))
        self.places.append((org_id, priority))
        self.on_start.set()

    async def is_dead(self, phase: Phase, job_id: JobId, run: int) -> bool:
        self.asked.append((phase, job_id, run))
        return (phase, job_id, run) in self.dead


class Standing:
    """A clock that stands: whoever sleeps on it is never woken."""

    def __init__(self, now: float) -> None:
        self._now = now
        self.sleeping = asyncio.Event()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        assert seconds == 1.0
        self.sleeping.set()
        await asyncio.Event().wait()


def standing(ports: Ports, clock: Standing) -> Ports:
    """Return the ports with that clock."""
    return Ports(
        **{name: getattr(ports, name) for name in ports.__struct_fields__} | {"clock": clock}
    )


def test_every_open_state_has_its_phase() -> None:
    """No open state is without a workflow, no ended one has one."""
    assert set(PHASES) == set(JobState) - TERMINAL


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("accepted", Phase.PREPARE),
        ("prepared", Phase.RUN),
        ("submitting", Phase.RUN),
        ("collecting", Phase.COLLECT),
    ],
)
async def test_an_open_job_is_started_once(world: World, state: str, phase: Phase) -> None:
    """However often the loop looks, one workflow is started for a state."""
    job = await world.job(state=state, provider_job="p")
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    for _ in range(3):
        await stager.look()
    assert workflows.started == [(phase, job.id, 0)]


async def test_ended_jobs_are_left_alone(world: World) -> None:
    """A terminal job starts nothing."""
    await world.job(state="succeeded", finished_at=world.clock.now())
    workflows = FakeWorkflows()
    await Stager(world.ports(), workflows).look()
    assert workflows.started == []


async def test_a_dead_workflow_is_started_with_the_next_run(world: World) -> None:
    """After the time of doubt the row counts one more run, and the next look starts it."""
    job = await world.job()
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    await stager.look()
    workflows.dead.add((Phase.PREPARE, job.id, 0))
    world.clock.advance(Timing().doubt_seconds + 1)
    await stager.look()
    await stager.look()
    assert workflows.started == [(Phase.PREPARE, job.id, run) for run in (0, 1)]
    assert ("restarted", "the prepare workflow had died") in await world.jobs.events(job.id)


async def test_a_workflow_that_was_done_meanwhile_is_not_started_anew(world: World) -> None:
    """Between the look at the job and the look at its workflow both moved on; one is enough."""
    job = await world.job()

    class Finishing(FakeWorkflows):
        async def is_dead(self, phase: Phase, job_id: JobId, run: int) -> bool:
            await world.jobs.move(job_id, JobState.PREPARED, world.clock.now())
            return await super().is_dead(phase, job_id, run)

    workflows = Finishing()
    workflows.dead.add((Phase.PREPARE, job.id, 0))
    stager = Stager(world.ports(), workflows)
    await stager.look()
    world.clock.advance(Timing().doubt_seconds + 1)
    await stager.look()
    assert (await world.now(job)).run == 0


async def test_a_fresh_job_is_not_doubted(world: World) -> None:
    """A job that changed lately is not asked about."""
    await world.job()
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    for _ in range(2):
        await stager.look()
    world.clock.advance(Timing().doubt_seconds)
    await stager.look()
    assert workflows.asked == []


async def test_a_living_workflow_is_left_alone(world: World) -> None:
    """An old job whose workflow lives is asked about, and not started again."""
    job = await world.job()
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    await stager.look()
    world.clock.advance(Timing().doubt_seconds + 1)
    await stager.look()
    assert workflows.asked == [(Phase.PREPARE, job.id, 0)]
    assert ((await world.now(job)).run, len(workflows.started)) == (0, 1)


async def test_a_quiet_job_is_asked_after_once_a_while(world: World) -> None:
    """A job without news costs one question per `doubt_seconds`, not one per look."""
    await world.job()
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    for _ in range(60):
        await stager.look()
        world.clock.advance(1)
    assert len(workflows.asked) == 3


async def test_two_loops_count_a_death_once(world: World) -> None:
    """The second process that finds the same death changes nothing."""
    job = await world.job()
    pair = [FakeWorkflows(), FakeWorkflows()]
    stagers = [Stager(world.ports(), one) for one in pair]
    for stager, one in zip(stagers, pair, strict=True):
        await stager.look()
        one.dead.add((Phase.PREPARE, job.id, 0))
    world.clock.advance(Timing().doubt_seconds + 1)
    await asyncio.gather(*[stager.look() for stager in stagers])
    assert (await world.now(job)).run == 1
    assert (await world.kinds(job)).count("restarted") == 1


async def test_the_loop_outlives_an_error(world: World) -> None:
    """A start that fails is tried again at the next look."""
    job = await world.job()
    workflows = FakeWorkflows()
    workflows.failures = 2
    task = asyncio.create_task(Stager(world.ports(), workflows).run())
    await workflows.on_start.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert workflows.started == [(Phase.PREPARE, job.id, 0)]
    assert world.clock.slept[:2] == [1.0, 1.0]


async def test_a_nudge_wakes_the_loop(world: World) -> None:
    """While the clock stands, a job that was just accepted is found by the nudge alone."""
    workflows = FakeWorkflows()
    clock = Standing(world.clock.now())
    stager = Stager(standing(world.ports(), clock), workflows)
    task = asyncio.create_task(stager.run())
    await clock.sleeping.wait()
    job = await world.job()
    stager.nudge()
    await workflows.on_start.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert workflows.started == [(Phase.PREPARE, job.id, 0)]


async def test_the_oldest_change_is_looked_at_first(world: World) -> None:
    """Jobs are started in the order in which they last changed."""
    order = [await world.job(updated_at=world.clock.now() - age) for age in (1.0, 3.0, 2.0)]
    workflows = FakeWorkflows()
    await Stager(world.ports(), workflows).look()
    expected = [order[1].id, order[2].id, order[0].id]
    assert [job_id for _, job_id, _ in workflows.started] == expected
    assert all(first != second for first, second in itertools.pairwise(expected))


async def test_a_job_starts_in_the_place_of_its_organisation(world: World) -> None:
    """The engine is told whose job it is and how soon its owner wants it."""
    await world.job(priority=7)
    workflows = FakeWorkflows()
    await Stager(world.ports(), workflows).look()
    assert workflows.places == [("acme", 7)]


async def test_no_organisation_waits_until_all_of_another_are_started(
    world: World, quick_store: Store
) -> None:
    """One job of each is started before the second of any, and the lowest number first."""
    await quick_store.tenants.ensure_org(OrgId("rival"), "rival", START)
    await quick_store.tenants.ensure_user("rival-user", OrgId("rival"), "owner", START)
    theirs = {"org_id": OrgId("rival"), "user_id": "rival-user"}
    first, second = [await world.job(updated_at=START + age) for age in (1, 2)]
    soon = await world.job(updated_at=START + 9, priority=1)
    one, two = [await world.job(updated_at=START + age, **theirs) for age in (20, 21)]
    workflows = FakeWorkflows()
    await Stager(world.ports(), workflows).look()
    started = [job_id for _, job_id, _ in workflows.started]
    assert started == [soon.id, one.id, first.id, two.id, second.id]


async def test_a_long_line_is_started_in_pieces(world: World) -> None:
    """After some starts the loop looks again at once, so that whoever came meanwhile is seen."""
    for _ in range(STARTS_MAX + 1):
        await world.job()
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    await stager.look()
    assert (len(workflows.started), stager._wake.is_set()) == (STARTS_MAX, True)
    stager._wake.clear()
    await stager.look()
    assert (len(set(workflows.started)), stager._wake.is_set()) == (STARTS_MAX + 1, False)


async def test_the_engine_is_told_of_so_many_of_one_organisation(world: World) -> None:
    """The others wait in our table until one of these is prepared; what is further on does not."""
    jobs = [await world.job() for _ in range(AHEAD_MAX + 2)]
    workflows = FakeWorkflows()
    stager = Stager(world.ports(), workflows)
    for _ in range(4):
        await stager.look()
    assert [job_id for _, job_id, _ in workflows.started] == [job.id for job in jobs[:AHEAD_MAX]]
    assert workflows.asked == []
    await world.jobs.move(jobs[0].id, JobState.PREPARED, world.clock.now())
    await stager.look()
    assert set(workflows.started[AHEAD_MAX:]) == {
        (Phase.RUN, jobs[0].id, 0),
        (Phase.PREPARE, jobs[AHEAD_MAX].id, 0),
    }
