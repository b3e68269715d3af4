"""A real server and a real emulator, each a process started by the real command line.

They can be killed apart, as an operator's machines would be. What the emulator has seen is read
from the emulator, never from our database.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

Json = dict[str, Any]

BASE = "/api/v1/ie/requestqueue/apikey"
MODEL = "gemini-3-flash-preview"
ENDED = {"success", "failed", "cancelled"}
PATIENCE_SECONDS = 30.0
_LOOK = threading.Event()

FAST = {
    "POLL_SECONDS_MIN": "0.1",
    "POLL_SECONDS_MAX": "0.2",
    "RETRY_SECONDS_MIN": "0.1",
    "RETRY_SECONDS_MAX": "0.5",
    "SETTLE_SECONDS": "1",
    "FENCE_SECONDS": "0.3",
    "STAGE_SECONDS": "0.1",
    "CANCEL_CHECK_SECONDS": "0.1",
}


def until(condition: Callable[[], Any], what: str, seconds_max: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401  # what the condition gives
    """Return the condition's first true value; processes have no signal to wait for."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        _LOOK.wait(0.03)
    raise AssertionError(f"never happened: {what}")


class Process:
    """One penstock command that runs until it is ended."""

    program: tuple[str, ...] = ("-m", "penstock.cli.main")

    def __init__(self, arguments: list[str], log: Path, lines: int, **settings: str) -> None:
        environment = {**os.environ, **settings}
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [sys.executable, *self.program, *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self.said = self._read(lines, log)

    def _read(self, lines: int, log: Path) -> dict[str, str]:
        said: dict[str, str] = {}
        assert self._child.stdout is not None
        while len(said) < lines:
            line = self._child.stdout.readline().decode()
            assert line, log.read_text(encoding="utf-8")[-3000:]
            name, _, value = line.strip().partition(": ")
            said[name] = value
        return said

    def kill(self) -> None:
        """End it as a power cut would: no handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in order; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._child.poll() is None:
            self._child.send_signal(how)
        code = self._child.wait(PATIENCE_SECONDS)
        if self._child.stdout is not None:
            self._child.stdout.close()
        return code


class Service:
    """The pair, on one folder."""

    def __init__(self, folder: Path, speed: float = 400, **settings: str) -> None:
        self.folder = folder
        self._speed = speed
        self._settings = {f"PENSTOCK_TIMING_{k}": v for k, v in FAST.items()} | settings
        self._emulator_port = 0
        self.key = ""
        self.emulator: Process | None = None
        self.server: Process | None = None
        self.http = httpx2.Client(timeout=PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        """The server's address."""
        assert self.server is not None
        return self.server.said["url"]

    @property
    def emulator_url(self) -> str:
        """The emulator's address, the same over its restarts."""
        return f"http://127.0.0.1:{self._emulator_port}"

    def start_emulator(self) -> None:
        """Start it on the port that it had before, with what it knew before."""
        arguments = ["emulator", "--port", str(self._emulator_port), "--speed", str(self._speed)]
        arguments += ["--data-dir", str(self.folder / "emulator")]
        arguments += ["--log", str(self.folder / "emulator.jsonl")]
        self.emulator = Process(arguments, self.folder / "emulator.log", 1)
        self._emulator_port = int(self.emulator.said["url"].rsplit(":", 1)[1])

    def start_server(self, **settings: str) -> None:
        """Start it on the same data directory."""
        arguments = ["serve", "--port", "0", "--data-dir", str(self.folder / "data")]
        arguments += ["--emulator", self.emulator_url]
        lines = 1 if self.key else 2
        self.server = Process(
            arguments, self.folder / "server.log", lines, **{**self._settings, **settings}
        )
        self.key = self.key or self.server.said["key"]
        self.http.headers["Authorization"] = f"Bearer {self.key}"

    def restart_server(self) -> None:
        """Kill the server and start it again."""
        assert self.server is not None
        self.server.kill()
        self.start_server()

    def close(self) -> None:
        """End both."""
        self.http.close()
        for process in (self.server, self.emulator):
            if process is not None:
                process.kill()

    # -- the public API --------------------------------------------------------------------------

    def submit(self, lines: list[Json], model: str = MODEL) -> Json:
        """Submit lines in the raw form and return the record."""
        data = "".join(json.dumps(line) + "\n" for line in lines)
        body = {
            "model": "Gemini-batch-inference",
            "payload": {"model": model, "input_data": data},
        }
        answer = self.http.post(f"{self.url}{BASE}/requests", json=body)
        assert answer.status_code == 200, answer.text
        record: Json = answer.json()
        return record

    def begin_upload(self) -> socket.socket:
        """Send the head and the first bytes of a submission, and leave it there."""
        address = urlsplit(self.url)
        head = (
            f"POST {BASE}/requests HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: 1000000\r\n\r\n"
        )
        connection = socket.create_connection((str(address.hostname), int(address.port or 0)))
        connection.sendall(head.encode() + b'{"input_data": "{')
        return connection

    def get(self, request_id: str) -> Json:
        """Return the record."""
        answer = self.http.get(f"{self.url}{BASE}/requests/{request_id}")
        assert answer.status_code == 200, answer.text
        record: Json = answer.json()
        return record

    def cancel(self, request_id: str) -> Json:
        """Cancel and return the record."""
        answer = self.http.post(f"{self.url}{BASE}/requests/{request_id}/cancel")
        assert answer.status_code == 200, answer.text
        record: Json = answer.json()
        return record

    def wait(self, request_id: str) -> Json:
        """Return the record once the job has ended."""

        def ended() -> Json | None:
            record = self.get(request_id)
            return record if record["status"] in ENDED else None

        record: Json = until(ended, f"the end of {request_id}")
        return record

    def wait_for_state(self, request_id: str, batch_job_state: str) -> Json:
        """Return the record once the outcome shows the state."""

        def shown() -> Json | None:
            record = self.get(request_id)
            outcome = record["outcome"]
            return record if outcome and outcome["batch_job_state"] == batch_job_state else None

        record: Json = until(shown, f"{batch_job_state} of {request_id}")
        return record

    def output(self, record: Json) -> list[Json]:
        """Download and parse the output."""
        with httpx2.Client() as anonymous:
            answer = anonymous.get(record["outcome"]["output_url"])
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.content.splitlines()]

    # -- the witness -----------------------------------------------------------------------------

    def rule(self, when: Json, then: Json, times: int | None = None) -> str:
        """Make a fault rule and return its id."""
        body: Json = {"when": when, "then": then}
        if times is not None:
            body["times"] = times
        answer = self.http.post(f"{self.emulator_url}/emulator/v1/rules", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def is_used(self, rule: str) -> bool:
        """Return whether the rule has struck."""
        rules = self.http.get(f"{self.emulator_url}/emulator/v1/rules").json()["rules"]
        return any(str(one["id"]) == rule and one["used"] for one in rules)

    def drop_rule(self, rule: str) -> None:
        """Remove one rule."""
        self.http.delete(f"{self.emulator_url}/emulator/v1/rules/{rule}")

    def drop_rules(self) -> None:
        """Remove all rules."""
        self.http.delete(f"{self.emulator_url}/emulator/v1/rules")

    def witness(self) -> Json:
        """Return everything that the emulator has seen."""
        answer: Json = self.http.get(f"{self.emulator_url}/emulator/v1/jobs").json()
        return answer

    def files(self) -> list[str]:
        """Return the names of all files of jobs and uploads in the data directory."""
        data = self.folder / "data"
        return [
            str(path.relative_to(data))
            for folder in ("jobs", "incoming")
            for path in (data / folder).rglob("*")
            if path.is_file()
        ]


@contextmanager
def running(folder: Path, speed: float = 400, **settings: str) -> Iterator[Service]:
    """Start a pair, and end it with the block."""
    pair = Service(folder, speed, **settings)
    try:
        pair.start_emulator()
        pair.start_server()
        yield pair
    finally:
        pair.close()


def prompt(text: str, **own: Any) -> Json:  # noqa: ANN401  # JSON goes as it is
    """Return one request line with the caller's own members."""
    return {**own, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}}
