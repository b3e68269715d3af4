"""What is left after a kill is enough to go on."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from tests.emulator.driver import Emulator, MovableClock, fresh_emulator, is_over, jsonl, line

PROGRAM = textwrap.dedent("""
    import sys
    from pathlib import Path
    from penstock.emulator.app import EmulatorSettings
    from penstock.emulator.server import serve
    directory, speed = Path(sys.argv[1]), float(sys.argv[2])
    serve(
        EmulatorSettings(
            data_dir=directory / "data", log_path=directory / "events.jsonl", speed=speed
        ),
        host="127.0.0.1",
        port=0,
        exit_with_stdin=True,
        on_ready=lambda url: print(url, flush=True),
    )
""")


@contextmanager
def process(directory: Path, speed: float) -> Iterator[tuple[subprocess.Popen[str], Emulator]]:
    """An emulator in a process of its own, on the real clock."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), str(speed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        emulator = Emulator(url, MovableClock(), directory / "events.jsonl")
        with emulator.http:
            yield child, emulator
            child.kill()


@pytest.mark.crash
def test_a_killed_emulator_goes_on_with_its_jobs(tmp_path: Path) -> None:
    """SIGKILL while one job runs and one waits; after the restart both end, made once."""
    with process(tmp_path, 1000.0) as (child, emulator):
        emulator.put("in/x.jsonl", jsonl([line(f"t {i}", f"k-{i}") for i in range(5)]))
        emulator.rule(when={"display_name": "runs"}, then={"hold": "running"})
        emulator.rule(when={"display_name": "waits"}, then={"hold": "pending"})
        running = emulator.create(displayName="runs")["name"]
        waiting = emulator.create(displayName="waits")["name"]
        emulator.wait(running, lambda job: job["state"] == "JOB_STATE_RUNNING")
        child.kill()
    with process(tmp_path, 1000.0) as (_, emulator):
        assert emulator.get(running)["state"] == "JOB_STATE_RUNNING"
        assert emulator.get(waiting)["state"] == "JOB_STATE_PENDING"
        assert emulator.http.delete("/emulator/v1/rules").json() == {"removed": 2}
        for name in (running, waiting):
            done = emulator.wait(name, is_over)
            assert done["state"] == "JOB_STATE_SUCCEEDED"
            assert len(emulator.rows(done)) == 5
        assert len(emulator.events("job_created")) == len(emulator.events("job_finished")) == 2


@pytest.mark.crash
def test_the_end_of_stdin_ends_the_process(tmp_path: Path) -> None:
    """A parent that dies takes the emulator along."""
    with process(tmp_path, 1.0) as (child, _):
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=10) == 0


def test_a_restart_keeps_objects_sessions_and_the_clock(tmp_path: Path) -> None:
    """Objects, half uploads, ended jobs and the moved clock are there as before."""
    with fresh_emulator(tmp_path) as emulator:
        done = emulator.run([line("a")])
        emulator.http.post("/emulator/v1/clock", json={"advance_seconds": 1000})
        now = emulator.http.get("/emulator/v1/clock").json()
        session = emulator.http.post(
            "/upload/storage/v1/b/penstock/o?uploadType=resumable&name=half"
        ).headers["location"]
        half = b"x" * 262144
        headers = {"Content-Range": "bytes 0-262143/*"}
        assert emulator.http.put(session, content=half, headers=headers).status_code == 308
        ended = emulator.clock.now
    with fresh_emulator(tmp_path) as emulator:
        emulator.clock.now = ended
        assert emulator.get(done["name"]) == done
        assert len(emulator.rows(done)) == 1
        assert emulator.http.get("/emulator/v1/clock").json() == now
        target = httpx2.URL(session).raw_path.decode()
        status = emulator.http.put(target, headers={"Content-Range": "bytes */*"})
        assert (status.status_code, status.headers["range"]) == (308, "bytes=0-262143")
        headers = {"Content-Range": "bytes 262144-262145/262146"}
        assert emulator.http.put(target, content=b"yz", headers=headers).status_code == 200
        assert emulator.read("half") == half + b"yz"
