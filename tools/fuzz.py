"""Feed mutated inputs to everything that reads what strangers send.

    python tools/fuzz.py --inputs 1000000 [--seed 1] [--targets line,json] [--processes 1]
    python tools/fuzz.py --targets line --seed 1 --number 4711      # one input again

Prints a JSON summary and is red if an input raised anything but a refusal, broke a promise of its
target (any chunking gives the same result, the quick way agrees with the careful one), took a
second, or if memory grew. Docs: docs/bad-input.md.
"""

import argparse
import base64
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz.campaign import TARGETS, Report, input_of, play  # noqa: E402  # the path comes first

SLOWEST_MILLISECONDS_MAX: Final = 1_000
GROWTH_KIB_MAX: Final = 16 * 1_024
"""A leak of 17 bytes an input shows in a million; allocators need some room."""


def main() -> int:
    """Play what is asked for, print what came of it, and return the exit code."""
    options = _options()
    names = options.targets.split(",") if options.targets else list(TARGETS)
    unknown = ", ".join(sorted(set(names) - set(TARGETS)))
    if unknown:
        sys.exit(f"There is no target {unknown}; there are {', '.join(TARGETS)}.")
    if options.number is not None:
        return _again(names[0], options.seed, options.number)
    one = partial(_play, seed=options.seed, inputs=options.inputs)
    # A process for each target, so that its memory is its own.
    with ProcessPoolExecutor(options.processes, max_tasks_per_child=1) as pool:
        reports = list(pool.map(one, names))
    complaints = [complaint for report in reports for complaint in _complaints(report)]
    print(json.dumps(_summary(reports, complaints), indent=2))
    return 1 if complaints else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Feed mutated inputs to the parsers.")
    parser.add_argument("--inputs", type=int, default=20_000, help="for each target")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs")
    parser.add_argument("--targets", default="", help="some of them, with commas between")
    parser.add_argument("--processes", type=int, default=1, help="cores to use")
    parser.add_argument("--number", type=int, help="play one input of the first target again")
    return parser.parse_args()


def _play(name: str, *, seed: int, inputs: int) -> Report:
    return play(TARGETS[name](), seed, inputs)


def _again(name: str, seed: int, number: int) -> int:
    """Show one input and let its error come through."""
    with closing(TARGETS[name]()) as target:
        data, chance = input_of(target, seed, number)
        print(base64.b64encode(data).decode())
        print(data)
        print(target.run(data, chance))
    return 0


def _complaints(report: Report) -> list[str]:
    name = report.target
    complaints = [f"{name}: input {one.number}: {one.error}" for one in report.findings]
    if report.slowest_milliseconds > SLOWEST_MILLISECONDS_MAX:
        complaints.append(
            f"{name}: input {report.slowest_number} took {report.slowest_milliseconds:.0f} ms"
        )
    growth = report.rss_after_kib - report.rss_before_kib
    if growth > GROWTH_KIB_MAX:
        complaints.append(f"{name}: memory grew by {growth} KiB")
    return complaints


def _summary(reports: Sequence[Report], complaints: Sequence[str]) -> dict[str, object]:
    return {
        "inputs": sum(sum(report.verdicts.values()) for report in reports),
        "load": [round(load, 2) for load in os.getloadavg()],
        "targets": [msgspec.to_builtins(report) for report in reports],
        "complaints": list(complaints),
    }


if __name__ == "__main__":
    sys.exit(main())
