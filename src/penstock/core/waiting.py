"""How long jobs wait and run, and when one of them is likely to end: from those before it.

A job waits from its beginning (of its round) until the provider runs it, and runs from there to its
end. How long others did is a curve (Kaplan and Meier, 1958), so that those that still wait count,
too: they have waited for so long *at least*. Leaving them out would make every estimate too short
just when it matters, while nothing gets through.

Of a history that is longer than what is looked at, each job counts only for the time since then
(delayed entry): of the jobs that lie across that moment only the long ones are still seen.

What is said of one job is said of those that had waited as long as it has: its time so far is never
given back. The interval is one for the next of so many like it, made of their order alone: it holds
for any shape of the curve, as long as the next day is like those before.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec

from penstock.core.state import JobState

COVERAGE: Final = 0.8
"""Of the intervals: so many of the jobs end within theirs."""

INTERVAL_SAMPLES_MIN: Final = 9
"""Fewer others cannot give such an interval, whatever their times: (n - 1) / (n + 1) of what comes
next lies between the least and the most of n."""

EXPECTED_SAMPLES_MIN: Final = 3
"""Fewer others say nothing of a job."""

SIZE_SAMPLES_MIN: Final = 20
"""So many jobs of like size are better than all of any size."""

SIZE_STEPS: Final = 2
"""Sizes count in doublings; so many up or down are alike."""

RISK_SHARE_MIN: Final = 0.1
"""Of those that stand behind any later step of a curve, so many stand behind each one. Where most
came into view late, few are there at first, and one that ends would take all of it down."""

POINTS: Final = 512
"""In which the times of one curve are taken; of a sum of two, each in `PAIR_POINTS`."""

PAIR_POINTS: Final = 32


class WaitingRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How waiting is explained, and when somebody is told that it takes long."""

    history_jobs_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    """Jobs of a model, the last ones that ended, from which is worked out how long it takes; and so
    many of those that have not ended."""
    cache_seconds: float = 10.0
    """How long that is kept; in this time any number of requests costs one look at the database."""
    samples_min: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Jobs of a model that must have come so far before another one can be slow."""
    slow_seconds_min: float = 3_600.0
    """No job is called slow before it has waited, or run, for so long: of jobs that take minutes
    each twentieth would be."""
    look_seconds: float = 60.0
    """Between two looks for slow jobs; 0 looks for none."""


class Spell(msgspec.Struct, frozen=True, kw_only=True):
    """One job's time in one of the two places."""

    seconds: float
    is_over: bool
    """Otherwise it is longer than that: it goes on, or was cut off."""
    seen_from: float = 0.0
    """How long it had lasted when it came into view."""
    weight: float = 1.0
    """How many it stands for."""
    lines: int | None = None


class PastJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the history knows of a job; times are seconds since the epoch."""

    state: JobState
    began_at: float
    """Accepted, or the beginning of its round."""
    running_since: float | None
    finished_at: float | None
    lines: int | None
    """None where nobody knows how many were sent."""
    weight: float = 1.0


class Curve:
    """How many of the spells are over after so many seconds."""

    def __init__(self, steps: Sequence[tuple[float, float]]) -> None:
        """Take the times, ascending, and the share of all spells that ended at each."""
        self._steps = tuple(steps)

    @property
    def count(self) -> int:
        """Times that are known."""
        return len(self._steps)

    def percentile(self, share: float) -> float | None:
        """Return after how many seconds this share is over; None if that is not known.

        It is not where too many of the spells are longer than anybody has seen.
        """
        so_far = 0.0
        for seconds, part in self._steps:
            so_far += part
            if so_far >= share - 1e-9:
                return seconds
        return None

    def after(self, waited_seconds: float) -> "Curve":
        """Return the curve of those that are longer than this."""
        later = [step for step in self._steps if step[0] > waited_seconds]
        left = 1.0 - sum(part for seconds, part in self._steps if seconds <= waited_seconds)
        # The rest of a sum of many parts may be a little less than the parts that make it up.
        left = max(left, sum(part for _, part in later))
        return Curve([(seconds, part / left) for seconds, part in later])

    def points(self, number: int, most: float) -> list[float]:
        """Return so many times that are equally likely; `most` for what nobody knows."""
        points: list[float] = []
        so_far = 0.0
        for seconds, part in self._steps:
            so_far += part
            until = min(number, math.floor(so_far * number + 0.5 + 1e-9))
            points += [min(seconds, most)] * (until - len(points))
        return points + [most] * (number - len(points))


def curve_of(spells: Iterable[Spell]) -> Curve:
    """Return the curve; in whatever order the spells come."""
    over: defaultdict[float, float] = defaultdict(float)
    counts: Counter[float] = Counter()
    entries: list[tuple[float, float]] = []
    exits: list[tuple[float, float]] = []
    for spell in spells:
        if 0 < spell.seconds <= spell.seen_from:
            continue
        entries.append((spell.seen_from if spell.seen_from > 0 else -1.0, spell.weight))
        exits.append((spell.seconds, spell.weight))
        if spell.is_over:
            over[spell.seconds] += spell.weight
            counts[spell.seconds] += 1
    entered, left = _Sum(entries), _Sum(exits)
    times = sorted(over)
    at_risk = [entered.below(seconds) - left.below(seconds) for seconds in times]
    steps: list[tuple[float, float]] = []
    survival = 1.0
    for seconds, behind in zip(times, _not_far_below_later(at_risk), strict=True):
        # As long as later ends are known, those before them leave something for them.
        least = over[seconds] + (seconds < times[-1])
        part = survival * over[seconds] / max(behind, least)
        survival -= part
        # Several at the same time are several that are known.
        steps += [(seconds, part / counts[seconds])] * counts[seconds]
    return Curve(steps)


def _not_far_below_later(numbers: Sequence[float]) -> list[float]:
    """Return each number, or a share of the largest after it if that is more."""
    largest = 0.0
    raised = []
    for number in reversed(numbers):
        largest = max(largest, number)
        raised.append(max(number, RISK_SHARE_MIN * largest))
    return raised[::-1]


class _Sum:
    """The weights of all that lies below a number that only grows."""

    def __init__(self, weighed: list[tuple[float, float]]) -> None:
        self._weighed = sorted(weighed)
        self._next = 0
        self._below = 0.0

    def below(self, number: float) -> float:
        while self._next < len(self._weighed) and self._weighed[self._next][0] < number:
            self._below += self._weighed[self._next][1]
            self._next += 1
        return self._below


def wait_of(job: PastJob, now: float, since: float | None) -> Spell:
    """Return how long the job waited, or has so far; `since` is when all came into view."""
    if job.running_since is not None:
        until, is_over = job.running_since, True
    else:
        until = now if job.finished_at is None else job.finished_at
        # It ran, for less time than lies between two looks at the provider.
        is_over = job.state is JobState.SUCCEEDED
    return _spell(job, job.began_at, until, is_over=is_over, since=since)


def run_of(job: PastJob, now: float, since: float | None) -> Spell | None:
    """Return how long the job ran, or has so far; None if it has not begun to."""
    is_over = job.state is JobState.SUCCEEDED
    until = now if job.finished_at is None else job.finished_at
    if job.running_since is not None:
        return _spell(job, job.running_since, until, is_over=is_over, since=since)
    return _spell(job, until, until, is_over=True, since=since) if is_over else None


def _spell(
    job: PastJob, begin: float, until: float, *, is_over: bool, since: float | None
) -> Spell:
    return Spell(
        seconds=max(0.0, until - begin),
        is_over=is_over,
        seen_from=0.0 if since is None else max(0.0, since - begin),
        weight=job.weight,
        lines=job.lines,
    )


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds within which so many of a hundred are through; None if that is not known."""

    p50: int | None
    p90: int | None
    p95: int | None


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """How many others stand behind what is said."""

    waits: int
    runs: int
    by_size: bool
    """Whether the runs are of jobs of like size."""


