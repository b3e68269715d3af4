"""A real server, and real commands, under strace."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from tests.blobs.file_server import file_server, ok
from tests.durability.acks import NAME_HEADER, Answer, answers
from tests.durability.disk import Rules
from tests.durability.trace import command
from tests.journeys.service import BASE, MODEL, prompt, running, until

PATIENCE_SECONDS: Final = 60.0
BROKEN: Final = Path(__file__).with_name("broken.py")
PENSTOCK: Final = ("-m", "penstock.cli.main")
LINE: Final = json.dumps(
    {"key": "a line", "request": {"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]}}
)
DATA: Final = f"{LINE}\n" * 3

APART: Final = (
    # What the workflow engine knows is made again from our tables.
    *("engine.db", "engine.db-*"),
    # Held while the process lives, and empty.
    "lock",
    # The shared memory of a write-ahead log is made again from the log.
    "penstock.db-shm",
)
MAY_COME_BACK: Final = (
    # Bytes of an upload without a state, or with a finished one, are removed at the next start.
    "uploads/*.part",
    # The database holds all of it by then.
    "penstock.db-wal",
)

_STORED: Final = "Stored; "
"""Begins the detail of a job that nobody has tried to send yet."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a client reads."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def record(self) -> dict[str, Any]:
        """The body as JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Sends one request after the other, each over a connection of its own, and names them."""

    host: str
    key: str
    source: str
    """An address from which the server may pull `DATA`."""
    ended: list[str]
    """Jobs that had ended, each with a line that failed, before anything was traced."""

    def send(
        self,
        name: str,
        method: str,
        path: str,
        body: bytes | None = None,
        **fields: str,
    ) -> Reply:
        """Send a request; fields are spelled with underscores."""
        headers = {NAME_HEADER: name, "Authorization": f"Bearer {self.key}"}
        headers |= {field.replace("_", "-"): value for field, value in fields.items()}
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(
                status=answer.status,
                headers={field.lower(): value for field, value in answer.getheaders()},
                body=answer.read(),
            )
        finally:
            connection.close()

    def submit(self, name: str) -> str:
        """Submit the JSONL itself and return the id of the job."""
        reply = self.send(
            *(name, "POST", f"{BASE}/requests?model={MODEL}", DATA.encode()),
            Content_Type="application/jsonl",
        )
        return str(reply.record["request_id"])


class Traced:
    """One server that can receive and never sends: all that it writes, it writes for a request.

    The bucket refuses, so the first job keeps the only place for preparing and waits; from then on
    the lifecycle writes nothing into our database. The engine's own is apart.
    """

    def __init__(self, folder: Path, fault: str | None = None) -> None:
        self._folder = folder
        self._fault = fault
        self._key = ""
        self._ended: list[str] = []
        self._there: list[Path] = []
        self.root = folder / "data"

    def bring_to_an_end(self, jobs: int) -> None:
        """Have jobs run to their end by an emulator, before the server is started that is traced.

        The server that does it is the same one on the same directory; nobody traces it.
        """
        with running(self._folder, PENSTOCK_LIMITS_RETRY_ATTEMPTS_MAX="0") as service:
            records = [service.submit([prompt("[[emulator:fail=400]]")]) for _ in range(jobs)]
            ended = [service.wait(str(record["request_id"])) for record in records]
            assert service.server is not None
            service.server.stop()
            self._key = service.key
        self._ended = [str(record["request_id"]) for record in ended]
        self._there = list(self.root.rglob("*"))

    @contextmanager
    def serving(self) -> Iterator[Client]:
        """Start the server, and end it in order."""
        with file_server(_answer) as files:
            source = f"http://127.0.0.1:{files.port}/in/"
            arguments = ["serve", "--port", "0", "--data-dir", str(self.root)]
            arguments += ["--emulator", f"http://127.0.0.1:{files.port}"]
            with (self._folder / "server.log").open("wb") as log:
                strace = subprocess.Popen(
                    [*command(self._trace), *self._program(), *arguments],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=_environment(source),
                )
            try:
                assert strace.stdout is not None
                # A key is made and told at the first start only.
                lines = 1 if self._key else 2
                said = dict(
                    strace.stdout.readline().decode().strip().split(": ") for _ in range(lines)
                )
                client = Client(
                    host=said["url"].removeprefix("http://"),
                    key=self._key or said["key"],
                    source=source,
                    ended=self._ended,
                )
                self._settle(client)
                yield client
            finally:
                _end(strace)

    def answers(self) -> list[Answer]:
        """Return the answers of the server that has ended."""
        return self._read(self._trace, self.root, self._there)

    def run(self, arguments: Sequence[str], root: Path) -> tuple[str, list[Answer]]:
        """Run a command to its end; return its output and its answer."""
        trace = self._folder / "command.strace"
        there = list(root.rglob("*"))
        done = subprocess.run(
            [*command(trace), sys.executable, *PENSTOCK, *arguments],
            capture_output=True,
            env=_environment(""),
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return done.stdout.decode(), self._read(trace, root, there, is_command=True)

    @property
    def _trace(self) -> Path:
        return self._folder / "server.strace"

    def _program(self) -> list[str]:
        what = PENSTOCK if self._fault is None else (str(BROKEN), self._fault)
        return [sys.executable, *what]

    def _settle(self, client: Client) -> None:
        """Have the lifecycle write its last for a while."""
        job = f"{BASE}/requests/{client.submit('setup')}"

        def is_refused() -> bool:
            # A server that answers too early does not know the job yet.
            detail = str(client.send("setup", "GET", job).record.get("status_detail", _STORED))
            return not detail.startswith(_STORED)

        until(is_refused, "the bucket has refused")

    @staticmethod
    def _read(
        trace: Path, root: Path, there: Sequence[Path] = (), *, is_command: bool = False
    ) -> list[Answer]:
        rules = Rules(root=root, apart=APART, may_come_back=MAY_COME_BACK)
        with trace.open(encoding="utf-8", errors="replace") as lines:
            return answers(lines, rules, there, is_command=is_command)


def _answer(head: str) -> list[bytes]:
    """Be a web server with one file, and a bucket that lets nobody in."""
    if " /in/" in head.partition("\r\n")[0]:
        return ok(DATA.encode())
    return [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"]


def _environment(source: str) -> dict[str, str]:
    return {
        **os.environ,
        "PENSTOCK_TIMING_RETRY_SECONDS_MIN": "600",
        "PENSTOCK_TIMING_RETRY_SECONDS_MAX": "600",
        "PENSTOCK_PREPARE_CONCURRENCY": "1",
        "PENSTOCK_SOURCES_ALLOWED": source,
    }


def _end(strace: subprocess.Popen[bytes]) -> None:
    """End the server; strace ends with it, and has written everything then."""
    with strace:
        children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text("ascii")
        for child in map(int, children.split()):
            os.kill(child, signal.SIGTERM)
        try:
            strace.wait(PATIENCE_SECONDS)
        finally:
            strace.kill()
