"""One history: clients, three workers, an API process, and what becomes of their jobs.

For some time everything goes wrong; then the faults stop and all must come to rest.
"""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import orjson
from tests.lifecycle.fakes import index_rows, request_of
from tests.simulation.engine import SimEngine, Workflow
from tests.simulation.reach import Reach
from tests.simulation.scheduler import Handle, Killed, Process, Scheduler
from tests.simulation.store import MemoryJobs, MemoryWorkers
from tests.simulation.vertex import SimBucket, Vertex
from tests.simulation.worker import FREEZING, QUIET, STORMY, Body, SimSpool

from penstock.api.auth import Principal
from penstock.api.jobs import JobDoor, Terms
from penstock.core.access import ROLE_SCOPES, Actor, Role
from penstock.core.estimate import Estimate, Span
from penstock.core.job import JobId, OrgId
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE
from penstock.core.quotas import Quotas
from penstock.core.state import TERMINAL
from penstock.ingest.index import pack_rows
from penstock.ingest.intake import Accepted, Envelope
from penstock.ingest.treatment import STRICT, Treatment
from penstock.settings import Timing

JOBS: Final = 4
WORKERS: Final = 3
STORM_SECONDS: Final = 1200.0
TRIES_MAX: Final = 12
FREEZING_SHARE: Final = 0.25
"""Histories of freezes; the others are of kills."""
ORG: Final = OrgId("acme")
PRINCIPAL: Final = Principal(
    actor=Actor(
        org_id=ORG, user_id="acme-user", key_id="testkey1", address="192.0.2.1", request_id="r1"
    ),
    role=Role.OWNER,
    scopes=ROLE_SCOPES[Role.OWNER],
)

TIMINGS: Final = tuple(
    Timing(
        settle_seconds=settle,
        poll_seconds_min=10.0,
        heartbeat_seconds=15.0,
        worker_lost_seconds=45.0,
    )
    for settle in (0.0, 20.0, 60.0, 180.0)
)
"""The fence makes the protocol safe, so it must hold for any time to settle."""

_OF_ROUNDS: Final = frozenset({"retrying", "retry_failed", "sharded"})

