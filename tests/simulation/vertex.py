"""The provider and its bucket, as bad as they may be, with a log of their own.

A create may land minutes later, twice, or never; its answer may be lost; lists are stale; a job
reads its input when it likes and fails for free if there is none. What was paid for is decided
here, from what the provider did, and never from our database.
"""

import random
from collections.abc import AsyncIterator

import msgspec
import orjson
from tests.lifecycle.fakes import (
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    Create,
    FakeBucket,
    FakeProvider,
    Made,
    answer_of,
)
from tests.simulation.reach import Reach
from tests.simulation.scheduler import Scheduler

from penstock.blobs.bucket import Stat
from penstock.errors import ProviderRefused, ProviderUnclear, ProviderUnreachable
from penstock.providers.provider import ENDED, NewBatch, ProviderJob

PARTIAL = "JOB_STATE_PARTIALLY_SUCCEEDED"
EXPIRED = "JOB_STATE_EXPIRED"
QUEUED = "JOB_STATE_QUEUED"
CANCELLING = "JOB_STATE_CANCELLING"

LATE_SECONDS_MAX = 600.0
STALE_SECONDS_MAX = 20.0


class Run(Made):
    """A provider job with what will become of it."""

    outcome: str = SUCCEEDED
    rows_share: float = 1.0
    """Lines with a row, if it ends by itself."""
    cancelled_after: float = 0.0
    """Seconds from the cancel to its effect; meanwhile it is CANCELLING."""
    has_input: bool | None = None
    """Whether it found its input, once it has looked."""
    rows: dict[str, int] = msgspec.field(default_factory=dict)
    """What it delivered: the key of each answered row, and its tokens."""
    is_written: bool = False


