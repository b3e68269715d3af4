"""How long the work of a killed worker rests: from SIGKILL to the first act of another one.

Prints one JSON object. Real processes share a Postgres and a bucket (the emulator's). While a
provider job runs, the worker that watches it is killed at a random moment of its heartbeat; the
first act of the other one, idle until then, is its call at the provider for this job. Heartbeats
and their loss have their default timing; the polls of the killed one were 0.1 s apart.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from processes import machine

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.journeys.service import prompt, until  # noqa: E402  # the path comes first
from tests.postgres import PostgresServer  # noqa: E402
from tests.scale.cluster import Cluster, Member  # noqa: E402

from penstock.settings import Timing  # noqa: E402

DEFAULTS: Final = {
    "PENSTOCK_TIMING_HEARTBEAT_SECONDS": str(Timing().heartbeat_seconds),
    "PENSTOCK_TIMING_WORKER_LOST_SECONDS": str(Timing().worker_lost_seconds),
}
PLAN: Final = {"point": "nothing.kills", "hit": 1}
"""Only notes the named points that a worker comes by."""

SECONDS_MAX: Final = 60.0


def takeover_seconds(cluster: Cluster, victim: Member, chance: random.Random) -> float:
    """Kill the only worker that has work; return when the new one asked the provider."""
    rule = cluster.rule({}, {"hold": "running"})
    job = cluster.submit([prompt("Question")])["request_id"]
    cluster.wait_for_state(job, "JOB_STATE_RUNNING")
    heir = cluster.start("worker", PLAN)
    threading.Event().wait(chance.uniform(0, Timing().heartbeat_seconds))
    killed_at = time.monotonic()
    victim.kill()
    until(lambda: heir.came_by("poll.before"), "the other one acts", SECONDS_MAX)
    taken_at = time.monotonic()
    cluster.drop_rule(rule)
    cluster.wait(job)
    return taken_at - killed_at


def measure(folder: Path, runs: int, seed: int) -> dict[str, Any]:
    """Kill one worker after the other; each heir is the next victim."""
    chance = random.Random(seed)
    with PostgresServer() as server:
        cluster = Cluster(folder, server.url(server.create_database()), **DEFAULTS)
        try:
            cluster.start_emulator()
            cluster.use(cluster.start("api"))
            cluster.start("worker", PLAN)
            took = [takeover_seconds(cluster, cluster.members[-1], chance) for _ in range(runs)]
        finally:
            cluster.close()
    return machine(
        runs=runs,
        median_seconds=round(statistics.median(took), 2),
        least_seconds=round(min(took), 2),
        most_seconds=round(max(took), 2),
        all_seconds=[round(one, 2) for one in took],
        **{name.rpartition("TIMING_")[2].lower(): float(text) for name, text in DEFAULTS.items()},
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), options.runs, options.seed)))


if __name__ == "__main__":
    main()
