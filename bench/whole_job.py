"""One job through a real server and a real emulator, each a process of its own.

Prints a JSON object: the wall time of each stage as the server's own event log states it, the peak
memory of the server, and proof that lines out equal lines in. Everything stays on loopback, and the
run ends by itself.
"""

import argparse
import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from penstock.client import Api

MODEL: Final = "gemini-3-flash-preview"
START_SECONDS_MAX: Final = 30.0
JOB_SECONDS_MAX: Final = 900.0
PENSTOCK: Final = [sys.executable, "-m", "penstock.cli.main"]
STAGES: Final = (
    ("prepare_seconds", "accepted", "prepared"),
    ("submit_seconds", "prepared", "created"),
    ("provider_seconds", "created", "collecting"),
    ("collect_seconds", "collecting", "succeeded"),
)


def write_input(path: Path, lines: int, line_bytes: int) -> None:
    """Write `lines` requests of about `line_bytes` each: English-like words, seeded."""
    rng = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(4096)]
    text_bytes = max(line_bytes - 150, 10)
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            text = " ".join(rng.choices(words, k=text_bytes // 6 + 1))[:text_bytes]
            request = {
                "contents": [{"role": "user", "parts": [{"text": text}]}],
                "generationConfig": {"temperature": 0.2},
            }
            line = {"custom_id": f"row-{number}", "request": request}
            file.write(json.dumps(line) + "\n")


@contextmanager
def running(arguments: list[str], log: Path, **environment: str) -> Iterator[dict[str, str]]:
    """Run a penstock command until the block ends; yield its `name: value` lines."""
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [*PENSTOCK, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
        )
        try:
            yield said_by(child, 2 if arguments[0] == "serve" else 1)
        finally:
            child.terminate()
            _, _, usage = os.wait4(child.pid, 0)
            child.returncode = 0
            peaks[arguments[0]] = usage.ru_maxrss * 1024
            cpus[arguments[0]] = usage.ru_utime + usage.ru_stime


peaks: dict[str, int] = {}
cpus: dict[str, float] = {}


def said_by(child: subprocess.Popen[bytes], count: int) -> dict[str, str]:
    """Read the first `count` lines `name: value` that a child prints."""
    said: dict[str, str] = {}
    if child.stdout is None:
        raise RuntimeError("the child has no standard output")
    while len(said) < count:
        line = child.stdout.readline().decode()
        if not line:
            raise RuntimeError("the child ended before it was ready")
        name, _, value = line.strip().partition(": ")
        said[name] = value
    return said


def stages(database: Path) -> dict[str, float]:
    """Return seconds per stage from the job's event history."""
    with sqlite3.connect(database) as connection:
        at = dict(connection.execute("SELECT kind, min(at) FROM events GROUP BY kind"))
    return {name: round(at[end] - at[begin], 2) for name, begin, end in STAGES}


def measure(folder: Path, lines: int, line_bytes: int) -> dict[str, Any]:
    """Run the job and return the figures."""
    source, target = folder / "input.jsonl", folder / "output.jsonl"
    write_input(source, lines, line_bytes)
    emulator = ["emulator", "--port", "0", "--speed", "1000", "--data-dir", str(folder / "emu")]
    with running(emulator, folder / "emulator.log") as provider:
        serve = ["serve", "--port", "0", "--data-dir", str(folder / "data")]
        serve += ["--emulator", provider["url"]]
        timing = {"PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.5"}
        with (
            running(serve, folder / "server.log", **timing) as server,
            Api(server["url"], server["key"]) as client,
        ):
            begun = time.perf_counter()
            job = client.submit(source, model=MODEL)
            accepted = time.perf_counter()
            record = client.wait(job.request_id, poll_seconds=0.5, timeout_seconds=JOB_SECONDS_MAX)
            ended = time.perf_counter()
            client.download(record.request_id, target)
            downloaded = time.perf_counter()
        per_stage = stages(folder / "data" / "penstock.db")
    with source.open("rb") as sent, target.open("rb") as got:
        equal = all(
            json.loads(a)["custom_id"] == json.loads(b)["custom_id"]
            for a, b in zip(sent, got, strict=True)
        )
    overhead = ended - begun - per_stage["provider_seconds"]
    return {
        "input_bytes": source.stat().st_size,
        "lines_in": lines,
        "lines_out_equal_and_in_order": equal,
        "accept_seconds": round(accepted - begun, 2),
        **per_stage,
        "download_seconds": round(downloaded - ended, 2),
        "overhead_seconds_beyond_provider": round(overhead, 2),
        "output_bytes": target.stat().st_size,
        "server_peak_rss_mb": round(peaks["serve"] / 1e6, 1),
        "server_cpu_seconds": round(cpus["serve"], 1),
        "emulator_peak_rss_mb": round(peaks["emulator"] / 1e6, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
    }


def main() -> None:
    """Parse the size, run in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--line-bytes", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), given.lines, given.line_bytes)))


if __name__ == "__main__":
    main()
