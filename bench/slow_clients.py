"""What slow clients cost the others: p99 of a small call with none of them and with 500.

Prints one JSON object. Server, slow clients (bench/slow.py) and caller (bench/caller.py) are
processes on the same cores. `GET /requests/{id}` comes at a steady rate, a latency counts from the
time when its request was due, and rounds with and without slow clients take turns in one run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from call import REQUESTS
from processes import Process, machine
from small_calls import CLIENTS, END_SECONDS_MAX, PER_SECOND, arguments, filled_server

SLOW: Final = [sys.executable, str(Path(__file__).with_name("slow.py"))]
GOAL_RATIO: Final = 2.0


def called(server: Process, path: str, seconds: float) -> dict[str, Any]:
    """Call at the steady rate and return the figures."""
    command = [*arguments(server, path), "--connections", str(CLIENTS), "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, "--per-second", str(PER_SECOND)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + END_SECONDS_MAX,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def among_slow(server: Process, path: str, seconds: float, clients: int) -> dict[str, Any]:
    """Return the same while so many slow clients hold connections."""
    command = [*SLOW, "--url", server.url, "--key", server.key, "--clients", str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as slow:
        if slow.stdin is None or slow.stdout is None:
            raise RuntimeError("the slow clients have no pipes")
        begun = json.loads(slow.stdout.readline())
        figures = called(server, path, seconds)
        slow.stdin.close()
        ended = json.loads(slow.stdout.readline())
        slow.wait(END_SECONDS_MAX)
    return {
        **figures,
        "slow_clients_at_start": begun["connected"],
        "slow_clients_at_end": ended["connected"],
        "slow_clients_cut": ended["cut"],
    }


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Take turns."""
    rounds: dict[str, list[dict[str, Any]]] = {"alone": [], "among_slow": []}
    with filled_server(folder) as (server, job_id):
        path = f"{REQUESTS}/{job_id}"
        called(server, path, 1.0)
        before_mb = server.resident_mb()
        for _ in range(given.rounds):
            rounds["alone"].append(called(server, path, given.seconds))
            rounds["among_slow"].append(among_slow(server, path, given.seconds, given.clients))
        after_mb = server.resident_mb()
    p99 = {name: median(each["p99_ms"] for each in found) for name, found in rounds.items()}
    ratio = p99["among_slow"] / p99["alone"]
    return machine(
        slow_clients=given.clients,
        calls_per_second=PER_SECOND,
        **rounds,
        p99_ms_alone=p99["alone"],
        p99_ms_among_slow=p99["among_slow"],
        ratio=round(ratio, 2),
        goal_ratio=GOAL_RATIO,
        goal_is_met=ratio < GOAL_RATIO,
        server_rss_mb_before=before_mb,
        server_rss_mb_after=after_mb,
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args())))


if __name__ == "__main__":
    main()
