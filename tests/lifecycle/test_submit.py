"""submit: the intent is durable before the one POST, and every answer has its meaning."""

import pytest
from tests.lifecycle.fakes import PENDING, Create, World, batch_of, mortal

from penstock.core.job import Attempt
from penstock.core.state import JobState
from penstock.errors import ProviderRefused, ProviderUnreachable
from penstock.lifecycle.reconcile import display_name
from penstock.lifecycle.submit import submit
from penstock.settings import Timing

HOUR = 3600.0
POINT_AFTER_INTENT = 8
"""load, find, attempts, intend: each passes two points."""


class Freeze:
    """Stops the process for a while at the n-th point."""

    def __init__(self, world: World, *, at: int, seconds: float) -> None:
        self._world = world
        self._at = at
        self._seconds = seconds
        self._passed = 0

    def point(self) -> None:
        """Pass, or stand still."""
        self._passed += 1
        if self._passed == self._at:
            self._world.clock.advance(self._seconds)


async def test_the_intent_is_committed_before_the_post(world: World) -> None:
    """The provider finds SUBMITTING and the attempt in the store when the create arrives."""
    job = await world.prepared()
    seen: list[object] = []

    async def look() -> None:
        attempts = await world.jobs.attempts(job.id)
        seen.extend([(await world.now(job)).state, [one.number for one in attempts]])

    world.provider.plans.append(Create(before=look))
    await submit(world.ports(), job.id)
    assert seen == [JobState.SUBMITTING, [1]]


async def test_a_good_answer_is_recorded(world: World) -> None:
    """The job runs under the provider's name, and its attempt and history say so."""
    job = await world.prepared()
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_job) == (JobState.RUNNING, world.provider.made[0].name)
    assert (after.provider_state, after.attempt) == (PENDING, 1)
    assert (await world.jobs.attempts(job.id))[0].provider_job == after.provider_job
    assert await world.kinds(job) == ["accepted", "intent", "created"]


async def test_the_create_names_everything_that_finds_it_again(world: World) -> None:
    """Label, display name, input and output prefix all carry the job and the attempt."""
    job = await world.prepared()
    await submit(world.ports(), job.id)
    (batch,) = world.provider.posts
    assert (batch.label, batch.display_name) == (job.id, f"penstock-{job.id}-a1")
    assert batch.input_uri == f"gs://fake/penstock/{job.id}/a1/input.jsonl"
    assert batch.output_prefix == f"gs://fake/penstock/{job.id}/a1/output"
    assert (batch.model, batch.location) == ("gemini-3-flash-preview", "global")


async def test_a_model_that_was_shut_down_is_sent_as_its_successor(world: World) -> None:
    """The catalogue's `provider_model` is what the provider gets."""
    job = await world.prepared(model="gemini-3-pro-preview")
    await submit(world.ports(), job.id)
    assert world.provider.posts[0].model == "gemini-3.1-pro-preview"


async def test_an_unreachable_provider_costs_no_attempt(world: World) -> None:
    """A list that fails keeps the job PREPARED with the reason, and backs off."""
    job = await world.prepared()
    world.provider.find_failures.extend([ProviderUnreachable("no route")] * 3)
    details: list[object] = []

    async def look() -> None:
        now = await world.now(job)
        details.append((now.state, now.attempt, now.status_detail))

    world.clock.at(5, look)
    await submit(world.ports(), job.id)
    assert details == [(JobState.PREPARED, 0, "no route")]
    assert world.alarm.waited == [2.0, 4.0, 8.0]
    assert (len(world.provider.posts), (await world.now(job)).attempt) == (1, 1)


async def test_a_create_that_could_not_be_sent_is_tried_again(world: World) -> None:
    """No connection proves that nothing was made, so a new intent needs no waiting."""
    job = await world.prepared()
    world.provider.plans.append(Create(lands_after=None, error=ProviderUnreachable("refused")))
    await submit(world.ports(), job.id)
    assert await world.kinds(job) == [
        *("accepted", "intent", "prepared", "intent", "created"),
    ]
    assert [post.display_name[-3:] for post in world.provider.posts] == ["-a1", "-a2"]
    assert world.clock.now() - world.clock.begun < 10


