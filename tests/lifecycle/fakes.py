"""The world around the steps: a clock with a timetable, a bucket, and a provider with a memory."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, cast

import msgspec
import orjson
import sqlalchemy as sa
from tests.fake_clock import FakeClock

from penstock.blobs.bucket import Bucket, Stat
from penstock.blobs.local import LocalBlobs
from penstock.blobs.spool import INPUT, INPUT_INDEX, Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock
from penstock.core.job import Job, JobId, tag_of
from penstock.core.limits import Limits
from penstock.core.line import LineKey
from penstock.core.models import SEED_CATALOGUE
from penstock.errors import BlobMissing, InternalError
from penstock.ingest.index import pack_rows
from penstock.lifecycle.ports import Alarm, Ports
from penstock.providers.provider import ENDED, NewBatch, Provider, ProviderJob
from penstock.settings import Timing
from penstock.store import tables
from penstock.store.jobs import Jobs
from penstock.store.looks import Looks
from penstock.store.store import Store

SLEEPS_MAX = 20_000
"""A step that sleeps more often than this has got stuck."""

PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
SUCCEEDED = "JOB_STATE_SUCCEEDED"
FAILED = "JOB_STATE_FAILED"
CANCELLED = "JOB_STATE_CANCELLED"

Act = Callable[[], Awaitable[object]]


class Timetable(FakeClock):
    """A clock on which things happen: an act is due when a sleep passes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.now()
        self._acts: list[tuple[float, Act]] = []

    def at(self, seconds: float, act: Act) -> None:
        """Do something so long after the start of the test."""
        self._acts.append((self.begun + seconds, act))

    async def sleep(self, seconds: float) -> None:
        """Move the time, with a stop at everything that is due meanwhile."""
        end = self.now() + seconds
        for due in sorted([one for one in self._acts if one[0] <= end], key=lambda one: one[0]):
            self._acts.remove(due)
            self.advance(max(0.0, due[0] - self.now()))
            await due[1]()
        if len(self.slept) > SLEEPS_MAX:
            raise AssertionError("the step is stuck")
        left = max(0.0, end - self.now())
        await super().sleep(left)


class Stopped(BaseException):
    """The test has seen enough of a loop."""


class Steps(FakeClock):
    """A clock that ends a loop after some sleeps."""

    def __init__(self, sleeps: int) -> None:
        super().__init__()
        self._sleeps = sleeps

    async def sleep(self, seconds: float) -> None:
        """Sleep, or end the loop."""
        if len(self.slept) == self._sleeps:
            raise Stopped
        await super().sleep(seconds)


class FakeAlarm:
    """Waits on the clock; the test decides by the timetable what happens meanwhile."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.waited: list[float] = []

    async def wait(self, _job_id: JobId, seconds: float) -> None:
        self.waited.append(seconds)
        await self._clock.sleep(seconds)


class FakeBucket:
    """Objects in memory that remembers when each of them was there; fails on request."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.objects: dict[str, bytes] = {}
        self.blocks: list[int] = []
        """The sizes in which the newest upload came."""
        self.failures: dict[str, deque[Exception | None]] = {}
        self._history: dict[str, list[tuple[float, bool]]] = {}

    def fail(self, call: str, *errors: Exception | None) -> None:
        """Raise these from the next calls of one kind; None lets one pass."""
        self.failures.setdefault(call, deque()).extend(errors)

    def held(self, name: str, at: float) -> bool:
        """Whether the object was there at that time."""
        there = False
        for since, exists in self._history.get(name, []):
            if since <= at:
                there = exists
        return there

    def uri(self, name: str) -> str:
        return f"gs://fake/{name}"

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stat:
        self.blocks = []
        whole = b""
        async for block in blocks:
            self.blocks.append(len(block))
            whole += block
        self._fail("put")
        self._write(name, whole)
        return Stat(name=name, size=len(whole))

    async def stat(self, name: str) -> Stat:
        self._fail("stat")
        if name not in self.objects:
            raise BlobMissing(f"{name} does not exist.")
        return Stat(name=name, size=len(self.objects[name]))

    async def list(self, prefix: str) -> list[str]:
        self._fail("list")
        return sorted(name for name in self.objects if name.startswith(prefix))

    async def read(self, name: str) -> AsyncIterator[bytes]:
        self._fail("read")
        yield self.objects[name]

    async def copy(self, source: str, target: str) -> None:
        self._fail("copy")
        self._write(target, self.objects[source])

    async def delete(self, name: str) -> None:
        self._fail("delete")
        self.objects.pop(name, None)
        self._history.setdefault(name, []).append((self._clock.now(), False))

    def _write(self, name: str, data: bytes) -> None:
        self.objects[name] = data
        self._history.setdefault(name, []).append((self._clock.now(), True))

    def _fail(self, call: str) -> None:
        error = self.failures[call].popleft() if self.failures.get(call) else None
        if error is not None:
            raise error


