"""wait: polls until the provider ends the job, whatever it says meanwhile."""

import contextlib

import pytest
from tests.lifecycle.fakes import (
    CANCELLED,
    FAILED,
    NAME,
    PENDING,
    RUNNING,
    SUCCEEDED,
    Act,
    Fate,
    Killed,
    ScriptedProvider,
    World,
    mortal,
    seen,
)

from penstock.core.job import StopReason
from penstock.core.state import JobState
from penstock.errors import ProviderUnreachable
from penstock.lifecycle.wait import wait
from penstock.providers.provider import ENDED, NOT_ENDED, ProviderJob
from penstock.settings import Timing

HOUR = 3600.0
DONE = seen(SUCCEEDED, output_folder="gs://fake/out/x")
NO_ANSWER = ProviderUnreachable("Vertex AI did not answer")


def spent(world: World) -> float:
    """Seconds since the test began."""
    return world.clock.now() - world.clock.begun


@pytest.mark.parametrize("state", sorted(ENDED))
async def test_each_ended_state_is_collected(world: World, state: str) -> None:
    """Every state that ends a provider job leads to COLLECTING, PARTIALLY_SUCCEEDED included."""
    job = await world.running()
    provider = ScriptedProvider(seen(PENDING), seen(state, output_folder="gs://fake/out/x"))
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_state) == (JobState.COLLECTING, state)
    assert (after.provider_output, provider.gets) == ("gs://fake/out/x", 2)


@pytest.mark.parametrize("state", sorted(NOT_ENDED))
async def test_each_other_state_is_waited_for(world: World, state: str) -> None:
    """A state that does not end the job keeps it processing."""
    job = await world.running()
    provider = ScriptedProvider(seen(state), seen(state), DONE)
    await wait(world.ports(provider=provider), job.id)
    assert provider.gets == 3
    assert "unknown_provider_state" not in await world.kinds(job)


async def test_it_is_known_since_when_the_provider_says_so(world: World) -> None:
    """The time is that of the first poll with the state, and moves with the next state alone."""
    job = await world.running(provider_state_since=world.clock.now() - 9)
    since: list[float | None] = []

    async def look() -> None:
        since.append((await world.now(job)).provider_state_since)

    for at in (2, 7, 12, 17):
        world.clock.at(at, look)
    story = (seen(PENDING), seen(RUNNING), seen(RUNNING), seen(RUNNING), DONE)
    await wait(world.ports(provider=ScriptedProvider(*story)), job.id)
    begun = world.clock.begun
    assert since == [begun - 9, begun + 5, begun + 5, begun + 5]
    after = await world.now(job)
    assert (after.provider_state, after.provider_state_since) == (SUCCEEDED, begun + 20)


async def test_a_failure_keeps_the_providers_words(world: World) -> None:
    """Code and message of the provider's error are on the job before anything is collected."""
    job = await world.running()
    failed = seen(FAILED, error_code=3, error_message="Failed to import data.")
    await wait(world.ports(provider=ScriptedProvider(failed)), job.id)
    after = await world.now(job)
    assert (after.error_code, after.error_message) == (
        "provider_error_3",
        "Failed to import data.",
    )


async def test_an_unknown_state_is_reported_once_and_polling_goes_on(world: World) -> None:
    """A state that nobody has heard of becomes an event, not an end."""
    job = await world.running()
    provider = ScriptedProvider(seen("JOB_STATE_DREAMING"), seen("JOB_STATE_DREAMING"), DONE)
    await wait(world.ports(provider=provider), job.id)
    events = await world.jobs.events(job.id)
    assert [one for one in events if one[0] == "unknown_provider_state"] == [
        ("unknown_provider_state", "JOB_STATE_DREAMING")
    ]
    assert (await world.now(job)).state is JobState.COLLECTING


async def test_an_unknown_state_stands_on_the_job(world: World) -> None:
    """The owner reads the strange word while the job waits."""
    job = await world.running()
    details = []

    async def look() -> None:
        details.append((await world.now(job)).status_detail)

    world.clock.at(1, look)
    await wait(world.ports(provider=ScriptedProvider(seen("JOB_STATE_DREAMING"), DONE)), job.id)
    assert details == ["The provider reports the unknown state JOB_STATE_DREAMING."]


