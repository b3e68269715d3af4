"""Say that a job takes long: longer than 95 of 100 others of its model waited, or ran.

Any number of processes look; of two that see the same job one writes, so each round of a job is
told once, and only while it is where it was seen. Nothing else is done to the job: what waits at
the provider would wait there no less for being sent again.
"""

import logging
from typing import Final

from penstock.core.waiting import Past, WaitingRules, duration_text
from penstock.store.history import History, OpenTime, Pasts

_log = logging.getLogger(__name__)

MARKS_MAX: Final = 200
"""Jobs that one look tells of; each is a transaction. After an outage all are late at once, and the
next look goes on."""


class Watchdog:
    """The loop of one process."""

    def __init__(
        self, history: History, pasts: Pasts, rules: WaitingRules, marks_max: int = MARKS_MAX
    ) -> None:
        self._history = history
        self._pasts = pasts
        self._clock = pasts.clock
        self._rules = rules
        self._marks_max = marks_max

    async def run(self) -> None:
        """Look for ever, unless nobody wants it."""
        while self._rules.look_seconds > 0:
            await self._clock.sleep(self._rules.look_seconds)
            try:
                await self.look()
            except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
                # A missed look costs a minute of a warning; no job depends on it.
                _log.exception("looking for slow jobs failed; trying again")

    async def look(self) -> int:
        """Tell of those that are slow by now; return how many."""
        now = self._clock.now()
        told = 0
        for job in await self._history.open_times(now - self._rules.slow_seconds_min):
            reason = _why_slow(job, await self._pasts.of(job.model), self._rules, now)
            if reason is None or not await self._history.mark_slow(job, now, reason):
                continue
            _log.warning("the job %s is slow: %s", job.told_id, reason)
            told += 1
            if told == self._marks_max:
                break
        return told


def _why_slow(job: OpenTime, past: Past, rules: WaitingRules, now: float) -> str | None:
    """Return why the job is slow; None if it is not, or if nobody can say."""
    since, is_running = job.began_at, job.running_since is not None
    if job.running_since is not None:
        since = job.running_since
    late_seconds = past.late_seconds(job.line_count, rules, runs=is_running)
    if late_seconds is None or now - since <= late_seconds:
        return None
    does, did = ("running", "ran") if is_running else ("waiting", "waited")
    return (
        f"It has been {does} for {duration_text(now - since)}; "
        f"95 of 100 other jobs of {job.model} {did} no longer than {duration_text(late_seconds)}."
    )
