import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.state import TERMINAL, JobState
from penstock.core.waiting import (
    COVERAGE,
    EXPECTED_SAMPLES_MIN,
    INTERVAL_SAMPLES_MIN,
    SIZE_SAMPLES_MIN,
    Curve,
    Eta,
    Known,
    Past,
    PastJob,
    Percentiles,
    Samples,
    Spell,
    WaitingRules,
    curve_of,
    duration_text,
    percentiles,
    run_of,
    wait_of,
)

NOW = 1_795_363_200.0
DAY = 86_400.0
JOB = PastJob(
    state=JobState.SUCCEEDED,
    began_at=NOW - 100,
    running_since=NOW - 70,
    finished_at=NOW - 10,
    lines=8,
)
SECONDS = st.floats(0, 1e6)
SPELLS = st.lists(
    st.builds(
        Spell,
        seconds=SECONDS,
        is_over=st.booleans(),
        seen_from=st.one_of(st.just(0.0), SECONDS),
        weight=st.floats(0.1, 10),
        lines=st.one_of(st.none(), st.integers(0, 200_000)),
    ),
    max_size=40,
)
OVER = st.lists(st.builds(Spell, seconds=SECONDS, is_over=st.just(value=True)), max_size=40)


def known(began_at: float = NOW, running_since: float | None = None, lines: int = 8) -> Known:
    """What is known of a job that is asked about."""
    return Known(
        began_at=began_at,
        running_since=running_since,
        lines=lines,
        wait_seconds_max=3 * DAY,
        run_seconds_max=DAY,
    )


def over(*seconds: float) -> list[Spell]:
    """Spells that are over."""
    return [Spell(seconds=each, is_over=True) for each in seconds]


def going(*seconds: float) -> list[Spell]:
    """Spells that go on."""
    return [Spell(seconds=each, is_over=False) for each in seconds]


def shares(spells: Sequence[Spell], *seconds: float) -> list[float]:
    """How many are over by then."""
    steps = curve_of(spells)._steps
    return [round(sum(part for at, part in steps if at <= each), 6) for each in seconds]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0.01, 1))
def test_percentiles_of_what_is_over_are_its_own(seconds: list[float], share: float) -> None:
    """Where nothing is censored a percentile is the least time that so many do not exceed."""
    found = curve_of(over(*seconds)).percentile(share)
    assert found in seconds
    assert found is not None
    assert sum(each <= found for each in seconds) >= share * len(seconds) - 1e-6
    assert sum(each < found for each in seconds) < share * len(seconds)


@settings(deadline=None)
@given(SPELLS, st.randoms(use_true_random=False))
def test_the_order_of_samples_says_nothing(spells: list[Spell], dice: random.Random) -> None:
    """Any order gives the same curve."""
    mixed = dice.sample(spells, len(spells))
    first, second = curve_of(spells)._steps, curve_of(mixed)._steps
    assert [at for at, _ in first] == [at for at, _ in second]
    assert [part for _, part in first] == pytest.approx([part for _, part in second])


@settings(deadline=None)
@given(SPELLS)
def test_a_curve_is_one_of_shares(spells: list[Spell]) -> None:
    """Its steps rise in time, none is negative, and together they are at most the whole."""
    steps = curve_of(spells)._steps
    assert [at for at, _ in steps] == sorted(at for at, _ in steps)
    assert all(part >= 0 for _, part in steps)
    assert sum(part for _, part in steps) <= 1 + 1e-9


def test_the_curve_is_kaplan_and_meiers() -> None:
    """Their own estimate, worked out by hand: those that go on count as long as they are seen."""
    spells = [*over(1, 3, 6), *going(2, 4)]
    # 1 of 5; then 1 of 3 of what is left; then all.
    assert shares(spells, 1, 3, 6) == [0.2, 0.466667, 1.0]
    assert shares([*over(1, 2), *going(9, 9)], 1, 2, 99) == [0.25, 0.5, 0.5]
    assert curve_of([*over(1, 2), *going(9, 9)]).percentile(0.51) is None