async def test_a_job_going_backwards_is_followed(world: World) -> None:
    """RUNNING, then PENDING again, then done: only the end counts."""
    job = await world.running()
    story = [seen(RUNNING, has_started=True), seen(PENDING), seen("JOB_STATE_CANCELLING"), DONE]
    await wait(world.ports(provider=ScriptedProvider(*story)), job.id)
    after = await world.now(job)
    assert (after.state, after.running_since) == (JobState.COLLECTING, world.clock.begun)


async def test_a_job_that_is_unknown_for_a_while_comes_back(world: World) -> None:
    """Stale reads of a confirmed job are waited out."""
    job = await world.running()
    provider = ScriptedProvider(seen(PENDING), None, None, None, DONE)
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.COLLECTING, None)


async def test_an_unknown_job_is_asked_for_less_and_less_often(world: World) -> None:
    """Not being known backs off like any other failure."""
    job = await world.running()
    await wait(world.ports(provider=ScriptedProvider(*[None] * 4, DONE)), job.id)
    assert world.alarm.waited[:4] == [2.0, 4.0, 8.0, 16.0]


async def test_a_job_that_stays_unknown_is_lost(world: World) -> None:
    """After `lost_seconds` it goes to collection as failed, with a code of its own."""
    job = await world.running()
    await wait(world.ports(provider=ScriptedProvider(None)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.COLLECTING, "provider_lost_job")
    assert (after.provider_state, 900 <= spent(world) < 1100) == (FAILED, True)


async def test_being_known_again_starts_the_loss_anew(world: World) -> None:
    """Two absences that are short each do not add up to a loss."""
    job = await world.running()
    story: list[ProviderJob | None] = [*[None] * 9, seen(PENDING), *[None] * 9, DONE]
    await wait(world.ports(provider=ScriptedProvider(*story)), job.id)
    assert (await world.now(job)).error_code is None
    assert spent(world) > 900


async def test_errors_back_off_and_start_over(world: World) -> None:
    """The delay doubles with each error and falls back after an answer."""
    job = await world.running()
    story: list[ProviderJob | Exception] = [
        NO_ANSWER,
        NO_ANSWER,
        NO_ANSWER,
        seen(PENDING),
        NO_ANSWER,
        DONE,
    ]
    await wait(world.ports(provider=ScriptedProvider(*story)), job.id)
    assert world.alarm.waited == [2.0, 4.0, 8.0, 5.0, 2.0, 0.0]


async def test_an_error_stands_on_the_job(world: World) -> None:
    """The owner reads why nothing moves."""
    job = await world.running()
    details = []

    async def look() -> None:
        details.append((await world.now(job)).status_detail)

    world.clock.at(1, look)
    await wait(world.ports(provider=ScriptedProvider(NO_ANSWER, DONE)), job.id)
    assert details == [NO_ANSWER.message]


async def test_polls_grow_apart_within_bounds(world: World) -> None:
    """A young job is polled every five seconds, an old one every minute, never outside."""
    job = await world.running()
    await wait(world.ports(provider=ScriptedProvider(*[seen(PENDING)] * 100, DONE)), job.id)
    waited = world.alarm.waited[:-1]
    assert waited == sorted(waited)
    assert (waited[0], waited[-1]) == (5.0, 60.0)
    assert any(5.0 < one < 60.0 for one in waited)


async def test_a_cancel_is_passed_on_once(world: World) -> None:
    """The owner's wish reaches the provider in one call, and polling goes on to its end."""
    job = await world.running()
    await world.cancel(job)()
    story = [seen(RUNNING, has_started=True), *[seen("JOB_STATE_CANCELLING")] * 5]
    provider = ScriptedProvider(*story, seen(CANCELLED))
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (provider.cancels, after.stop_reason) == ([NAME], StopReason.CANCELLED)
    assert (after.state, provider.gets) == (JobState.COLLECTING, 7)


async def test_a_cancel_that_fails_is_passed_on_again(world: World) -> None:
    """An error on the way means that the provider does not know yet; the retry backs off."""
    job = await world.running()
    await world.cancel(job)()
    provider = ScriptedProvider(*[seen(PENDING)] * 3, seen(CANCELLED))
    provider.cancel_failures.extend([NO_ANSWER, NO_ANSWER])
    await wait(world.ports(provider=provider), job.id)
    assert provider.cancels == [NAME]
    assert world.clock.slept[:2] == [2.0, 4.0]


@pytest.mark.parametrize("kill_at", range(1, 40))
async def test_a_cancel_survives_a_kill_at_any_call(world: World, kill_at: int) -> None:
    """Wherever the process dies, a provider job that ends CANCELLED was ended by its owner."""
    job = await world.running()
    await world.cancel(job)()
    provider = CancellableProvider()
    fate = Fate(kill_at)
    with contextlib.suppress(Killed):
        await wait(mortal(world.ports(provider=provider), fate.point), job.id)
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_state) == (JobState.COLLECTING, CANCELLED)
    assert after.stop_reason is StopReason.CANCELLED