class Create(msgspec.Struct, kw_only=True):
    """What becomes of one create."""

    lands_after: float | None = 0.0
    """Seconds from the POST until the job exists; None means never."""
    error: Exception | None = None
    """What the caller gets instead of the answer."""
    takes_input_after: float = 60.0
    """Seconds from landing until the job reads its input and runs, or finds none and fails."""
    runs_for: float = 600.0
    copies: int = 1
    """How many jobs the provider makes of it."""
    before: Act | None = None
    """Happens when the POST arrives."""


class Made(msgspec.Struct, kw_only=True):
    """A provider job and its own timeline."""

    name: str
    batch: NewBatch
    lands_at: float
    takes_input_at: float
    ends_at: float
    cancelled_at: float | None = None


class FakeProvider:
    """A provider whose jobs follow the clock and read their input from the fake bucket."""

    def __init__(self, clock: FakeClock, bucket: FakeBucket) -> None:
        self._clock = clock
        self._bucket = bucket
        self.plans: deque[Create] = deque()
        """What becomes of the next creates; when it is empty, all goes well."""
        self.posts: list[NewBatch] = []
        self.made: list[Made] = []
        self.cancels: list[str] = []
        self.finds = 0
        self.find_failures: deque[Exception] = deque()
        self.lags: deque[float] = deque()
        """How many seconds old the next lists are."""
        self.on_find: deque[Act] = deque()
        """What happens between a list and its arrival."""

    async def create(self, batch: NewBatch) -> ProviderJob:
        """Take one POST as planned."""
        self.posts.append(batch)
        plan = self.plans.popleft() if self.plans else Create()
        if plan.before is not None:
            await plan.before()
        if plan.lands_after is not None:
            for _ in range(plan.copies):
                self.land(batch, plan)
        if plan.error is not None:
            raise plan.error
        return self._seen(self.made[-plan.copies], self._clock.now())

    async def get(self, name: str) -> ProviderJob | None:
        """Return what the job is now."""
        now = self._clock.now()
        return next((self._seen(one, now) for one in self.made if one.name == name), None)

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """List as of now, or as of some seconds ago."""
        assert location == "global"
        self.finds += 1
        if self.find_failures:
            raise self.find_failures.popleft()
        at = self._clock.now() - (self.lags.popleft() if self.lags else 0.0)
        known = [
            self._seen(one, at)
            for one in sorted(self.made, key=lambda one: one.lands_at)
            if one.batch.label == label and one.lands_at <= at
        ]
        if self.on_find:
            await self.on_find.popleft()()
        return known

    async def cancel(self, name: str) -> None:
        """Cancel a job of ours."""
        self.cancels.append(name)
        job = next(one for one in self.made if one.name == name)
        if self._seen(job, self._clock.now()).state not in ENDED:
            job.cancelled_at = self._clock.now()

    def paid(self) -> list[Made]:
        """The jobs that cost money by the end of time: they took their input and ran."""
        return [one for one in self.made if self._took_input(one)]

    def live(self) -> list[Made]:
        """The jobs that have not ended."""
        now = self._clock.now()
        return [one for one in self.made if self._seen(one, now).state not in ENDED]

    def land(self, batch: NewBatch, plan: Create) -> None:
        """Make a job, as if some create had asked for it."""
        lands_at = self._clock.now() + (plan.lands_after or 0.0)
        takes_input_at = lands_at + plan.takes_input_after
        self.made.append(
            Made(
                name=f"projects/p/locations/global/batchPredictionJobs/{len(self.made) + 1}",
                batch=batch,
                lands_at=lands_at,
                takes_input_at=takes_input_at,
                ends_at=takes_input_at + plan.runs_for,
            )
        )

    def _took_input(self, job: Made) -> bool:
        if job.cancelled_at is not None and job.cancelled_at <= job.takes_input_at:
            return False
        name = job.batch.input_uri.removeprefix(self._bucket.uri(""))
        return self._bucket.held(name, job.takes_input_at)

    def _seen(self, job: Made, at: float) -> ProviderJob:
        state = self._state(job, at)
        return ProviderJob(
            name=job.name,
            state=state,
            display_name=job.batch.display_name,
            created_at=f"{job.lands_at:020.6f}",
            has_started=at >= job.takes_input_at and self._took_input(job),
            output_folder=f"{job.batch.output_prefix}/x" if state == SUCCEEDED else None,
            error_code=3 if state == FAILED else None,
            error_message="Failed to import data." if state == FAILED else "",
        )

    def _state(self, job: Made, at: float) -> str:
        if job.cancelled_at is not None and at >= job.cancelled_at:
            return CANCELLED
        if at < job.takes_input_at:
            return PENDING
        if not self._took_input(job):
            return FAILED
        return RUNNING if at < job.ends_at else SUCCEEDED


