import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import FakeClock

from penstock.blobs.room import (
    ASK_BYTES,
    LOOK_SECONDS,
    PIECE_BYTES,
    DiskUse,
    Hold,
    Room,
    RoomLimits,
)
from penstock.errors import StorageFull, TooBusy, Unavailable

WAIT_SECONDS = 20.0
ACME = "acme"
LIMITS = RoomLimits(
    spool_bytes_max=0,
    disk_free_bytes_min=1_000,
    uploads_concurrency_max=3,
    uploads_concurrency_tenant_max=3,
    uploads_waiting_max=4,
    uploads_waiting_tenant_max=4,
    upload_wait_seconds_max=WAIT_SECONDS,
)


class Disk:
    """A disk whose use a test decides."""

    def __init__(self, free: int = 11_000, stored: int = 0) -> None:
        self.free = free
        self.stored = stored

    def __call__(self) -> DiskUse:
        return DiskUse(total_bytes=10**9, free_bytes=self.free, stored_bytes=self.stored)


class StandingClock:
    """Time that stands until a test moves it; those who sleep wait for that."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self._now + seconds, event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Move the time and wake those who have slept enough."""
        self._now += seconds
        for until, event in self._sleepers:
            if until <= self._now:
                event.set()


class Uploads:
    """A room, and tasks that ask it for theirs."""

    def __init__(self, disk: Disk, **changes: float) -> None:
        self.disk = disk
        self.clock = StandingClock()
        self.room = Room(disk, self.clock, msgspec.structs.replace(LIMITS, **changes))
        self.entered: list[str] = []
        self.left: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, size: int | None, org_id: str = ACME) -> None:
        """Start an upload and let it come as far as it can."""
        self.left[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, size, org_id))
        await self.settle()

    async def _run(self, name: str, size: int | None, org_id: str) -> None:
        async with self.room.reserve(org_id, size):
            self.entered.append(name)
            await self.left[name].wait()

    async def end(self, name: str) -> None:
        """End an upload and let those that it was in the way of go on."""
        self.left[name].set()
        await self.tasks[name]
        await self.settle()

    async def move(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Return when nobody measures the disk any more and every task waits."""
        for _ in range(20):
            await asyncio.to_thread(int)
            await asyncio.sleep(0)

    async def refusal(self, name: str) -> Unavailable:
        """The error that ended an upload."""
        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(self.tasks[name], 5)
        return caught.value

    async def close(self) -> None:
        """End what still runs."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@asynccontextmanager
async def uploads(disk: Disk, **changes: float) -> AsyncIterator[Uploads]:
    """Uploads that end with the test."""
    # One thread measures in the order of asking, so that `settle` can wait for all of it.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    made = Uploads(disk, **changes)
    try:
        yield made
    finally:
        await made.close()


async def test_what_fits_goes_ahead() -> None:
    """Uploads share the room up to the watermark, to the byte."""
    async with uploads(Disk(free=11_000)) as all_of_them:
        await all_of_them.begin("a", 4_000)
        await all_of_them.begin("b", 6_000)
        assert all_of_them.entered == ["a", "b"]


async def test_what_others_reserved_is_waited_for() -> None:
    """A reservation counts before a byte of it is written, and its end lets the next one in."""
    async with uploads(Disk(free=11_000)) as all_of_them:
        await all_of_them.begin("a", 6_000)
        await all_of_them.begin("b", 4_001)
        assert all_of_them.entered == ["a"]
        await all_of_them.end("a")
        assert all_of_them.entered == ["a", "b"]


async def test_the_line_is_kept() -> None:
    """A small upload does not overtake a large one that waits for others to end."""
    async with uploads(Disk(free=11_000)) as all_of_them:
        await all_of_them.begin("a", 8_000)
        await all_of_them.begin("large", 9_000)
        await all_of_them.begin("small", 1)
        assert all_of_them.entered == ["a"]
        await all_of_them.end("a")
        assert all_of_them.entered == ["a", "large", "small"]


async def test_only_so_many_are_read_at_once() -> None:
    """The number of uploads is limited, whatever their size."""
    async with uploads(Disk(), uploads_concurrency_max=2) as all_of_them:
        for name in "abc":
            await all_of_them.begin(name, 0)
        assert all_of_them.entered == ["a", "b"]
        await all_of_them.end("b")
        assert all_of_them.entered == ["a", "b", "c"]


async def test_a_wait_has_an_end() -> None:
    """503 with a time to come back when others hold the room for too long; the line goes on."""
    async with uploads(Disk(), uploads_concurrency_max=1) as all_of_them:
        for name in "abc":
            await all_of_them.begin(name, 0)
            await all_of_them.move(1)
        await all_of_them.move(WAIT_SECONDS - 2)
        refusal = await all_of_them.refusal("b")
        assert (type(refusal), refusal.status) == (TooBusy, 503)
        assert "1 uploads are in progress" in refusal.message
        assert refusal.retry_after_seconds
        await all_of_them.end("a")
        assert all_of_them.entered == ["a", "c"]


async def test_the_end_of_a_line_is_refused_too() -> None:
    """One who never came first in the line is told so."""
    async with uploads(Disk(), uploads_concurrency_max=1) as all_of_them:
        await all_of_them.begin("a", 0)
        await all_of_them.begin("b", 0)
        await all_of_them.begin("c", 0)
        await all_of_them.move(WAIT_SECONDS)
        refusals = [await all_of_them.refusal(name) for name in "bc"]
        assert {type(refusal) for refusal in refusals} == {TooBusy}


async def test_a_full_disk_is_another_refusal() -> None:
    """507 with a time to come back when there is no room even without the others."""
    async with uploads(Disk(free=5_000)) as all_of_them:
        await all_of_them.begin("a", 4_001)
        assert not all_of_them.tasks["a"].done()
        await all_of_them.move(WAIT_SECONDS)
        refusal = await all_of_them.refusal("a")
        assert (type(refusal), refusal.status) == (StorageFull, 507)
        assert "room for 4000 bytes" in refusal.message
        assert refusal.retry_after_seconds == 60


async def test_waiting_for_the_disk_stops_nobody() -> None:
    """Smaller uploads go by one that waits for the disk itself, so it cannot stop the server."""
    async with uploads(Disk(free=5_000)) as all_of_them:
        await all_of_them.begin("too large", 4_001)
        await all_of_them.begin("another", 4_002)
        await all_of_them.begin("small", 4_000)
        assert all_of_them.entered == ["small"]


async def test_room_that_comes_from_elsewhere_is_seen() -> None:
    """A job that is removed makes room without asking here; the disk is looked at again."""
    async with uploads(Disk(free=5_000)) as all_of_them:
        await all_of_them.begin("a", 9_000)
        all_of_them.disk.free = 10_000
        await all_of_them.move(LOOK_SECONDS)
        assert all_of_them.entered == ["a"]


async def test_what_can_never_fit_does_not_wait() -> None:
    """An upload larger than the whole disk or budget is refused at once."""
    async with uploads(Disk(), spool_bytes_max=10_000) as all_of_them:
        await all_of_them.begin("a", 10_001)
        assert "never has room for 10001 bytes" in (await all_of_them.refusal("a")).message
    async with uploads(Disk()) as all_of_them:
        await all_of_them.begin("a", 10**9 - 999)
        assert type(await all_of_them.refusal("a")) is StorageFull


async def test_a_budget_limits_what_is_stored() -> None:
    """With a budget, what is stored already and what others will write count against it."""
    disk = Disk(free=10**8, stored=7_000)
    async with uploads(disk, spool_bytes_max=10_000) as all_of_them:
        await all_of_them.begin("a", 2_000)
        await all_of_them.begin("b", 1_001)
        assert all_of_them.entered == ["a"]
        disk.stored = 8_999
        await all_of_them.end("a")
        assert all_of_them.entered == ["a", "b"]


async def test_the_line_has_an_end() -> None:
    """When too many wait already the next one is sent away at once."""
    async with uploads(Disk(), uploads_concurrency_max=1) as all_of_them:
        for name in "abcdef":
            await all_of_them.begin(name, 0)
        assert "4 uploads wait" in (await all_of_them.refusal("f")).message
        assert not all_of_them.tasks["e"].done()


async def test_who_leaves_the_line_is_forgotten() -> None:
    """An upload that is given up while it waits lets the next one through."""
    async with uploads(Disk()) as all_of_them:
        await all_of_them.begin("a", 5_000)
        await all_of_them.begin("b", 9_000)
        await all_of_them.begin("c", 5_000)
        all_of_them.tasks["b"].cancel()
        await all_of_them.settle()
        assert all_of_them.entered == ["a", "c"]


async def test_nobody_sleeps_who_has_room() -> None:
    """Without a line no time passes."""
    clock = FakeClock()
    async with Room(Disk(), clock, LIMITS).reserve(ACME, 1):
        assert clock.slept == []


# -- one organisation among others ---------------------------------------------------------------


async def test_one_organisation_leaves_something_to_the_others() -> None:
    """Its uploads beyond its share wait, and another's goes by them at once."""
    async with uploads(Disk(), uploads_concurrency_tenant_max=2) as all_of_them:
        for name in "abc":
            await all_of_them.begin(name, 0)
        await all_of_them.begin("theirs", 0, "rival")
        assert all_of_them.entered == ["a", "b", "theirs"]
        await all_of_them.end("theirs")
        assert all_of_them.entered == ["a", "b", "theirs"]
        await all_of_them.end("a")
        assert all_of_them.entered == ["a", "b", "theirs", "c"]


async def test_those_beyond_a_share_keep_their_order() -> None:
    """When one of its uploads ends, the organisation's oldest goes, though it let others by."""
    async with uploads(Disk(), uploads_concurrency_tenant_max=1) as all_of_them:
        for name in "abc":
            await all_of_them.begin(name, 0)
        await all_of_them.begin("theirs", 0, "rival")
        for name in "ab":
            await all_of_them.end(name)
        assert all_of_them.entered == ["a", "theirs", "b", "c"]


async def test_a_share_that_is_held_too_long_is_told() -> None:
    """503 that says whose uploads are in the way, which here are his own."""
    async with uploads(Disk(), uploads_concurrency_tenant_max=1) as all_of_them:
        await all_of_them.begin("a", 0)
        await all_of_them.begin("b", 0)
        await all_of_them.move(WAIT_SECONDS)
        refusal = await all_of_them.refusal("b")
        assert type(refusal) is TooBusy
        assert "1 uploads of your organisation are in progress" in refusal.message


async def test_one_organisation_does_not_fill_the_line() -> None:
    """The next of those that wait is sent away at once, and another's still finds a place."""
    async with uploads(
        Disk(), uploads_concurrency_max=1, uploads_waiting_tenant_max=2
    ) as all_of_them:
        for name in "abcd":
            await all_of_them.begin(name, 0)
        refusal = await all_of_them.refusal("d")
        assert "2 uploads of your organisation wait" in refusal.message
        await all_of_them.begin("theirs", 0, "rival")
        assert not all_of_them.tasks["theirs"].done()


# -- while bytes come ----------------------------------------------------------------------------


class Written:
    """How much an upload has written, as a test says."""

    def __init__(self, hold: Hold, count: int = 0) -> None:
        self.count = count
        hold.follow(self)

    def __call__(self) -> int:
        if self.count < 0:
            raise FileNotFoundError
        return self.count


async def test_an_unknown_length_takes_a_piece_at_a_time() -> None:
    """It holds one piece, and another one only when that is used up."""
    room = Room(Disk(free=10**8), FakeClock(), LIMITS)
    async with room.reserve(ACME, None) as hold:
        written = Written(hold, PIECE_BYTES)
        await hold.cover()
        assert hold.reserved_bytes == PIECE_BYTES
        written.count = PIECE_BYTES + 1
        await hold.cover()
        assert hold.reserved_bytes == 2 * PIECE_BYTES + 1
        assert hold.outstanding_bytes == PIECE_BYTES


async def test_more_than_was_said_needs_room_too() -> None:
    """The line index comes on top of a stated length, and at the end just that is added."""
    disk = Disk(free=1_002)
    room = Room(disk, FakeClock(), LIMITS)
    async with room.reserve(ACME, 2) as hold:
        Written(hold, 12)
        disk.free = 1_000
        await hold.cover(ahead_bytes=0)
        assert (hold.reserved_bytes, hold.outstanding_bytes) == (12, 0)
        disk.free = 999
        Written(hold, 13)
        with pytest.raises(StorageFull):
            await hold.cover(ahead_bytes=0)


async def test_who_writes_may_say_how_much() -> None:
    """A writer in this process counts for itself."""
    room = Room(Disk(free=10**8), FakeClock(), LIMITS)
    async with room.reserve(ACME, 10) as hold:
        await hold.cover(10)
        assert (hold.reserved_bytes, hold.outstanding_bytes) == (10, 0)
        await hold.cover(11)
        assert hold.reserved_bytes == 11 + PIECE_BYTES


async def test_what_is_written_is_asked_now_and_then() -> None:
    """A question costs a system call, so many small chunks share one."""
    room = Room(Disk(free=10**8), FakeClock(), LIMITS)
    async with room.reserve(ACME, None) as hold:
        Written(hold, PIECE_BYTES + 1)
        await hold.came(ASK_BYTES - 1)
        assert hold.written_bytes == 0
        await hold.came(1)
        assert hold.reserved_bytes > PIECE_BYTES + 1


async def test_files_that_are_gone_do_not_hurt_others() -> None:
    """While an upload ends, its files move away under those who ask for room."""
    room = Room(Disk(free=11_000), FakeClock(), LIMITS)
    async with room.reserve(ACME, 6_000) as hold:
        written = Written(hold, 6_000)
        hold.look()
        written.count = -1
        async with room.reserve(ACME, 10_000):
            assert hold.written_bytes == 6_000


async def test_an_upload_that_runs_out_of_room_is_refused() -> None:
    """507 in the middle, and its room is free again at once."""
    disk = Disk(free=PIECE_BYTES + 2_000)
    room = Room(disk, FakeClock(), LIMITS)
    async with room.reserve(ACME, None) as hold:
        disk.free = 1_999
        Written(hold, PIECE_BYTES + 1)
        with pytest.raises(StorageFull, match="in the middle") as caught:
            await hold.cover()
    assert caught.value.retry_after_seconds == 60
    disk.free = PIECE_BYTES + 2_000
    async with room.reserve(ACME, None):
        pass


async def test_a_full_house_may_grow() -> None:
    """The number of uploads is a limit on entering, and not on going on."""
    room = Room(Disk(free=10**9), FakeClock(), LIMITS)
    async with AsyncExitStack() as stack:
        holds = [await stack.enter_async_context(room.reserve(ACME, 1)) for _ in range(3)]
        for hold in holds:
            Written(hold, 2)
            await hold.cover()


async def test_written_bytes_are_not_counted_twice() -> None:
    """What an upload has written is missing on the disk already, so only the rest is kept free."""
    disk = Disk(free=11_000)
    room = Room(disk, FakeClock(), LIMITS)
    async with room.reserve(ACME, 6_000) as hold:
        disk.free -= 5_000
        Written(hold, 5_000)
        async with room.reserve(ACME, 4_000):
            pass
        with pytest.raises(TooBusy, match="hold the room"):
            async with room.reserve(ACME, 4_001):
                pass


async def test_a_full_disk_is_told() -> None:
    """The room is full when not even an empty upload fits; others' uploads do not make it so."""
    disk = Disk(free=1_000)
    room = Room(disk, FakeClock(), LIMITS)
    assert not await room.is_full()
    disk.free = 999
    assert await room.is_full()
    disk.free = 2_000
    async with room.reserve(ACME, 1_000):
        disk.free = 1_500
        assert not await room.is_full()


@given(st.data())
async def test_uploads_never_eat_the_watermark(data: st.DataObject) -> None:
    """In any order of beginnings, writes and ends, what was promised fits on the disk."""
    disk = Disk(free=200 * 2**20)
    room = Room(disk, FakeClock(), LIMITS)
    holds: list[tuple[Hold, Written, AsyncExitStack]] = []
    sizes = st.one_of(st.none(), st.integers(0, 2**26))
    for _ in range(data.draw(st.integers(1, 20))):
        action = data.draw(st.sampled_from(["begin", "write", "end"]))
        if action == "begin":
            stack = AsyncExitStack()
            try:
                hold = await stack.enter_async_context(room.reserve(ACME, data.draw(sizes)))
                holds.append((hold, Written(hold), stack))
            except Unavailable:
                assert len(holds) == 3 or disk.free < 2**26 + LIMITS.disk_free_bytes_min + sum(
                    hold.outstanding_bytes for hold, _, _ in holds
                )
        elif holds:
            hold, written, stack = holds[data.draw(st.integers(0, len(holds) - 1))]
            if action == "write":
                more = data.draw(st.integers(0, 2**22))
                disk.free -= more
                written.count += more
                try:
                    await hold.cover()
                except StorageFull:
                    disk.free += written.count
                    action = "end"
            if action == "end":
                holds.remove((hold, written, stack))
                await stack.aclose()
        promised = sum(hold.outstanding_bytes for hold, _, _ in holds)
        assert disk.free - promised >= LIMITS.disk_free_bytes_min
    for _, _, stack in holds:
        await stack.aclose()
