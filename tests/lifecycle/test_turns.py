"""turns: who is next for a slot, played without an engine."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.job import OrgId
from penstock.lifecycle.turns import Slots, Turns

HEAVY, LIGHT, THIRD = OrgId("heavy"), OrgId("light"), OrgId("third")


class Jobs:
    """Jobs that take a slot each and hold it until the test ends them."""

    def __init__(self, whole: int, each: int | None = None) -> None:
        self.turns = Turns(Slots(whole=whole, each=each or whole))
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._over: dict[str, asyncio.Event] = {}

    async def come(self, *names: str, priority: int = 100) -> None:
        """Have jobs come one after the other; what stands before the colon is the organisation."""
        for name in names:
            self._over[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name, priority))
            await settle()

    async def _run(self, name: str, priority: int) -> None:
        async with self.turns.take(OrgId(name.partition(":")[0]), priority):
            self.begun.append(name)
            await self._over[name].wait()

    async def end(self, name: str) -> None:
        """End a job that has its slot."""
        self._over[name].set()
        await self.tasks.pop(name)
        await settle()

    async def end_all(self) -> None:
        """End one after the other in the order in which they began, until none is left."""
        while running := [name for name in self.begun if name in self.tasks]:
            await self.end(running[0])

    def running(self) -> Counter[str]:
        """Return how many of each organisation hold a slot."""
        return Counter(name.partition(":")[0] for name in self.begun if name in self.tasks)


async def settle() -> None:
    """Let every task come as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def many(org_id: str, count: int) -> list[str]:
    """Name so many jobs of an organisation."""
    return [f"{org_id}:{number}" for number in range(count)]


async def test_one_alone_gets_all_that_it_may() -> None:
    """Jobs of one organisation go in the order in which they came, as many as its limit at once."""
    jobs = Jobs(whole=4, each=3)
    await jobs.come(*many(HEAVY, 6))
    assert jobs.begun == many(HEAVY, 3)
    await jobs.end_all()
    assert jobs.begun == many(HEAVY, 6)


async def test_what_is_left_is_for_the_next_one() -> None:
    """Whoever comes while one organisation holds all that it may begins at once."""
    jobs = Jobs(whole=4, each=3)
    await jobs.come(*many(HEAVY, 6), "light:0")
    assert jobs.running() == {HEAVY: 3, LIGHT: 1}
    await jobs.end_all()


async def test_organisations_take_turns() -> None:
    """However many jobs one has, and however early, each has one turn before any has the next."""
    jobs = Jobs(whole=1)
    await jobs.come(*many(HEAVY, 9), *many(LIGHT, 3), *many(THIRD, 2))
    await jobs.end_all()
    assert [name.partition(":")[0] for name in jobs.begun] == [
        HEAVY, LIGHT, THIRD, HEAVY, LIGHT, THIRD, HEAVY, LIGHT, *[HEAVY] * 6
    ]  # fmt: skip


async def test_nobody_pays_for_slots_that_nobody_wanted() -> None:
    """One that was alone for long shares evenly with whoever comes, and goes not after him."""
    jobs = Jobs(whole=1)
    await jobs.come(*many(HEAVY, 8))
    for name in many(HEAVY, 4):
        await jobs.end(name)
    await jobs.come(*many(LIGHT, 3))
    await jobs.end_all()
    assert jobs.begun[5:] == ["light:0", "heavy:5", "light:1", "heavy:6", "light:2", "heavy:7"]


async def test_nobody_saves_up_turns() -> None:
    """One that wanted nothing for a while has no more turns than the others when it is back."""
    jobs = Jobs(whole=1)
    await jobs.come(*many(LIGHT, 1), *many(HEAVY, 8))
    for name in ("light:0", "heavy:0", "heavy:1", "heavy:2"):
        await jobs.end(name)
    await jobs.come("light:1", "light:2", "light:3")
    await jobs.end_all()
    assert jobs.begun[5:9] == ["light:1", "heavy:4", "light:2", "heavy:5"]


async def test_who_is_back_before_the_round_is_over_waits_for_its_end() -> None:
    """One whose jobs come one by one has no second turn before the others had theirs."""
    jobs = Jobs(whole=1)
    await jobs.come("light:0", *many(HEAVY, 2), *many(THIRD, 2))
    await jobs.end("light:0")
    await jobs.come("light:1")
    await jobs.end_all()
    assert jobs.begun[1:] == ["heavy:0", "third:0", "heavy:1", "third:1", "light:1"]


async def test_the_lowest_number_goes_first_among_its_own() -> None:
    """A priority moves a job within its organisation, and does nothing to the others."""
    jobs = Jobs(whole=1)
    await jobs.come("light:now")
    await jobs.come("heavy:late", priority=300)
    await jobs.come("light:usual", "heavy:usual")
    await jobs.come("heavy:soon", "heavy:soon too", priority=1)
    await jobs.end_all()
    own = [name for name in jobs.begun if name.startswith(HEAVY)]
    assert own == ["heavy:soon", "heavy:soon too", "heavy:usual", "heavy:late"]
    assert jobs.begun.index("light:usual") == 2


async def test_who_gives_up_in_the_line_is_passed_over() -> None:
    """A job that is cancelled while it waits takes no slot and no turn from anybody."""
    jobs = Jobs(whole=1)
    await jobs.come("heavy:0", "heavy:1", "light:0", "heavy:2")
    gone = jobs.tasks.pop("heavy:1")
    gone.cancel()
    await jobs.end_all()
    assert gone.cancelled()
    assert jobs.begun == ["heavy:0", "light:0", "heavy:2"]


async def test_who_is_cancelled_with_a_slot_gives_it_back() -> None:
    """Also between being given it and noticing."""
    jobs = Jobs(whole=1)
    await jobs.come("heavy:0", "heavy:1", "heavy:2")
    jobs._over["heavy:0"].set()
    await jobs.tasks.pop("heavy:0")
    jobs.tasks.pop("heavy:1").cancel()
    await settle()
    assert jobs.begun[-1] == "heavy:2"
    await jobs.end_all()


async def test_an_error_gives_the_slot_back() -> None:
    """A step that raises leaves its slot to the next one."""
    turns = Turns(Slots(whole=1, each=1))
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            async with turns.take(HEAVY, 1):
                raise OSError("gone")


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), max_size=40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
async def test_slots_are_full_and_shared(
    wanted: list[tuple[str, int]], whole: int, each: int, dice: random.Random
) -> None:
    """Limits hold, no slot is idle that somebody may have, and nobody gets ahead by a round."""
    each = min(each, whole)
    jobs = Jobs(whole=whole, each=each)
    names = [f"{org_id}:{number}" for number, (org_id, _) in enumerate(wanted)]
    for name, (_, priority) in zip(names, wanted, strict=True):
        await jobs.come(name, priority=priority)
    first = len(jobs.begun)
    while jobs.tasks:
        running, waiting = jobs.running(), Counter(name[0] for name in jobs.tasks)
        waiting.subtract(running)
        assert running.total() <= whole
        assert all(count <= each for count in running.values())
        if running.total() < whole:
            assert all(running[org] == each for org, count in waiting.items() if count)
        if whole == each:
            turns = Counter(name[0] for name in jobs.begun[first:])
            backlogged = [turns[org] for org, count in waiting.items() if count]
            assert not backlogged or max(backlogged) - min(backlogged) <= whole + 1
        await jobs.end(dice.choice([name for name in jobs.begun if name in jobs.tasks]))
    assert sorted(jobs.begun) == sorted(names)