async def test_a_known_cancel_does_not_ring_for_ever(world: World) -> None:
    """While the cancel waits for a provider that is away, the alarm is not asked: it would ring."""
    job = await world.running()
    await world.cancel(job)()
    await wait(world.ports(provider=ScriptedProvider(NO_ANSWER, NO_ANSWER, DONE)), job.id)
    assert world.alarm.waited == []


async def test_success_after_a_cancel_is_collected(world: World) -> None:
    """The provider may finish first; its answer is taken."""
    job = await world.running()
    world.clock.at(7, world.cancel(job))
    provider = ScriptedProvider(*[seen(RUNNING, has_started=True)] * 3, DONE)
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_state) == (JobState.COLLECTING, SUCCEEDED)
    assert provider.cancels == [NAME]


async def test_a_run_of_24_hours_is_ended(world: World) -> None:
    """The provider is asked to end it, and the job knows that it was us and why."""
    job = await world.running()
    running = [seen(RUNNING, has_started=True)]
    provider = ScriptedProvider(*running * 300, DONE)
    world.clock.at(23 * HOUR, _not_cancelled(provider))
    await wait(world.ports(provider=provider, timing=Timing(poll_seconds_max=HOUR)), job.id)
    after = await world.now(job)
    assert (provider.cancels, after.stop_reason) == ([NAME], StopReason.RUN_EXPIRED)


async def test_a_queue_of_72_hours_is_ended(world: World) -> None:
    """A job that never starts is ended by the clock of its acceptance."""
    job = await world.running(created_at=world.clock.now() - 72 * HOUR + 100)
    provider = ScriptedProvider(*[seen(PENDING)] * 8, seen(CANCELLED))
    world.clock.at(99, _not_cancelled(provider))
    await wait(world.ports(provider=provider), job.id)
    after = await world.now(job)
    assert (provider.cancels, after.stop_reason) == ([NAME], StopReason.QUEUE_EXPIRED)
    assert spent(world) >= 100


async def test_a_job_that_runs_did_not_expire_in_the_queue(world: World) -> None:
    """We were away for three days; the provider runs the job, and our absence ends nothing."""
    job = await world.running(created_at=world.clock.now() - 73 * HOUR)
    provider = ScriptedProvider(seen(RUNNING, has_started=True), DONE)
    await wait(world.ports(provider=provider), job.id)
    assert (provider.cancels, (await world.now(job)).stop_reason) == ([], None)


async def test_a_second_provider_job_is_cancelled_at_the_first_poll(world: World) -> None:
    """A create that landed after the adoption is ended and reported; ended ones are left."""
    job = await world.running()
    provider = ScriptedProvider(seen(PENDING), DONE)
    provider.others = [
        seen(PENDING),
        seen(RUNNING, name="second"),
        seen(FAILED, name="third"),
    ]
    await wait(world.ports(provider=provider), job.id)
    assert provider.cancels == ["second"]
    assert ("duplicate_cancelled", "second") in await world.jobs.events(job.id)


async def test_a_job_in_another_phase_is_left_alone(world: World) -> None:
    """A run that starts after the job moved on polls nothing."""
    job = await world.job(state="collecting", provider_job=NAME)
    provider = ScriptedProvider(DONE)
    await wait(world.ports(provider=provider), job.id)
    assert provider.gets == 0


async def test_a_poll_without_news_writes_nothing(world: World) -> None:
    """Hours of polling do not touch the row, so `updated_at` tells the last real change."""
    job = await world.running()
    writes = []

    async def look() -> None:
        writes.append((await world.now(job)).updated_at)

    world.clock.at(120, look)
    await wait(world.ports(provider=ScriptedProvider(*[seen(PENDING)] * 30, DONE)), job.id)
    assert writes == [job.updated_at]


class CancellableProvider(ScriptedProvider):
    """Runs until it is asked to end, and ends at once then."""

    async def get(self, name: str) -> ProviderJob | None:
        del name
        return seen(CANCELLED) if self.cancels else seen(RUNNING, has_started=True)


def _not_cancelled(provider: ScriptedProvider) -> Act:
    async def look() -> None:
        assert provider.cancels == []

    return look
