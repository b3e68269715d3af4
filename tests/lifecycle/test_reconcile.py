"""reconcile: whatever became of a create, one paid job at most, and never a second POST blindly."""

from collections import deque
from collections.abc import Callable

import msgspec
import pytest
from tests.lifecycle.fakes import (
    FAILED,
    RUNNING,
    SUCCEEDED,
    Create,
    Fate,
    Killed,
    World,
    mortal,
    seen,
)

from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.errors import ProviderUnclear, ProviderUnreachable
from penstock.lifecycle.reconcile import adoptable, display_name
from penstock.lifecycle.submit import submit
from penstock.settings import Timing

HOUR = 3600.0
LOST = ProviderUnclear("the answer was lost")


def spent(world: World) -> float:
    """Seconds since the test began."""
    return world.clock.now() - world.clock.begun


async def nothing() -> None:
    """Do nothing between a list and its arrival."""


async def killed_at_create(world: World) -> Job:
    """A job whose process died while the create was under way."""
    job = await world.prepared()

    async def die() -> None:
        raise Killed

    world.provider.plans.appendleft(Create(lands_after=None, before=die))
    with pytest.raises(Killed):
        await submit(world.ports(), job.id)
    return job


async def test_a_lost_answer_is_settled_by_the_list(world: World) -> None:
    """The job that the list shows is adopted at once, and no second create is sent."""
    job = await world.prepared()
    world.provider.plans.append(Create(error=LOST))
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_job) == (JobState.RUNNING, world.provider.made[0].name)
    assert (len(world.provider.posts), spent(world)) == (1, 0.0)
    assert await world.kinds(job) == ["accepted", "intent", "adopted"]


async def test_a_create_that_lands_in_the_settle_time_is_adopted(world: World) -> None:
    """A list shows nothing at first; looking goes on and finds the late job."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=100.0, error=LOST))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.RUNNING
    assert (len(world.provider.posts), 100 <= spent(world) <= 105) == (1, True)


async def test_nothing_found_leads_through_the_fence_to_one_new_create(world: World) -> None:
    """Settle wait, input moved, fence wait, new intent: then the second create is safe."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=None, error=LOST))
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.attempt) == (JobState.RUNNING, 2)
    assert await world.kinds(job) == [
        *("accepted", "intent", "fenced", "prepared", "intent", "created"),
    ]
    assert 210 <= spent(world) < 211
    assert list(world.bucket.objects) == [f"penstock/{job.id}/a2/input.jsonl"]
    assert world.provider.posts[1].input_uri.endswith("/a2/input.jsonl")
    assert world.provider.posts[1].output_prefix.endswith("/a2/output")


async def test_a_create_after_the_fence_finds_no_input_and_is_never_adopted(world: World) -> None:
    """It lands later than anybody waits, fails for free, and the second attempt is the job."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=205.0, error=LOST, takes_input_after=20.0))
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert after.provider_job == world.provider.made[1].name
    assert [one.name for one in world.provider.paid()] == [after.provider_job]


async def test_a_create_that_took_its_input_before_the_fence_is_adopted(world: World) -> None:
    """Lists lag behind; after the fence the running job shows up and is not paid again."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=170.0, error=LOST, takes_input_after=5.0))
    world.provider.lags.extend([0.0] + [20.0] * 60)
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_job) == (JobState.RUNNING, world.provider.made[0].name)
    assert (len(world.provider.posts), len(world.provider.paid())) == (1, 1)
    assert "fenced" in await world.kinds(job)