class SimBucket(FakeBucket):
    """Remembers what objects held, for those who read them before they went."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)  # type: ignore[arg-type]  # it only asks for the time
        self.contents: dict[str, bytes] = {}

    def _write(self, name: str, data: bytes) -> None:
        super()._write(name, data)
        self.contents[name] = data

    async def put_all(self, name: str, blocks: AsyncIterator[bytes]) -> Stat:
        """Store an object; the same as `put`, without its notes."""
        whole = b"".join([block async for block in blocks])
        self._write(name, whole)
        return Stat(name=name, size=len(whole))

    async def copy(self, source: str, target: str) -> None:
        await self.stat(source)
        await super().copy(source, target)


class Vertex(FakeProvider):
    """The provider of one history."""

    def __init__(self, scheduler: Scheduler, bucket: SimBucket, seed: int, reach: Reach) -> None:
        super().__init__(scheduler, bucket)  # type: ignore[arg-type]  # as above
        self._scheduler = scheduler
        self._sim_bucket = bucket
        self._dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self._reach = reach
        self.runs: list[Run] = []
        self.refused: set[str] = set()
        """Labels whose create was refused."""
        self.lateness = 0.0
        """How much more often than usual a create lands late."""
        self.is_honest = False
        """Once set, every call does what it should."""

    async def create(self, batch: NewBatch) -> ProviderJob:
        """Take one POST."""
        self.posts.append(batch)
        dice, reach = self._dice, self._reach
        fate = 1.0 if self.is_honest else dice.random()
        if fate < 0.03:
            self.refused.add(batch.label)
            reach("create refused")
            raise ProviderRefused("The provider refused the job.")
        if fate < 0.06:
            reach("create unreachable")
            raise ProviderUnreachable("There was no connection.")
        if self.lateness and dice.random() < self.lateness:
            fate = 0.11
        plan = self._plan()
        if fate < 0.10:
            reach("create lost before it landed")
            raise ProviderUnclear("The connection broke.")
        late = 0.0
        if fate < 0.22:
            late = dice.uniform(0.0, LATE_SECONDS_MAX if fate < 0.16 else 60.0)
            reach("create lands late")
        elif fate < 0.25:
            plan.copies = 2
            reach("provider makes two")
        plan.lands_after = late
        first = len(self.made)
        for _ in range(plan.copies):
            self.land(batch, plan)
        if late or fate < 0.36:
            reach("reply lost")
            raise ProviderUnclear("The answer was lost.")
        return self._seen(self.made[first], self._scheduler.time)

    def _plan(self) -> Create:
        dice = self._dice
        return Create(
            takes_input_after=dice.choice((1.0, 30.0, dice.uniform(0.0, 400.0))),
            runs_for=dice.uniform(5.0, 500.0),
        )

    def land(self, batch: NewBatch, plan: Create) -> None:
        """Make a job with its whole future."""
        super().land(batch, plan)
        made, dice = self.made.pop(), self._dice
        fate = dice.random()
        outcome = SUCCEEDED
        if fate < 0.12:
            outcome = PARTIAL if fate < 0.06 else FAILED if fate < 0.09 else EXPIRED
        run = Run(
            name=made.name,
            batch=batch,
            lands_at=made.lands_at,
            takes_input_at=made.takes_input_at,
            ends_at=made.ends_at,
            outcome=outcome,
            rows_share=1.0 if outcome == SUCCEEDED else dice.random(),
            cancelled_after=dice.choice((0.0, 0.0, dice.uniform(0.0, 120.0))),
        )
        self.made.append(run)
        self.runs.append(run)

    async def get(self, name: str) -> ProviderJob | None:
        """Return what the job is now, or forget it for a moment."""
        if not self.is_honest:
            fate = self._dice.random()
            if fate < 0.02:
                self._reach("provider forgets a job for a moment")
                return None
            if fate < 0.04:
                raise ProviderUnreachable("The provider did not answer.")
        found = await super().get(name)
        if found is not None and found.state in ENDED:
            run = next(one for one in self.runs if one.name == name)
            if run.has_input and not run.is_written:
                self._deliver(run, found.state)
        return found

    async def find(self, label: str, location: str) -> list[ProviderJob]:
        """List as of now or of some seconds ago."""
        assert location == "global"
        at = self._scheduler.time
        if not self.is_honest:
            fate = self._dice.random()
            if fate < 0.02:
                raise ProviderUnreachable("The provider did not answer.")
            if fate < 0.30:
                at -= self._dice.uniform(0.0, STALE_SECONDS_MAX)
        mine = [one for one in self.runs if one.batch.label == label]
        known = [one for one in mine if one.lands_at <= at]
        if any(at < one.lands_at <= self._scheduler.time for one in mine):
            self._reach("stale list hides a job")
        known.sort(key=lambda one: one.lands_at)
        return [self._seen(one, at) for one in known]

    async def cancel(self, name: str) -> None:
        """Cancel; it may take a while, and the job may end first."""
        self.cancels.append(name)
        run = next(one for one in self.runs if one.name == name)
        if run.cancelled_at is None and self._seen(run, self._scheduler.time).state not in ENDED:
            run.cancelled_at = self._scheduler.time + run.cancelled_after
            if run.ends_at <= run.cancelled_at:
                self._reach("job ends in spite of its cancel")

    def settle(self) -> None:
        """Decide everything that is still open, by the end of time."""
        for run in self.runs:
            self._took_input(run)

    def _took_input(self, job: Made) -> bool:
        run = job
        assert isinstance(run, Run)
        if run.has_input is None:
            # A cancel can still come before the look at the input, so only then is it final.
            found = super()._took_input(run)
            if self._scheduler.time < run.takes_input_at:
                return found
            run.has_input = found
            self._reach("job took its input" if found else "job found no input")
        return run.has_input

    def _state(self, job: Made, at: float) -> str:
        run = job
        assert isinstance(run, Run)
        if run.cancelled_at is not None and run.cancelled_at < run.ends_at:
            if at >= run.cancelled_at:
                return CANCELLED if at < run.takes_input_at or self._took_input(run) else FAILED
            if at >= run.cancelled_at - run.cancelled_after and run.cancelled_after:
                return CANCELLING
        if at < run.takes_input_at:
            return PENDING if at > run.lands_at + 10 else QUEUED
        if not self._took_input(run):
            return FAILED
        return RUNNING if at < run.ends_at else run.outcome

    def _seen(self, job: Made, at: float) -> ProviderJob:
        run = job
        assert isinstance(run, Run)
        state = self._state(run, at)
        has_started = at >= run.takes_input_at and self._took_input(run)
        wrote = has_started and state in ENDED
        return ProviderJob(
            name=run.name,
            state=state,
            display_name=run.batch.display_name,
            created_at=f"{run.lands_at:020.6f}",
            has_started=has_started,
            output_folder=f"{run.batch.output_prefix}/x" if wrote else None,
            error_code=3 if state == FAILED else None,
            error_message="Failed to import data." if state == FAILED else "",
        )

    def _deliver(self, run: Run, state: str) -> None:
        """Write the output: an answer to each line of the input, or to some; in any order."""
        run.is_written = True
        name = run.batch.input_uri.removeprefix(self._bucket.uri(""))
        lines = self._sim_bucket.contents[name].splitlines()
        dice = self._dice
        share = run.rows_share if state == run.outcome else dice.random()
        rows = []
        for line in lines:
            row = orjson.loads(line)
            if dice.random() >= share:
                self._reach("row missing")
                continue
            row |= {"status": "", "processed_time": "2026-11-22T16:05:00.000+00:00"}
            if dice.random() < 0.05:
                row |= {"status": "Internal error", "response": {}}
                self._reach("row with an error")
            else:
                text = row["request"]["contents"][0]["parts"][0]["text"]
                tokens = dice.randrange(1, 1000)
                row["response"] = answer_of(f"answer to {text}", candidates=tokens)
                run.rows[row["key"]] = tokens
            rows.append(orjson.dumps(row))
            if dice.random() < 0.03:
                rows.append(rows[-1])
                self._reach("row twice")
        dice.shuffle(rows)
        folder = f"{run.batch.output_prefix}/x/".removeprefix(self._bucket.uri(""))
        self._sim_bucket._write(f"{folder}predictions.jsonl", b"".join(row + b"\n" for row in rows))