def test_what_came_into_view_late_counts_from_there() -> None:
    """Who had waited before anybody looked is no witness for those who waited less."""
    late = [Spell(seconds=10, is_over=True, seen_from=8) for _ in range(2)]
    # At 5 only the two that were seen from the beginning could have ended.
    assert shares([*over(5, 10), *late], 5, 10) == [0.5, 1.0]
    # One that ended before it came into view is none.
    assert shares([*over(5), Spell(seconds=3, is_over=True, seen_from=4)], 5) == [1.0]


def test_one_that_is_alone_in_view_does_not_end_the_curve() -> None:
    """Of many that came into view late, a single early end takes no more than its share."""
    late = [Spell(seconds=1_000, is_over=True, seen_from=500) for _ in range(99)]
    assert shares([*over(5), *late], 5) == [0.10101]


def test_one_that_ends_alone_leaves_something_for_later_ones() -> None:
    """Where nobody else was in view just then, those who came into view later still count."""
    spells = [*over(5), Spell(seconds=9, is_over=True, seen_from=7)]
    assert shares(spells, 5, 9) == [0.5, 1.0]
    assert curve_of(spells).after(5)._steps == ((9, 1.0),)


def test_a_weight_stands_for_several() -> None:
    """One that stands for three counts as three do."""
    one = [*over(5), Spell(seconds=9, is_over=False, weight=3.0)]
    assert shares(one, 5) == shares([*over(5), *going(9, 9, 9)], 5) == [0.25]


@settings(deadline=None)
@given(OVER, st.floats(0, 1e6), st.floats(0, 1e6))
def test_who_has_waited_longer_is_expected_later(
    spells: list[Spell], waited: float, more: float
) -> None:
    """The middle of those that are longer never moves back as time goes by."""
    curve = curve_of(spells)
    earlier, later = curve.after(waited), curve.after(waited + more)
    first, second = earlier.percentile(0.5), later.percentile(0.5)
    if second is not None:
        assert first is not None
        assert second >= first
        assert second > waited + more


@settings(deadline=None)
@given(SPELLS, st.floats(0, 1e6), st.integers(1, 64))
def test_points_are_as_likely_as_the_curve_says(
    spells: list[Spell], most: float, number: int
) -> None:
    """There are as many as were asked for, ascending up to the most, and the curve's own times."""
    curve = curve_of(spells)
    points = curve.points(number, most)
    assert len(points) == number
    assert points == sorted(points)
    assert set(points) <= {min(spell.seconds, most) for spell in spells} | {most}
    assert curve_of(over(1, 2, 3, 4)).points(8, 9.0) == [1, 1, 2, 2, 3, 3, 4, 4]


@settings(deadline=None)
@given(SPELLS, SPELLS, st.sampled_from([False, True]), st.floats(0, 2e5), st.integers(1, 200_000))
def test_an_eta_is_not_in_the_past_and_lies_in_its_interval(
    waits: list[Spell], runs: list[Spell], runs_now: object, so_far: float, lines: int
) -> None:
    """Whatever the history, and however long the job has waited."""
    job = known(NOW - so_far, NOW - so_far if runs_now else None, lines)
    eta = Past(waits, runs).eta(job, NOW)
    if eta is None:
        return
    assert eta.expected_at >= NOW
    if eta.earliest_at is None or eta.latest_at is None:
        assert eta == Eta(
            expected_at=eta.expected_at, earliest_at=None, latest_at=None, coverage=None
        )
        return
    assert math.floor(NOW) <= eta.earliest_at <= eta.expected_at <= eta.latest_at
    assert eta.coverage == COVERAGE
    # No job is at the provider for longer than that.
    assert eta.latest_at <= NOW + 4 * DAY + 1


def test_of_too_few_others_nothing_is_made_up() -> None:
    """Below three there is no expected end, below nine no interval; the number is told."""
    for number in range(12):
        past = Past(over(*range(number)), over(*range(number)))
        assert past.samples(8) == Samples(waits=number, runs=number, by_size=False)
        for job in (known(NOW + 0.5), known(NOW, NOW + 0.5)):
            eta = past.eta(job, NOW)
            assert (eta is not None) == (number >= EXPECTED_SAMPLES_MIN)
            has_interval = eta is not None and eta.latest_at is not None
            assert has_interval == (number >= INTERVAL_SAMPLES_MIN)


