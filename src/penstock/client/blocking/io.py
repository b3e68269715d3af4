"""Where the two kinds of the client differ: files, pauses, and what may interrupt a wait.

Its twin is `penstock.client.aio.io`; this module alone of its package is written by hand.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

Sleep = Callable[[float], None]

INTERRUPTS: Final = (KeyboardInterrupt,)
"""What ends a wait from outside."""

LOSES_REFUSALS: Final = False
"""Whether an answer can be lost that comes before all of a body was sent."""


def pause(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function returns that reads or writes files."""
    return function(*args, **kwargs)


def flow(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return what is read from a file."""
    return pieces


class Awaited:
    """A handle; here nobody awaits it."""
