"""A worker that freezes, loses its work to another one, wakes up, and writes nothing.

It stops itself (SIGSTOP) at a named point, so that it freezes where the test says and nowhere else.
What it does after SIGCONT is over when the step has ended that it was in.
"""

from typing import Any

import pytest
from tests.journeys.service import until
from tests.scale.cluster import (
    LINES,
    Cluster,
    Member,
    assert_answered,
    assert_one_job_each,
    job_of,
    wait_until_silent,
)

pytestmark = [pytest.mark.slow, pytest.mark.crash, pytest.mark.timeout(180)]


def frozen_at(cluster: Cluster, point: str) -> tuple[Member, str]:
    """Start a worker that freezes at the point, submit a job, and wait until it has."""
    sleeper = cluster.start("worker", {"point": point, "hit": 1, "signal": "STOP"})
    job = cluster.submit(LINES)["request_id"]
    until(sleeper.is_frozen, f"the worker freezes at {point}")
    return sleeper, job


def everything(cluster: Cluster, job: str) -> list[Any]:
    """Return all that somebody could have changed: rows, provider jobs, the output's bytes."""
    return [
        cluster.written(job),
        [event for event in cluster.events("job_created") if job_of(event) == job],
        assert_answered(cluster, job),
    ]


def assert_writes_nothing(cluster: Cluster, sleeper: Member, job: str) -> None:
    """Let another worker finish the job, wake the frozen one up, and compare."""
    cluster.start("worker")
    wait_until_silent(cluster, sleeper)
    assert_answered(cluster, job)
    before = everything(cluster, job)
    steps = sleeper.came_by("engine.step_done")
    sleeper.thaw()
    until(lambda: sleeper.came_by("engine.step_done") > steps, "the interrupted step ends")
    assert everything(cluster, job) == before
    # And what it might still have had in hand is over with it.
    assert sleeper.stop() == 0
    assert everything(cluster, job) == before
    assert_one_job_each(cluster, [job])


@pytest.mark.parametrize(
    "point",
    ["submit.intent_committed", "collect.half_read", "collect.finalised"],
)
def test_one_that_wakes_up_writes_nothing(cluster: Cluster, point: str) -> None:
    """Between intent and POST, and twice in a collect: the job is the other one's by then."""
    sleeper, job = frozen_at(cluster, point)
    assert_writes_nothing(cluster, sleeper, job)


def test_one_that_froze_before_it_prepared_anything(cluster: Cluster) -> None:
    """An input that it uploads late has a name of its own, and moves the job nowhere."""
    sleeper, job = frozen_at(cluster, "prepare.finalised")
    assert_writes_nothing(cluster, sleeper, job)


def test_a_post_that_was_sent_is_adopted(cluster: Cluster) -> None:
    """Frozen with the answer in hand: the other one finds the job by its label."""
    sleeper, job = frozen_at(cluster, "submit.answered")
    assert_writes_nothing(cluster, sleeper, job)
