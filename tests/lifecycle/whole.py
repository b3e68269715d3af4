"""Whole lives of jobs in the world of the steps: a provider that answers, and all their steps."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from tests.lifecycle.fakes import SUCCEEDED, Create, FakeProvider, Made, World, answer_of

from penstock.core.job import Job
from penstock.core.state import TERMINAL, JobState
from penstock.lifecycle.accept import PHASES
from penstock.lifecycle.durable import STEPS
from penstock.lifecycle.ports import Ports
from penstock.providers.provider import NewBatch, ProviderJob
from penstock.settings import Timing

STEPS_MAX = 60
"""More of them than any life here has."""

UNAVAILABLE = 'UNAVAILABLE {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}'
BAD_REQUEST = 'INVALID {"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}'

SELDOM = Timing(poll_seconds_min=400.0, poll_seconds_max=400.0)
"""Polls that are few, so that a life has few points of death that are all alike."""

Answer = Callable[[str, int], dict[str, Any] | None]
"""What the row of a text says at its n-th time, from 1; None for no row."""


def good(text: str, _time: int) -> dict[str, Any]:
    """Answer every line."""
    return {"response": answer_of(f"answer to {text}")}


def mended(*bad: str, status: str = UNAVAILABLE) -> Answer:
    """Refuse these texts the first time, and answer all else."""

    def answer(text: str, time: int) -> dict[str, Any]:
        return {"status": status, "response": {}} if text in bad and time == 1 else good(text, time)

    return answer


class Answering(FakeProvider):
    """Writes the rows of what it ran, when somebody first sees that it has ended."""

    def __init__(self, world: World, answer: Answer = good) -> None:
        super().__init__(world.clock, world.bucket)
        self.answer = answer
        self.sent: Counter[str] = Counter()
        """How often each text was answered, or refused, for money."""
        self._written: set[str] = set()

    def _seen(self, job: Made, at: float) -> ProviderJob:
        found = super()._seen(job, at)
        if found.state == SUCCEEDED and job.name not in self._written:
            self._written.add(job.name)
            self._write(job.batch, f"{found.output_folder}/predictions.jsonl")
        return found

    def _write(self, batch: NewBatch, uri: str) -> None:
        root = self._bucket.uri("")
        rows = []
        for line in self._bucket.objects[batch.input_uri.removeprefix(root)].splitlines():
            asked = orjson.loads(line)
            text = asked["request"]["contents"][0]["parts"][0]["text"]
            self.sent[text] += 1
            answer = self.answer(text, self.sent[text])
            if answer is not None:
                rows.append(orjson.dumps({"status": "", **asked, **answer}))
        self._bucket._write(uri.removeprefix(root), b"\n".join(rows) + b"\n")


async def live(world: World, ports: Ports, job: Job) -> Job:
    """Take all steps of a job and its shards until nothing is left to do; return its end."""
    for _ in range(STEPS_MAX):
        job = await world.now(job)
        if job.state in TERMINAL:
            return job
        await go_on(world, ports, job)
    raise AssertionError(f"{job.id} does not come to its end: {job.state}, {job.status_detail}")


async def second_round(world: World, ports: Ports, job: Job) -> Job:
    """Take the steps of a job until its second round begins."""
    while job.round == 1 and job.state not in TERMINAL:
        await go_on(world, ports, job)
        job = await world.now(job)
    assert (job.round, job.state) == (2, JobState.ACCEPTED)
    return job


async def go_on(world: World, ports: Ports, job: Job) -> None:
    """Take the steps of one phase, of the job or of one of its shards."""
    shards = await world.jobs.shards_of(job.id)
    mine = next(one for one in (*shards, job) if one.state in PHASES and not _waits(one))
    for step in STEPS[PHASES[mine.state]]:
        await step(ports, mine.id)


def texts_of(world: World, job: Job) -> list[str]:
    """Return for each line of the output its answer, or the code of what went wrong."""
    path = world.spool.path(job.id, job.output_name or "")
    found = []
    for line in path.read_bytes().splitlines():
        row = orjson.loads(line)
        if row["status"]:
            error = orjson.loads(row["status"][row["status"].find("{") :])["error"]
            found.append(str(error["code"]))
        else:
            found.append(row["response"]["candidates"][0]["content"]["parts"][0]["text"])
    return found


def files_of(world: World, job: Job) -> list[str]:
    """Return the names of the files of a job."""
    folder = world.spool._jobs / job.id
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def plans(provider: FakeProvider, *creates: Create) -> None:
    """Say what becomes of the next creates."""
    provider.plans.extend(creates)


def replaced(job: Job, **changes: Any) -> Job:  # noqa: ANN401  # whatever the fields hold
    """Return the job with other values."""
    return msgspec.structs.replace(job, **changes)


def _waits(job: Job) -> bool:
    return job.state is JobState.RUNNING and job.waits_for_shards
