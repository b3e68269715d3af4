"""What is still needed of rows that were read: the answers of good ones, and doubtful rows whole.

Most of a row repeats what the line says already. What is left of it goes to one file, where each
process that reads takes room for itself; the position of the file, which all of them share, says
what nobody has taken.
"""

import os
from typing import Final

from penstock.lifecycle.disk import write_at

ROOM_BYTES: Final = 8 * 1024 * 1024
"""So much is taken at once; what is left of it at the end is a gap in the file, and no disk."""


class Kept:
    """The part of the file that belongs to one process."""

    def __init__(self, descriptor: int) -> None:
        """Take a file that was empty; all who write it have its position in common."""
        self._descriptor = descriptor
        self._at = self._end = 0

    def room(self, size: int) -> int:
        """Return where the next bytes will stand, which are at most so many."""
        if self._end - self._at < size:
            taken = max(size, ROOM_BYTES)
            self._end = os.lseek(self._descriptor, taken, os.SEEK_CUR)
            self._at = self._end - taken
        return self._at

    def put(self, data: bytes) -> None:
        """Write the next bytes; raise `StorageFull` if the disk does not take them."""
        self._at += write_at(self._descriptor, data, self._at)
