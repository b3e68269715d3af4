"""Time that moves only when a test, or a sleeper, moves it."""

import asyncio

START = 1_795_363_200.0
"""2026-11-22 16:00 UTC, the day of the reference record."""


class FakeClock:
    """A clock whose sleepers do not wait: each sleep moves the time by its length."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self.slept: list[float] = []

    def now(self) -> float:
        """Return the current time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Move the time by `seconds` and let other tasks run."""
        self.slept.append(seconds)
        self._now += seconds
        await asyncio.sleep(0)
