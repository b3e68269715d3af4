import msgspec
import pytest
from tests.client.stub import record

from penstock.cli import render
from penstock.client import Eta, JobRecord, Waiting

START = 1_795_363_200


@pytest.fixture
def processing() -> JobRecord:
    """A job that is half done."""
    stats = {"successful_count": 1000, "failed_count": 1, "total_count": 2000}
    return msgspec.convert(
        record("processing", batch_job_state="RUNNING", batch_job_completion_stats=stats), JobRecord
    )


def test_reason(processing: JobRecord) -> None:
    """A reason and a detail are shown, and cannot move the cursor."""
    job = msgspec.structs.replace(
        processing,
        status_detail="2nd in the queue",
        outcome=msgspec.convert({"message": "no\x1b[2J"}, type(processing.outcome)),
    )
    sheet = render.sheet(job)
    assert "reason    no\\x1b[2J" in sheet
    assert "detail    2nd in the queue" in sheet


def test_when_it_is_expected(processing: JobRecord) -> None:
    """The likely end is in the line of progress, and with its interval on the sheet."""
    eta = Eta(expected_at=START, earliest_at=START - 60, latest_at=START + 60, coverage=0.8)
    job = msgspec.structs.replace(processing, waiting=Waiting(eta=eta))
    assert render.summary(job).endswith("RUNNING  expected 2026-11-22 16:00:00Z")
    interval = "80 % between 2026-11-22 15:59:00Z and 2026-11-22 16:01:00Z"
    assert f"expected  2026-11-22 16:00:00Z, {interval}" in render.sheet(job)


def test_of_a_few_others_there_is_no_interval(processing: JobRecord) -> None:
    """Then the sheet says that it is a guess; and of none it says nothing."""
    job = msgspec.structs.replace(processing, waiting=Waiting(eta=Eta(expected_at=START)))
    assert "expected  2026-11-22 16:00:00Z, from a few others only" in render.sheet(job)
    job = msgspec.structs.replace(processing, waiting=Waiting())
    assert not [line for line in render.sheet(job) if line.startswith("expected")]
    assert render.summary(job) == render.summary(processing)
