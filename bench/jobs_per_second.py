"""Whole lives of small jobs a second, at 1, 10 and 100 at once.

Prints one JSON object. Server, emulator and this client are processes that share the cores of this
machine; the emulator runs at 1,000 times its speed, so a provider's job takes some 0.06 s. Measured
with the default timings, where a young provider job is polled every 5 s, and with polls of 0.2 s,
which show what the machine can do.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from call import spread
from lives import live, stage_seconds
from processes import Process, emulator, machine, penstock

LINES: Final = 20
RUN_SECONDS_MAX: Final = 240.0
TIMINGS: Final = {
    "default": {},
    "fast_polls": {
        "PENSTOCK_TIMING_POLL_SECONDS_MIN": "0.2",
        "PENSTOCK_TIMING_POLL_SECONDS_MAX": "0.5",
    },
}
JOBS: Final = {
    "default": {1: 3, 10: 30, 100: 300},
    "fast_polls": {1: 20, 10: 100, 100: 500},
}


def figures(
    server: Process, provider: Process, folder: Path, concurrency: int, jobs: int
) -> dict[str, Any]:
    """Run the jobs; return rates, latencies and what server, emulator and client cost."""
    before = [server.cpu_seconds(), provider.cpu_seconds(), time.process_time()]
    lives = live(server, jobs, concurrency=concurrency, lines=LINES, seconds_max=RUN_SECONDS_MAX)
    after = [server.cpu_seconds(), provider.cpu_seconds(), time.process_time()]
    cpu = [round((end - begin) / jobs * 1000, 1) for begin, end in zip(before, after, strict=True)]
    stages = stage_seconds(folder / "data" / "penstock.db", lives.ids)
    return {
        "jobs": jobs,
        "jobs_per_second": round(jobs / lives.seconds, 2),
        "accept": spread(lives.accept_seconds),
        "whole_life": spread(lives.whole_seconds),
        "stages_p50_ms": {name: spread(took)["p50_ms"] for name, took in stages.items()},
        "server_cpu_ms_per_job": cpu[0],
        "emulator_cpu_ms_per_job": cpu[1],
        "client_cpu_ms_per_job": cpu[2],
        "server_cpu_share_of_a_core": round((after[0] - before[0]) / lives.seconds, 2),
        "server_rss_mb": server.resident_mb(),
        "server_peak_rss_mb": server.peak_mb(),
    }


def measure(folder: Path, scale: float) -> dict[str, Any]:
    """Measure each timing on a new pair of servers."""
    result: dict[str, Any] = {"lines_per_job": LINES}
    for timing, settings in TIMINGS.items():
        own = folder / timing
        own.mkdir()
        with emulator(own) as provider, penstock(own, provider.url, **settings) as server:
            for concurrency, jobs in JOBS[timing].items():
                wanted = max(round(jobs * scale), 1)
                name = f"{timing}_{concurrency}_at_once"
                result[name] = figures(server, provider, own, concurrency, wanted)
                os.sync()
    return machine(**result)


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of jobs")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args().scale)))


if __name__ == "__main__":
    main()
