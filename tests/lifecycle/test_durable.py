"""durable: the real engine, one process at a time, over fakes at the ports."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from dbos import DBOS, WorkflowHandleAsync
from tests.fake_clock import START
from tests.lifecycle.fakes import NAME, PENDING, Create, FakeProvider, World, input_of, row_of
from tests.postgres import PostgresServer

from penstock.blobs.spool import Spool
from penstock.core.job import Job, JobId, OrgId
from penstock.core.state import JobState
from penstock.errors import DatabaseUnavailable
from penstock.lifecycle.accept import Phase
from penstock.lifecycle.durable import APPLICATION_VERSION, STEPS, Engine, workflow_id
from penstock.lifecycle.ports import CancelWatch
from penstock.lifecycle.turns import Slots
from penstock.providers.provider import NewBatch, ProviderJob
from penstock.settings import Timing, build
from penstock.store.jobs import Finish, Jobs
from penstock.store.location import DATABASE_FILE, Location, location_of
from penstock.store.postgres import ENGINE_SCHEMA
from penstock.store.store import Store, engine_database

SLOTS = {
    Phase.PREPARE: Slots(whole=2, each=2),
    Phase.RUN: Slots(whole=10, each=8),
    Phase.COLLECT: Slots(whole=1, each=1),
}
TIMING = Timing(
    poll_seconds_min=0.01,
    poll_seconds_max=0.01,
    retry_seconds_min=0.01,
    stage_seconds=0.02,
    cancel_check_seconds=0.02,
    heartbeat_seconds=0.05,
)
PATIENCE_SECONDS = 30.0


class Leaping:
    """The machine's clock, which a test can move forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Watched(Jobs):
    """Jobs that tell when something of interest was written."""

    def __init__(self, engine: Any, audit: Any) -> None:  # noqa: ANN401  # what Jobs takes
        super().__init__(engine, audit)
        self.ended = asyncio.Event()
        self.failed = asyncio.Event()

    async def finish(
        self, job_id: JobId, at: float, finish: Finish, *, only_attempt: int | None = None
    ) -> bool:
        """Write, then tell."""
        moved = await super().finish(job_id, at, finish, only_attempt=only_attempt)
        self.ended.set()
        return moved

    async def note(
        self,
        job_id: JobId,
        at: float,
        *,
        only_from: JobState | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        """Write, then tell of internal errors."""
        noted = await super().note(job_id, at, only_from=only_from, **fields)
        if "Internal error" in fields.get("status_detail", ""):
            self.failed.set()
        return noted


class Answering(FakeProvider):
    """A provider that ends every job at once and leaves an output behind."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.bucket)
        self._answers = world.bucket
        self.errors: list[Exception] = []
        self.asked = asyncio.Event()
        self.silent = False

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """Raise what the test wants, once each."""
        if self.errors:
            raise self.errors.pop()
        return await super().find(label, location)

    async def get(self, name: str) -> ProviderJob | None:
        """Write the rows of a job and say that it is done, or hold it."""
        job = await super().get(name)
        self.asked.set()
        if job is None or self.silent:
            return job
        batch = self.made[0].batch
        folder = f"{batch.output_prefix}/x".removeprefix("gs://fake/")
        rows = [row_of(JobId(batch.label), number, f"t{number}") for number in (2, 1)]
        self._answers.objects[f"{folder}/predictions.jsonl"] = b"\n".join(rows)
        return msgspec.structs.replace(
            job, state="JOB_STATE_SUCCEEDED", output_folder=f"gs://fake/{folder}"
        )


class Machine:
    """Everything of one server but its API; `boot` and `halt` it as often as you like."""

    def __init__(self, world: World, store: Store, location: Location) -> None:
        self.world = world
        self.store = store
        self.jobs = Watched(store._engine, store.audit)
        world.jobs = self.jobs
        self.clock = Leaping()
        self.provider = Answering(world)
        self.timing = TIMING
        self.slots = SLOTS
        self.kind: type[Engine] = Engine
        self._location = location
        self._engine: Engine | None = None
        self._database: sa.Engine | None = None

    async def boot(self, *, alone: bool = True) -> Engine:
        """Start a process."""
        watch = CancelWatch(self.jobs, self.clock, TIMING.cancel_check_seconds)
        ports = self.world.ports(provider=self.provider, alarm=watch, timing=self.timing)
        database = engine_database(self._location)
        engine = self.kind(
            msgspec.structs.replace(ports, clock=self.clock),
            self.store.workers,
            watch,
            database,
            self.slots,
        )
        await engine.begin(alone=alone)
        self._engine, self._database = engine, database
        return engine

    async def halt(self) -> None:
        """End the process."""
        if self._engine is not None:
            await self._engine.end()
        if self._database is not None:
            self._database.dispose()
        self._engine = self._database = None

    async def accept(self) -> Job:
        """Commit a job of two lines."""
        return await self.world.with_input(
            input_of(["t1", "t2"]), created_at=self.clock.now(), updated_at=self.clock.now()
        )

    async def until(self, event: asyncio.Event) -> None:
        """Wait for something to happen."""
        await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the engine's database, or change it."""
        engine = engine_database(self._location)
        with engine.begin() as connection:
            if not isinstance(self._location, Path):
                connection.execute(sa.text(f"SET search_path = {ENGINE_SCHEMA}"))
            found = [tuple(row) for row in connection.execute(sa.text(query))]
        engine.dispose()
        return found


@pytest.fixture(scope="session")
def engine_template(postgres_server: PostgresServer, postgres_template: str) -> str:
    """A database with the tables of the engine, too: making them takes a hundred transactions."""
    name = postgres_server.create_database(postgres_template)
    DBOS.migrate(postgres_server.url(name), schema=ENGINE_SCHEMA)
    return name


@pytest.fixture
def on_server(postgres_server: PostgresServer, engine_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with all tables."""
    name = postgres_server.create_database(engine_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Each test of an engine runs on both databases."""
    if request.param == "postgres":
        return location_of(build({"database_url": request.getfixturevalue("on_server")}))
    path = tmp_path / DATABASE_FILE
    path.write_bytes(request.getfixturevalue("template_database"))
    return path


@pytest.fixture
async def machine(
    location: Location, spool: Spool, new_job: Callable[..., Job]
) -> AsyncIterator[Machine]:
    """A machine that is down at the start, and down again at the end."""
    store = Store.open(location)
    await store.tenants.ensure_org(OrgId("acme"), "acme", START)
    await store.tenants.ensure_user("acme-user", OrgId("acme"), "owner", START)
    made = Machine(World(store.jobs, spool, new_job), store, location)
    yield made
    await made.halt()
    await store.close()


async def test_what_is_closed_after_the_engine_has_threads(machine: Machine) -> None:
    """The engine takes its threads along, which had become those of the loop; others still work."""
    job = await machine.accept()
    await machine.boot()
    await machine.until(machine.jobs.ended)
    await machine.halt()
    assert await asyncio.to_thread(len, [job]) == 1


async def test_a_job_runs_through_the_three_workflows(machine: Machine) -> None:
    """From the committed row to the output, each phase as one workflow of its own id."""
    engine = await machine.boot()
    job = await machine.accept()
    engine.nudge()
    await machine.until(machine.jobs.ended)
    last: WorkflowHandleAsync[None] = await DBOS.retrieve_workflow_async(
        workflow_id(Phase.COLLECT, job.id, 0)
    )
    await last.get_result(polling_interval_sec=0.01)
    after = await machine.world.now(job)
    assert after.state is JobState.SUCCEEDED
    (output,) = machine.world.outputs(job)
    assert len(output.read_bytes().splitlines()) == 2
    found = machine.rows("SELECT workflow_uuid, status FROM workflow_status ORDER BY created_at")
    assert found == [(workflow_id(phase, job.id, 0), "SUCCESS") for phase in Phase]


async def test_nothing_is_pickled(machine: Machine) -> None:
    """What the engine stores is JSON of a string and a number, so an upgrade can read it."""
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.jobs.ended)
    inputs = machine.rows("SELECT inputs FROM workflow_input")
    assert [msgspec.json.decode(row[0])["positionalArgs"] for row in inputs] == [[job.id, 0]] * 3
    outputs = machine.rows("SELECT output FROM operation_outputs WHERE output IS NOT NULL")
    assert {msgspec.json.decode(row[0]) for row in outputs} <= {"run", "collect", "nothing"}
    formats = machine.rows("SELECT DISTINCT serialization FROM workflow_status")
    assert formats == [("portable_json",)]


async def test_what_an_older_version_recorded_is_gone_on_with(machine: Machine) -> None:
    """It recorded each step with nothing, then what follows; that workflow ends its job, too."""
    machine.provider.silent = True
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    await machine.halt()
    run = workflow_id(Phase.RUN, job.id, 0)
    machine.rows(
        "INSERT INTO operation_outputs (workflow_uuid, function_id, function_name, output, "  # noqa: S608
        f"serialization) VALUES ('{run}', 1, 'submit', 'null', 'portable_json') RETURNING 1"
    )
    machine.provider.silent = False
    await machine.boot()
    await machine.until(machine.jobs.ended)
    assert (await machine.world.now(job)).state is JobState.SUCCEEDED
    found = machine.rows(
        "SELECT function_id, function_name FROM operation_outputs "  # noqa: S608  # ours
        f"WHERE workflow_uuid = '{run}' ORDER BY function_id"
    )
    assert found == [(1, "submit"), (2, "wait"), (3, "following")]
    assert len(machine.provider.posts) == 1


async def test_the_version_never_changes(machine: Machine) -> None:
    """A workflow belongs to the version that began it; ours is one word for ever."""
    assert APPLICATION_VERSION == "1"
    await machine.boot()
    await machine.accept()
    await machine.until(machine.jobs.ended)
    found = machine.rows("SELECT DISTINCT application_version FROM workflow_status")
    assert found == [("1",)]


async def test_a_step_that_raises_is_visible_and_run_again(machine: Machine) -> None:
    """The job says what happened, and a workflow with the next run number takes it to its end."""
    machine.provider.errors.append(RuntimeError("a bug"))
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.jobs.failed)
    detail = (await machine.world.now(job)).status_detail
    assert detail == "Internal error in submit: RuntimeError. It is tried again."
    machine.clock.ahead += Timing().doubt_seconds + 1
    await machine.until(machine.jobs.ended)
    after = await machine.world.now(job)
    assert (after.state, after.run) == (JobState.SUCCEEDED, 1)
    assert ("restarted", "the run workflow had died") in await machine.jobs.events(job.id)