async def test_a_fenced_job_that_still_pends_is_waited_for(world: World) -> None:
    """It may have read its input in time, so no second create is sent until it has ended."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=182.0, error=LOST, takes_input_after=1000.0))
    await submit(world.ports(), job.id)
    assert spent(world) >= 1182
    assert (await world.now(job)).provider_job == world.provider.made[1].name
    assert len(world.provider.paid()) == 1


async def test_of_two_live_jobs_the_oldest_is_kept(world: World) -> None:
    """The provider doubled a create: one is adopted, the other is cancelled and reported."""
    job = await world.prepared()
    world.provider.plans.append(Create(copies=2, error=LOST))
    await submit(world.ports(), job.id)
    first, second = world.provider.made
    assert (await world.now(job)).provider_job == first.name
    assert world.provider.cancels == [second.name]
    assert ("duplicate_cancelled", second.name) in await world.jobs.events(job.id)
    assert [one.name for one in world.provider.paid()] == [first.name]


async def test_a_restart_in_submitting_looks_before_any_post(world: World) -> None:
    """The new process knows nothing of the old one's create; the list tells it."""
    job = await killed_at_create(world)
    world.provider.land(world.provider.posts[0], Create())
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[0].name
    assert len(world.provider.posts) == 1


async def test_a_restart_without_a_job_waits_from_the_intent(world: World) -> None:
    """The settle time counts from the intent, not from the restart."""
    job = await killed_at_create(world)
    world.clock.advance(170.0)
    await submit(world.ports(), job.id)
    assert 210 <= spent(world) < 211
    assert (await world.now(job)).attempt == 2


async def fence(world: World, job: Job) -> str:
    """Commit the fence of the first attempt, as a process does that dies then."""
    target = f"gs://fake/penstock/{job.id}/a2/input.jsonl"
    assert await world.jobs.fence(job.id, 1, world.clock.now(), target)
    return target.removeprefix("gs://fake/")


async def test_a_crash_after_the_fence_commit_is_mended(world: World) -> None:
    """The fence is recorded, the input still in its place; the rerun takes it away, and waits."""
    job = await killed_at_create(world)
    target = await fence(world, job)
    world.clock.advance(1000.0)
    await submit(world.ports(), job.id)
    attempts = await world.jobs.attempts(job.id)
    assert [one.fenced_at is not None for one in attempts] == [True, False]
    assert (await world.now(job)).state is JobState.RUNNING
    assert list(world.bucket.objects) == [target]
    assert spent(world) >= 1030


async def test_a_crash_after_the_move_is_mended(world: World) -> None:
    """The input lies only in the next folder; the rerun leaves it there and uses it."""
    job = await killed_at_create(world)
    target = await fence(world, job)
    await world.bucket.copy(target.replace("/a2/", "/a1/"), target)
    await world.bucket.delete(target.replace("/a2/", "/a1/"))
    await submit(world.ports(), job.id)
    assert list(world.bucket.objects) == [target]
    assert (await world.now(job)).state is JobState.RUNNING


async def test_an_answer_that_comes_after_the_fence_is_not_recorded(world: World) -> None:
    """The create's own process was frozen; its job may be losing its input meanwhile."""
    job = await world.prepared()

    async def overtake() -> None:
        await fence(world, job)

    world.provider.plans.append(Create(before=overtake, takes_input_after=20.0))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[1].name
    assert [one.batch.display_name[-3:] for one in world.provider.paid()] == ["-a2"]


async def test_a_job_found_before_another_workers_fence_is_not_adopted(world: World) -> None:
    """Between the list and the record somebody took the input away: the record is refused."""
    job = await world.prepared()
    world.provider.plans.append(Create(error=LOST, takes_input_after=20.0, copies=2))

    async def overtake() -> None:
        await fence(world, job)

    world.provider.on_find.extend([nothing, overtake])
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[2].name
    assert world.provider.cancels == []


async def test_a_fence_that_comes_too_late_moves_nothing(world: World) -> None:
    """Somebody adopted the job while this one made up its mind: its input stays in its place."""
    job = await killed_at_create(world)
    world.clock.advance(200.0)

    async def overtake() -> None:
        await world.jobs.record_provider_job(
            job.id, 1, "theirs", world.clock.now(), only_input=job.provider_input
        )

    world.provider.on_find.append(overtake)
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == "theirs"
    assert list(world.bucket.objects) == [f"penstock/{job.id}/a1/input.jsonl"]


