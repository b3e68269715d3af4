"""Heartbeat, and taking over the work of executors that stopped beating.

The open-source engine leaves the workflows of an executor that dies for good PENDING for ever
(reference/engine.md 4.2). So each process announces itself under a fresh id, beats, and looks for
the silent. The loop runs for ever and not once, because recovery itself can be interrupted.
"""

import logging
from typing import Final, Protocol

from penstock.clock import Clock
from penstock.settings import Timing
from penstock.store.workers import Workers

_log = logging.getLogger(__name__)

FORGOTTEN_SECONDS: Final = 900.0
"""How long a silent executor stays known, and its work is looked for. One that was only frozen may
wake up after the first look, begin something and die before its next heartbeat; forgotten by then,
its work would be nobody's for ever."""


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

    async def announce(self) -> None:
        """Make this executor known. Before it takes any work: an unknown one's is never found."""
        await self._workers.join(self._executor_id, self._clock.now())

    async def begin(self, *, alone: bool) -> None:
        """Begin to beat; `alone` says that every other executor is certainly dead."""
        now = self._clock.now()
        await self._workers.beat(self._executor_id, now)
        if alone:
            await self._take_over_silent(now + 1, forget_since=now + 1)

    async def run(self) -> None:
        """Beat and look for ever."""
        while True:
            await self._clock.sleep(self._timing.heartbeat_seconds)
            try:
                now = self._clock.now()
                await self._workers.beat(self._executor_id, now)
                since = now - self._timing.worker_lost_seconds
                await self._take_over_silent(since, forget_since=since - FORGOTTEN_SECONDS)
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # A missed beat only costs a take-over; a dead loop would strand jobs.
                _log.exception("heartbeat failed; trying again")

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
