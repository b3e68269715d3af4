"""Where the two kinds of the client differ: files, pauses, and what may interrupt a wait.

Its twin is `penstock.client.blocking.io`, written by hand; each name here is there as well.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Final, ParamSpec, Self, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

Sleep = Callable[[float], Awaitable[None]]

INTERRUPTS: Final = (KeyboardInterrupt, asyncio.CancelledError)
"""What ends a wait from outside; Ctrl-C cancels the task in which it is awaited."""

LOSES_REFUSALS: Final = True
"""Whether an answer can be lost that comes before all of a body was sent: asyncio closes a
connection whose other end stops reading, and drops what had come over it."""

_END: Final = object()


async def pause(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function returns that reads or writes files, without holding others up."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def flow(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what is read from a file."""
    while isinstance(piece := await asyncio.to_thread(next, pieces, _END), bytes):
        yield piece


class Awaited:
    """A handle that can be awaited itself, which is to wait for its end."""

    def wait(self) -> Coroutine[Any, Any, Self]:
        """Wait for its end."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Self]:
        return self.wait().__await__()
