"""What the history says of all jobs, on both databases: times and counts, and never whose."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.fake_clock import START, FakeClock
from tests.store.driver import PROVIDER_JOB, look
from tests.webhooks.driver import add_webhook, claim

from penstock.core.job import Counts, Job
from penstock.core.state import JobState
from penstock.core.waiting import Past, Percentiles, Samples, WaitingRules, percentiles
from penstock.store.history import Figures, History, OpenTime, Pasts, Place, ShardsNow
from penstock.store.store import Store

MakeJob = Callable[..., Job]
MODEL = "gemini-3-flash-preview"
DAY = 86_400.0


async def add(store: Store, new_job: MakeJob, state: str = "accepted", **changes: Any) -> Job:  # noqa: ANN401  # fields of a job
    """Commit a job in a state; what the state needs is there."""
    if state in {"running", "collecting"}:
        changes.setdefault("provider_job", PROVIDER_JOB)
    if state in {"succeeded", "failed", "cancelled"}:
        changes.setdefault("finished_at", START)
        changes.setdefault("updated_at", changes["finished_at"])
    org = changes.setdefault("org_id", "acme")
    job = new_job(state=JobState(state), user_id=f"{org}-user", **changes)
    await store.jobs.add(job)
    return job


async def past(store: Store, limit: int = 100, now: float = START) -> Past:
    """What became of the jobs of the model."""
    return await store.history.past(MODEL, limit, now)


async def test_waits_and_runs_of_all_organisations_count(store: Store, new_job: MakeJob) -> None:
    """Of one model, whoever's jobs they were, the open ones as long as they have lasted."""
    for number, org in enumerate(("acme", "rival", "acme")):
        await add(
            store,
            new_job,
            "succeeded",
            org_id=org,
            created_at=START - 100,
            running_since=START - 90 + number,
            finished_at=START - 10,
        )
    await add(store, new_job, "succeeded", model="gemini-2.5-pro", finished_at=START)
    await add(store, new_job, created_at=START - 95)
    found = await past(store)
    assert found.samples(3) == Samples(waits=3, runs=3, by_size=False)
    assert percentiles(found.waits) == Percentiles(p50=11, p90=None, p95=None)
    assert percentiles(found.all_runs) == Percentiles(p50=79, p90=None, p95=None)
    # One that has waited for longer than all of them takes its share from none of them.
    assert (await past(store, now=START + 1_000)).waits.percentile(0.76) is None


async def test_a_job_that_was_cut_counts_by_its_shards(store: Store, new_job: MakeJob) -> None:
    """The parent waits for nobody but them, so it is no sample; a shard is one like any job."""
    times = {"created_at": START - 9, "running_since": START - 5}
    parent = await add(store, new_job, "running", provider_job="shards/2", **times)
    for number in range(2):
        await add(store, new_job, "succeeded", parent_id=parent.id, first_line=number, **times)
    assert (await past(store)).samples(3) == Samples(waits=2, runs=2, by_size=False)


async def test_a_later_round_counts_from_its_beginning(store: Store, new_job: MakeJob) -> None:
    """How many lines it sent is not known, so it speaks for no size."""
    for _ in range(30):
        await add(
            store,
            new_job,
            "succeeded",
            round=2,
            round_began_at=START - 50,
            created_at=START - DAY,
            running_since=START - 20,
        )
    found = await past(store)
    assert found.waits.percentile(1.0) == 30
    assert found.samples(3) == Samples(waits=30, runs=30, by_size=False)


async def test_of_many_open_jobs_some_stand_for_all(store: Store, new_job: MakeJob) -> None:
    """Beyond the limit each that is looked at counts for several."""
    for _ in range(2):
        times = {"created_at": START - 40, "running_since": START - 35}
        await add(store, new_job, "succeeded", **times)
    for _ in range(6):
        await add(store, new_job, created_at=START - 25)
    for limit in (3, 100):
        waits = (await past(store, limit)).waits
        # Two of eight, and not of five.
        assert (waits.percentile(0.25), waits.percentile(0.26)) == (5, None)


async def test_of_many_ends_the_last_ones_count(store: Store, new_job: MakeJob) -> None:
    """Beyond the limit time counts from the first of these ends on, which is then no sample."""
    for number in range(6):
        times = {"created_at": START - 40, "running_since": START - 30}
        await add(store, new_job, "succeeded", finished_at=START - number, **times)
    found = await past(store, 3)
    # All were through their wait by then.
    assert found.samples(3) == Samples(waits=0, runs=2, by_size=False)
    assert (found.all_runs.percentile(0.4), found.all_runs.percentile(1.0)) == (29, 30)