class Eta(msgspec.Struct, frozen=True, kw_only=True):
    """When a job is likely to end, in Unix seconds."""

    expected_at: int
    """As likely before as after it."""
    earliest_at: int | None
    """From here to `latest_at`; both None where too few others are known for an interval."""
    latest_at: int | None
    coverage: float | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the job that is asked about."""

    began_at: float
    running_since: float | None
    lines: int
    wait_seconds_max: float
    """After which it expires, as after this time of running."""
    run_seconds_max: float


class Past:
    """What became of the jobs of one model; nothing in it says whose they were."""

    def __init__(self, waits: Sequence[Spell] = (), runs: Sequence[Spell] = ()) -> None:
        self.waits = curve_of(waits)
        self._waits = tuple(waits)
        self._runs = tuple(runs)
        self.all_runs = curve_of(runs)
        self._by_size: dict[int, Curve] = {}
        self._ended: dict[int | None, list[float]] = {}

    @classmethod
    def of(cls, jobs: Sequence[PastJob], now: float, since: float | None) -> "Past":
        """Read the jobs; `since` is when the first one ended, if there were more before it."""
        waits = [wait_of(job, now, since) for job in jobs]
        runs = [run_of(job, now, since) for job in jobs]
        return cls(waits, [run for run in runs if run is not None])

    def runs(self, lines: int) -> Curve:
        """Return how long jobs of like size run, if there are enough; else all."""
        curve = self._sized(lines)
        return curve if curve.count >= SIZE_SAMPLES_MIN else self.all_runs

    def samples(self, lines: int) -> Samples:
        """Return how many others there are."""
        runs = self.runs(lines)
        return Samples(
            waits=self.waits.count,
            runs=runs.count,
            by_size=runs is not self.all_runs,
        )

    def eta(self, job: Known, now: float) -> Eta | None:
        """Return when the job is likely to end; None where too few others got that far."""
        runs = self.runs(job.lines)
        if job.running_since is not None:
            begin = job.running_since
            runs = runs.after(now - begin)
            count = runs.count
            points = runs.points(POINTS, job.run_seconds_max)
        else:
            begin = job.began_at
            waits = self.waits.after(now - begin)
            count = min(waits.count, runs.count)
            longest = runs.points(PAIR_POINTS, job.run_seconds_max)
            points = sorted(
                wait + run
                for wait in waits.points(PAIR_POINTS, job.wait_seconds_max)
                for run in longest
            )
        if count < EXPECTED_SAMPLES_MIN:
            return None
        return _eta([max(now, begin + seconds) for seconds in points], count)

    def late_seconds(self, lines: int, rules: WaitingRules, *, runs: bool) -> float | None:
        """Return after how long of waiting, or of running, a job is slow; None if nobody knows.

        Of those that got through only. Where nothing does, all that are open push a curve out with
        them, and in the end not one of them would be slow by it.
        """
        through = self._through(lines.bit_length() if runs else None)
        if len(through) < rules.samples_min:
            return None
        return max(through[math.ceil(0.95 * len(through)) - 1], rules.slow_seconds_min)

    def _through(self, size: int | None) -> list[float]:
        """Return how long the runs of like size took, or without one the waits; ascending."""
        if size not in self._ended:
            spells = self._waits
            if size is not None:
                like = [run for run in self._runs if _is_like(run, size)]
                is_enough = sum(run.is_over for run in like) >= SIZE_SAMPLES_MIN
                spells = tuple(like) if is_enough else self._runs
            self._ended[size] = sorted(spell.seconds for spell in spells if spell.is_over)
        return self._ended[size]

    def _sized(self, lines: int) -> Curve:
        size = lines.bit_length()
        if size not in self._by_size:
            self._by_size[size] = curve_of(run for run in self._runs if _is_like(run, size))
        return self._by_size[size]


def _is_like(run: Spell, size: int) -> bool:
    return run.lines is not None and abs(run.lines.bit_length() - size) <= SIZE_STEPS


def _eta(ends: Sequence[float], count: int) -> Eta:
    """Return the middle of equally likely ends, and the interval that so many others allow."""
    expected = math.ceil(_quantile(ends, 0.5))
    if count < INTERVAL_SAMPLES_MIN:
        return Eta(expected_at=expected, earliest_at=None, latest_at=None, coverage=None)
    # Between the k-th of n and the k-th from the end lie (n + 1 - 2k) / (n + 1) of what comes next.
    outside = math.floor((count + 1) * (1 - COVERAGE) / 2 + 1e-9)
    return Eta(
        expected_at=expected,
        earliest_at=math.floor(_quantile(ends, (outside - 0.5) / count)),
        latest_at=math.ceil(_quantile(ends, (count + 0.5 - outside) / count)),
        coverage=COVERAGE,
    )


def _quantile(ends: Sequence[float], share: float) -> float:
    return ends[min(len(ends) - 1, math.floor(share * len(ends)))]


def percentiles(curve: Curve) -> Percentiles | None:
    """Return the percentiles that are shown; None where too few others are known for any.

    Of so many, none says what one in more than that would be like.
    """
    if curve.count < EXPECTED_SAMPLES_MIN:
        return None
    found = {
        name: math.ceil(seconds)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95))
        if curve.count * (1 - share) >= 1 - 1e-9
        and (seconds := curve.percentile(share)) is not None
    }
    return Percentiles(p50=found.get("p50"), p90=found.get("p90"), p95=found.get("p95"))


def duration_text(seconds: float) -> str:
    """Return a time in words: the two largest units of it."""
    whole = max(0, int(seconds))
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    parts = []
    for size, name in units:
        number, whole = divmod(whole, size)
        if number:
            parts.append(f"{number} {name}")
        if parts and (len(parts) == 2 or not number):  # noqa: PLR2004  # the two largest
            break
    return " ".join(parts) or "0 s"
