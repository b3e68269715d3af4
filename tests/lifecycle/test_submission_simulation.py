"""Submission under everything at once: lost answers, late creates, stale lists, kills, freezes.

A small deterministic simulation: the steps and the database are real, the provider and its bucket
follow a clock, and each seed is one history. The full figures are in reference/reliability.md 2.4.
"""

import random

import pytest
from tests.lifecycle.fakes import (
    FAILED,
    SUCCEEDED,
    Create,
    Killed,
    World,
    mortal,
)

from penstock.core.job import Job
from penstock.core.state import JobState
from penstock.errors import ProviderUnclear, ProviderUnreachable
from penstock.lifecycle.submit import submit
from penstock.lifecycle.wait import wait
from penstock.settings import Timing

SEEDS_PER_TEST = 30
TIMING = Timing(settle_seconds=40.0, poll_seconds_max=600.0, poll_seconds_min=60.0)
"""The protocol must hold for any settle time: the fence is what makes it safe."""
STALE_SECONDS_MAX = 20.0
END_SECONDS = 20_000.0
"""By then everything that could land has landed and run."""


class History:
    """What happens in one seed, and what happened."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self.kills = 0
        self._lives = self._dice.choice([0, 1, 2, 4, 8])
        self._freezes = self._dice.choice([0, 0, 1, 2])
        provider = world.provider
        provider.plans.extend(self._create() for _ in range(self._dice.choice([1, 1, 2, 3])))
        provider.lags.extend(self._dice.uniform(0.0, STALE_SECONDS_MAX) for _ in range(1000))
        if self._chance(0.2):
            provider.find_failures.extend([ProviderUnreachable("no route")] * 3)

    def point(self) -> None:
        """Live on, freeze, or die."""
        if self._freezes and self._chance(0.03):
            self._freezes -= 1
            self.world.clock.advance(self._dice.uniform(1.0, 400.0))
        if self._lives and self._chance(0.05):
            self._lives -= 1
            self.kills += 1
            raise Killed

    async def play(self) -> Job:
        """Run submission and waiting to their end, through all deaths."""
        world = self.world
        job = await world.prepared()
        if self._chance(0.15):
            world.clock.at(self._dice.uniform(0.0, 300.0), world.cancel(job))
        ports = mortal(world.ports(timing=TIMING), self.point)
        while True:
            try:
                await submit(ports, job.id)
                await wait(ports, job.id)
            except Killed:
                world.clock.advance(self._dice.uniform(0.0, 100.0))
            else:
                return await world.now(job)

    def _create(self) -> Create:
        lands_after = self._dice.choice([0.0, 0.0, self._dice.uniform(0.0, 300.0), None])
        answered = lands_after == 0.0 and self._chance(0.5)
        return Create(
            lands_after=lands_after,
            error=None if answered else ProviderUnclear("lost"),
            takes_input_after=self._dice.choice([1.0, self._dice.uniform(0.0, 400.0)]),
            runs_for=self._dice.uniform(10.0, 2000.0),
        )

    def _chance(self, share: float) -> bool:
        return self._dice.random() < share


@pytest.mark.parametrize("block", range(8))
async def test_whatever_happens_at_most_one_job_is_paid(world: World, block: int) -> None:
    """Every history ends; one provider job at most took its input, and it is the recorded one."""
    for seed in range(block * SEEDS_PER_TEST, (block + 1) * SEEDS_PER_TEST):
        fresh = World(world.jobs, world.spool, world.make)
        after = await History(fresh, seed).play()
        fresh.clock.advance(END_SECONDS)
        paid = [one.name for one in fresh.provider.paid()]
        assert paid in ([], [after.provider_job]), f"seed {seed}: paid twice or for nothing"
        assert after.state in {JobState.COLLECTING, JobState.CANCELLED}, f"seed {seed}"
        assert after.provider_state != FAILED, f"seed {seed}: a dead job was adopted"
        assert (after.provider_state != SUCCEEDED) or paid, f"seed {seed}"
        assert len(fresh.provider.posts) <= len(await fresh.jobs.attempts(after.id))


async def test_the_simulation_meets_what_it_is_for(world: World) -> None:
    """Kills, fences, adoptions and later attempts all really happen in these histories."""
    kinds: set[str] = set()
    kills = attempts = 0
    for seed in range(SEEDS_PER_TEST):
        fresh = World(world.jobs, world.spool, world.make)
        history = History(fresh, seed)
        after = await history.play()
        kinds.update(await fresh.kinds(after))
        kills += history.kills
        attempts = max(attempts, after.attempt)
    assert {"intent", "fenced", "adopted", "created", "cancel_requested"} <= kinds
    assert (kills > 20, attempts >= 3) == (True, True)
