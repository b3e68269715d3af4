"""peek at a job that was cut into shards: one look, put together from looks at all of them."""

import orjson
import pytest
import sqlalchemy as sa
from tests.lifecycle.fakes import NAME, World, input_of, row_of

from penstock.core.job import Job
from penstock.core.look import Look, look_of
from penstock.core.state import JobState
from penstock.errors import ProviderUnreachable
from penstock.lifecycle.peek import look
from penstock.store import tables
from penstock.store.store import Store

LINES = 6
RANGES = ((1, 2), (3, 4), (5, 6))


class Cut:
    """A job of three shards of two lines."""

    def __init__(self, world: World, store: Store, parent: Job, shards: list[Job]) -> None:
        self.world = world
        self._store = store
        self.parent = parent
        self.shards = shards

    async def wish(self) -> bool:
        """Ask for a look at the whole."""
        parent = self.parent
        now = self.world.clock.now()
        return await self.world.looks.wish(parent.org_id, parent.id, now, 100.0)

    def export(self, number: int, *lines: int) -> None:
        """Let the provider job of a shard have exported these lines."""
        raw = b"".join(row_of(self.parent.id, line, f"t{line}") + b"\n" for line in lines)
        self.world.bucket.objects[f"{self._folder(number)}/predictions.jsonl"] = raw

    async def look(self, number: int) -> None:
        """Look at one shard, as its watcher does."""
        shard = await self.world.now(self.shards[number])
        await look(self.world.ports(), shard, f"gs://fake/{self._folder(number)}")

    def _folder(self, number: int) -> str:
        return f"penstock/{self.shards[number].id}/prediction-model-1"

    async def change(self, job: Job, **fields: object) -> None:
        """Change the row of a job, whoever would have to do that."""
        async with self._store._engine.begin() as connection:
            query = sa.update(tables.jobs).where(tables.jobs.c.id == job.id)
            await connection.execute(query.values(**fields))

    async def found(self) -> Look | None:
        """The look at the whole."""
        return look_of(await self.world.now(self.parent))

    async def statuses(self) -> list[str]:
        """The code of each line of the look at the whole; empty for one that is answered."""
        found = await self.found()
        assert found is not None
        path = self.world.spool.path(self.parent.id, found.name)
        lines = [orjson.loads(line)["status"] for line in path.read_bytes().splitlines()]
        return [
            orjson.loads(one[one.index("{") :])["error"]["code"] if one else "" for one in lines
        ]


@pytest.fixture
async def cut(world: World, quick_store: Store) -> Cut:
    """A job whose three shards run."""
    texts = [f"t{number}" for number in range(1, LINES + 1)]
    parent = await world.with_input(input_of(texts), state="running", provider_job="shards/3")
    shards = [
        await world.job(
            state="running",
            attempt=1,
            provider_job=f"{NAME}{first}",
            parent_id=parent.id,
            first_line=first,
            last_line=last,
            line_count=last - first + 1,
        )
        for first, last in RANGES
    ]
    return Cut(world, quick_store, parent, shards)


async def test_the_last_look_puts_all_of_them_together(cut: Cut) -> None:
    """Lines stand where they belong, and nothing is there before each shard was looked at."""
    assert await cut.wish()
    cut.export(0, 2)
    cut.export(2, 6, 5)
    for number in (2, 0):
        await cut.look(number)
        assert await cut.found() is None
    await cut.look(1)
    found = await cut.found()
    assert found is not None
    assert found.lines == 3
    assert await cut.statuses() == ["pending", "", "pending", "pending", "", ""]
    assert await cut.world.kinds(cut.parent) == ["accepted"]


async def test_a_shard_that_has_ended_gives_all_that_it_has(cut: Cut) -> None:
    """Its lines count as finished: those of an output, and those that never come."""
    cut.export(1, 3)
    await cut.look(1)
    shard = cut.shards[1]
    seen_now = look_of(await cut.world.now(shard))
    assert seen_now is not None
    now = cut.world.clock.now()
    await cut.change(
        shard,
        state="succeeded",
        finished_at=now,
        output_name=seen_now.name,
        index_name=seen_now.index_name,
    )
    await cut.change(cut.shards[2], state="failed", finished_at=now, error_code="provider_error_3")
    assert await cut.wish()
    await cut.look(0)
    found = await cut.found()
    assert found is not None
    assert found.lines == 4
    expected = ["pending", "pending", "", "pending", "provider_error_3", "provider_error_3"]
    assert await cut.statuses() == expected


async def test_shards_without_a_row_are_no_look(cut: Cut) -> None:
    """Where no shard has anything, the job says so."""
    assert await cut.wish()
    for number in range(3):
        await cut.look(number)
    after = await cut.world.now(cut.parent)
    assert (after.partial_lines, after.partial_name) == (0, None)


async def test_a_shard_that_cannot_be_read_is_pending(cut: Cut) -> None:
    """One failure costs the lines of its shard for this look, and no more."""
    assert await cut.wish()
    cut.export(0, 1)
    await cut.look(0)
    cut.world.bucket.fail("list", ProviderUnreachable("no answer"))
    await cut.look(1)
    await cut.look(2)
    assert await cut.statuses() == ["", *["pending"] * 5]
    assert await cut.world.kinds(cut.shards[1]) == ["accepted", "partial_failed"]


async def test_a_look_that_nobody_wants_is_not_put_together(cut: Cut) -> None:
    """Without a wish for the whole its row stays as it is."""
    cut.export(0, 1)
    await cut.look(0)
    assert (await cut.world.now(cut.parent)).partial_at is None


async def test_a_newer_look_at_the_whole_replaces_the_older(cut: Cut) -> None:
    """One look at the whole is kept at a time."""
    for lines in ((1,), (1, 2)):
        assert await cut.wish()
        cut.export(0, *lines)
        for number in range(3):
            await cut.look(number)
        cut.world.clock.advance(200)
    found = await cut.found()
    assert found is not None
    assert found.lines == 2
    folder = cut.world.spool._jobs / cut.parent.id
    assert sorted(path.name for path in folder.glob("partial*")) == sorted(
        (found.name, found.index_name)
    )


async def test_a_wish_is_passed_on_to_shards_that_run(cut: Cut) -> None:
    """Shards that have not begun or have ended are not looked at."""
    await cut.change(cut.shards[0], state="prepared")
    assert await cut.wish()
    now = cut.world.clock.now()
    wishes = [(await cut.world.now(shard)).partial_wanted_at for shard in cut.shards]
    assert wishes == [None, now, now]
    assert (await cut.world.now(cut.parent)).state is JobState.RUNNING


async def test_a_wish_that_is_written_anew_holds_nothing_up(cut: Cut) -> None:
    """Shards that were looked at since the last look at the whole count, also if wanted again."""
    assert await cut.wish()
    cut.export(0, 1)
    await cut.look(0)
    await cut.look(1)
    cut.world.clock.advance(100)
    assert await cut.wish()
    await cut.look(2)
    found = await cut.found()
    assert found is not None
    assert found.lines == 1
