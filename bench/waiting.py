"""How good the ETAs are: how many jobs end within their interval of 80 %, and how far they are off.

Prints one JSON object. Jobs of one model come at random, wait and run as a shape says, and are seen
at random moments of four weeks as the server would see them: the last 500 that ended and those that
are open, their ends unknown. Each shape has a fixed seed. Beside what the server does, two simpler
ways are asked about the same jobs: of what has ended only, and without regard to the time that a
job has waited already.
"""

import argparse
import bisect
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from penstock.core.state import JobState
from penstock.core.waiting import COVERAGE, Eta, Known, Past, PastJob

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
SPAN_SECONDS: Final = 28 * DAY
HISTORY: Final = 500
JOBS_A_DAY: Final = 400
AT_ONCE: Final = 25
"""Jobs that are asked about at one moment."""
COMPARED_EACH: Final = 4
"""At one of so many moments the simpler ways are asked as well."""
BAD_DAYS: Final = 0.25
QUEUE_SECONDS: Final = 72 * HOUR
RUN_SECONDS: Final = 24 * HOUR

Wait = Callable[[float, random.Random], float]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """One job, with what nobody knows before its end."""

    began_at: float
    running_at: float
    ends_at: float
    lines: int

    def seen(self, now: float) -> PastJob:
        """Return the job as it looks at a moment."""
        has_ended = self.ends_at <= now
        return PastJob(
            state=JobState.SUCCEEDED if has_ended else JobState.RUNNING,
            began_at=self.began_at,
            running_since=self.running_at if self.running_at <= now else None,
            finished_at=self.ends_at if has_ended else None,
            lines=self.lines,
        )


def lognormal(median_seconds: float, sigma: float, dice: random.Random) -> float:
    """Draw a time; with a sigma of 1 one in ten is 3.6 times the median or more."""
    return median_seconds * math.exp(dice.gauss(0.0, sigma))


def steady(_at: float, dice: random.Random) -> float:
    """Wait as on any other day."""
    return lognormal(20 * 60, 1.0, dice)