async def test_the_next_process_takes_over_what_the_last_one_left(machine: Machine) -> None:
    """A job that waits at the provider is watched on after a restart, and not created again."""
    machine.provider.silent = True
    first = await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    await machine.halt()
    assert (await machine.world.now(job)).state is JobState.RUNNING
    machine.provider.silent = False
    second = await machine.boot()
    await machine.until(machine.jobs.ended)
    assert (await machine.world.now(job)).state is JobState.SUCCEEDED
    assert len(machine.provider.posts) == 1
    assert first.executor_id != second.executor_id


async def test_an_ended_engine_does_nothing_more(machine: Machine) -> None:
    """After the end no step and no loop goes on behind the back of whoever closes the store."""
    machine.provider.silent = True
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    await machine.halt()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not machine.jobs.failed.is_set()
    left = machine.rows("SELECT workflow_uuid FROM workflow_status WHERE status = 'PENDING'")
    assert left == [(workflow_id(Phase.RUN, job.id, 0),)]


async def test_recovery_takes_only_the_named_executors_workflows(machine: Machine) -> None:
    """The private call that the reaper rests on exists and is conditional on the owner."""
    assert list(signature(DBOS._recover_pending_workflows).parameters) == ["executor_ids"]
    machine.provider.silent = True
    engine = await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    run = workflow_id(Phase.RUN, job.id, 0)
    assert await engine.take_over("somebody-else") == 0
    owner = f"SELECT executor_id FROM workflow_status WHERE workflow_uuid = '{run}'"  # noqa: S608
    assert machine.rows(owner) == [(engine.executor_id,)]


