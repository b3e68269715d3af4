"""How late the API answers while its server works on large jobs: prepares one, collects one.

Prints one JSON object. `GET /requests/{id}` of an ended job is due 50 times a second, on ten
connections, while a job of a gigabyte lives from its upload to its output; a bare server
(bench/echo_server.py) is asked just so at the same time, and is the floor of this machine, because
callers, senders, emulator and server share the cores. The stages are told apart by the job's event
history, and a latency counts from the time when its request was due.
"""

import argparse
import asyncio
import json
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from call import REQUESTS, send_file, spread
from processes import Process, emulator, machine, penstock, started
from small_calls import CALLER_START_SECONDS, CLIENTS, ECHO, PER_SECOND, arguments, fill
from whole_job import write_input

STAGES: Final = {"prepare": ("accepted", "prepared"), "collect": ("collecting", "succeeded")}
JOB_SECONDS_MAX: Final = 200.0
END_SECONDS_MAX: Final = 60.0
LOOK_SECONDS: Final = 0.2
GOAL_P99_MS: Final = 10.0
Asked = list[tuple[float, float]]
"""When each request was due, and how long it took."""


class Callers:
    """Processes that ask two servers the same, until they are told to end."""

    def __init__(self, servers: dict[str, Process], path: str) -> None:
        more = ["--until-stdin-ends", "--per-second", str(PER_SECOND), "--connections"]
        self._children = {
            name: subprocess.Popen(
                [*arguments(server, path), *more, str(CLIENTS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for name, server in servers.items()
        }
        time.sleep(CALLER_START_SECONDS)

    def end(self) -> dict[str, Asked]:
        """Tell all to end; return what each has asked, on this process's clock of seconds."""
        for child in self._children.values():
            if child.stdin is not None:
                child.stdin.close()
                child.stdin = None
        said = {
            name: json.loads(child.communicate(timeout=END_SECONDS_MAX)[0])["asked"]
            for name, child in self._children.items()
        }
        return {name: [(due, took) for due, took in asked] for name, asked in said.items()}


def life(server: Process, folder: Path, file: Path) -> dict[str, float]:
    """Upload the file and wait for the end of its job; return when each event was."""
    begun_at = time.time()
    send_file(server.url, server.key, file, path=REQUESTS, content_type="application/jsonl")
    query = (
        "SELECT kind, min(at) FROM events WHERE job_id ="
        " (SELECT id FROM jobs ORDER BY created_at DESC LIMIT 1) GROUP BY kind"
    )
    deadline = time.monotonic() + JOB_SECONDS_MAX
    with closing(sqlite3.connect(folder / "data" / "penstock.db")) as connection:
        while time.monotonic() < deadline:
            found = {kind: float(at) for kind, at in connection.execute(query)}
            if "succeeded" in found:
                return {"begun": begun_at, **found}
            time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"the job did not succeed: {found}")


def one_round(servers: dict[str, Process], folder: Path, path: str, file: Path) -> dict[str, Any]:
    """Let one job live while both servers are asked; return the latencies of each stage."""
    server = servers["get"]
    server.settle()
    # Events are dated by the clock on the wall, requests by one that nobody sets.
    offset = time.time() - time.perf_counter()
    callers = Callers(servers, path)
    at = life(server, folder, file)
    asked = callers.end()
    figures: dict[str, Any] = {"upload_seconds": round(at["accepted"] - at["begun"], 1)}
    for stage, (first, last) in STAGES.items():
        begun, ended = at[first] - offset, at[last] - offset
        figures[stage] = {"seconds": round(ended - begun, 1)} | {
            name: spread([took for due, took in each if begun <= due <= ended])
            for name, each in asked.items()
        }
    return {**figures, "server_peak_rss_mb": server.peak_mb()}


@contextmanager
def servers_of(folder: Path) -> Iterator[tuple[dict[str, Process], str]]:
    """Run the pair and the bare server; yield the two that are asked, and a job's path."""
    with (
        emulator(folder) as provider,
        penstock(folder, provider.url, PENSTOCK_TIMING_POLL_SECONDS_MIN="0.2") as server,
        started(ECHO, folder / "echo.log", 2) as echo,
    ):
        yield {"get": server, "floor": echo}, f"{REQUESTS}/{asyncio.run(fill(server))}"


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Ask during the lives of some large jobs, one after the other."""
    file = folder / "input.jsonl"
    write_input(file, given.lines, given.line_bytes)
    with servers_of(folder) as (servers, path):
        rounds = [one_round(servers, folder, path, file) for _ in range(given.rounds)]
    middle = {
        f"{name}_p99_ms_during_{stage}": median(each[stage][name]["p99_ms"] for each in rounds)
        for stage in STAGES
        for name in ("get", "floor")
    }
    slowest = max(value for name, value in middle.items() if name.startswith("get"))
    return machine(
        input_bytes=file.stat().st_size,
        lines=given.lines,
        rounds=rounds,
        **middle,
        goal_p99_ms=GOAL_P99_MS,
        goal_is_met=slowest <= GOAL_P99_MS,
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=190_000)
    parser.add_argument("--line-bytes", type=int, default=5_300)
    parser.add_argument("--rounds", type=int, default=2)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