async def test_a_late_create_of_a_fenced_attempt_is_not_adopted(world: World) -> None:
    """What lands after the fence is dead and left alone."""
    job = await killed_at_create(world)
    await fence(world, job)
    world.provider.land(world.provider.posts[0], Create(takes_input_after=20.0))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[1].name
    assert [one.batch.display_name[-3:] for one in world.provider.paid()] == ["-a2"]


async def test_a_failed_job_with_its_input_in_place_is_adopted(world: World) -> None:
    """It failed for another reason than our fence, so it is our job and its error is ours."""
    job = await killed_at_create(world)
    batch = msgspec.structs.replace(world.provider.posts[0], input_uri="gs://fake/unreadable")
    world.provider.land(batch, Create(takes_input_after=0.0))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[0].name


async def test_an_input_that_is_nowhere_does_not_hold_the_job(world: World) -> None:
    """A bucket that somebody emptied ends in one more create, which fails at no cost."""
    job = await killed_at_create(world)
    await world.bucket.delete(f"penstock/{job.id}/a1/input.jsonl")
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.RUNNING
    assert len(world.provider.posts) == 2
    assert world.provider.paid() == []


def test_a_live_job_is_kept_before_an_older_dead_one(new_job: Callable[..., Job]) -> None:
    """Of two jobs of the same create the one that can still answer is adopted."""
    dead, live = seen("JOB_STATE_FAILED", name="old"), seen(RUNNING, name="young")
    assert [one.name for one in adoptable(new_job(), [], [dead, live])] == ["young", "old"]


def test_a_job_that_already_costs_is_kept_before_an_older_one(new_job: Callable[..., Job]) -> None:
    """Of a doubled create the one that runs is adopted: to cancel the other is free."""
    pending, running = seen("JOB_STATE_PENDING", name="old"), seen(RUNNING, name="young")
    found = adoptable(new_job(), [], [pending, running])
    assert [one.name for one in found] == ["young", "old"]


async def test_a_list_that_fails_backs_off_and_says_why(world: World) -> None:
    """An unreachable provider during reconciliation never clears the way for another create."""
    job = await killed_at_create(world)
    world.provider.find_failures.extend([ProviderUnreachable("no route")] * 8)
    await submit(world.ports(), job.id)
    assert world.clock.slept[:8] == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0]
    # It was fenced only after the lists came again, and the fence wait was kept.
    assert spent(world) == sum(world.clock.slept)
    assert spent(world) >= 366 + 30


async def test_a_cancel_during_the_wait_ends_without_a_job(world: World) -> None:
    """The cancel does not shorten the waits that make the answer certain."""
    job = await killed_at_create(world)
    world.clock.at(50, world.cancel(job))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert spent(world) >= 210
    assert len(world.provider.posts) == 1


async def test_a_cancel_during_the_wait_reaches_a_job_that_is_found(world: World) -> None:
    """A late job is adopted all the same, so that it can be cancelled and its rows kept."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=100.0, error=LOST))
    world.clock.at(50, world.cancel(job))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.RUNNING


async def test_a_cancelled_job_ends_the_pending_one_of_its_fence(world: World) -> None:
    """A fenced job that pends is told to end, and its end is awaited before ours."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=182.0, error=LOST, takes_input_after=1e6))
    world.clock.at(300, world.cancel(job))
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert world.provider.cancels == [world.provider.made[0].name]
    assert (world.provider.live(), spent(world) < 320) == ([], True)


async def test_the_queue_limit_ends_a_job_that_never_lands(world: World) -> None:
    """Expiry is decided only after the fence, and with the expiry's own code."""
    job = await killed_at_create(world)
    world.clock.advance(73 * HOUR)
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "queue_expired")
    assert "fenced" in await world.kinds(job)


