import io

import msgspec
import pytest
from tests.client.stub import record

from penstock.cli import render
from penstock.cli.progress import Progress
from penstock.client import Job


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def processing() -> Job:
    """A job that is half done."""
    stats = {"successful_count": 1000, "failed_count": 1, "total_count": 2000}
    return msgspec.convert(
        record("processing", batch_job_state="RUNNING", batch_job_completion_stats=stats), Job
    )


def test_terminal(processing: Job) -> None:
    """A terminal has one line that is rewritten, and ended when the work is."""
    stream = Terminal()
    progress = Progress(stream)
    progress.transfer("sent", 500_000, 1_000_000)
    progress.transfer("sent", 500_000, None)
    progress.job(processing)
    progress.close()
    progress.close()
    assert stream.getvalue() == (
        "\r\x1b[Ksent 0.5 of 1.0 MB, 50 %\r\x1b[Ksent 0.5 MB"
        "\r\x1b[Kprocessing  1,001/2,000  1 failed  RUNNING  0:00\n"
    )


def test_log(processing: Job) -> None:
    """A log has a line per change, and nothing about single bytes."""
    stream = io.StringIO()
    progress = Progress(stream)
    progress.transfer("sent", 500_000, 1_000_000)
    progress.job(processing)
    progress.close()
    assert stream.getvalue() == "processing  1,001/2,000  1 failed  RUNNING  0:00\n"


def test_table(processing: Job) -> None:
    """A terminal gets a heading and columns that stand below it."""
    heading, row = render.table([processing], aligned=True)
    assert heading.split() == list(render.HEADINGS)
    assert heading.index("MODEL") == row.index("gemini-3-flash-preview")


def test_reason(processing: Job) -> None:
    """A reason and a detail are shown, and cannot move the cursor."""
    job = msgspec.structs.replace(
        processing,
        status_detail="2nd in the queue",
        outcome=msgspec.convert({"message": "no\x1b[2J"}, type(processing.outcome)),
    )
    sheet = render.sheet(job)
    assert "reason    no\\x1b[2J" in sheet
    assert "detail    2nd in the queue" in sheet
