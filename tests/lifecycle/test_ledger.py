"""What is billed is the usage of the delivered rows, whoever collects, dies or is late."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fake_clock import START
from tests.lifecycle.fakes import (
    CANCELLED,
    NAME,
    SUCCEEDED,
    Killed,
    World,
    answer_of,
    input_of,
    ledger,
    request_of,
    row_of,
)

from penstock.blobs.bucket import Bucket
from penstock.core.job import Attempt, Counts, Job, JobId, new_job_id
from penstock.core.line import TOKENS_MAX
from penstock.core.state import JobState
from penstock.lifecycle.collect import collect
from penstock.lifecycle.ports import Ports
from penstock.store.jobs import Finish, Jobs
from penstock.store.store import Store

ATTEMPT = 2
COLLECTORS = 3
MODELS = {"gemini-3-flash-preview": (250_000, 1_500_000), "a-model-of-unknown-price": None}
"""Micro-dollars per million tokens of input and output; written out, so that nothing is shared."""

WRONG: tuple[Any, ...] = (-1, 1.5, "3", 2**63, TOKENS_MAX + 1, True, [], {})
"""Token counts that are none."""

PAID = {"answer", "twice", "thrice", "truncated", "blocked"}
"""The kinds of rows whose tokens are billed, once a line."""
FREE = {"no_usage", "empty"}
"""Delivered, and nothing to bill for."""
LOST = {"missing", "foreign"}
"""Lines that have no row of their own."""
FAILED = {"failed", "wrong_usage", "differ", "garbage", "other_request"}
"""Lines that end as an error and cost nothing, whatever tokens the row names."""


class Line(msgspec.Struct, frozen=True):
    """One line: what the provider gives for it."""

    kind: str
    prompt: int
    candidates: int
    thoughts: int
    wrong: Any
    wrong_place: str

    def rows(self, job_id: JobId, number: int) -> list[bytes]:
        """The provider's rows for the line."""
        text = f"t{number}"
        row = row_of(job_id, number, text, response=self._response(f"answer {number}"))
        others = {
            "twice": [row] * 2,
            "thrice": [row] * 3,
            "differ": [row, row_of(job_id, number, text, response=self._response("another"))],
            "failed": [
                row_of(
                    job_id, number, text, status="Error.", response=self._response("for nothing")
                )
            ],
            "missing": [],
            "foreign": [row_of(new_job_id(), number, text, response=self._response("theirs"))],
            "garbage": [row[: len(row) // 2]],
            "other_request": [
                row_of(
                    *(job_id, number, text),
                    request=request_of("something else"),
                    response=self._response("to it"),
                )
            ],
        }
        return others.get(self.kind, [row])

    def _response(self, text: str) -> dict[str, Any]:
        response = answer_of(text)
        usage: dict[str, Any] = {
            "promptTokenCount": self.prompt,
            "candidatesTokenCount": self.candidates,
            "thoughtsTokenCount": self.thoughts,
        }
        if self.kind == "wrong_usage":
            usage[self.wrong_place] = self.wrong
        response["usageMetadata"] = usage
        if self.kind in {"no_usage", "empty"}:
            del response["usageMetadata"]
        if self.kind == "truncated":
            response["candidates"][0]["finishReason"] = "MAX_TOKENS"  # type: ignore[index]
        if self.kind == "empty":
            response["candidates"] = [{"finishReason": "STOP"}]
        if self.kind == "blocked":
            response["promptFeedback"] = {"blockReason": "SAFETY"}
            del response["candidates"]
        return response


TOKENS = st.integers(0, 100_000)
LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(sorted(PAID | FREE | LOST | FAILED)),
        *(TOKENS, TOKENS, TOKENS),
        st.sampled_from(WRONG),
        st.sampled_from(("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")),
    ),
    min_size=1,
    max_size=8,
)
SCHEDULE = st.lists(
    st.tuples(
        st.integers(0, COLLECTORS),
        st.sampled_from(("go", "go", "go", "go", "die before", "die after")),
    ),
    max_size=50,
)


class Stage:
    """Lets one worker at a time make one call, in the order of a schedule."""

    def __init__(self) -> None:
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._arrived = asyncio.Event()

    async def play(
        self, work: Iterable[Callable[[], Awaitable[None]]], schedule: list[tuple[int, str]]
    ) -> None:
        """Play the schedule; whoever is not done then dies where it stands."""
        for number, one in enumerate(work):
            self._workers[number] = asyncio.create_task(self._run(one))
            await self._settle(number)
        for number, action in [*schedule, *((one, "die before") for one in self._workers)]:
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.set_result(action)
                await self._settle(number)
        await asyncio.gather(*self._workers.values())

    async def call(self, number: int, made: Callable[[], Awaitable[object]]) -> object:
        """Make the call when it is this worker's turn, or die at it."""
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self._arrived.set()
        action = await self._waiting[number]
        if action == "die before":
            raise Killed
        result = await made()
        if action == "die after":
            raise Killed
        return result

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Killed:
            return

    async def _settle(self, number: int) -> None:
        """Wait until the worker asks for its next turn, or is done."""
        while number not in self._waiting and not self._workers[number].done():
            self._arrived.clear()
            arrival = asyncio.create_task(self._arrived.wait())
            await asyncio.wait(
                {arrival, self._workers[number]}, return_when=asyncio.FIRST_COMPLETED
            )
            arrival.cancel()


