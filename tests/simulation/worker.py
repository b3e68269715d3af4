"""One process of ours with the real code in it, and everything that can happen to it.

Each call of a port has a point before it and one after it. At a point the process may be killed,
frozen for minutes, or only held up; so a freeze also falls between the last check and the write to
the socket. Calls of the store may fail, with or without effect.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from tests.simulation.scheduler import Killed, Process

from penstock.blobs.part import Part
from penstock.blobs.spool import INPUT, INPUT_INDEX
from penstock.core.job import Attempt, JobId
from penstock.core.models import SEED_CATALOGUE
from penstock.errors import BlobMissing, BlobsUnavailable, ProviderUnreachable
from penstock.lifecycle.ports import Ports

if TYPE_CHECKING:
    from tests.simulation.world import World


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Chances at one point, and of one call."""

    kill: float
    freeze: float
    delay: float
    store_error: float
    """That a write of the store fails; half of them take effect all the same."""
    bucket_error: float
    routine: "Rates | None" = None
    """For what happens all the time; None means the same."""


_ROUTINE: Final = Rates(kill=0.003, freeze=0.003, delay=0.06, store_error=0.02, bucket_error=0.02)
STORMY: Final = Rates(
    kill=0.03, freeze=0.008, delay=0.06, store_error=0.02, bucket_error=0.02, routine=_ROUTINE
)
QUIET: Final = Rates(kill=0.0, freeze=0.0, delay=0.0, store_error=0.0, bucket_error=0.0)
FREEZING: Final = Rates(
    kill=0.01, freeze=0.04, delay=0.06, store_error=0.02, bucket_error=0.02, routine=QUIET
)
"""What one who was frozen does wrong shows best where fewer die."""
FREEZE_SECONDS_MAX: Final = 400.0
SKEW_SECONDS_MAX: Final = 2.0


class StoreDown(Exception):
    """The database did not answer; whether the commit took effect is not known."""