async def test_a_live_workflow_is_not_dead_and_an_ended_one_is(machine: Machine) -> None:
    """The question that the stager asks is answered by the engine's own table."""
    machine.provider.silent = True
    engine = await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    assert not await engine.is_dead(Phase.RUN, job.id, 0)
    assert not await engine.is_dead(Phase.COLLECT, job.id, 0)
    assert await engine.is_dead(Phase.PREPARE, job.id, 0)


async def test_a_workflow_that_was_taken_and_not_begun_is_dead(machine: Machine) -> None:
    """Ours by its row, and run by nobody at two looks: the database failed when it was to begin.

    Another executor's is that one's business, and one that runs is alive at any number of looks.
    """
    machine.provider.silent = True
    engine = await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    for owner, dead in (("another one", [False, False]), (engine.executor_id, [False, True])):
        machine.rows(
            f"UPDATE workflow_status SET status = 'PENDING', executor_id = '{owner}' "  # noqa: S608  # ours
            f"WHERE workflow_uuid = '{workflow_id(Phase.PREPARE, job.id, 0)}' RETURNING 1"
        )
        assert [await engine.is_dead(Phase.PREPARE, job.id, 0) for _ in range(2)] == dead
    assert [await engine.is_dead(Phase.RUN, job.id, 0) for _ in range(2)] == [False, False]