async def test_a_list_from_before_the_fence_wait_proves_nothing(world: World) -> None:
    """The process froze over its list; what that did not show may have landed since."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=170.0, error=LOST, takes_input_after=5.0))
    world.provider.lags.extend([30.0] * 60)
    world.clock.at(50, world.cancel(job))

    async def freeze() -> None:
        assert (await world.jobs.attempts(job.id))[0].fenced_at is not None
        world.clock.advance(60.0)

    # One look before the intent, then one every five seconds: this one is at 195 seconds.
    world.provider.on_find.extend([nothing] * 40 + [freeze])
    await submit(world.ports(), job.id)
    assert (await world.now(job)).provider_job == world.provider.made[0].name


async def test_a_list_from_before_the_settle_time_does_not_fence(world: World) -> None:
    """After a freeze the list is asked again before the input is taken away."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=20.0, error=LOST))

    async def freeze() -> None:
        world.clock.advance(200.0)

    world.provider.on_find.extend([nothing] * 3 + [freeze])
    await submit(world.ports(), job.id)
    assert await world.kinds(job) == ["accepted", "intent", "adopted"]


async def test_a_job_that_ended_before_it_was_found_is_adopted(world: World) -> None:
    """After hours without a list the finished job's answers are taken, not bought anew."""
    job = await world.prepared()

    async def outage() -> None:
        world.provider.find_failures.extend([ProviderUnreachable("no route")] * 3)

    world.provider.plans.append(Create(error=LOST, before=outage))
    await submit(world.ports(timing=Timing(retry_seconds_min=HOUR)), job.id)
    (made,) = world.provider.made
    assert (await world.now(job)).provider_job == made.name
    assert (world.provider.live(), len(world.provider.posts)) == ([], 1)


async def test_a_second_unclear_create_is_fenced_like_the_first(world: World) -> None:
    """Attempts go on, each with its own folder, until one is settled."""
    job = await world.prepared()
    world.provider.plans.extend([Create(lands_after=None, error=LOST)] * 2)
    await submit(world.ports(), job.id)
    assert (await world.now(job)).attempt == 3
    assert list(world.bucket.objects) == [f"penstock/{job.id}/a3/input.jsonl"]


async def test_a_fenced_job_that_failed_with_rows_counts(
    world: World,
) -> None:
    """It read its input before it was taken away, and what it wrote is paid for."""
    job = await killed_at_create(world)
    await fence(world, job)
    name = display_name(job.id, 1)
    found = [seen(FAILED, display_name=name, has_started=True, output_folder="gs://fake/o")]
    assert adoptable(job, await world.jobs.attempts(job.id), found) == found


@pytest.mark.parametrize(
    ("state", "has_started", "adopted"),
    [
        (RUNNING, False, True),
        (SUCCEEDED, True, True),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", True, True),
        ("JOB_STATE_PAUSED", True, True),
        ("JOB_STATE_CANCELLING", True, True),
        ("JOB_STATE_PENDING", False, False),
        ("JOB_STATE_QUEUED", False, False),
        (FAILED, True, False),
        ("JOB_STATE_CANCELLED", True, False),
        ("JOB_STATE_EXPIRED", False, False),
    ],
)
async def test_which_fenced_jobs_count(
    world: World, *, state: str, adopted: bool, has_started: bool
) -> None:
    """Of a fenced attempt only a job that certainly took its input is ours to keep."""
    job = await killed_at_create(world)
    await world.jobs.fence(job.id, 1, world.clock.now(), "gs://fake/a2")
    found = [seen(state, display_name=display_name(job.id, 1), has_started=has_started)]
    kept = adoptable(job, await world.jobs.attempts(job.id), found)
    assert kept == (found if adopted else [])


async def test_killed_anywhere_once_it_is_still_one_job(world: World) -> None:
    """A crash before or after any call of a submission with a lost answer pays once."""
    ports = world.ports(timing=Timing(settle_seconds=10.0, fence_seconds=5.0))
    for kill_at in range(1, 200):
        job = await world.prepared()
        world.provider.made.clear()
        world.provider.plans = deque([Create(lands_after=None, error=LOST)])
        fate = Fate(kill_at)
        try:
            await submit(mortal(ports, fate.point), job.id)
        except Killed:
            await submit(ports, job.id)
        else:
            assert kill_at > fate.passed > 50
            return
        assert (await world.now(job)).state is JobState.RUNNING
        assert len(world.provider.paid()) == 1
    raise AssertionError("the submission never got to its end")
