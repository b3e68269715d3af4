"""The launcher that freezes or kills a single server at a point."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.crash import strike
from tests.crash.client import Client
from tests.crash.lane import environment
from tests.crash.nursery import ROOT
from tests.journeys.service import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells whether a process is frozen"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A server that freezes once when a submission is authenticated."""
    plan = {
        "point": "accept.authenticated",
        "hit": 1,
        "signal": "STOP",
        "log": str(tmp_path / "strikes"),
    }
    command = [sys.executable, "-m", "tests.crash.launch", "serve", "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "data")],
            cwd=ROOT,
            env={
                **os.environ,
                **environment("http://127.0.0.1:9"),
                strike.VARIABLE: json.dumps(plan),
            },
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    said = dict(process.stdout.readline().decode().strip().split(": ", 1) for _ in range(2))
    client = Client("frozen", said["key"])
    client.port = int(said["url"].rsplit(":", 1)[1])
    try:
        yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_frozen(pid: int) -> bool:
    """Whether the process is stopped."""
    return ") T " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")


def test_a_server_is_frozen_at_a_point_and_wakes_up(
    server: tuple[subprocess.Popen[bytes], Client], tmp_path: Path
) -> None:
    """A plan with STOP freezes the process at its point, once; after SIGCONT it goes on."""
    process, client = server
    one = client.new_try()
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(client.submit, one)
        until(lambda: is_frozen(process.pid), "the server is frozen")
        assert not submitting.done()
        process.send_signal(signal.SIGCONT)
        submitting.result()
    assert one.request_id is not None
    client.submit(client.new_try())
    assert (tmp_path / "strikes").read_text(encoding="ascii").count("strike") == 1
