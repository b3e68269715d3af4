"""Whether the time of a refusal tells which keys exist; in this process, without a network around.

Prints one JSON object. Keys of nobody, and the id of a known key with a wrong secret, both with a
right checksum, are refused in random order by the real authenticator over a real database. Welch's
t compares the two, as ASVS and the tools for side channels do: above 4.5 the two can be told apart
by who measures this closely and this often. The same is done with what a client sees of the whole
application. The database file must not change.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request

from call import REQUESTS
from penstock.core.key import _with_check, key_id_of, new_key
from penstock.errors import Unauthenticated
from penstock.settings import build, emulator_values
from penstock.wiring import Server
from processes import NOBODY, machine

SIGNAL_T: Final = 4.5
WARM: Final = 500
KEPT_SHARE: Final = 0.9
"""Of the fastest: the others waited for somebody else on this machine, not for us."""


def scope_of(key: str) -> dict[str, Any]:
    """Return a request with this key."""
    return {
        "type": "http",
        "method": "GET",
        "path": REQUESTS,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {key}".encode())],
        "client": ("127.0.0.1", 1),
        "state": {},
    }


async def refused_seconds(server: Server, key: str) -> float:
    """Return how long a refusal takes; RuntimeError if it is none."""
    request = Request(scope_of(key))
    begun = time.perf_counter()
    try:
        await server.authenticator.identify(request)
    except Unauthenticated:
        return time.perf_counter() - begun
    raise RuntimeError("a wrong key was let in")


async def times(server: Server, known: str, count: int, seed: int) -> dict[str, list[float]]:
    """Return the times of both kinds, measured in random order."""
    rng = random.Random(seed)
    key_id = key_id_of(known)
    found: dict[str, list[float]] = {"unknown": [], "known": []}
    kinds = ["unknown", "known"] * count
    rng.shuffle(kinds)
    for number, kind in enumerate(kinds):
        guess = new_key()
        if kind == "known":
            guess = _with_check(f"pk_{key_id}_{guess.split('_')[2]}")
        seconds = await refused_seconds(server, guess)
        if number >= WARM:
            found[kind].append(seconds)
    return found


def welch_t(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Welch's t of the two samples."""
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(spread)


def fastest(seconds: Sequence[float]) -> list[float]:
    """Return the share that nothing else delayed."""
    return sorted(seconds)[: int(len(seconds) * KEPT_SHARE)]


def file_state(folder: Path) -> list[tuple[str, int, int]]:
    """Return size and time of the database and what lies beside it."""
    files = sorted(each for each in folder.glob("penstock.db*") if each.suffix != ".db-shm")
    return [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files]


async def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Open a server, refuse, and return the figures."""
    values = {"data_dir": str(folder), "vertex": emulator_values(NOBODY)}
    server = Server(build(values))
    try:
        known = await server.first_key() or ""
        before = file_state(folder)
        found = await times(server, known, given.keys, given.seed)
        after = file_state(folder)
    finally:
        await server.close()
    kept = {kind: fastest(seconds) for kind, seconds in found.items()}
    t = welch_t(kept["unknown"], kept["known"])
    return machine(
        wrong_keys=sum(map(len, found.values())) + WARM,
        median_us={kind: round(statistics.median(each) * 1e6, 1) for kind, each in found.items()},
        mean_us_of_fastest={k: round(statistics.fmean(v) * 1e6, 1) for k, v in kept.items()},
        welch_t_of_all=round(welch_t(found["unknown"], found["known"]), 2),
        welch_t_of_fastest=round(t, 2),
        goal_t=SIGNAL_T,
        goal_is_met=abs(t) < SIGNAL_T,
        database_file_unchanged=before == after,
    )


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(asyncio.run(measure(Path(name), parser.parse_args()))))


if __name__ == "__main__":
    main()