class ScriptedProvider:
    """A provider that tells a story: each `get` gives the next answer, the last one for ever."""

    def __init__(self, *story: ProviderJob | Exception | None) -> None:
        self._story = deque(story)
        self.gets = 0
        self.cancels: list[str] = []
        self.cancel_failures: deque[Exception] = deque()
        self.others: list[ProviderJob] = []
        """What a list shows."""

    async def create(self, batch: NewBatch) -> ProviderJob:
        raise AssertionError(f"nobody may create {batch.display_name}")

    async def get(self, name: str) -> ProviderJob | None:
        """Give the next answer."""
        assert name
        self.gets += 1
        answer = self._story[0] if len(self._story) == 1 else self._story.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        assert (label[:4], location) == ("req_", "global")
        return self.others

    async def cancel(self, name: str) -> None:
        if self.cancel_failures:
            raise self.cancel_failures.popleft()
        self.cancels.append(name)


class Killed(BaseException):
    """The process died here."""


class Fate:
    """Kills at the n-th point that a step passes; each call of a port has one on either side."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.passed = 0

    def point(self) -> None:
        """Die here, or pass."""
        self.passed += 1
        if self.passed == self.kill_at:
            raise Killed


class Mortal:
    """A port whose calls are points of death: before they take effect, and after."""

    def __init__(self, inner: object, point: Callable[[], None]) -> None:
        self._inner = inner
        self._point = point

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the port has
        found = getattr(self._inner, name)
        if not iscoroutinefunction(found):
            return found

        async def call(*args: object, **named: object) -> object:
            self._point()
            result = await found(*args, **named)
            self._point()
            return result

        return call


def mortal(ports: Ports, point: Callable[[], None]) -> Ports:
    """Return the same ports with points of death around every call."""
    return msgspec.structs.replace(
        ports,
        clock=cast(Clock, Mortal(ports.clock, point)),
        jobs=cast(Jobs, Mortal(ports.jobs, point)),
        looks=cast(Looks, Mortal(ports.looks, point)),
        bucket=cast(Bucket, Mortal(ports.bucket, point)),
        blobs=cast(Blobs, Mortal(ports.blobs, point)),
        provider=cast(Provider, Mortal(ports.provider, point)),
        alarm=cast(Alarm, Mortal(ports.alarm, point)),
    )


class World:
    """Everything that a step acts on, and the means to set it up and look at it."""

    def __init__(self, jobs: Jobs, spool: Spool, make: Callable[..., Job]) -> None:
        self.clock = Timetable()
        self.jobs = jobs
        self.looks = Looks(jobs._engine)
        self.spool = spool
        self.blobs: Blobs = LocalBlobs(spool)
        self.bucket = FakeBucket(self.clock)
        self.provider = FakeProvider(self.clock, self.bucket)
        self.alarm = FakeAlarm(self.clock)
        self.make = make
        self.limits = Limits(retry_attempts_max=0)
        """Unless a test gives others; most are about one round."""

    def ports(
        self,
        *,
        provider: Provider | None = None,
        bucket: Bucket | None = None,
        alarm: Alarm | None = None,
        timing: Timing | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> Ports:
        """Make ports on this world, with some of it replaced."""
        return Ports(
            clock=clock or self.clock,
            jobs=self.jobs,
            looks=self.looks,
            spool=self.spool,
            blobs=self.blobs,
            bucket=bucket or cast(Bucket, self.bucket),
            bucket_prefix="penstock",
            provider=provider or self.provider,
            location="",
            models=SEED_CATALOGUE,
            limits=limits or self.limits,
            timing=timing or Timing(),
            alarm=alarm or self.alarm,
        )

    async def job(self, **changes: object) -> Job:
        """Commit a job."""
        job = self.make(**changes)
        await self.jobs.add(job)
        return job

    async def with_input(self, raw: bytes, **changes: object) -> Job:
        """Commit a job with these input bytes in the spool."""
        job = await self.job(line_count=len(index_rows(raw)), input_bytes=len(raw), **changes)
        store_input(self.spool, job.id, raw)
        return job

    async def prepared(self, **changes: object) -> Job:
        """Commit a job whose input is in the bucket."""
        job = self.make(state="prepared", **changes)
        name = f"penstock/{job.id}/a1/input.jsonl"
        self.bucket._write(name, b"{}\n")
        job = msgspec.structs.replace(job, provider_input=self.bucket.uri(name))
        await self.jobs.add(job)
        return job

    async def running(self, **changes: object) -> Job:
        """Commit a job that the provider has."""
        fields = {"attempt": 1, "provider_job": NAME, "provider_state": PENDING}
        return await self.job(state="running", **(fields | changes))

    async def now(self, job: Job) -> Job:
        """Return the job as it is now."""
        loaded = await self.jobs.load(job.id)
        if loaded is None:
            raise InternalError("the job is gone")
        return loaded

    def outputs(self, job: Job) -> list[Path]:
        """Return all output files of a job, whoever named them."""
        return sorted((self.spool._jobs / job.id).glob("output*.jsonl"))

    async def kinds(self, job: Job) -> list[str]:
        """Return the kinds of the events of a job."""
        return [kind for kind, _ in await self.jobs.events(job.id)]

    def cancel(self, job: Job) -> Act:
        """Return the act of its owner cancelling the job."""
        return lambda: self.jobs.request_cancel(job.org_id, job.id, self.clock.now())


NAME = "projects/p/locations/global/batchPredictionJobs/1"


def seen(state: str, **fields: object) -> ProviderJob:
    """Make the provider's job in a state."""
    return msgspec.structs.replace(ProviderJob(name=NAME, state=state), **fields)


