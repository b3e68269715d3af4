"""Upload lines of 300 bytes, 5 KB and 300 KB by turns, as many bytes of each, through the raw door.

What a line costs, as a figure: how much slower than lines of 5 KB the others go, in the same run to
the same server. As many bytes of each, because an upload costs something whatever its size is. Most
lines of 300 bytes that a job may have are 60 MB.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from ingest import Runs, servers_of, write_body
from processes import machine
from whole_job import write_input

LINES: Final = {300: 190_000, 5_300: 10_400, 300_000: 184}
"""How many lines of so many bytes."""

COMMON_BYTES: Final = 5_300


def measure(folder: Path, uploads: int) -> dict[str, Any]:
    """Upload each shape so many times to the null server and to ours."""
    bodies, decoded = {}, {}
    for line_bytes, lines in LINES.items():
        source = folder / f"{line_bytes}.jsonl"
        write_input(source, lines, line_bytes)
        bodies[line_bytes] = write_body(source, folder / f"{line_bytes}.body", "raw")
        decoded[line_bytes] = source.stat().st_size
    with ExitStack() as stack:
        running = servers_of(folder, ["null", "penstock"], 2, stack)
        runs = {
            (name, line_bytes): Runs(server, body, 1)
            for line_bytes, body in bodies.items()
            for name, server in running.items()
        }
        for _ in range(uploads):
            running["penstock"].settle()
            for each in runs.values():
                each.run()
        figures = {
            f"{name}_{line_bytes}": each.figures(decoded[line_bytes])
            for (name, line_bytes), each in runs.items()
        }
    rates = {name: each["mb_per_second"] for name, each in figures.items()}
    common = rates[f"penstock_{COMMON_BYTES}"]
    return {
        "runs": uploads,
        "decoded_bytes": decoded,
        **{
            f"of_null_{size}": round(rates[f"penstock_{size}"] / rates[f"null_{size}"], 2)
            for size in LINES
        },
        **{f"times_slower_{size}": round(common / rates[f"penstock_{size}"], 2) for size in LINES},
        **figures,
        **machine(),
    }


def main() -> None:
    """Parse, measure in a temporary folder, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        print(json.dumps(measure(Path(name), parser.parse_args().runs)))


if __name__ == "__main__":
    main()
