"""Kill real servers with SIGKILL at each named point and at each ordered pair of points.

    python tools/kill.py                                each point three times
    python tools/kill.py --pairs --processes 2          and each ordered pair
    python tools/kill.py --pairs --triples 450 --seed 7 and stories of three kills
    python tools/kill.py --only C3-C7                   one story

Red if anything was lost, paid twice, misbilled or answered wrongly, if a server did not come to
rest, or if a point was not reached. The folder of a story with findings is kept.
"""

import argparse
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.crash.campaign import Campaign, Report, pairs, singles, triples  # noqa: E402  # the path comes first
from tests.crash.history import Ending, Story  # noqa: E402
from tests.crash.points import MISSING, table  # noqa: E402

TIMES: Final = 3
"""How often each point is struck alone."""

TOLD_STORIES: Final = 50
"""Between two lines of progress."""


def main() -> int:
    """Play what is asked for and return the exit code."""
    options = _options()
    stories = _stories(options)
    print(f"{len(stories)} stories, seed {options.seed}, {options.processes} processes", flush=True)
    began = time.monotonic()
    shares = [stories[number :: options.processes] for number in range(options.processes)]
    report = Report()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        for share in pool.map(
            play,
            shares,
            [options.lanes] * len(shares),
            [options.folder] * len(shares),
            [options.minutes] * len(shares),
        ):
            report.join(share)
    return _tell(report, len(stories), time.monotonic() - began)


def play(stories: Sequence[Story], lanes: int, folder: Path | None, minutes: float) -> Report:
    """Play a share of the stories in this process; none is begun after the given minutes."""
    end = time.monotonic() + 60 * minutes
    report = Report()
    with Campaign(folder, lanes) as campaign:
        for first in range(0, len(stories), TOLD_STORIES):
            if time.monotonic() > end:
                break
            report.join(campaign.run(stories[first : first + TOLD_STORIES], _shout))
            print(
                f"{report.histories} stories, {report.kills} kills, "
                f"{len(report.failures)} wrong, {len(report.missed)} missed",
                flush=True,
            )
    return report


def _shout(ending: Ending) -> None:
    """Tell at once of what is wrong."""
    for finding in ending.findings:
        print(f"FOUND {ending.story.name}: {finding.kind}: {finding.text}", flush=True)


def _stories(options: argparse.Namespace) -> list[Story]:
    stories = list(singles(TIMES))
    if options.pairs or options.only:
        stories += pairs()
    stories += triples(options.seed, options.triples)
    if options.only:
        return [story for story in stories if story.name in options.only]
    random.Random(options.seed).shuffle(stories)  # noqa: S311  # reproducible, not secret
    return stories


def _tell(report: Report, wanted: int, seconds: float) -> int:
    """Print the figures and return the exit code."""
    print("| | point | kills | hits |")
    print("|---|---|---|---|")
    for point in table().values():
        kills, hits = report.strikes[point.name], report.hits[point.name]
        print(f"| {point.code} | {point.name} | {kills} | {hits} |")
    for code, what in MISSING.items():
        print(f"| {code} | not there yet: {what} | | |")
    for text in report.missed:
        print(f"MISSED {text}")
    print(
        f"{report.histories} of {wanted} stories, {report.kills} kills in {seconds:.0f} s "
        f"({report.kills / seconds:.1f}/s), {len(report.failures)} stories with findings, "
        f"{len(report.missed)} points missed"
    )
    return 1 if report.failures or report.missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill real servers.")
    parser.add_argument("--pairs", action="store_true", help="each ordered pair of points, too")
    parser.add_argument("--triples", type=int, default=0, help="stories of three kills")
    parser.add_argument("--only", nargs="*", help="these stories, by name")
    parser.add_argument("--processes", type=int, default=1, help="cores to use")
    parser.add_argument("--lanes", type=int, default=6, help="servers at a time in each process")
    parser.add_argument("--seed", type=int, default=1, help="order of the stories, and the triples")
    parser.add_argument("--minutes", type=float, default=120, help="begin nothing after this time")
    parser.add_argument("--folder", type=Path, help="where to work; a memory file system if any")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