async def test_the_place_in_line_is_that_of_the_lifecycle(store: Store, new_job: MakeJob) -> None:
    """By state, priority and age within the organisation; others' jobs are not in the line."""
    first = await add(store, new_job, "prepared", created_at=START + 9, priority=500)
    urgent = await add(store, new_job, created_at=START + 5, priority=1)
    older = await add(store, new_job, created_at=START + 1)
    younger = await add(store, new_job, created_at=START + 2)
    await add(store, new_job, org_id="rival", priority=1)
    await add(store, new_job, "running")
    await add(store, new_job, "running", provider_job="shards/1")
    await add(store, new_job, "running", parent_id=older.id)
    await add(store, new_job, "prepared", parent_id=older.id)
    await add(store, new_job, "succeeded")
    order = [first, urgent, older, younger]
    places = [await store.history.place(job) for job in order]
    assert places == [Place(before=n, waiting=4, at_provider=2) for n in range(4)]


async def test_how_far_shards_are(store: Store, new_job: MakeJob) -> None:
    """Counted by what they do, with the last one that began to run and has not ended."""
    parent = await add(store, new_job, "running", provider_job="shards/4")
    mine = {"parent_id": parent.id}
    await add(store, new_job, "succeeded", running_since=START + 9, **mine)
    await add(store, new_job, "running", running_since=START + 1, **mine)
    await add(store, new_job, "running", running_since=START + 2, **mine)
    await add(store, new_job, "prepared", **mine)
    found = await store.history.shards(parent)
    assert found == ShardsNow(total=4, ended=1, pending=1, running_since=START + 2)


def seen(job: Job, told: Job | None = None) -> OpenTime:
    """A job as the watchdog sees it."""
    return OpenTime(
        id=job.id,
        told_id=(told or job).id,
        model=job.model,
        line_count=job.line_count,
        began_at=job.created_at if job.round_began_at is None else job.round_began_at,
        running_since=job.running_since,
    )


async def test_what_a_watchdog_looks_at(store: Store, new_job: MakeJob) -> None:
    """What goes on, began before then and is not told of in its round; of a parent its shards."""
    waits = await add(store, new_job, created_at=START - 9)
    runs = await add(store, new_job, "running", created_at=START - 8, running_since=START - 5)
    parent = await add(store, new_job, "running", created_at=START - 7, provider_job="shards/1")
    shard = await add(store, new_job, "prepared", created_at=START - 6, parent_id=parent.id)
    again = await add(
        store, new_job, created_at=START - 99, slow_at=START - 20, round=2, round_began_at=START - 5
    )
    await add(store, new_job, created_at=START)
    await add(store, new_job, created_at=START - 9, slow_at=START - 1)
    await add(store, new_job, "collecting", created_at=START - 9)
    await add(store, new_job, "succeeded", created_at=START - 9)
    await add(store, new_job, created_at=START - 9, cancel_requested_at=START - 1)
    told = await add(store, new_job, "running", provider_job="shards/1", slow_at=START - 1)
    await add(store, new_job, "prepared", created_at=START - 6, parent_id=told.id)
    found = await store.history.open_times(START - 1)
    assert found == [seen(waits), seen(runs), seen(shard, parent), seen(again)]


async def test_a_slow_job_is_told_once(stores: list[Store], new_job: MakeJob) -> None:
    """Of several that see it one writes: time, event and what webhooks are told, together."""
    store = stores[0]
    await add_webhook(store)
    await add_webhook(store, events="job.failed")
    job = await add(store, new_job, created_at=START - 9, labels={"team": "ads"})
    marked = await asyncio.gather(
        *(one.history.mark_slow(seen(job), START, "It waits.") for one in stores)
    )
    assert sorted(marked) == [False, False, False, True]
    loaded = await store.jobs.load(job.id)
    assert loaded is not None
    assert (loaded.slow_at, loaded.updated_at, loaded.state) == (START, START, JobState.ACCEPTED)
    assert ("slow", "It waits.") in await store.jobs.events(job.id)
    (delivery,) = await claim(store)
    event = msgspec.json.decode(delivery.body)
    assert (event["type"], event["data"]["reason"]) == ("job.slow", "It waits.")
    assert event["data"]["labels"] == job.labels
    assert event["data"]["request_id"] == job.id