def test_who_is_behind_all_others_gets_no_eta() -> None:
    """A job that has waited longer than anybody did is told nothing instead of something wrong."""
    past = Past(over(*range(100)), over(*range(100)))
    assert past.eta(known(NOW - 99), NOW) is None
    assert past.eta(known(NOW - 200, NOW - 99), NOW) is None
    assert past.eta(known(NOW - 90), NOW) is not None


def test_the_interval_is_that_of_the_order() -> None:
    """Of nine others it reaches from the first to the last, of 99 from the tenth to the 90th."""
    nine = Past((), over(*range(1, 10))).eta(known(NOW, NOW), NOW)
    many = Past((), over(*range(1, 100))).eta(known(NOW, NOW), NOW)
    assert nine is not None
    assert many is not None
    assert (nine.earliest_at, nine.expected_at, nine.latest_at) == (NOW + 1, NOW + 5, NOW + 9)
    assert (many.earliest_at, many.expected_at, many.latest_at) == (NOW + 10, NOW + 50, NOW + 90)


def test_waits_and_runs_add_up() -> None:
    """What is expected of a job that waits is the rest of its wait and a whole run."""
    past = Past(over(*[100.0] * 30), over(*[7.0] * 30))
    waiting = past.eta(known(NOW - 40), NOW)
    running = past.eta(known(NOW - 140, NOW - 5), NOW)
    assert waiting is not None
    assert running is not None
    assert (waiting.earliest_at, waiting.expected_at, waiting.latest_at) == (NOW + 67,) * 3
    assert running.expected_at == NOW + 2


def test_runs_are_of_jobs_of_like_size_if_there_are_enough() -> None:
    """Twenty of like size speak for a job; fewer do not, and one of unknown size never does."""
    small = [Spell(seconds=10, is_over=True, lines=100)] * SIZE_SAMPLES_MIN
    large = [Spell(seconds=900, is_over=True, lines=100_000)] * (SIZE_SAMPLES_MIN - 1)
    unknown = [Spell(seconds=900, is_over=True)] * 50
    past = Past((), [*small, *large, *unknown])
    assert past.runs(300).percentile(1.0) == 10
    assert past.samples(300) == Samples(waits=0, runs=SIZE_SAMPLES_MIN, by_size=True)
    for lines in (2_000, 100_000):
        assert past.runs(lines).percentile(1.0) == 900
        assert not past.samples(lines).by_size
    # Asked again, it is the same curve.
    assert past.runs(300) is past.runs(300)


@pytest.mark.parametrize(
    ("changes", "wait", "run"),
    [
        ({}, (30, True), (60, True)),
        ({"finished_at": None, "state": JobState.COLLECTING}, (30, True), (70, False)),
        ({"finished_at": None, "state": JobState.RUNNING}, (30, True), (70, False)),
        (
            {"finished_at": None, "state": JobState.ACCEPTED, "running_since": None},
            (100, False),
            None,
        ),
        ({"state": JobState.CANCELLED}, (30, True), (60, False)),
        ({"state": JobState.FAILED, "running_since": None}, (90, False), None),
        # Never seen while it ran: it ran for less than lies between two looks.
        ({"running_since": None}, (90, True), (0, True)),
        # A clock that was set back.
        ({"began_at": NOW, "finished_at": NOW - 90}, (0, True), (0, True)),
    ],
)
def test_what_a_job_says_of_waits_and_runs(
    changes: dict[str, object],
    wait: tuple[float, bool],
    run: tuple[float, bool] | None,
) -> None:
    """What did not come to its own end was longer than it was seen."""
    job = msgspec.structs.replace(JOB, **changes)
    found = wait_of(job, NOW, None)
    assert (found.seconds, found.is_over, found.seen_from) == (*wait, 0.0)
    ran = run_of(job, NOW, None)
    assert (None if ran is None else (ran.seconds, ran.is_over)) == run


def test_what_is_seen_begins_with_the_first_end_of_a_full_history() -> None:
    """Of a history that is cut off each time counts only from the cut on."""
    assert wait_of(JOB, NOW, NOW - 80).seen_from == 20
    ran = run_of(JOB, NOW, NOW - 80)
    assert ran is not None
    assert ran.seen_from == 0
    past = Past.of(
        [JOB, msgspec.structs.replace(JOB, began_at=NOW - 60, running_since=None)], NOW, None
    )
    assert past.samples(8) == Samples(waits=2, runs=2, by_size=False)


