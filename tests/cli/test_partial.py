"""`penstock download --partial`: clear words about how much of a job there is."""

import hashlib
import json
from pathlib import Path

import pytest
from tests.client.stub import Reply, Stub, job

from penstock.cli.main import run

pytestmark = pytest.mark.usefixtures("shell")

DATA = b"answers"
OUTPUT = "/requests/req_7/output"


def test_what_is_finished_so_far(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many lines of how many, and when, for eyes and for scripts."""
    digest = hashlib.sha256(DATA).hexdigest()
    look = {"lines": 512, "total": 1000, "at": 1795363200, "url": f"{stub.url}/look"}
    stub.on("HEAD", OUTPUT, Reply(200, b""))
    stub.on("GET", "/requests/req_7", job("processing", partial=look))
    stub.serve("/look", Reply(content=DATA, headers={"ETag": f'"sha256-{digest}"'}))
    target = tmp_path / "out.jsonl"
    assert run(["download", "req_7", "-o", str(target), "--partial", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["partial"] == {"lines": 512, "total": 1000, "at": 1795363200}
    assert shown.err == (
        f"{target}: 7 bytes, SHA-256 verified\n"
        "512 of 1,000 lines so far, at 2026-11-22 16:00:00 UTC; "
        "the others say that they are pending, and the same command asks for more\n"
    )


def test_nothing_so_far(stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 8, as for any job that still runs, and 0 of N."""
    stub.on("HEAD", OUTPUT, Reply(202, b"", {"X-Penstock-Taken-At": "1795363200"}))
    stats = {"total_count": 1000}
    stub.on("GET", "/requests/req_7", job("processing", batch_job_completion_stats=stats))
    assert run(["download", "req_7", "-o", str(tmp_path / "out"), "--partial"]) == 8
    shown = capsys.readouterr().err
    assert shown.startswith("error[output_not_ready]: 0 of 1,000 lines so far: req_7 is processing")
