"""Jobs that end before all of their lines do: what was finished is delivered, the rest is typed."""

from collections import Counter
from collections.abc import Iterator

import orjson
import pytest
from tests.journeys.service import Json, Service, prompt, running

LINES = 12
HELD = {"hold": "running", "overdue": True}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running pair whose server gives a job seconds instead of 72 and 24 hours."""
    with running(
        tmp_path_factory.mktemp("cut-off"),
        speed=4000,
        PENSTOCK_LIMITS_QUEUE_SECONDS_MAX="4",
        PENSTOCK_LIMITS_RUN_SECONDS_MAX="2",
    ) as pair:
        yield pair


def submitted(service: Service) -> str:
    """Submit a job and return its id."""
    lines = [prompt(f"Question {n}", custom_id=f"q-{n}") for n in range(LINES)]
    return str(service.submit(lines)["request_id"])


def ends(service: Service, record: Json) -> Counter[str]:
    """How many lines of the output have which code; each line stands in its place."""
    output = service.output(record)
    assert [line["custom_id"] for line in output] == [f"q-{n}" for n in range(LINES)]
    codes = Counter[str]()
    for line in output:
        status = line["status"]
        codes[orjson.loads(status[status.index("{") :])["error"]["code"] if status else ""] += 1
        assert bool(line["response"]) is not bool(status)
    return codes


def assert_counted(record: Json, done: int, outcome: str) -> None:
    """Check that the counts of the record are those of its lines, and add up."""
    stats = record["outcome"]["batch_job_completion_stats"]
    assert stats["successful_count"] == done
    assert (stats["failed_count"], stats["incomplete_count"]) == (0, LINES - done)
    assert stats["total_count"] == LINES
    if done:
        assert stats[outcome] == LINES - done


def test_a_cancel_in_the_middle(service: Service) -> None:
    """Finished lines are delivered and paid, the others are `cancelled`."""
    service.rule({}, {"hold": "running"})
    service.rule({"call": "cancel"}, {"finish": "JOB_STATE_CANCELLED", "rows": 0.25})
    request_id = submitted(service)
    service.wait_for_state(request_id, "JOB_STATE_RUNNING")
    service.cancel(request_id)
    record = service.wait(request_id)
    assert (record["status"], record["outcome"]["batch_job_state"]) == (
        "cancelled",
        "JOB_STATE_CANCELLED",
    )
    assert ends(service, record) == {"": 3, "cancelled": 9}
    assert_counted(record, 3, "cancelled")
    assert float(record["outcome"]["actual_cost_usd"]) > 0


@pytest.mark.parametrize("rows", [0.5, 0.0])
def test_the_run_takes_too_long(service: Service, rows: float) -> None:
    """We end the job; its open lines are `expired`. Without a finished line there is no output."""
    service.rule({}, HELD)
    service.rule({"call": "cancel"}, {"finish": "JOB_STATE_CANCELLED", "rows": rows})
    record = service.wait(submitted(service))
    assert record["status"] == "failed"
    assert record["outcome"]["error"]["code"] == "run_expired"
    assert ("output_url" in record["outcome"]) is bool(rows)
    if rows:
        assert ends(service, record) == {"": 6, "expired": 6}
    assert_counted(record, int(LINES * rows), "expired")


def test_the_queue_takes_too_long(service: Service) -> None:
    """Nothing was tried, so nothing failed: all lines are incomplete, and nothing is paid."""
    service.rule({}, {"hold": "queued", "overdue": True})
    record = service.wait(submitted(service))
    assert (record["status"], record["outcome"]["batch_job_state"]) == (
        "failed",
        "JOB_STATE_EXPIRED",
    )
    assert record["outcome"]["error"]["code"] == "queue_expired"
    assert "output_url" not in record["outcome"]
    assert_counted(record, 0, "expired")


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("JOB_STATE_EXPIRED", "expired"), ("JOB_STATE_CANCELLED", "cancelled")],
)
def test_the_provider_ends_it_by_itself(service: Service, state: str, outcome: str) -> None:
    """Its own limits, or somebody in its console: finished rows are delivered all the same."""
    service.rule({}, {"finish": state, "rows": 0.75})
    record = service.wait(submitted(service))
    assert (record["status"], record["outcome"]["batch_job_state"]) == ("failed", state)
    assert ends(service, record) == {"": 9, outcome: 3}
    assert_counted(record, 9, outcome)