def test_percentiles_need_as_many_as_they_speak_of() -> None:
    """One in ten is nothing of nine jobs, and nothing is said of what nobody has seen."""
    assert percentiles(curve_of(over(1, 2))) is None
    assert percentiles(curve_of(over(*range(9)))) == Percentiles(p50=4, p90=None, p95=None)
    assert percentiles(curve_of(over(*range(19)))) == Percentiles(p50=9, p90=17, p95=None)
    assert percentiles(curve_of(over(*range(20)))) == Percentiles(p50=9, p90=17, p95=18)
    many = [*over(*range(20)), *going(*[99.0] * 60)]
    assert percentiles(curve_of(many)) == Percentiles(p50=None, p90=None, p95=None)


def test_when_a_job_is_late() -> None:
    """Past the 95th percentile of its phase, not before the floor, and never of too few others."""
    past = Past(over(*range(0, 10_000, 100)), over(*range(100)))
    rules = WaitingRules(samples_min=100, slow_seconds_min=50)
    assert past.late_seconds(8, rules, runs=False) == 9_400
    assert past.late_seconds(8, rules, runs=True) == 94
    floor = WaitingRules(samples_min=100, slow_seconds_min=3_600)
    assert past.late_seconds(8, floor, runs=True) == 3_600
    assert past.late_seconds(8, WaitingRules(samples_min=101), runs=True) is None


def test_while_nothing_gets_through_all_are_late() -> None:
    """Those that are stuck do not excuse each other, though they make the curve longer."""
    past = Past([*over(*range(100)), *going(*[5_000.0] * 300)])
    assert past.waits.percentile(0.95) is None
    assert past.late_seconds(8, WaitingRules(slow_seconds_min=50), runs=False) == 94


def test_a_run_is_late_by_those_of_like_size() -> None:
    """If there are enough of them; otherwise by all."""
    small = [Spell(seconds=10, is_over=True, lines=100)] * SIZE_SAMPLES_MIN
    large = [Spell(seconds=900, is_over=True, lines=100_000)] * SIZE_SAMPLES_MIN
    past = Past((), [*small, *large[1:]])
    rules = WaitingRules(samples_min=1, slow_seconds_min=0)
    assert past.late_seconds(100, rules, runs=True) == 10
    assert past.late_seconds(100_000, rules, runs=True) == 900
    assert past.late_seconds(3_000, rules, runs=True) == 900


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7_800, "2 h 10 min"),
        (3_601, "1 h"),
        (90_061, "1 d 1 h"),
        (3 * DAY, "3 d"),
    ],
)
def test_times_in_words(seconds: float, text: str) -> None:
    """The two largest units, and none between them left out."""
    assert duration_text(seconds) == text


def test_the_empty_curve_knows_nothing() -> None:
    """Without any history there are no percentiles, and nothing is after any time."""
    empty = Curve(())
    assert (empty.count, empty.percentile(0.5), empty.after(5).count) == (0, None, 0)


@pytest.mark.slow
def test_intervals_hold_what_they_promise() -> None:
    """Of jobs that are like those before them about 80 % end within their interval.

    Half of them wait and half run; the seed is fixed, and so is the answer.
    """
    dice = random.Random(6)  # noqa: S311  # seeded, so that it can be repeated
    within = asked = 0
    for number in range(1_500):
        if number % 30 == 0:
            waits = [dice.lognormvariate(7, 1) for _ in range(200)]
            past = Past(over(*waits), over(*[dice.lognormvariate(6, 1) for _ in range(200)]))
        wait, run = dice.lognormvariate(7, 1), dice.lognormvariate(6, 1)
        age, waits_now = dice.expovariate(1 / 500), number % 2
        job = known(NOW - age) if waits_now else known(NOW - wait - age, NOW - age)
        eta = past.eta(job, NOW)
        if age >= (wait if waits_now else run) or eta is None or eta.latest_at is None:
            continue
        assert eta.earliest_at is not None
        asked += 1
        ends_at = NOW - age + run + (wait if waits_now else 0)
        within += eta.earliest_at <= ends_at <= eta.latest_at
    assert asked > 900
    assert 0.77 <= within / asked <= 0.85


def test_states_that_end_are_those_that_count() -> None:
    """A state that ends a job is one that a history knows what to do with."""
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} == TERMINAL
