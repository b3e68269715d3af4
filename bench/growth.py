"""What more work costs: uploads of 10 MB to 1 GB, and 1 to 10,000 jobs on one server.

Prints one JSON object. Each upload has a new server, so that its peak memory is its own; the jobs
share one, so that what piles up shows. A step of jobs that would take longer than
`--step-seconds-max`, judged by the step before, is left out and named.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from call import REQUESTS, send_file, spread
from lives import live
from processes import Process, emulator, machine, penstock
from whole_job import write_input

UPLOADS_MB: Final = (10, 100, 1_000)
RUNS: Final = {10: 9, 100: 5, 1_000: 2}
JOBS: Final = (1, 100, 1_000, 10_000)
CONCURRENCY: Final = 20
LINE_BYTES: Final = 5_000
LINES: Final = 20
FAST_POLLS: Final = {
    "PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.2",
    "PENSTOCK_TIMING_POLL_SECONDS_MAX": "0.5",
}


def upload(folder: Path, megabytes: int) -> dict[str, Any]:
    """Upload a file of this size several times to a new server."""
    source = folder / "input.jsonl"
    write_input(source, megabytes * 1_000_000 // LINE_BYTES, LINE_BYTES)
    size = source.stat().st_size
    with penstock(folder) as server:
        idle_mb = server.peak_mb()
        seconds = []
        for _ in range(RUNS[megabytes]):
            # What the upload before has left to be prepared is no part of this one.
            server.settle()
            os.sync()
            seconds.append(
                send_file(
                    server.url, server.key, source, path=REQUESTS, content_type="application/jsonl"
                )
            )
        return {
            "bytes": size,
            "runs": len(seconds),
            "ms_per_mb": round(statistics.median(seconds) * 1000 / (size / 1e6), 2),
            "idle_rss_mb": idle_mb,
            "peak_rss_mb": server.peak_mb(),
        }


def step(server: Process, folder: Path, jobs: int, seconds_max: float) -> dict[str, Any]:
    """Run so many more jobs on the server."""
    cpu = server.cpu_seconds()
    lives = live(server, jobs, concurrency=CONCURRENCY, lines=LINES, seconds_max=seconds_max)
    return {
        "seconds": round(lives.seconds, 1),
        "ms_per_job": round(lives.seconds * 1000 / jobs, 1),
        "server_cpu_ms_per_job": round((server.cpu_seconds() - cpu) * 1000 / jobs, 1),
        "whole_life": spread(lives.whole_seconds),
        "rss_mb": server.resident_mb(),
        "database_mb": megabytes_of(folder / "penstock.db"),
        "engine_database_mb": megabytes_of(folder / "engine.db"),
    }


def megabytes_of(file: Path) -> float:
    """Return a file's size."""
    return round(file.stat().st_size / 1e6, 2)


def grow(folder: Path, most: int, seconds_max: float) -> dict[str, Any]:
    """Run each step on top of the one before."""
    result: dict[str, Any] = {}
    with emulator(folder) as provider, penstock(folder, provider.url, **FAST_POLLS) as server:
        done = 0
        for jobs in JOBS:
            if jobs > most:
                break
            expected = jobs * result[f"to_{done}_jobs"]["ms_per_job"] / 1000 if done > 1 else 0
            if expected > seconds_max:
                result["left_out"] = f"{jobs} jobs would take {expected:.0f} s"
                break
            # Twice the time that was expected is a finding, not a reason to give up.
            result[f"to_{jobs}_jobs"] = step(server, folder / "data", jobs - done, seconds_max * 2)
            done = jobs
    return result


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Grow the uploads, then the jobs."""
    result: dict[str, Any] = {}
    for megabytes in UPLOADS_MB:
        if megabytes <= given.upload_mb_max:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                result[f"upload_{megabytes}_mb"] = upload(Path(name), megabytes)
    jobs = grow(folder, given.jobs_max, given.step_seconds_max)
    return machine(**result, jobs_at_once=CONCURRENCY, lines_per_job=LINES, **jobs)


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upload-mb-max", type=int, default=1_000)
    parser.add_argument("--jobs-max", type=int, default=10_000)
    parser.add_argument("--step-seconds-max", type=float, default=300.0)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
