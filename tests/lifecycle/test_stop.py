"""stop: how a job without a provider job ends."""

import pytest
from tests.lifecycle.fakes import World

from penstock.core.job import StopReason
from penstock.core.limits import Limits
from penstock.core.state import JobState
from penstock.lifecycle.stop import finish_of, stop_unsubmitted


@pytest.mark.parametrize(
    ("reason", "state", "code", "detail"),
    [
        (StopReason.CANCELLED, JobState.CANCELLED, None, "Cancelled by its owner."),
        (
            StopReason.QUEUE_EXPIRED,
            JobState.FAILED,
            "queue_expired",
            "The job was ended after 72 hours in the queue.",
        ),
        (
            StopReason.RUN_EXPIRED,
            JobState.FAILED,
            "run_expired",
            "The job was ended after 1.5 hours running.",
        ),
    ],
)
def test_each_reason_has_its_end(
    world: World, reason: StopReason, state: JobState, code: str | None, detail: str
) -> None:
    """State, code and sentence follow from the reason and name the limit."""
    finish = finish_of(reason, world.ports(limits=Limits(run_seconds_max=5400)))
    assert (finish.state, finish.error_code, finish.detail) == (state, code, detail)


async def test_an_expiry_names_the_last_reason(world: World) -> None:
    """The owner learns what the job had been waiting for."""
    job = await world.job(status_detail="no route")
    await stop_unsubmitted(world.ports(), job, StopReason.QUEUE_EXPIRED)
    after = await world.now(job)
    assert after.error_message == after.status_detail
    assert (after.error_message or "").endswith("in the queue. Last known: no route")


async def test_an_expiry_without_a_reason_adds_nothing(world: World) -> None:
    """A job on which nothing was noted ends with the plain sentence."""
    job = await world.job()
    await stop_unsubmitted(world.ports(), job, StopReason.QUEUE_EXPIRED)
    after = await world.now(job)
    assert after.error_message == "The job was ended after 72 hours in the queue."
