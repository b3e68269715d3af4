"""Two APIs and two workers: whatever happens to one worker, the other finishes every job.

Judged by the emulator's own log: one provider job each, whoever created it.
"""

import pytest
from tests.journeys.service import prompt, until
from tests.scale.cluster import (
    LINES,
    Cluster,
    Member,
    assert_answered,
    assert_one_job_each,
    wait_until_silent,
)

pytestmark = [pytest.mark.slow, pytest.mark.crash, pytest.mark.timeout(180)]

JOBS = 6


def submit_to_both(cluster: Cluster) -> list[str]:
    """Submit jobs through one API after the other; return their ids."""
    ids = []
    for n in range(JOBS):
        cluster.use(cluster.apis[n % 2])
        ids.append(cluster.submit(LINES)["request_id"])
    return ids


def test_every_process_sees_every_job(cluster: Cluster) -> None:
    """What one API took both show, any worker may do, and a link of one works at the other."""
    cluster.start("worker")
    cluster.start("worker")
    ids = submit_to_both(cluster)
    first, second = cluster.apis
    for api in (first, second):
        assert cluster.list_ids(api) >= set(ids)
        cluster.use(api)
        for one in ids:
            assert_answered(cluster, one)
    record = cluster.wait(ids[0])
    link = record["outcome"]["output_url"]
    elsewhere = link.replace(second.said["url"], first.said["url"])
    assert elsewhere != link
    assert cluster.http.get(elsewhere).content == cluster.http.get(link).content
    assert_one_job_each(cluster, ids)


def test_a_cancel_reaches_the_worker(cluster: Cluster) -> None:
    """A cancel is a row: the API that takes it need not know who works on the job."""
    cluster.start("worker")
    job = cluster.submit([prompt("Long [[emulator:delay=2h]]")])["request_id"]
    cluster.wait_for_state(job, "JOB_STATE_RUNNING")
    cluster.use(cluster.apis[1])
    cluster.cancel(job)
    assert cluster.wait(job)["status"] == "cancelled"


def killed_at_work(cluster: Cluster, workers: list[Member]) -> Member:
    """Kill a worker that has work, and return the one that is left."""
    victim = until(
        lambda: next((one for one in workers if cluster.at_work(one)), None), "one has work"
    )
    victim.kill()
    (left,) = [one for one in workers if one is not victim]
    wait_until_silent(cluster, victim)
    return left


def test_a_worker_is_killed_while_providers_run(cluster: Cluster) -> None:
    """The jobs that it watched are watched by the other one, and finished."""
    workers = [cluster.start("worker"), cluster.start("worker")]
    cluster.rule({}, {"hold": "running"})
    ids = submit_to_both(cluster)
    for one in ids:
        cluster.wait_for_state(one, "JOB_STATE_RUNNING")
    left = killed_at_work(cluster, workers)
    cluster.drop_rules()
    for one in ids:
        assert_answered(cluster, one)
    assert left.said_in_log("took over")
    assert_one_job_each(cluster, ids)


def test_a_worker_is_killed_while_it_collects(cluster: Cluster) -> None:
    """Outputs that were half read are read again by the other one, and whole."""
    workers = [cluster.start("worker"), cluster.start("worker")]
    held = {"call": "object_read", "path": "*predictions.jsonl"}
    rule = cluster.rule(held, {"delay_seconds": 3}, times=JOBS)
    ids = submit_to_both(cluster)
    until(lambda: cluster.is_used(rule), "an output is being read")
    killed_at_work(cluster, workers)
    for one in ids:
        assert_answered(cluster, one)
    assert_one_job_each(cluster, ids)


def test_a_worker_that_ends_in_order_hands_its_work_on(cluster: Cluster) -> None:
    """It is not ready from the signal on, ends with 0, and nobody waits for its silence."""
    leaving = cluster.start("worker")
    cluster.rule({}, {"hold": "running"})
    job = cluster.submit(LINES)["request_id"]
    cluster.wait_for_state(job, "JOB_STATE_RUNNING")
    status, body = cluster.ask(leaving, "/readyz")
    assert (status, body["checks"]) == (200, {"database": "ok", "engine": "ok"})
    heir = cluster.start("worker")
    assert leaving.stop() == 0
    silence = cluster.rows(
        "SELECT extract(epoch FROM now()) - heartbeat_at FROM workers WHERE executor_id = %s",
        leaving.executor_id,
    )
    # Marked as silent for minutes, though it beat a moment ago.
    assert silence[0][0] > 60
    wait_until_silent(cluster, leaving)
    cluster.drop_rules()
    assert_answered(cluster, job)
    assert heir.said_in_log("took over 1 workflows")
    assert_one_job_each(cluster, [job])
