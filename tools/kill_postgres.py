"""Crash Postgres under load, again and again: nothing acknowledged may be lost or paid twice.

    python tools/kill_postgres.py --restarts 100

Two APIs, two workers and three clients run on a Postgres of their own, which gets `pg_ctl restart
-m immediate` in the middle of submissions. Prints one JSON object and ends with 1 if a promise was
broken; docs/reliability.md has the figures. The database is crashed, not the machine: its files are
synced as in production, and the page cache survives.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.postgres import PostgresServer  # noqa: E402  # the path comes first
from tests.scale.outage import Clients, Outage, Verdict, crash, judge, keep  # noqa: E402


def main() -> int:
    """Crash it as often as asked for and return the exit code."""
    parser = argparse.ArgumentParser(description="Crash Postgres under load.")
    parser.add_argument("--restarts", type=int, default=100, help="how many crashes")
    parser.add_argument("--keep", type=Path, help="an empty folder for logs, which stay there")
    options = parser.parse_args()
    restarts = options.restarts
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="penstock-fire-") as folder, PostgresServer() as server:
        begun = time.monotonic()
        verdict, outages = _burn(options.keep or Path(folder), server, restarts)
        figures = {
            "restarts": restarts,
            **_outcome(verdict),
            "down_seconds": _spread([one.down_seconds for one in outages]),
            "recovery_seconds": _spread([one.recovery_seconds for one in outages]),
            "seconds": round(time.monotonic() - begun, 1),
            "load_average_at_start": [round(one, 2) for one in load],
            "load_average_at_end": [round(one, 2) for one in os.getloadavg()],
            "machine": f"{os.cpu_count()} cores",
        }
    print(json.dumps(figures, indent=2))
    return 1 if figures["broken_promises"] else 0


def _burn(folder: Path, server: PostgresServer, restarts: int) -> tuple[Verdict, list[Outage]]:
    cluster = keep(folder, server.url(server.create_database()))
    outages: list[Outage] = []
    try:
        with Clients(cluster) as clients:
            for number in range(1, restarts + 1):
                outages.append(crash(server, clients))
                print(f"crash {number}: {outages[-1]}", file=sys.stderr, flush=True)
        return judge(cluster, clients), outages
    finally:
        cluster.close()


def _outcome(verdict: Verdict) -> dict[str, Any]:
    return {
        "acked": verdict.acked,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "ended_well_without_a_provider_job": len(verdict.unpaid),
        "jobs_whose_answer_was_lost": verdict.unheard,
        "refused": verdict.refused,
        "never_ended": verdict.stuck,
        "broken_promises": sorted(
            {*verdict.lost, *verdict.doubled, *verdict.unpaid, *verdict.stuck}
        ),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(len(ordered) * 0.95)], 2),
        "max": round(ordered[-1], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