async def test_starting_a_workflow_twice_is_nothing(machine: Machine) -> None:
    """The deterministic id makes the second start a no-op."""
    machine.provider.silent = True
    engine = await machine.boot()
    job = await machine.accept()
    await machine.until(machine.provider.asked)
    await engine.start(Phase.RUN, job.id, 0, job.org_id, job.priority)
    found = machine.rows("SELECT count(*) FROM workflow_status")
    assert found == [(2,)]
    assert len(machine.provider.posts) == 1


def test_every_phase_has_its_steps() -> None:
    """The workflows are the four steps in their order."""
    names = {phase: [step.__name__ for step in steps] for phase, steps in STEPS.items()}
    assert names == {
        Phase.PREPARE: ["prepare"],
        Phase.RUN: ["submit", "wait"],
        Phase.COLLECT: ["collect"],
    }


@pytest.mark.parametrize("alone", [True, False])
async def test_only_who_may_have_company_shows_signs_of_life(
    machine: Machine, *, alone: bool
) -> None:
    """The heartbeat runs where others could take over, and costs no commit where nobody can."""
    await machine.boot(alone=alone)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert ("reaper" in names) is not alone
    assert "stager" in names


async def test_a_step_waits_for_the_database(machine: Machine) -> None:
    """While it is down a step is tried again in place; its workflow does not die of it."""
    machine.provider.errors += [DatabaseUnavailable("It is down."), DatabaseUnavailable("Still.")]
    await machine.boot()
    job = await machine.accept()
    await machine.until(machine.jobs.ended)
    after = await machine.world.now(job)
    assert (after.state, after.run) == (JobState.SUCCEEDED, 0)
    assert not machine.jobs.failed.is_set()


# -- a process that freezes ----------------------------------------------------------------------

TABLES = ("jobs", "attempts", "events", "ledger")
ENGINE_TABLES = ("workflow_status", "operation_outputs", "workflow_input", "workflow_events")


def everything(machine: Machine) -> list[tuple[Any, ...]]:
    """All rows of our tables and the engine's, but for the heartbeats."""
    names = [f"public.{name}" for name in TABLES] + list(ENGINE_TABLES)
    return [
        (name, *row)
        for name in names
        for row in machine.rows(f"SELECT * FROM {name} ORDER BY 1, 2")  # noqa: S608  # from above
    ]


async def heard(stream: asyncio.StreamReader, words: str) -> None:
    """Read lines until one has the words in it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while words not in (await stream.readline()).decode():
            assert not stream.at_eof(), f"it ended without saying: {words}"


@pytest.mark.parametrize("location", ["postgres"], indirect=True)
async def test_a_frozen_engine_that_wakes_up_writes_nothing(
    machine: Machine, on_server: str, tmp_path: Path
) -> None:
    """Its work is taken over and ended elsewhere; back again, it leaves every row as it is."""
    job = await machine.world.with_input(
        input_of(["t1", "t2"]),
        state="running",
        attempt=1,
        provider_job=NAME,
        provider_state=PENDING,
        created_at=machine.clock.now(),
        updated_at=machine.clock.now(),
    )
    frozen = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.lifecycle.frozen_engine",
        on_server,
        str(tmp_path / "data"),
        cwd=Path(__file__).parents[2],
        stdout=PIPE,
        stderr=PIPE,
    )
    assert frozen.stdout is not None
    assert frozen.stderr is not None
    try:
        await heard(frozen.stdout, "asked")
        frozen.send_signal(signal.SIGSTOP)
        machine.provider.land(batch_of(job), Create())
        machine.timing = msgspec.structs.replace(TIMING, worker_lost_seconds=0.5)
        await machine.boot(alone=False)
        await machine.until(machine.jobs.ended)
        last: WorkflowHandleAsync[None] = await DBOS.retrieve_workflow_async(
            workflow_id(Phase.COLLECT, job.id, 0)
        )
        await last.get_result(polling_interval_sec=0.01)
        before = everything(machine)
        frozen.send_signal(signal.SIGCONT)
        await heard(frozen.stderr, "no longer owned by this execution")
        assert everything(machine) == before
    finally:
        frozen.kill()
        await frozen.communicate()
    after = await machine.world.now(job)
    assert (after.state, after.provider_state) == (JobState.SUCCEEDED, "JOB_STATE_SUCCEEDED")


def batch_of(job: Job) -> NewBatch:
    """What the provider was once asked for."""
    return NewBatch(
        model=job.model,
        location="global",
        display_name=job.id,
        label=job.id,
        input_uri="gs://fake/input.jsonl",
        output_prefix=f"gs://fake/penstock/{job.id}/a1",
    )