class Staged:
    """A port whose calls wait for their worker's turn."""

    def __init__(self, inner: object, stage: Stage, number: int) -> None:
        self._inner = inner
        self._stage = stage
        self._number = number

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the port has
        found = getattr(self._inner, name)
        if not iscoroutinefunction(found):
            return found

        async def call(*given: object, **named: object) -> object:
            return await self._stage.call(self._number, partial(found, *given, **named))

        return call


def staged(ports: Ports, stage: Stage, number: int) -> Ports:
    """The ports of one worker."""
    return msgspec.structs.replace(
        ports,
        jobs=cast(Jobs, Staged(ports.jobs, stage, number)),
        bucket=cast(Bucket, Staged(ports.bucket, stage, number)),
    )


async def be_late(jobs: Jobs, job: Job) -> None:
    """Write all that a process may write that woke up with what it knew of an older attempt."""
    wrong = Finish(
        state=JobState.SUCCEEDED,
        detail="Stale.",
        counts=Counts(ok=9, prompt_tokens=10**6),
        cost_micro_dollars=10**9,
    )
    late = ATTEMPT - 1
    again = Attempt(
        job_id=job.id,
        number=ATTEMPT + 1,
        intent_at=START,
        input_uri="gs://fake/late",
        output_prefix="gs://fake/late",
        label=job.id,
    )
    written = [
        await jobs.finish(job.id, START, wrong, only_attempt=late),
        await jobs.fence(job.id, ATTEMPT, START, "gs://fake/late"),
        await jobs.record_provider_job(job.id, late, "late", START, only_input=None),
        await jobs.move(job.id, JobState.PREPARED, START, only_attempt=late),
        await jobs.intend(again),
        await jobs.finish(job.id, START, wrong, only_attempt=late),
    ]
    assert written == [False] * 6


def shards_of(found: list[bytes], cuts: list[int]) -> list[bytes]:
    """The rows in files."""
    places = sorted({0, len(found), *(cut % (len(found) + 1) for cut in cuts)})
    return [
        b"".join(row + b"\n" for row in found[begin:end])
        for begin, end in zip(places, places[1:] or places, strict=False)
    ]


def bill_of(lines: list[Line], model: str) -> tuple[int, int, int, int, int | None]:
    """What the ledger has to say, counted by hand."""
    paid = [line for line in lines if line.kind in PAID]
    prompt = sum(line.prompt for line in paid)
    # A blocked prompt's row names what its judge says, like any other.
    output = sum(line.candidates + line.thoughts for line in paid)
    price = MODELS[model]
    cost = None
    if price is not None:
        cost = (prompt * price[0] + output * price[1] + 500_000) // 1_000_000
    delivered = [line for line in lines if line.kind in PAID | FREE]
    return ATTEMPT, len(delivered), prompt, output, cost


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=LINES,
    schedule=SCHEDULE,
    cuts=st.lists(st.integers(0, 30), max_size=2),
    random=st.randoms(use_true_random=False),
    model=st.sampled_from(sorted(MODELS)),
    state=st.sampled_from((SUCCEEDED, CANCELLED)),
)
async def test_the_bill_is_the_usage_of_what_was_delivered(
    world: World,
    quick_store: Store,
    lines: list[Line],
    schedule: list[tuple[int, str]],
    cuts: list[int],
    random: Any,  # noqa: ANN401  # a Random
    model: str,
    state: str,
) -> None:
    """Three collectors and a late process, killed anywhere, any rows in any order: one right bill.

    Ledger, job and counts say the same, and an unknown price is unknown and not zero.
    """
    job = await world.with_input(
        input_of(f"t{number}" for number in range(1, len(lines) + 1)),
        state="collecting",
        attempt=ATTEMPT,
        provider_job=NAME,
        provider_state=state,
        provider_output=world.bucket.uri("out/x"),
        model=model,
    )
    found = [row for number, line in enumerate(lines, 1) for row in line.rows(job.id, number)]
    random.shuffle(found)
    world.bucket.objects.clear()
    for number, shard in enumerate(shards_of(found, cuts)):
        name = f"out/x/predictions.jsonl-{number:05d}-of-00003"
        world.bucket.objects[name] = shard
    ports = world.ports()
    stage = Stage()
    workers: list[Callable[[], Awaitable[None]]] = [
        partial(collect, staged(ports, stage, number), job.id) for number in range(COLLECTORS)
    ]
    workers.append(partial(be_late, staged(ports, stage, COLLECTORS).jobs, job))
    await stage.play(workers, schedule)
    await collect(ports, job.id)

    after = await world.now(job)
    has_rows = any(line.kind not in LOST for line in lines)
    expected = [bill_of(lines, model)] if has_rows or state == SUCCEEDED else []
    assert await ledger(quick_store, job) == expected
    assert after.cost_micro_dollars == (expected[0][-1] if expected else None)
    if expected:
        assert after.counts is not None
        assert (after.counts.successful, after.counts.prompt_tokens) == expected[0][1:3]
        counts = after.counts
        assert counts.successful + counts.failed + counts.unfinished == len(lines)
