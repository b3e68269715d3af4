"""Small calls: how many a second and how slow the slowest, idle and while large uploads run.

Prints one JSON object. The server is a process, the caller is one (bench/caller.py), and so they
share the cores of this machine. `healthz` is a route that asks no database: the floor of the HTTP
stack. Uploads end in a server whose emulator is gone, so nothing but the uploads disturbs. While
they run, a bare server (bench/echo_server.py) is called in its turn: what its answers take is the
machine's floor, because callers, senders and receivers share the cores.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from call import REQUESTS, Call, send_file, spread
from processes import Process, emulator, machine, penstock, started
from whole_job import write_input

ECHO: Final = [sys.executable, str(Path(__file__).with_name("echo_server.py"))]
CALLER: Final = [sys.executable, str(Path(__file__).with_name("caller.py"))]
JOBS: Final = 60
"""More than the 50 of a page."""
LINE_BYTES: Final = 5_000
PER_SECOND: Final = 50.0
CLIENTS: Final = 10
"""Connections that share the rate: one slow answer holds up nobody else's request."""
GOAL_P99_MS: Final = 10.0
END_SECONDS_MAX: Final = 120.0
CALLER_START_SECONDS: Final = 1.0
_LOOK = threading.Event()


def called(server: Process, path: str, connections: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one kind of call on a server that does nothing else."""
    done = subprocess.run(
        [*arguments(server, path), "--connections", str(connections), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + END_SECONDS_MAX,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def arguments(server: Process, path: str) -> list[str]:
    """Return the command that calls this path."""
    return [*CALLER, "--url", server.url, "--key", server.key, "--path", path]


async def fill(server: Process) -> str:
    """Submit small jobs, wait until all have ended, and return the newest one's id."""
    line = {"request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}
    body = json.dumps(line).encode()
    call = await Call.open(server.url, server.key)
    for _ in range(JOBS):
        record = json.loads(await call("POST", REQUESTS, body, "application/jsonl"))
    deadline = time.monotonic() + END_SECONDS_MAX
    while (await call.json("GET", f"{REQUESTS}?status=success"))["total"] < JOBS:
        if time.monotonic() > deadline:
            raise TimeoutError("the jobs did not end")
        await asyncio.sleep(0.2)
    await call.close()
    return str(record["request_id"])


def during_uploads(
    server: Process, called: Process, path: str, file: Path, uploads: int
) -> dict[str, Any]:
    """Call one server steadily while several uploads of this file into another run.

    Until the first upload ends.
    """
    spans: list[tuple[float, float]] = []
    first = threading.Event()

    def upload() -> None:
        begun = time.perf_counter()
        try:
            send_file(server.url, server.key, file, path=REQUESTS, content_type="application/jsonl")
            spans.append((begun, time.perf_counter()))
        finally:
            first.set()

    threads = [threading.Thread(target=upload) for _ in range(uploads)]
    command = [*arguments(called, path), "--until-stdin-ends", "--per-second", str(PER_SECOND)]
    command += ["--connections", str(CLIENTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
        # The caller's interpreter starts before the uploads, so that it sees all of them.
        _LOOK.wait(CALLER_START_SECONDS)
        for thread in threads:
            thread.start()
        first.wait()
        output, _ = caller.communicate(timeout=END_SECONDS_MAX)
        for thread in threads:
            thread.join()
    if len(spans) < uploads:
        raise RuntimeError("an upload failed")
    begun, ended = max(span[0] for span in spans), min(span[1] for span in spans)
    took = [seconds for due, seconds in json.loads(output)["asked"] if begun <= due <= ended]
    megabytes = file.stat().st_size / 1e6
    return {
        "requests": len(took),
        **spread(took),
        "upload_bytes": file.stat().st_size,
        "mb_per_second_of_each_upload": [round(megabytes / (end - begin)) for begin, end in spans],
        "server_peak_rss_mb": server.peak_mb(),
    }


@contextmanager
def filled_server(folder: Path) -> Iterator[tuple[Process, str]]:
    """Run a server with ended jobs and without an emulator; yield it and a job's id."""
    with ExitStack() as servers:
        with emulator(folder) as provider:
            server = servers.enter_context(
                penstock(folder, provider.url, PENSTOCK_TIMING_POLL_SECONDS_MIN="0.2")
            )
            job_id = asyncio.run(fill(server))
        yield server, job_id


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Fill a server, call it idle, then during uploads."""
    file = folder / "input.jsonl"
    write_input(file, given.upload_mb * 1_000_000 // LINE_BYTES, LINE_BYTES)
    result: dict[str, Any] = {}
    with filled_server(folder) as (server, job_id), _echo(folder) as echo:
        paths = {"get": f"{REQUESTS}/{job_id}", "list": REQUESTS, "healthz": "/healthz"}
        for name, path in paths.items():
            for connections in (1, 16):
                figures = called(server, path, connections, given.seconds)
                result[f"{name}_{connections}"] = figures
        for uploads in (1, 2, 2, 2):
            for name, called_server in (("floor", echo), ("get", server)):
                figures = during_uploads(server, called_server, paths["get"], file, uploads)
                result.setdefault(f"{name}_during_{uploads}_uploads", []).append(figures)
    slowest = {name: _p99(result[f"{name}_during_2_uploads"]) for name in ("floor", "get")}
    return machine(
        **result,
        floor_p99_ms=slowest["floor"],
        get_p99_ms=slowest["get"],
        goal_p99_ms=GOAL_P99_MS,
        goal_is_met=slowest["get"] <= GOAL_P99_MS,
    )


def _p99(rounds: list[dict[str, Any]]) -> float:
    """Return the p99 of the middle round: one hiccup of the machine is no figure."""
    return float(median(each["p99_ms"] for each in rounds))


@contextmanager
def _echo(folder: Path) -> Iterator[Process]:
    with started(ECHO, folder / "echo.log", 2) as process:
        yield process


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upload-mb", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
