"""The simulator itself: it replays, it finds what is wrong, and finds nothing wrong."""

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.simulation.campaign import Simulator, rounds_and_shards, simulator
from tests.simulation.mutants import FEWEST, Mutant, all_mutants
from tests.simulation.points import POINTS, REACHED_MIN, missed

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""Who is killed closes no files."""

SEEDS = range(100_000, 100_060)
"""Others than those of `make simulate`, which plays thousands from 0 on."""

QUICK = 25
"""Mutants that so few seeds catch; `make simulate` hunts all of them."""


@pytest.fixture(scope="module")
def one() -> Iterator[Simulator]:
    """A simulator."""
    with simulator() as made:
        yield made


def test_nothing_is_lost_or_paid_twice(one: Simulator) -> None:
    """Under kills, freezes, lost replies and unclear commits, every history ends as it should."""
    report = one.campaign(SEEDS)
    assert report.failures == []
    assert report.kills > 20 * len(SEEDS)


def test_nothing_is_lost_or_paid_twice_in_rounds_and_shards(one: Simulator) -> None:
    """The same with failed lines sent again and jobs cut: each round and shard is paid once."""
    report = one.campaign(SEEDS, rounds_and_shards)
    assert report.failures == []
    for event in ("retrying", "retry_failed", "sharded"):
        assert report.reached[event]
    for call in ("again", "begin_shards", "shards_of"):
        assert report.reached[f"killed after jobs.{call}"]


def test_a_seed_replays(one: Simulator) -> None:
    """The same seed gives the same trace, to the last effect."""
    first, second = (one.play(SEEDS[0], is_traced=True)[0] for _ in range(2))
    assert len(first.reach.lines) > 500
    assert _comparable(first.reach.lines) == _comparable(second.reach.lines)
    assert first.jobs.rows == second.jobs.rows


def test_other_seeds_are_other_histories(one: Simulator) -> None:
    """A seed decides the whole story."""
    stories = {tuple(one.play(seed)[0].reach.counts.items()) for seed in SEEDS[:10]}
    assert len(stories) == 10


def test_a_trace_says_when_who_what_and_how_it_ended(one: Simulator) -> None:
    """One line an effect, with kills among them."""
    lines = one.play(SEEDS[0], is_traced=True)[0].reach.lines
    assert any(" provider.create " in line and "->" in line for line in lines)
    assert any(line.endswith("-> killed") for line in lines)


@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in all_mutants() if mutant.seed <= QUICK],
    ids=lambda mutant: mutant.name,
)
def test_a_mutant_is_caught(one: Simulator, mutant: Mutant) -> None:
    """A protocol with one thing wrong does not pass."""
    report = one.campaign(mutant.seeds(), mutant.change, failures_max=1)
    assert report.failures


def test_there_are_enough_mutants() -> None:
    """As many as the reliability record wants, all with names of their own."""
    names = {mutant.name for mutant in all_mutants()}
    assert len(names) == len(all_mutants()) >= FEWEST


def test_a_run_that_reaches_nothing_is_red() -> None:
    """Each point that was reached too seldom is named."""
    assert set(missed(Counter())) == set(POINTS)
    enough = Counter({name: REACHED_MIN for names in POINTS.values() for name in names})
    assert missed(enough) == {}


def _comparable(lines: list[str]) -> list[str]:
    """Leave out addresses of objects."""
    return [line.split(" object ")[0] for line in lines]
