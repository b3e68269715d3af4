"""Send bent requests to every operation of the served OpenAPI document.

    python tools/fuzz_requests.py [--requests 200000] [--seed 1]

The whole server, called in this process (tests/wire_abuse/request_fuzzer.py). Red at any 5xx, at an
answer that takes over a second, at a key or a traceback in an answer, and at growing memory.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.wire_abuse.request_fuzzer import Fuzzer, Report  # noqa: E402  # the path comes first

SHOWN: Final = 20
MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a memory file system: thousands of jobs are stored


async def play(requests: int, seed: int) -> Report:
    """Send them to a new server in a folder of its own."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="penstock-fuzz-", dir=place) as folder:
        fuzzer = Fuzzer(Path(folder), seed)
        async with fuzzer.running():
            return await fuzzer.play(requests)


def main() -> int:
    """Play, tell the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description="Send bent requests to every operation.")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    # A line for each request would be the slowest part.
    logging.disable(logging.WARNING)
    begun = time.perf_counter()
    report = asyncio.run(play(given.requests, given.seed))
    seconds = time.perf_counter() - begun
    print(f"{report.requests} requests to {len(report.operations)} operations, seed {given.seed}")
    print(f"{seconds:.0f} s, slowest {report.slowest_seconds * 1000:.0f} ms")
    print(
        f"memory {report.warm_bytes >> 20} MiB when warm, {report.grown_bytes >> 20:+d} MiB since"
    )
    print("answers", dict(sorted(report.statuses.items())))
    print(f"{len(report.findings)} findings")
    for finding in report.findings[:SHOWN]:
        print(" ", finding)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
