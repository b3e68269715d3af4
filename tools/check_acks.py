"""Check that no answer leaves the server before its files and directories are on the disk.

    python tools/check_acks.py [--repeat 20]

Sends every request that writes so often to a real server under strace, one after the other, and
reads from the trace what was not synced at the first byte of each answer. Prints the table of
docs/reliability.md; red if anything was not synced, or if calls cannot be traced here. That the
check finds what it looks for is shown by tests/durability.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.durability.routes import ROUTES, Row, run_commands, serve  # noqa: E402  # the path comes first
from tests.durability.trace import why_not  # noqa: E402
from tests.durability.traced import Traced  # noqa: E402


def main() -> int:
    """Check all routes and return the exit code."""
    parser = argparse.ArgumentParser(description="Check that answers wait for the disk.")
    parser.add_argument("--repeat", type=int, default=20, help="how often each request is sent")
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory(prefix="acks-") as name:
        folder = Path(name)
        reason = why_not(folder)
        if reason:
            print(reason)
            return 1
        traced = Traced(folder)
        rows = serve(traced, ROUTES, repeat) + run_commands(traced, folder, repeat)
    return show(rows)


def show(rows: list[Row]) -> int:
    """Print the table, and what is wrong below it."""
    print("| request | answers | files and directories that it wrote | not synced |")
    print("|---|---|---|---|")
    for row in rows:
        touched = ", ".join(f"`{one}`" for one in sorted(row.touched)) or "nothing"
        print(f"| {row.title} | {row.answers} | {touched} | {len(row.faults)} |")
    wrong = sorted({f"{row.title}: {fault}" for row in rows for fault in row.faults})
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
