"""What a test of somebody's pipeline gets: a real server that starts, obeys scripts, and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journeys.service import until

from penstock.client import JobRecord
from penstock.testing import PenstockServer, ServerDidNotStart, running
from penstock.testing.process import end
from penstock.testing.server import EmulatorRefused

MODEL = "gemini-3-flash-preview"


@pytest.fixture
def server(penstock_server: PenstockServer) -> PenstockServer:
    """The server that a user's test gets."""
    return penstock_server


def lines(*texts: str) -> bytes:
    """One request for each text."""
    made = [
        {"key": text, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}}
        for text in texts
    ]
    return "".join(json.dumps(line) + "\n" for line in made).encode()


def ended(server: PenstockServer, *texts: str) -> tuple[JobRecord, list[str]]:
    """The record of a job over these texts at its end, and the text or status of each answer."""
    with server.client() as client:
        job = client.jobs.submit(lines(*texts), model=MODEL)
        record = client.api.wait(job.id, poll_seconds=0.05, timeout_seconds=30)
        said = [result.text or str(result.error) for result in job.results()]
    return record, said


def test_scripts_say_what_a_pipeline_gets(server: PenstockServer) -> None:
    """Texts, JSON and failures come as they were ordered, in the order of the input."""
    server.script("kettle", reply={"sentiment": "positive"})
    server.script("lamp", fail=400)
    server.script("", reply="anything else")
    record, said = ended(server, "a kettle", "a lamp", "a chair")
    assert json.loads(said[0]) == {"sentiment": "positive"}
    assert said[1].startswith("400: ")
    assert said[2] == "anything else"
    assert record.status == "success"


def test_a_failure_that_heals(server: PenstockServer) -> None:
    """With `once` the first provider job fails the line, and the retry has the answer."""
    server.script("lamp", fail=429, once=True)
    server.script("lamp", reply="unreached: the first script that fits wins")
    before = len(server.provider_jobs())
    _, said = ended(server, "a lamp")
    assert said[0]
    assert "429" not in said[0]
    assert len(server.provider_jobs()) == before + 2


def test_forgotten_scripts_say_nothing(server: PenstockServer) -> None:
    """After `forget` requests are answered as ever, and no fault strikes."""
    server.script("kettle", reply="ordered")
    server.fault("return-503", when={"call": "create"})
    server.forget()
    assert ended(server, "a kettle")[1] != ["ordered"]


def test_a_fault_strikes_as_often_as_it_was_ordered(server: PenstockServer) -> None:
    """A create that is refused for a moment costs the job nothing, and one job is made."""
    before = len(server.provider_jobs())
    server.fault("return-503", times=1, when={"call": "create"})
    record, _ = ended(server, "a kettle")
    assert record.status == "success"
    assert len(server.provider_jobs()) == before + 1


def test_what_the_emulator_does_not_know_is_said(server: PenstockServer) -> None:
    """A misspelt directive or fault is refused with those that there are."""
    with pytest.raises(EmulatorRefused, match="known are"):
        server.script("kettle", fial=429)
    with pytest.raises(EmulatorRefused, match="return-X"):
        server.fault("retrun-503")


def test_time_passes_for_the_emulator_alone(server: PenstockServer) -> None:
    """Three days in its queue end a job there, and ours says so within a moment."""
    server.fault("stuck-queued")
    with server.client() as client:
        job = client.jobs.submit(lines("x"), model=MODEL)
        until(lambda: client.api.get(job.id).state, "the provider's job")
        server.advance(73 * 3600)
        record = client.api.wait(job.id, poll_seconds=0.05, timeout_seconds=30)
    assert record.status == "failed"
    assert record.state == "JOB_STATE_EXPIRED"


def test_files_lie_where_requests_can_name_them(server: PenstockServer) -> None:
    """A file that was put is a `gs://` address of the emulator's bucket."""
    assert server.put("in/a file.txt", b"text") == "gs://penstock/in/a file.txt"


def test_each_organisation_begins_empty(server: PenstockServer) -> None:
    """A fresh one sees no job of another, and the same idempotency key is a new job there."""
    other = server.fresh()
    with server.client() as mine, other.client() as theirs:
        made = [
            client.jobs.submit(lines("x"), model=MODEL, idempotency_key="same").id
            for client in (mine, mine, theirs)
        ]
        listed = [job.id for job in theirs.jobs.list()]
    assert made[0] == made[1] != made[2]
    assert listed == [made[2]]


def test_the_environment_names_the_server(
    penstock_environment: PenstockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that makes its own client finds the server without arguments."""
    monkeypatch.setenv("PENSTOCK_PROFILES", str(tmp_path / "none.toml"))
    command = [sys.executable, "-m", "penstock.cli.main", "ls"]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0
    assert os.environ["PENSTOCK_URL"] == penstock_environment.url


def test_settings_of_this_shell_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that the developer's shell names is not touched by a test."""
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with running(tmp_path) as started:
        assert started.url.startswith("http://127.0.0.1:")
    assert (tmp_path / "data" / "penstock.db").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Settings that are none end in an error with the server's own words, and no child stays."""
    with (
        pytest.raises(ServerDidNotStart, match="line_bytes_max"),
        running(tmp_path, settings={"PENSTOCK_LIMITS_LINE_BYTES_MAX": "many"}),
    ):
        pass


def test_a_server_that_is_silent_is_given_up(tmp_path: Path) -> None:
    """A start has a bound, and what was begun is ended."""
    with (
        pytest.raises(ServerDidNotStart, match=r"within 0\.001 s"),
        running(tmp_path, start_seconds_max=0.001),
    ):
        pass


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_server_that_does_not_end_is_killed() -> None:
    """What ignores the wish to end is ended all the same, after a bound."""
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        end(child, seconds_max=0.05)
    assert child.returncode == -signal.SIGKILL


CHILD = """
import sys, time
from penstock.testing import running
with running() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_the_server_ends_with_a_parent_that_is_killed() -> None:
    """No server is left behind by tests that were shot."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline().strip().rsplit(":", 1)[1])
        parent.send_signal(signal.SIGKILL)
    until(lambda: not listens(port), "the end of the server")


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
