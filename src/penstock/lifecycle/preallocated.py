"""A large file that grows from several places: its blocks are asked for ahead of what is written.

The file system finds room for much at once and not for each write, which takes two thirds of the
time (docs/decisions/0013); and processes that write to one file at a time wait for each other
less. Ahead means that the file is longer than what it holds until it is cut at the end.
"""

import logging
import os
from collections.abc import Callable
from typing import Final

_log = logging.getLogger(__name__)

AHEAD_BYTES: Final = 64 * 1024 * 1024
"""So much is asked for at once; more would be a promise that other files are denied for it."""

Allocate = Callable[[int, int, int], None]
_ALLOCATE: Final[Allocate | None] = getattr(os, "posix_fallocate", None)
"""Which not every system has."""


class Preallocated:
    """The blocks of one file."""

    def __init__(self, descriptor: int, allocate: Allocate | None = _ALLOCATE) -> None:
        """Take the descriptor of a file that is empty, and is written by whoever has it."""
        self._descriptor = descriptor
        self._allocate = allocate
        self._size = 0
        """So much of the file has its blocks."""

    def cover(self, size: int) -> None:
        """Have blocks for so many bytes from the beginning on, or more.

        A file system that cannot, or has no room, is not an error yet: the write will tell.
        """
        if size <= self._size or self._allocate is None:
            return
        wanted = size + AHEAD_BYTES - self._size
        try:
            self._allocate(self._descriptor, self._size, wanted)
        except OSError as error:
            _log.debug("a file grows with what is written: %s", error.strerror)
            self._allocate = None
        self._size += wanted

    def cut(self, size: int) -> None:
        """Let the file end behind so many bytes."""
        os.ftruncate(self._descriptor, size)