def batch_of(job_id: JobId, attempt: int) -> NewBatch:
    """Make what a create of that attempt asks for."""
    return NewBatch(
        model="gemini-3-flash-preview",
        location="global",
        display_name=f"penstock-{job_id}-a{attempt}",
        label=job_id,
        input_uri=f"gs://fake/penstock/{job_id}/a{attempt}/input.jsonl",
        output_prefix=f"gs://fake/penstock/{job_id}/a{attempt}/output",
    )


async def ledger(store: Store, job: Job | None = None) -> list[tuple[Any, ...]]:
    """Attempt, lines, tokens and money of what one job was billed, or all of them."""
    columns = tables.ledger.c
    query = sa.select(
        columns.attempt,
        columns.lines,
        columns.prompt_tokens,
        columns.output_tokens,
        columns.micro_dollars,
    ).where(columns.kind == "usage")
    if job is not None:
        query = query.where(columns.job_id == job.id)
    async with store._engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(query)]


def index_rows(raw: bytes) -> list[tuple[int, int]]:
    """Return where the requests stand, as the intake would say."""
    rows = []
    offset = 0
    for line in raw.split(b"\n"):
        if line.strip():
            rows.append((offset, len(line.rstrip(b"\r"))))
        offset += len(line) + 1
    return rows


def store_input(spool: Spool, job_id: JobId, raw: bytes) -> None:
    """Put an input and its index where the API puts them."""
    data, index = spool.begin(job_id, INPUT), spool.begin(job_id, INPUT_INDEX)
    data.write(raw)
    index.write(pack_rows(index_rows(raw)))
    spool.commit(job_id, {INPUT: data, INPUT_INDEX: index})


def request_of(text: str) -> dict[str, object]:
    """Make a request with one text."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


def input_of(texts: Iterable[str]) -> bytes:
    """Make an input with one line a text."""
    return b"".join(orjson.dumps({"request": request_of(text)}) + b"\n" for text in texts)


def answer_of(text: str, *, prompt: int = 2, candidates: int = 3) -> dict[str, object]:
    """Make a response with this text and these token counts."""
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": candidates},
    }


def row_of(job_id: JobId, number: int, text: str, **members: object) -> bytes:
    """Make the provider's row for a line, with any members changed."""
    row: dict[str, object] = {
        "status": "",
        "processed_time": "2026-11-22T16:05:00.000+00:00",
        "key": LineKey(tag_of(job_id)).of(number),
        "request": request_of(text),
        "response": answer_of(f"answer {number}"),
    }
    return orjson.dumps(row | members)


def chunks_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """Cut data at these places."""
    start = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[start:cut]
        start = cut
    yield data[start:]