def bimodal_days(at: float, dice: random.Random) -> float:
    """Wait ten minutes on most days, and six hours on one in four."""
    is_bad = random.Random(int(at // DAY)).random() < BAD_DAYS
    return lognormal(6 * HOUR if is_bad else 600, 0.6, dice)


def drift(at: float, dice: random.Random) -> float:
    """Wait ten times as long in the end as at first."""
    return lognormal(600 * 10 ** (at / SPAN_SECONDS), 0.8, dice)


def daily(at: float, dice: random.Random) -> float:
    """Wait sixteen times as long at noon as at midnight."""
    return lognormal(1_200 * 4 ** -math.cos(2 * math.pi * at / DAY), 0.6, dice)


def stalls(at: float, dice: random.Random) -> float:
    """Wait as on any day, but that every third day nothing begins for twelve hours."""
    ready_at = at + steady(at, dice)
    into = ready_at % (3 * DAY)
    return ready_at - at + max(0.0, 12 * HOUR - into)


def long(_at: float, dice: random.Random) -> float:
    """Wait for the better part of a day, so that more jobs are open than are looked at."""
    return lognormal(20 * HOUR, 0.5, dice)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How long jobs wait, how many come, and when they are asked about."""

    wait: Wait
    jobs_a_day: int = JOBS_A_DAY
    days: tuple[float, float] = (1.0, 24.0)


SHAPES: Final = {
    "steady": Shape(wait=steady),
    "bimodal_days": Shape(wait=bimodal_days),
    "drift": Shape(wait=drift),
    "daily": Shape(wait=daily),
    "stalls": Shape(wait=stalls),
    "few_jobs": Shape(wait=steady, jobs_a_day=2),
    "many_open": Shape(wait=long, jobs_a_day=1_500, days=(6.0, 24.0)),
    "first_two_days": Shape(wait=long, days=(0.2, 2.0)),
}


def make(given: Shape, dice: random.Random) -> list[Made]:
    """Let jobs come at random for the whole span; the oldest first."""
    jobs = []
    at = 0.0
    while at < SPAN_SECONDS:
        at += dice.expovariate(given.jobs_a_day / DAY)
        lines = int(10 ** dice.uniform(1, 5))
        running_at = at + min(given.wait(at, dice), QUEUE_SECONDS)
        run = min(lognormal(30 + 4 * lines**0.6, 0.5, dice), RUN_SECONDS)
        jobs.append(Made(began_at=at, running_at=running_at, ends_at=running_at + run, lines=lines))
    return jobs


class Score:
    """What came of the predictions of one way."""

    def __init__(self) -> None:
        self._asked = self._with_interval = self._within = self._early = 0
        self._errors: list[float] = []
        self._shares: list[float] = []
        self._widths: list[float] = []

    def add(self, eta: Eta | None, now: float, ends_at: float) -> None:
        """Compare a prediction with what came."""
        self._asked += 1
        if eta is None:
            return
        error = abs(eta.expected_at - ends_at)
        self._errors.append(error)
        self._shares.append(error / max(1.0, ends_at - now))
        self._early += ends_at <= eta.expected_at
        if eta.earliest_at is not None and eta.latest_at is not None:
            self._with_interval += 1
            self._within += eta.earliest_at <= ends_at <= eta.latest_at
            self._widths.append(eta.latest_at - eta.earliest_at)

    def figures(self) -> dict[str, Any]:
        """Return the figures."""
        known = max(1, len(self._errors))
        return {
            "predictions": self._asked,
            "with_interval": round(self._with_interval / self._asked, 3),
            "coverage": round(self._within / max(1, self._with_interval), 3),
            "before_expected": round(self._early / known, 3),
            "median_error_minutes": round(statistics.median(self._errors) / 60, 1),
            "median_error_of_rest": round(statistics.median(self._shares), 2),
            "median_width_minutes": round(statistics.median(self._widths) / 60, 1),
        }


class World:
    """All jobs of a shape, in the orders in which they are looked for."""

    def __init__(self, jobs: Sequence[Made]) -> None:
        self._jobs = jobs
        self._begins = [job.began_at for job in jobs]
        self._by_end = sorted(jobs, key=lambda job: job.ends_at)
        self._ends = [job.ends_at for job in self._by_end]

    def ended(self, now: float) -> list[Made]:
        """Return the last that have ended, newest first."""
        number = bisect.bisect_right(self._ends, now)
        return self._by_end[max(0, number - HISTORY) : number][::-1]

    def open(self, now: float) -> list[Made]:
        """Return those that have begun and not ended; no job is older than four days."""
        first = bisect.bisect_left(self._begins, now - QUEUE_SECONDS - RUN_SECONDS)
        last = bisect.bisect_right(self._begins, now)
        return [job for job in self._jobs[first:last] if job.ends_at > now]


def known(job: Made, now: float, *, forgets: bool = False) -> Known:
    """Return what is known of a job; or what was, when it began to wait or to run."""
    is_running = job.running_at <= now
    since = job.running_at if is_running else job.began_at
    return Known(
        began_at=now if forgets and not is_running else job.began_at,
        running_since=(now if forgets else since) if is_running else None,
        lines=job.lines,
        wait_seconds_max=QUEUE_SECONDS,
        run_seconds_max=RUN_SECONDS,
    )


def shape(name: str, predictions: int) -> dict[str, Any]:
    """Ask about so many jobs at random moments, each at a random time of its life."""
    given = SHAPES[name]
    dice = random.Random(f"waiting {name}")
    world = World(make(given, dice))
    scores = {way: Score() for way in ("ours", "ended_only", "without_time_waited")}
    asked = moments = 0
    while asked < predictions:
        now = DAY * dice.uniform(*given.days)
        ended, still = world.ended(now), world.open(now)
        if not still:
            continue
        # The store takes some of more open ones, each for several.
        some = dice.sample(still, min(len(still), HISTORY))
        weight = len(still) / len(some)
        since = ended[-1].ends_at if len(ended) == HISTORY else None
        over = [job.seen(now) for job in ended]
        going = [msgspec.structs.replace(job.seen(now), weight=weight) for job in some]
        past = Past.of([*over, *going], now, since)
        moments += 1
        simple = Past.of(over, now, None) if moments % COMPARED_EACH == 0 else None
        for job in dice.sample(still, min(AT_ONCE, len(still), predictions - asked)):
            asked += 1
            scores["ours"].add(past.eta(known(job, now), now), now, job.ends_at)
            if simple is None:
                continue
            scores["ended_only"].add(simple.eta(known(job, now), now), now, job.ends_at)
            forgets = known(job, now, forgets=True)
            scores["without_time_waited"].add(past.eta(forgets, now), now, job.ends_at)
    return {way: score.figures() for way, score in scores.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=20_000)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    arguments = parser.parse_args()
    began = time.perf_counter()
    figures: dict[str, Any] = {
        name: shape(name, arguments.predictions) for name in arguments.shape or SHAPES
    }
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"wanted_coverage": COVERAGE, **figures, "seconds": seconds}))


if __name__ == "__main__":
    main()