REST_SECONDS: Final = 7000.0
"""By then all is at rest: late creates (600), the wait for their input (400), runs (500), one more
attempt of the same with its settling and fencing, backoff and take-over, and some room."""


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An input on disk."""

    texts: list[str]
    raw: bytes
    data_path: Path
    index_path: Path


def inputs(folder: Path, count: int = 12) -> list[Input]:
    """Write inputs that all histories share; every line has a text of its own."""
    made = []
    for number in range(count):
        texts = [f"nonce {number}-{line}" for line in range(1 + number % 4)]
        lines = [orjson.dumps({"request": request_of(text)}) for text in texts]
        if number % 3 == 0:
            # A caller's own member of that name must not become ours.
            lines[0] = lines[0][:-1] + b',"key":"mine"}'
        raw = b"\n".join(lines) + b"\n"
        data_path, index_path = folder / f"{number}.jsonl", folder / f"{number}.idx"
        data_path.write_bytes(raw)
        index_path.write_bytes(pack_rows(index_rows(raw)))
        made.append(Input(texts=texts, raw=raw, data_path=data_path, index_path=index_path))
    return made


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, pool: list[Input], scratch: Path, reach: Reach) -> None:
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self.scheduler = Scheduler()
        self.reach = reach
        self.scratch = scratch
        self.rates = STORMY
        self.timing = self.dice.choice(TIMINGS)
        self.limits = Limits(retry_attempts_max=0)
        """Of one round and one provider job, unless a history is played with more."""
        self.rest_seconds = REST_SECONDS
        self.jobs = MemoryJobs()
        self.workers = MemoryWorkers()
        self.bucket = SimBucket(self.scheduler)
        self.provider = Vertex(self.scheduler, self.bucket, seed, reach)
        self.disk: dict[tuple[str, str], bytes] = {}
        self.inputs_of: dict[str, Input] = {}
        self.workflows: dict[str, Workflow] = {}
        self.steps: dict[str, Any] = {}
        """Steps that a mutant replaces."""
        self.acked: dict[str, int] = {}
        """The jobs that a client has an answer for, and the client."""
        self.stale_writes: list[str] = []
        self.works_unannounced = False
        self.cancel_share = 0.4
        self.shares_scratch = False
        self.scratches = 0
        self.kills = 0
        self.idle_kills = 0
        if self.dice.random() < FREEZING_SHARE:
            self.freeze_often()
        self._chosen = self.dice.sample(pool, JOBS)
        self._process = Process(self.scheduler, "world")
        self._engines: list[SimEngine | None] = [None] * WORKERS
        self._lives = 0
        self._door_body: Body
        self.begun = self.scheduler.time

    def freeze_often(self) -> None:
        """Make a history of few deaths, many freezes and late creates."""
        self.rates = FREEZING
        self.provider.lateness = 0.3

    # -- the story ---------------------------------------------------------------------------------

    def play(self) -> None:
        """Let it all happen."""
        self._open_door()
        for place in range(WORKERS):
            self._hire(place)
        for client in range(JOBS):
            self.later(self.dice.uniform(0.0, 300.0), self._submit, client, 0)
        self.scheduler.run(self.begun + STORM_SECONDS)
        self._calm()
        end = self.begun + STORM_SECONDS + self.rest_seconds
        while self.scheduler.time < end and not self._at_rest():
            self.scheduler.run(self.scheduler.time + 60.0)
        # Late creates find out whether they have an input.
        self.scheduler.run(self.scheduler.time + 30.0)
        self.rest_at = self.scheduler.time
        self._end()
        self.scheduler.time += 2000.0
        self.provider.settle()
        for job in self.jobs.rows.values():
            self.reach(f"ended {job.state}")
            if job.attempt > 1:
                self.reach("second attempt")
            for kind, _ in self.jobs.history[job.id]:
                if kind in {"adopted", "duplicate_cancelled", *_OF_ROUNDS}:
                    self.reach(kind)

    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None:
        """Do something that is outside of all processes."""
        self.scheduler.at(self.scheduler.time + seconds, self._process, Handle(act, args))

    def _at_rest(self) -> bool:
        # Whoever is frozen may wake up with a submission that it is about to commit.
        if self._last_thaw() > self.scheduler.time:
            return False
        done = set(self.acked.values())
        return len(done) == JOBS and all(job.state in TERMINAL for job in self.jobs.rows.values())

    def _calm(self) -> None:
        self.rates = QUIET
        self.provider.is_honest = True
        for body in self._bodies():
            body.rates = QUIET
        self.reach.trace(self.scheduler.time, "world", "the faults stop", "")

    def _last_thaw(self) -> float:
        return max(body.frozen_until for body in self._bodies())

    def _bodies(self) -> list[Body]:
        return [self._door_body, *(engine._body for engine in self._engines if engine is not None)]

    def _end(self) -> None:
        for body in self._bodies():
            body.kill()
            body.bury()

    # -- workers -----------------------------------------------------------------------------------

    def living(self) -> set[str]:
        """Return who is not dead, frozen or not."""
        return {engine.executor_id for engine in self._engines if engine is not None}

    def died(self, body: Body) -> None:
        """Bury the dead and have somebody else begin in its place."""
        body.kill()
        self.kills += 1
        if not body.has_work():
            self.idle_kills += 1
        self.later(0.0, body.bury)
        if body is self._door_body:
            self.later(self.dice.uniform(1.0, 20.0), self._open_door)
            return
        for place, engine in enumerate(self._engines):
            if engine is not None and engine._body is body:
                self._engines[place] = None
                self.later(self.dice.uniform(1.0, 30.0), self._hire, place)

    def _hire(self, place: int) -> None:
        self._lives += 1
        body = Body(self, f"w{place}.{self._lives}")
        engine = SimEngine(body)
        self._engines[place] = engine
        self.scheduler.at(self.scheduler.time, body, Handle(_begin, (body, engine.live)))

    def dispatch(self, name: str) -> None:
        """Have a queued workflow run by whoever looks next."""
        self.later(self.dice.uniform(0.0, 1.0), self._dispatch, name)

    def _dispatch(self, name: str) -> None:
        if self.workflows[name].status != "ENQUEUED":
            return
        now = self.scheduler.time
        awake = [
            one for one in self._engines if one and one.is_open and one._body.frozen_until <= now
        ]
        if not awake:
            self.later(1.0, self._dispatch, name)
            return
        engine = self.dice.choice(awake)
        # Claimed here and now, as the queue's own transaction does.
        self.workflows[name].status = "PENDING"
        self.workflows[name].owner = engine.executor_id
        self.scheduler.at(now, engine._body, Handle(_begin, (engine._body, engine.run, name)))

    # -- clients -----------------------------------------------------------------------------------

    def _open_door(self) -> None:
        self._lives += 1
        body = Body(self, f"api.{self._lives}")
        self._door_body = body
        self.door = JobDoor(
            jobs=cast(Any, body.jobs),
            usage=cast(Any, None),
            audit=cast(Any, None),
            keys=cast(Any, None),
            spool=cast(Any, body.spool),
            blobs=cast(Any, body.blobs),
            room=cast(Any, None),
            receiver=cast(Any, SimReceiver(body.spool)),
            clock=body.clock,
            limits=self.limits,
            models=SEED_CATALOGUE,
            default_model=DEFAULT_MODEL,
            quotas=Quotas(),
            estimates=cast(Any, SimEstimates()),
            sources=cast(Any, None),
            explainer=cast(Any, None),
            accepted=_nobody_near,
        )

    def _submit(self, client: int, tries: int) -> None:
        """Send the client's request, until there is an answer."""
        if client in self.acked.values() or tries == TRIES_MAX:
            return
        job_id = JobId(f"req_{self.seed}-{client}-{tries}")
        self.inputs_of[job_id] = self._chosen[client]
        body = self._door_body
        if not body.is_dead:
            send = Handle(_begin, (body, self._send, self.door, client, job_id))
            self.scheduler.at(self.scheduler.time, body, send)
        self.later(30.0 + 600.0 * self.dice.random() * (tries % 2), self._submit, client, tries + 1)

    async def _send(self, door: JobDoor, client: int, job_id: JobId) -> None:
        upload = Upload(chosen=self._chosen[client])
        body = cast(Any, _body())
        try:
            await door._store(
                PRINCIPAL, cast(Any, upload), body, Terms(job_id=job_id), cast(Any, Hold())
            )
        except Exception:  # noqa: BLE001  # the client gets an error and tries again
            self.reach("accept failed")
            return
        self.acked[job_id] = client
        self.reach("acked")
        if self.dice.random() < self.cancel_share:
            self.later(self.dice.uniform(0.0, 900.0), self._cancel, job_id)

    def _cancel(self, job_id: JobId) -> None:
        body = self._door_body
        if body.is_dead:
            self.later(10.0, self._cancel, job_id)
            return
        self.scheduler.at(
            self.scheduler.time, body, Handle(_begin, (body, self._send_cancel, self.door, job_id))
        )

    async def _send_cancel(self, door: JobDoor, job_id: JobId) -> None:
        try:
            await door.jobs.request_cancel(ORG, job_id, door.clock.now())
        except Exception:  # noqa: BLE001  # the client gets an error
            self.reach("cancel failed")
            return
        self.reach("cancel asked")
        for body in self._bodies():
            waiter = body.waiting.get(job_id)
            if waiter is not None:
                self.scheduler.at(
                    self.scheduler.time + self.dice.random(), body, Handle(_ring, (waiter,))
                )


