"""Slots that organisations take by turns, and within one the jobs of the lowest number first.

The engine's partitions keep one organisation from holding all slots, but which partition comes next
is drawn by lot each time: over ten jobs, one of equals waits twice as long as another. So a process
takes up a few jobs of every organisation, and here they go one by one: to each organisation a turn,
before any has the next. It is start-time fair queueing (Goyal, Vin and Cheng, 1996) with jobs of
one size: who comes late begins with the others and not with the turns that he did not want, and who
was alone owes nothing for them.
"""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from penstock.core.job import OrgId


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """How much one process does at the same time."""

    whole: int
    each: int
    """Of these, for one organisation."""


class _Place(msgspec.Struct, order=True):
    """A job in the line of its organisation."""

    priority: int
    arrival: int
    begun: asyncio.Future[None]


class Turns:
    """The slots of one kind; all of it happens on the event loop."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._taken: Counter[OrgId] = Counter()
        self._lines: dict[OrgId, list[_Place]] = {}
        self._arrivals = itertools.count()
        self._round = 0
        """In which round the last job began."""
        self._next_round: dict[OrgId, int] = {}
        """Of those who had their turn in this round already."""

    @asynccontextmanager
    async def take(self, org_id: OrgId, priority: int) -> AsyncIterator[None]:
        """Hold a slot, when it is this job's turn."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(org_id, [])
        heapq.heappush(line, _Place(priority, next(self._arrivals), begun))
        self._begin()
        try:
            await begun
            yield
        finally:
            # One that was cancelled in the line is passed over when its turn comes.
            if not begun.cancelled():
                self._taken[org_id] -= 1
                self._begin()

    def _begin(self) -> None:
        """Let jobs begin while there is a slot for one."""
        while self._taken.total() < self._slots.whole:
            waiting = [one for one in self._lines if self._taken[one] < self._slots.each]
            if not waiting:
                return
            org_id = min(waiting, key=self._turn)
            place = heapq.heappop(self._lines[org_id])
            if not self._lines[org_id]:
                del self._lines[org_id]
            if not place.begun.cancelled():
                self._count(org_id)
                place.begun.set_result(None)

    def _turn(self, org_id: OrgId) -> tuple[int, int]:
        """Return in which round the organisation is next, and since when its first job waits."""
        return self._next_round.get(org_id, self._round), self._lines[org_id][0].arrival

    def _count(self, org_id: OrgId) -> None:
        self._taken[org_id] += 1
        self._round = self._next_round.get(org_id, self._round)
        self._next_round[org_id] = self._round + 1
        for one in [one for one, number in self._next_round.items() if number <= self._round]:
            del self._next_round[one]
