"""Time as a parameter.

Everything that waits or stamps takes a `Clock`, so that tests move time instead of sleeping and the
deterministic simulator can run the same step functions.
"""

import time
from typing import Protocol


def monotonic() -> float:
    """Return seconds that never jump, for how long something took; their zero means nothing."""
    return time.monotonic()


class Clock(Protocol):
    """Wall-clock seconds for stamps and deadlines, and the only way to wait."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        from asyncio import sleep  # noqa: PLC0415  # lazy: receiving processes have no loop

        await sleep(seconds)
