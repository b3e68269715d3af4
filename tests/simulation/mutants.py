"""The protocol with one thing wrong at a time; a simulator that misses one of them is broken.

Each mutant replaces one function, constant or order of the real code for one history. Those marked
`was ours` are how the code stood before the simulator found it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, cast
from unittest.mock import patch

import msgspec
import orjson
from tests.simulation.campaign import Change, rounds_and_shards
from tests.simulation.scheduler import Killed
from tests.simulation.vertex import Vertex
from tests.simulation.worker import JobsPort, MemoryPart, SimBlobs
from tests.simulation.world import TIMINGS, World

from penstock.api.jobs import JobDoor
from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT
from penstock.core.job import Attempt, Job, JobId
from penstock.core.state import JobState
from penstock.errors import BlobMissing, ProviderUnclear, ProviderUnreachable
from penstock.lifecycle import reconcile, submit
from penstock.lifecycle.ports import Ports
from penstock.lifecycle.provider_input import request_of
from penstock.providers.provider import NewBatch, ProviderJob
from penstock.store.jobs import Finish

SEEDS_MAX: Final = 4000
"""A mutant that so many seeds do not catch has survived."""


class Mutant(msgspec.Struct, frozen=True):
    """One wrong protocol."""

    name: str
    change: Change
    seed: int = 0
    """The first that caught it when this was written; played first, so that a hunt is short."""

    def seeds(self) -> Iterable[int]:
        """Return the seeds within which it must be caught."""
        return (self.seed, *range(SEEDS_MAX))


def _freezing(change: Change) -> Change:
    """Play a mutant where processes freeze often, nobody settles, and creates are late."""

    @contextlib.contextmanager
    def both(world: World) -> Iterator[None]:
        world.freeze_often()
        world.timing = TIMINGS[0]
        with change(world):
            yield

    return both


def _in_rounds(change: Change) -> Change:
    """Play a mutant where lines are sent again, and processes freeze often."""

    @contextlib.contextmanager
    def both(world: World) -> Iterator[None]:
        with rounds_and_shards(world), _freezing(change)(world):
            yield

    return both


def all_mutants() -> list[Mutant]:
    """Return all of them."""
    return [
        Mutant("the client of the provider retries a create", _retried_create, seed=2),
        Mutant(
            "a lost reply counts as a create that had no effect", _unclear_is_unreachable, seed=2
        ),
        Mutant("the intent is committed after the create", _intent_after_create),
        Mutant("no input fence: the input is copied but not taken away", _no_fence, seed=2),
        Mutant("after the fence nothing is adopted", _nobody_after_the_fence, seed=31),
        Mutant("reconciliation does not look at the list", _no_list, seed=3),
        Mutant("a dead job is adopted", _adopt_the_dead, seed=2),
        Mutant("no fencing: writes do not check the attempt", _no_guards, seed=15),
        Mutant("no states: writes do not check where the job is", _no_states, seed=2),
        Mutant("acknowledged before the commit", _ack_before_commit, seed=14),
        Mutant("an unclear commit removes the bytes", _unclear_commit_removes, seed=2),
        Mutant("billing outside of the transaction", _bill_later, seed=6),
        Mutant("the terminal state before the output is put", _rename_later),
        Mutant("the key is spliced into the text", _spliced_key),
        Mutant("nobody takes over the dead", _no_take_over),
        Mutant("nobody starts a dead workflow anew", _no_doubt),
        Mutant("frozen collectors share one output name", _freezing(_shared_outputs), seed=22),
        Mutant(
            "was ours: an upload brings a fenced input back", _freezing(_same_input_name), seed=49
        ),
        Mutant(
            "was ours: a late prepare moves a later state",
            _freezing(_without("move", "only_from", "only_attempt")),
            seed=9,
        ),
        Mutant(
            "was ours: a late reconcile moves a later attempt", _freezing(_late_reconcile), seed=70
        ),
        Mutant("was ours: a late stop ends a later attempt", _freezing(_late_stop), seed=156),
        Mutant("was ours: a late adoption of an older attempt", _freezing(_late_adoption), seed=9),
        Mutant(
            "was ours: the input goes before the fence is committed",
            _freezing(_fence_after_move),
            seed=20,
        ),
        Mutant(
            "was ours: collectors of a job share a scratch file",
            _freezing(_shared_scratch),
            seed=230,
        ),
        Mutant("was ours: the reaper forgets who may still wake up", _forgetful, seed=23),
        Mutant("was ours: a worker works before it is known", _unannounced, seed=55),
        Mutant("a worker begins a round that has begun", _in_rounds(_again_and_again), seed=31),
        Mutant("an intent does not check the attempt", _in_rounds(_intended_anyhow), seed=175),
        Mutant("a round has the name of the one before", _in_rounds(_same_round_name)),
    ]


@contextlib.contextmanager
def _retried_create(_world: World) -> Iterator[None]:
    create = Vertex.create

    async def twice(self: Vertex, batch: NewBatch) -> ProviderJob:
        try:
            return await create(self, batch)
        except ProviderUnclear:
            return await create(self, batch)

    with patch.object(Vertex, "create", twice):
        yield


@contextlib.contextmanager
def _unclear_is_unreachable(_world: World) -> Iterator[None]:
    create = Vertex.create

    async def misread(self: Vertex, batch: NewBatch) -> ProviderJob:
        try:
            return await create(self, batch)
        except ProviderUnclear as error:
            raise ProviderUnreachable(error.message) from error

    with patch.object(Vertex, "create", misread):
        yield


@contextlib.contextmanager
def _intent_after_create(_world: World) -> Iterator[None]:
    async def create(ports: Ports, job: Job) -> None:
        number = job.attempt + 1
        attempt = Attempt(
            job_id=job.id,
            number=number,
            intent_at=ports.clock.now(),
            input_uri=job.provider_input or "",
            output_prefix=ports.bucket.uri(f"{ports.folder(job.id, number)}/output"),
            label=job.label,
        )
        await submit._send(ports, job, attempt)
        await ports.jobs.intend(attempt)

    with patch.object(submit, "_create", create):
        yield


@contextlib.contextmanager
def _no_fence(_world: World) -> Iterator[None]:
    async def only_copy(ports: Ports, attempt: Attempt) -> None:
        source = reconcile._object_name(ports, attempt.input_uri)
        await ports.bucket.copy(source, reconcile._target(ports, attempt))

    with patch.object(reconcile, "_take_away", only_copy):
        yield


@contextlib.contextmanager
def _nobody_after_the_fence(_world: World) -> Iterator[None]:
    with patch.object(reconcile, "_took_input", lambda _: False):
        yield


@contextlib.contextmanager
def _no_list(_world: World) -> Iterator[None]:
    async def blind(_self: Vertex, _label: str, _location: str) -> list[ProviderJob]:
        return []

    with patch.object(Vertex, "find", blind):
        yield


@contextlib.contextmanager
def _adopt_the_dead(_world: World) -> Iterator[None]:
    def all_of(_job: Job, _known: object, found: list[ProviderJob]) -> list[ProviderJob]:
        return found

    with patch.object(reconcile, "adoptable", all_of):
        yield


@contextlib.contextmanager
def _no_guards(world: World) -> Iterator[None]:
    move = world.jobs._move

    def unguarded(*args: Any, **_guards: object) -> bool:  # noqa: ANN401
        return move(*args)

    with patch.object(world.jobs, "_move", unguarded):
        yield


@contextlib.contextmanager
def _no_states(_world: World) -> Iterator[None]:
    anywhere = {state: frozenset(JobState) for state in JobState}
    with patch("tests.simulation.store._SOURCES", anywhere):
        yield


@contextlib.contextmanager
def _ack_before_commit(_world: World) -> Iterator[None]:
    async def commit(self: JobDoor, job: Job) -> None:
        asyncio.get_running_loop().create_task(cast(Any, self.jobs.add(job)))

    with patch.object(JobDoor, "_commit", commit):
        yield


@contextlib.contextmanager
def _unclear_commit_removes(_world: World) -> Iterator[None]:
    async def commit(self: JobDoor, job: Job) -> None:
        try:
            await self.jobs.add(job)
        except Exception:
            await self.blobs.remove_job(job.id)
            raise

    with patch.object(JobDoor, "_commit", commit):
        yield


@contextlib.contextmanager
def _bill_later(world: World) -> Iterator[None]:
    bill = world.jobs.bill
    finish = JobsPort.finish

    async def in_two(self: JobsPort, job_id: JobId, at: float, end: Finish, **only: Any) -> bool:  # noqa: ANN401
        moved: bool = await finish(self, job_id, at, end, **only)
        if moved and end.counts is not None:
            await self.body.point("before the bill")
            bill(self.body.world.jobs.rows[job_id], at, end.counts, end.cost_micro_dollars)
        return moved

    with (
        patch.object(world.jobs, "bill", lambda *_: None),
        patch.object(JobsPort, "finish", in_two),
    ):
        yield


@contextlib.contextmanager
def _rename_later(_world: World) -> Iterator[None]:
    commit = SimBlobs.commit

    async def at_last(self: SimBlobs, job_id: str, parts: dict[str, MemoryPart]) -> None:
        with contextlib.suppress(Killed):
            await self._body.pass_time(5.0)
            await commit(self, job_id, cast(Any, parts))

    async def later(
        self: SimBlobs, job_id: str, parts: dict[str, Part], *, is_again: bool = False
    ) -> None:
        if INPUT in parts:
            await commit(self, job_id, parts, is_again=is_again)
            return
        # The run discards its own.
        copies = {name: MemoryPart(cast(Any, part).data) for name, part in parts.items()}
        self._body.create_task(at_last(self, job_id, copies))

    with patch.object(SimBlobs, "commit", later):
        yield


@contextlib.contextmanager
def _spliced_key(_world: World) -> Iterator[None]:
    line = b""

    def seen(one: bytes) -> dict[str, Any]:
        nonlocal line
        line = one
        return request_of(one)

    def spliced(key: str, _request: object) -> bytes:
        return b'{"key":%s,%s\n' % (orjson.dumps(key), line[1:])

    module = "penstock.lifecycle.provider_input"
    with patch(f"{module}.request_of", seen), patch(f"{module}.provider_row", spliced):
        yield


@contextlib.contextmanager
def _no_take_over(_world: World) -> Iterator[None]:
    async def nothing(_self: object, _executor_id: str) -> int:
        return 0

    with patch("tests.simulation.engine.SimEngine.take_over", nothing):
        yield


@contextlib.contextmanager
def _no_doubt(_world: World) -> Iterator[None]:
    async def alive(*_: object) -> bool:
        return False

    with patch("tests.simulation.engine.SimEngine.is_dead", alive):
        yield


@contextlib.contextmanager
def _shared_outputs(_world: World) -> Iterator[None]:
    with patch("penstock.lifecycle.gather.token_hex", lambda _size: "same"):
        yield


@contextlib.contextmanager
def _shared_scratch(world: World) -> Iterator[None]:
    world.shares_scratch = True
    next_run = world.jobs.next_run

    async def from_anywhere(job_id: JobId, *args: Any, **_: object) -> bool:  # noqa: ANN401
        return await next_run(job_id, *args, only_from=world.jobs.rows[job_id].state)

    with patch.object(world.jobs, "next_run", from_anywhere):
        yield


@contextlib.contextmanager
def _same_input_name(_world: World) -> Iterator[None]:
    with patch("penstock.lifecycle.prepare.token_hex", lambda _size: "same"):
        yield


def _without(call: str, *guards: str) -> Change:
    """Make the mutant whose store ignores guards of one call."""

    @contextlib.contextmanager
    def change(world: World) -> Iterator[None]:
        write: Callable[..., Awaitable[bool]] = getattr(world.jobs, call)

        async def unguarded(*args: object, **named: Any) -> bool:  # noqa: ANN401
            for guard in guards:
                named.pop(guard, None)
            return await write(*args, **named)

        with patch.object(world.jobs, call, unguarded):
            yield

    return change


@contextlib.contextmanager
def _late_reconcile(world: World) -> Iterator[None]:
    move = world.jobs.move

    async def unguarded(*args: Any, **named: Any) -> bool:  # noqa: ANN401
        if "only_input" not in named:
            named.pop("only_attempt", None)
        return await move(*args, **named)

    with patch.object(world.jobs, "move", unguarded):
        yield


@contextlib.contextmanager
def _late_stop(world: World) -> Iterator[None]:
    world.cancel_share = 1.0
    with _without("finish", "only_attempt")(world):
        yield


@contextlib.contextmanager
def _late_adoption(world: World) -> Iterator[None]:
    record = world.jobs.record_provider_job

    async def unguarded(job_id: JobId, *args: Any, **named: Any) -> bool:  # noqa: ANN401
        if named.get("adopted_in") is not None:
            job = world.jobs.rows[job_id]
            named |= {"adopted_in": job.attempt, "only_input": None}
        return await record(job_id, *args, **named)

    with patch.object(world.jobs, "record_provider_job", unguarded):
        yield


@contextlib.contextmanager
def _fence_after_move(_world: World) -> Iterator[None]:
    settle = reconcile._settle

    async def moving_first(look: Any, ports: Ports, watch: Any) -> float:  # noqa: ANN401
        newest = look.attempts[-1]
        is_due = look.now >= newest.intent_at + ports.timing.settle_seconds
        found = reconcile.adoptable(look.job, look.attempts, look.found)
        if newest.fenced_at is None and is_due and not found:
            with contextlib.suppress(BlobMissing):
                await reconcile._take_away(ports, newest)
        return await settle(look, ports, watch)

    with patch.object(reconcile, "_settle", moving_first):
        yield


@contextlib.contextmanager
def _forgetful(world: World) -> Iterator[None]:
    world.timing = msgspec.structs.replace(world.timing, worker_forgotten_seconds=0.0)
    yield


@contextlib.contextmanager
def _unannounced(world: World) -> Iterator[None]:
    world.works_unannounced = True
    yield


@contextlib.contextmanager
def _again_and_again(world: World) -> Iterator[None]:
    again = world.jobs.again

    async def by_anybody(job: Job, *args: Any) -> bool:  # noqa: ANN401
        now = world.jobs.rows[job.id]
        world.jobs._set(now, state=JobState.COLLECTING)
        return await again(msgspec.structs.replace(job, attempt=now.attempt), *args)

    with patch.object(world.jobs, "again", by_anybody):
        yield


@contextlib.contextmanager
def _intended_anyhow(world: World) -> Iterator[None]:
    intend = world.jobs.intend

    async def in_any_attempt(attempt: Attempt) -> bool:
        job = world.jobs.rows.get(attempt.job_id)
        if job is not None and job.state is JobState.PREPARED:
            world.jobs._set(job, attempt=attempt.number - 1)
        return await intend(attempt)

    with patch.object(world.jobs, "intend", in_any_attempt):
        yield


@contextlib.contextmanager
def _same_round_name(_world: World) -> Iterator[None]:
    with patch("penstock.core.job.name_of_round", lambda job_id, _round: job_id):
        yield


FEWEST: Final = 12
"""The build needs at least so many; see the reliability record."""
