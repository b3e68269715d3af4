"""From a POST of 100 lines answered until the provider has the job.

Prints one JSON object. Jobs come one after the other to an idle server with default timings. The
witness is the emulator's own log: the time when it made the job, against the time when our client
had read the answer; all processes read the same clock of this machine.
"""

import argparse
import asyncio
import json
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from call import REQUESTS, Call, spread
from lives import Poller, body_of, stage_seconds
from processes import Process, emulator, machine, penstock

LINES: Final = 100
JOB_SECONDS_MAX: Final = 60.0


def made_at(log: Path) -> dict[str, float]:
    """Return when the emulator made the provider job of each of our ids."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "job_created":
            found[event["labels"]["penstock-job"]] = datetime.fromisoformat(event["at"]).timestamp()
    return found


async def submit(server: Process, jobs: int) -> dict[str, tuple[float, float]]:
    """Submit one after the other; return when each was sent and when its answer was read."""
    poller = await Poller.open(server)
    polling = asyncio.create_task(poller.run())
    body = body_of(LINES)
    times: dict[str, tuple[float, float]] = {}
    for _ in range(jobs):
        call = await Call.open(server.url, server.key)
        begun = time.time()
        record = json.loads(await call("POST", REQUESTS, body, "application/jsonl"))
        times[record["request_id"]] = (begun, time.time())
        await call.close()
        await asyncio.wait_for(poller.end_of(record["request_id"]), JOB_SECONDS_MAX)
    polling.cancel()
    return times


def measure(folder: Path, jobs: int) -> dict[str, Any]:
    """Submit the jobs; return the spread of the times between."""
    log = folder / "provider.jsonl"
    with emulator(folder, log=log) as provider, penstock(folder, provider.url) as server:
        times = asyncio.run(submit(server, jobs))
        made = made_at(log)
        stages = stage_seconds(folder / "data" / "penstock.db", list(times))
    return machine(
        jobs=jobs,
        lines_per_job=LINES,
        accept=spread([answered - begun for begun, answered in times.values()]),
        answer_to_provider_job=spread(
            [made[job_id] - answered for job_id, (_, answered) in times.items()]
        ),
        stages={name: spread(took) for name, took in stages.items()},
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args().jobs)))


if __name__ == "__main__":
    main()
