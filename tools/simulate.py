"""Kill simulated workers: many seeds, or one with its trace.

    python tools/simulate.py --seeds 20000 [--first 0] [--processes 1] [--no-mutants]
    python tools/simulate.py --seed 4711 [--mutant 3]

First every mutant of the protocol must be caught, so that a run without findings means something.
Then the seeds are played: red if a job is lost, paid twice, misbilled or answered wrongly, and red
if a named point of the protocol was reached less than twenty times.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.simulation.campaign import Report, simulator  # noqa: E402  # the path comes first
from tests.simulation.mutants import FEWEST, Mutant, all_mutants  # noqa: E402
from tests.simulation.points import how_often, missed  # noqa: E402

BLOCK_SEEDS: Final = 200
"""What one process plays in one go; also how often the figures are printed."""

GATED_HISTORIES: Final = 1000
"""A shorter run cannot reach every point often enough."""

SHOWN_FAILURES: Final = 10


def main() -> int:
    """Play what is asked for and return the exit code."""
    options = _options()
    if options.seed is not None:
        return _replay(options.seed, options.mutant)
    code = 0
    if not options.no_mutants:
        code |= _hunt(options.processes)
    return code | _play(range(options.first, options.first + options.seeds), options.processes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill simulated workers.")
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=1, help="cores to use")
    parser.add_argument("--no-mutants", action="store_true", help="play the seeds only")
    parser.add_argument("--seed", type=int, help="play this one with its trace")
    parser.add_argument("--mutant", type=int, help="with --seed: the number of a mutant")
    return parser.parse_args()


def _replay(seed: int, mutant: int | None) -> int:
    with simulator() as one:
        if mutant is None:
            world, findings = one.play(seed, is_traced=True)
        else:
            world, findings = one.play(seed, all_mutants()[mutant].change, is_traced=True)
    print("\n".join(world.reach.lines))
    print(f"seed {seed}: {world.kills} kills")
    for finding in findings:
        print(f"FOUND {finding.kind}: {finding.text}")
    return 1 if findings else 0


def _hunt(processes: int) -> int:
    """Play every mutant until it is caught."""
    mutants = all_mutants()
    code = 0 if len(mutants) >= FEWEST else 1
    with ProcessPoolExecutor(processes) as pool:
        for number, (mutant, report) in enumerate(
            zip(mutants, pool.map(_caught, range(len(mutants))), strict=True)
        ):
            if not report.failures:
                code = 1
                print(f"mutant {number:2} SURVIVED {report.histories} seeds: {mutant.name}")
                continue
            seed, findings = report.failures[0]
            print(
                f"mutant {number:2} caught at seed {seed:4} as {findings[0].kind!r}: {mutant.name}"
            )
    return code


def _caught(number: int) -> Report:
    mutant: Mutant = all_mutants()[number]
    with simulator() as one:
        return one.campaign(mutant.seeds(), mutant.change, failures_max=1)


def _play(seeds: range, processes: int) -> int:
    whole = Report()
    blocks = list(_blocks(seeds))
    with ProcessPoolExecutor(processes) as pool:
        for number, report in enumerate(pool.map(_block, blocks), start=1):
            whole.add(report)
            if number % 25 == 0 or number == len(blocks):
                print(f"{whole.histories} histories, {whole.kills} kills", flush=True)
    for seed, findings in whole.failures[:SHOWN_FAILURES]:
        for finding in findings:
            print(f"seed {seed} FOUND {finding.kind}: {finding.text}")
        print(f"    python tools/simulate.py --seed {seed}")
    rare = missed(whole.reached) if whole.histories >= GATED_HISTORIES else {}
    for point, times in rare.items():
        print(f"reached only {times} times: {point}")
    print(json.dumps(_figures(whole)))
    return 1 if whole.failures or rare else 0


def _blocks(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, BLOCK_SEEDS):
        yield range(start, min(start + BLOCK_SEEDS, seeds.stop))


def _block(seeds: range) -> Report:
    with simulator() as one:
        return one.campaign(seeds)


def _figures(report: Report) -> dict[str, object]:
    return {
        "histories": report.histories,
        "jobs": report.jobs,
        "kills": report.kills,
        "kills_without_work": report.idle_kills,
        "lost": report.count("lost"),
        "paid_twice": report.count("paid twice"),
        "misbilled": report.count("misbilled"),
        "other_findings": sum(len(found) for _, found in report.failures)
        - sum(report.count(kind) for kind in ("lost", "paid twice", "misbilled")),
        "core_seconds": round(report.seconds, 1),
        "histories_per_core_second": round(report.histories / max(report.seconds, 0.001), 1),
        "least_reached_point": min(how_often(report.reached).items(), key=lambda one: one[1]),
    }


if __name__ == "__main__":
    sys.exit(main())