class Upload(msgspec.Struct):
    """What the door knows of a request."""

    chosen: Input
    encoding: str | None = None
    treatment: Treatment = STRICT


class Hold:
    """Room on a disk without end."""

    def follow(self, measure: object) -> None:
        """Nothing to follow."""

    async def cover(self, ahead_bytes: int) -> None:
        """Nothing to cover."""


class SimEstimates:
    """Guesses nothing; reading files is not what is simulated."""

    async def answer(self, _question: object) -> Estimate:
        nothing = Span(low=0, expected=0, high=0)
        return Estimate(lines=0, prompt_tokens=nothing, output_tokens=nothing)


class SimReceiver:
    """Checks nothing: the inputs are good."""

    def __init__(self, spool: SimSpool) -> None:
        self._spool = spool

    async def receive(self, upload: Upload, *_rest: object) -> Accepted:
        return Accepted(
            envelope=Envelope(model=None, payload={}, flat=False),
            line_count=len(upload.chosen.texts),
            input_bytes=len(upload.chosen.raw),
            sha256="0" * 64,
        )


async def _body() -> AsyncIterator[bytes]:
    yield b""


def _nobody_near() -> None:
    """The workers are other processes; they look by themselves."""


def _ring(waiter: Any) -> None:  # noqa: ANN401  # a future
    if not waiter.done():
        waiter.set_result(None)


def _begin(body: Process, story: Callable[..., Any], *args: object) -> None:
    body.create_task(_unless_killed(story, *args))


async def _unless_killed(story: Callable[..., Any], *args: object) -> None:
    try:
        await story(*args)
    except Killed:
        return