class Body(Process):
    """A process that takes part in the story."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world.scheduler, name)
        self.world = world
        self.dice = random.Random(world.dice.random())  # noqa: S311  # reproducible, not secret
        self.skew_seconds = self.dice.uniform(-SKEW_SECONDS_MAX, SKEW_SECONDS_MAX)
        self.rates = world.rates
        self.has_work: Callable[[], bool] = lambda: True
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.thread_delay = self._thread_delay
        self.clock = BodyClock(self)
        self.jobs = JobsPort(self, Knowing(world, name))
        self.workers = WorkersPort(self, world.workers)
        self.spool = SimSpool(self)
        self.blobs = SimBlobs(self)
        self.ports = Ports(
            clock=self.clock,
            jobs=cast(Any, self.jobs),
            looks=cast(Any, None),  # nobody asks for partial results here
            spool=cast(Any, self.spool),
            blobs=cast(Any, self.blobs),
            bucket=cast(Any, BucketPort(self, world.bucket)),
            bucket_prefix="penstock",
            provider=cast(Any, ProviderPort(self, world.provider)),
            location="",
            models=SEED_CATALOGUE,
            limits=world.limits,
            timing=world.timing,
            alarm=cast(Any, SimAlarm(self)),
        )

    async def point(self, what: str, rates: Rates | None = None) -> None:
        """Live on, be held up, freeze, or die."""
        if self.is_dead:
            raise Killed
        rates = rates or self.rates
        roll = self.dice.random()
        if roll >= rates.kill + rates.freeze + rates.delay:
            return
        if roll < rates.kill:
            self.die(what)
        if roll < rates.kill + rates.freeze:
            seconds = self.dice.choice((5.0, 60.0, FREEZE_SECONDS_MAX)) * self.dice.random()
            self.world.reach(f"frozen {what}")
            self.world.reach.trace(self.scheduler.time, self.name, what, f"frozen {seconds:.1f} s")
            self.freeze(seconds)
        else:
            seconds = 3.0 * self.dice.random() ** 2
        await self.pass_time(seconds)

    def die(self, what: str) -> None:
        """End here."""
        self.world.reach(f"killed {what}")
        self.world.reach.trace(self.scheduler.time, self.name, what, "killed")
        self.world.died(self)
        raise Killed

    async def pass_time(self, seconds: float) -> None:
        """Wait, without a point."""
        future: asyncio.Future[None] = self.create_future()
        self.call_later(seconds, _wake, future)
        await future

    def _thread_delay(self) -> float:
        return self.dice.random() if self.dice.random() < self.rates.delay else 0.0


class BodyClock:
    """The clock of one process, which is a little wrong."""

    def __init__(self, body: Body, *, is_routine: bool = False) -> None:
        self._body = body
        self._is_routine = is_routine

    def now(self) -> float:
        return self._body.scheduler.time + self._body.skew_seconds

    async def sleep(self, seconds: float) -> None:
        body = self._body
        await body.pass_time(seconds)
        if self._is_routine:
            await body.point("between looks", body.rates.routine)
        else:
            await body.point("in a sleep")


class SimAlarm:
    """What `CancelWatch` does, without its query a second."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def wait(self, job_id: JobId, seconds: float) -> None:
        body = self._body
        if body.world.jobs.rows[job_id].cancel_requested_at is not None:
            seconds = min(seconds, 1.0)
        future: asyncio.Future[None] = body.create_future()
        body.waiting[job_id] = future
        body.call_later(seconds, _wake, future)
        await future
        body.waiting.pop(job_id, None)
        await body.point("in a wait")


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def effect(
    port: str, name: str, *, fails: str = "", is_routine: bool = False
) -> Callable[..., Awaitable[Any]]:
    """Make a call of a port: point, effect, point; `fails` says how it goes wrong.

    One that `is_routine` happens all the time, work or no work, and is met less often.
    """
    what = f"{port}.{name}"
    before, after = f"before {what}", f"after {what}"

    async def call(self: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401  # any port
        body: Body = self.body
        rates = body.rates.routine if is_routine else body.rates
        await body.point(before, rates)
        rate = getattr(body.rates, fails) if fails else 0.0
        roll = body.dice.random() if rate else 1.0
        if roll < rate / 2:
            body.world.reach(f"error before {what}")
            raise _failure(fails)
        result = await getattr(self.inner, name)(*args, **named)
        if body.world.reach.is_traced:
            body.world.reach.trace(body.scheduler.time, body.name, f"{what} {_shown(args)}", result)
        if roll < rate:
            body.world.reach(f"error after {what}")
            raise _failure(fails)
        await body.point(after, rates)
        return result

    return call


def _failure(fails: str) -> Exception:
    if fails == "store_error":
        return StoreDown("The database did not answer.")
    return ProviderUnreachable("Cloud Storage did not answer.")


def _shown(args: tuple[Any, ...]) -> str:
    return ", ".join(str(one)[-60:] for one in args if not isinstance(one, float))


class Port:
    """Something outside of the process."""

    def __init__(self, body: Body, inner: object) -> None:
        self.body = body
        self.inner = inner


class Knowing:
    """The store as one process sees it: remembers the newest attempt that the process knows of.

    A write that changes something although a newer attempt exists is one of a process that was
    frozen, and must not be accepted.
    """

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._known: dict[str, int] = {}
        self._name = name
        self.__dict__.update(
            {name: getattr(world.jobs, name) for name in _JOBS_CALLS if name not in _GUARDED}
        )
        self.__dict__.update({name: self._guarded(name) for name in _GUARDED})
        self._load, self._attempts = world.jobs.load, world.jobs.attempts
        self.__dict__.update(load=self._loading, attempts=self._listing, intend=self._intending)

    async def _loading(self, job_id: JobId) -> object:
        job = await self._load(job_id)
        if job is not None:
            self._known[job_id] = job.attempt
        return job

    async def _listing(self, job_id: JobId) -> object:
        found = await self._attempts(job_id)
        if found:
            self._known[job_id] = found[-1].number
        return found

    async def _intending(self, attempt: Attempt) -> bool:
        intended = await self._world.jobs.intend(attempt)
        if intended:
            self._known[attempt.job_id] = attempt.number
        return intended

    def _guarded(self, name: str) -> Callable[..., Awaitable[bool]]:
        write = getattr(self._world.jobs, name)

        async def call(job_id: JobId, *args: Any, **named: Any) -> bool:  # noqa: ANN401
            newest = self._world.jobs.rows[job_id].attempt
            accepted: bool = await write(job_id, *args, **named)
            known = self._known.get(job_id, newest)
            if accepted and known < newest:
                self._world.stale_writes.append(
                    f"{name} of {job_id} by one that knows attempt {known}, not {newest}"
                )
            if not accepted:
                self._world.reach(f"late {name} refused")
            return accepted

        return call


_GUARDED: Final = ("move", "record_provider_job", "fence", "finish")
_JOBS_CALLS: Final = (
    *("add", "is_ruled_out", "open_jobs", "request_cancel", "note", "next_run", "event"),
    *("again", "begin_shards", "shards_of"),
)


class JobsPort(Port):
    """The store's jobs."""

    add = effect("jobs", "add", fails="store_error")
    is_ruled_out = effect("jobs", "is_ruled_out", fails="store_error")
    open_jobs = effect("jobs", "open_jobs", fails="store_error", is_routine=True)
    request_cancel = effect("jobs", "request_cancel", fails="store_error")
    move = effect("jobs", "move", fails="store_error")
    note = effect("jobs", "note", fails="store_error")
    next_run = effect("jobs", "next_run", fails="store_error")
    intend = effect("jobs", "intend", fails="store_error")
    record_provider_job = effect("jobs", "record_provider_job", fails="store_error")
    fence = effect("jobs", "fence", fails="store_error")
    attempts = effect("jobs", "attempts", fails="store_error")
    finish = effect("jobs", "finish", fails="store_error")
    event = effect("jobs", "event", fails="store_error")
    again = effect("jobs", "again", fails="store_error")
    begin_shards = effect("jobs", "begin_shards", fails="store_error")
    shards_of = effect("jobs", "shards_of", fails="store_error")
    load = effect("jobs", "load", fails="store_error")


class WorkersPort(Port):
    """The store's workers."""

    join = effect("workers", "join", is_routine=True)
    beat = effect("workers", "beat", fails="store_error", is_routine=True)
    silent_since = effect("workers", "silent_since", is_routine=True)
    forget = effect("workers", "forget", fails="store_error", is_routine=True)


class ProviderPort(Port):
    """The way to the provider; its own faults are on the other side."""

    create = effect("provider", "create")
    get = effect("provider", "get")
    find = effect("provider", "find")
    cancel = effect("provider", "cancel", fails="bucket_error")


class BucketPort(Port):
    """The way to the bucket."""

    stat = effect("bucket", "stat", fails="bucket_error")
    copy = effect("bucket", "copy", fails="bucket_error")
    delete = effect("bucket", "delete", fails="bucket_error")
    list = effect("bucket", "list", fails="bucket_error")
    put_all = effect("bucket", "put_all", fails="bucket_error")

    def uri(self, name: str) -> str:
        return self.body.world.bucket.uri(name)

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> object:
        return await self.put_all(name, blocks)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield the object in two blocks, with points around them."""
        await self.body.point("before bucket.read")
        whole = self.body.world.bucket.objects.get(name)
        if whole is None:
            raise BlobMissing(f"{name} does not exist.")
        middle = len(whole) // 2
        yield whole[:middle]
        await self.body.point("in bucket.read")
        yield whole[middle:]


class MemoryPart:
    """A file of the spool that nobody sees yet."""

    path = Path(os.devnull)
    """Some look at it before anything is in it."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def discard(self) -> None:
        self.data.clear()


class SimSpool:
    """A process's own working files: those of an input in memory, scratch files real."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def begin(self, _job_id: str, _name: str) -> MemoryPart:
        return MemoryPart()

    def scratch(self, job_id: str, name: str) -> Path:
        world = self._body.world
        world.scratches += 0 if world.shares_scratch else 1
        return world.scratch / f"{self._body.name}.{world.scratches}.{job_id}.{name}"


class SimBlobs:
    """A process's way to the object storage that all share."""

    is_shared = True

    def __init__(self, body: Body) -> None:
        self._body = body

    async def commit(self, job_id: str, parts: dict[str, Part], *, is_again: bool = False) -> None:
        """Put the parts, one by one; what is half put stays, as after a crash."""
        del is_again
        body = self._body
        for name, part in parts.items():
            what = f"blobs.commit {'output' if name.startswith('output') else name}"
            data = bytes(cast(Any, part).data)
            async with self._call(what):
                body.world.disk[job_id, name] = data
                body.world.reach.trace(body.scheduler.time, body.name, f"{what} {job_id}", name)

    @asynccontextmanager
    async def local(self, job_id: str, name: str) -> AsyncIterator[Path]:
        async with self._call("blobs.local"):
            world = self._body.world
            if (job_id, name) not in world.disk:
                raise BlobMissing(f"The file {name} of {job_id} is missing.")
        if name in {INPUT, INPUT_INDEX}:
            found = world.inputs_of[job_id]
            yield {INPUT: found.data_path, INPUT_INDEX: found.index_path}[name]
            return
        path = self._body.spool.scratch(job_id, name)
        path.write_bytes(world.disk[job_id, name])
        try:
            yield path
        finally:
            path.unlink()

    async def remove(self, job_id: str, name: str) -> None:
        async with self._call("blobs.remove"):
            self._body.world.disk.pop((job_id, name), None)
            self._body.world.reach("an output that came too late removed")

    async def remove_job(self, job_id: str) -> None:
        async with self._call("blobs.remove_job"):
            disk = self._body.world.disk
            for place in [place for place in disk if place[0] == job_id]:
                del disk[place]

    @asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[None]:
        """Put a point on either side of an effect, and let it fail now and then."""
        body = self._body
        await body.point(f"before {what}")
        roll = body.dice.random()
        if roll < body.rates.bucket_error / 2:
            raise BlobsUnavailable("The object storage did not answer.")
        yield
        if roll < body.rates.bucket_error:
            raise BlobsUnavailable("The object storage did not answer.")
        await body.point(f"after {what}")
