"""However the bucket misbehaves, the input arrives whole and no corrupt byte is delivered."""

from functools import partial

import pytest
from tests.fire.driver import check_output, fire, lines_of, paid_jobs, strikes, under
from tests.journeys.service import Json, Service, until

pytestmark = pytest.mark.slow

LINES = 4
INPUTS = {"call": "object_write", "path": "*input.jsonl"}
OUTPUTS = {"call": "object_read", "path": "*predictions*"}
WRITING: list[tuple[str, Json]] = [
    ("return-503", {}),
    ("return-429", {}),
    ("return-500", {}),
    ("return-503-after-effect", {}),
    ("return-503-after-0K", {}),
    ("return-broken-stream", {}),
    ("return-corrupted-data", {}),
    ("return-reset-connection", {}),
    ("lost-reply-fin", {}),
    ("stall-for-1s-after-0K", {}),
]
READING: list[tuple[str, Json]] = [
    ("return-503", {}),
    ("return-429", {}),
    ("return-404", {}),
    ("return-broken-stream", {}),
    ("return-broken-stream-after-1K", {}),
    ("return-corrupted-data", {}),
    ("return-reset-connection", {}),
    ("stall-for-1s-after-1K", {}),
    ("wrong-crc32c", {}),
]


def submit_one(service: Service, mark: str) -> tuple[str, list[Json]]:
    """Submit a job of a few lines."""
    lines = lines_of(LINES, mark)
    return service.submit(lines)["request_id"], lines


@pytest.mark.parametrize("way", ["writing", "reading"])
def test_every_fault_of_the_bucket_is_survived(service: Service, way: str) -> None:
    """Each fault once on another job, all together: all answers, each job paid once."""
    when, faults = (INPUTS, WRITING) if way == "writing" else (OUTPUTS, READING)
    jobs = []
    for number, (fault, parameters) in enumerate(faults):
        rule = fire(service, fault, 1, when=when, parameters=parameters)
        jobs.append(submit_one(service, f"{fault}-{number}"))
        until(partial(strikes, service, rule), f"a strike of {fault}")
    for request, lines in jobs:
        record = service.wait(request)
        assert record["status"] == "success", record
        assert set(check_output(service, record, lines)) == {""}
        assert len(paid_jobs(service, record)) == 1


def test_lasting_corruption_is_never_delivered(service: Service) -> None:
    """An output that never arrives whole fails the job; no byte of it is delivered."""
    with under(service, "return-corrupted-data", when=OUTPUTS):
        request, lines = submit_one(service, "rotten")
        record = service.wait(request)
    assert record["status"] == "failed"
    assert record["outcome"]["error"]["code"] == "provider_output_unreadable"
    assert set(check_output(service, record, lines)) == {"provider_output_unreadable"}