async def test_a_refused_create_fails_the_job(world: World) -> None:
    """A definite no ends the job with the provider's code and message, after one POST."""
    job = await world.prepared()
    no = ProviderRefused("The PublisherModel x does not exist.", code="provider_no_model")
    world.provider.plans.append(Create(lands_after=None, error=no))
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert after.state is JobState.FAILED
    assert (after.error_code, after.error_message) == ("provider_no_model", no.message)
    assert len(world.provider.posts) == 1


async def test_a_cancel_before_the_intent_sends_nothing(world: World) -> None:
    """A job cancelled while it waits ends without a provider job."""
    job = await world.prepared()
    await world.cancel(job)()
    await submit(world.ports(), job.id)
    assert (await world.now(job)).state is JobState.CANCELLED
    assert (world.provider.posts, await world.jobs.attempts(job.id)) == ([], [])


async def test_72_hours_without_a_provider_fail_the_job(world: World) -> None:
    """The queue's limit holds while the provider cannot be reached."""
    job = await world.prepared()
    world.provider.find_failures.extend([ProviderUnreachable("no route")] * 200)
    await submit(world.ports(timing=Timing(retry_seconds_max=HOUR)), job.id)
    after = await world.now(job)
    assert (after.state, after.error_code) == (JobState.FAILED, "queue_expired")
    assert (after.error_message or "").endswith("Last known: no route")
    assert world.provider.posts == []


async def test_a_frozen_process_sends_nothing_after_the_window(world: World) -> None:
    """Between intent and POST the process stood still; somebody else may have reconciled."""
    job = await world.prepared()
    fate = Freeze(world, at=POINT_AFTER_INTENT, seconds=21.0)
    await submit(mortal(world.ports(), fate.point), job.id)
    assert [one.display_name for one in world.provider.posts] == [display_name(job.id, 2)]
    assert (await world.now(job)).state is JobState.RUNNING


async def test_a_short_pause_before_the_post_is_fine(world: World) -> None:
    """Within the window the create of the first intent is sent."""
    job = await world.prepared()
    fate = Freeze(world, at=POINT_AFTER_INTENT, seconds=19.0)
    await submit(mortal(world.ports(), fate.point), job.id)
    assert [one.display_name for one in world.provider.posts] == [display_name(job.id, 1)]


async def test_a_job_found_before_the_intent_is_adopted(world: World) -> None:
    """A restored database that forgot its attempt pays nothing twice."""
    job = await world.prepared()
    world.provider.land(batch_of(job.id, 1), Create())
    await submit(world.ports(), job.id)
    after = await world.now(job)
    assert (after.state, after.provider_job) == (JobState.RUNNING, world.provider.made[0].name)
    assert world.provider.posts == []
    assert await world.kinds(job) == ["accepted", "intent", "adopted"]


async def test_whoever_loses_the_intent_sends_nothing(world: World) -> None:
    """Two workers look at the same job; the second intent is refused and nothing is sent."""
    job = await world.prepared()

    async def overtake() -> None:
        assert await world.jobs.intend(
            Attempt(
                job_id=job.id,
                number=1,
                intent_at=world.clock.now(),
                input_uri=job.provider_input or "",
                output_prefix="",
                label=job.id,
            )
        )
        await world.jobs.record_provider_job(
            job.id, 1, "theirs", world.clock.now(), only_input=job.provider_input
        )

    world.provider.on_find.append(overtake)
    await submit(world.ports(), job.id)
    assert (world.provider.posts, (await world.now(job)).provider_job) == ([], "theirs")


@pytest.mark.parametrize("state", ["accepted", "cancelled"])
async def test_a_job_in_another_phase_is_left_alone(world: World, state: str) -> None:
    """Submit works on PREPARED and SUBMITTING only."""
    ended = world.clock.now() if state == "cancelled" else None
    job = await world.job(state=state, finished_at=ended)
    await submit(world.ports(), job.id)
    assert (world.provider.finds, await world.kinds(job)) == (0, ["accepted"])
