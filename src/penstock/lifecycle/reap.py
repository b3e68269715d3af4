"""Heartbeat, and taking over the work of executors that stopped beating.

The open-source engine leaves the workflows of an executor that dies for good PENDING for ever
(reference/engine.md 4.2). So each process announces itself under a fresh id, beats, and looks for
the silent. The loop runs for ever and not once, because recovery itself can be interrupted.

Taking over the work of somebody who lives is waste and no harm: the engine and every UPDATE of ours
are fenced against the loser. To keep it rare, time in which this process could not beat either does
not count: after an outage of the database all would look dead to whoever is back first.
"""

import logging
from typing import Protocol

from penstock.clock import Clock
from penstock.errors import Unavailable
from penstock.settings import Timing
from penstock.store.workers import Workers

_log = logging.getLogger(__name__)


class TakesOver(Protocol):
    """What the reaper asks of the engine."""

    async def take_over(self, executor_id: str) -> int:
        """Run the pending workflows of a dead executor here; return how many."""
        ...


class Reaper:
    """One process's heartbeat and its eye on the others."""

    def __init__(
        self, workers: Workers, clock: Clock, timing: Timing, executor_id: str, engine: TakesOver
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._timing = timing
        self._executor_id = executor_id
        self._engine = engine
        # By the clock that all processes share.
        self._beat_at: float | None = None
        self._excused_seconds = 0.0
        self._excused_until = 0.0

    async def announce(self) -> None:
        """Make this executor known. Before it takes any work: an unknown one's is never found."""
        await self._workers.join(self._executor_id, self._clock.now())

    async def begin(self, *, alone: bool) -> None:
        """Begin to beat; `alone` says that every other executor is certainly dead."""
        now = await self._beat()
        if alone:
            await self._take_over_silent(now + 1, forget_since=now + 1)

    async def leave(self) -> None:
        """Hand the work on at the others' next look; this executor does nothing any more."""
        try:
            # Silent for long enough in everybody's eyes, and short enough to be remembered, should
            # its last transaction be committed after it left.
            silent_seconds = self._timing.worker_forgotten_seconds / 2
            await self._workers.leave(self._executor_id, silent_seconds)
        except Unavailable as error:
            # They find out by themselves, a few seconds later.
            _log.warning("could not hand the work on: %s", error.message)

    async def run(self) -> None:
        """Beat and look for ever."""
        while True:
            await self._clock.sleep(self._timing.heartbeat_seconds)
            try:
                now = await self._beat()
                since = now - self._timing.worker_lost_seconds - self._excused_seconds
                forget_since = since - self._timing.worker_forgotten_seconds
                await self._take_over_silent(since, forget_since=forget_since)
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # A missed beat only costs a take-over; a dead loop would strand jobs.
                _log.exception("heartbeat failed; trying again")

    async def _beat(self) -> float:
        """Beat, and note for how long nobody may have been able to."""
        now = await self._workers.beat(self._executor_id, self._clock.now())
        gap_seconds = 0.0 if self._beat_at is None else now - self._beat_at
        lost_seconds = self._timing.worker_lost_seconds
        if gap_seconds > lost_seconds / 2:
            self._excused_seconds += gap_seconds
            self._excused_until = now + lost_seconds
        elif now >= self._excused_until:
            self._excused_seconds = 0.0
        self._beat_at = now
        return now

    async def _take_over_silent(self, since: float, *, forget_since: float) -> None:
        # Asked before the work is taken over, so that nobody is forgotten who worked since then.
        gone = set(await self._workers.silent_since(forget_since))
        for executor_id in await self._workers.silent_since(since):
            if executor_id == self._executor_id:
                continue
            count = await self._engine.take_over(executor_id)
            if count:
                _log.info("took over %d workflows of executor %s", count, executor_id)
            if executor_id in gone:
                await self._workers.forget(executor_id)