async def test_of_a_shard_its_parent_is_told(store: Store, new_job: MakeJob) -> None:
    """The row, the event and what is told are the parent's, because no tenant sees shards."""
    await add_webhook(store)
    parent = await add(store, new_job, "running", provider_job="shards/2")
    shards = [await add(store, new_job, "prepared", parent_id=parent.id) for _ in range(2)]
    assert await store.history.mark_slow(seen(shards[0], parent), START, "It waits.")
    assert not await store.history.mark_slow(seen(shards[1], parent), START, "It waits.")
    slow = look(store, "SELECT id FROM jobs WHERE slow_at IS NOT NULL")
    assert slow == [(parent.id,)]
    (delivery,) = await claim(store)
    assert msgspec.json.decode(delivery.body)["data"]["request_id"] == parent.id


@pytest.mark.parametrize(
    "meanwhile",
    [
        "running_since = 1795363200.0",
        "cancel_requested_at = 1",
        "state = 'failed', finished_at = 1",
        "round_began_at = 1795363199.5",
        "slow_at = 1",
    ],
)
async def test_what_went_on_meanwhile_is_not_slow(
    store: Store, new_job: MakeJob, meanwhile: str
) -> None:
    """A job that is no longer where it was seen is left alone, and nobody is told."""
    await add_webhook(store)
    job = await add(store, new_job, created_at=START - 9)
    look(store, f"UPDATE jobs SET {meanwhile}")  # noqa: S608  # the test's own words
    assert not await store.history.mark_slow(seen(job), START, "It waits.")
    assert look(store, "SELECT count(*) FROM deliveries") == [(0,)]
    assert "slow" not in dict(await store.jobs.events(job.id))


async def test_figures_are_counts_over_all(store: Store, new_job: MakeJob) -> None:
    """Open jobs by state, what ended in the span, its lines, and what webhooks wait for."""
    await add_webhook(store)
    await add(store, new_job, created_at=START - 50)
    await add(store, new_job, org_id="rival", created_at=START - 70, slow_at=START - 1)
    parent = await add(store, new_job, "running", created_at=START - 5, provider_job="shards/1")
    await add(store, new_job, "running", created_at=START - 99, parent_id=parent.id)
    counts = Counts(ok=2, error=1)
    await add(store, new_job, "succeeded", counts=counts, finished_at=START - 9)
    await add(store, new_job, "succeeded", counts=counts, org_id="rival", finished_at=START - 9)
    await add(store, new_job, "failed", finished_at=START - 9, model="gemini-2.5-pro")
    await add(store, new_job, "failed", counts=counts, finished_at=START - DAY - 1)
    slow = await add(store, new_job, created_at=START - 9)
    assert await store.history.mark_slow(seen(slow), START, "It waits.")
    found = await store.history.figures(START, DAY)
    lines = {name: number for name, number in found.outcomes.items() if number}
    assert lines == {"ok": 4, "error": 2}
    assert msgspec.structs.replace(found, outcomes={}) == Figures(
        open_jobs={"accepted": 3, "running": 1},
        oldest_at={"accepted": START - 70, "running": START - 5},
        slow_jobs=2,
        ended_jobs={"succeeded": 2, "failed": 1},
        outcomes={},
        deliveries=1,
        models=("gemini-2.5-pro", MODEL),
    )


class Counted(History):
    """A history that says how often it was asked."""

    asked = 0

    async def past(self, model: str, limit: int, now: float) -> Past:
        """Look, and count it."""
        self.asked += 1
        return await super().past(model, limit, now)


async def test_a_past_is_looked_for_once_in_some_seconds(store: Store, new_job: MakeJob) -> None:
    """However many ask at once; each model has its own."""
    history, clock = Counted(store._engine), FakeClock()
    pasts = Pasts(history, clock, WaitingRules(cache_seconds=10))
    await asyncio.gather(*(pasts.of(MODEL) for _ in range(20)))
    await pasts.of("gemini-2.5-pro")
    assert history.asked == 2
    await add(store, new_job, "succeeded", created_at=START - 9)
    clock.advance(9.9)
    assert (await pasts.of(MODEL)).waits.count == 0
    clock.advance(0.1)
    assert (await pasts.of(MODEL)).waits.count == 1
    assert history.asked == 3
