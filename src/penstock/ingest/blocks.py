"""Chunks of any size -> blocks of one size.

What a parser or a decompressor is fed decides where it stops and in which order it finds faults.
Fed in blocks counted from the start, it gives the same refusal for any chunks of the network, and
chunks of one byte cost no call each.
"""

from collections.abc import Callable
from typing import Final

BLOCK_BYTES: Final = 65_536
"""The size of every block but the last."""


class Blocks:
    """Takes chunks, gives blocks to `take` from within `feed` and `finish`."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._pieces: list[bytes] = []
        self._bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; every block that they complete is handed on."""
        start = 0
        while self._bytes + len(chunk) - start >= BLOCK_BYTES:
            stop = start + BLOCK_BYTES - self._bytes
            block = b"".join((*self._pieces, chunk[start:stop]))
            self._pieces.clear()
            self._bytes = 0
            self._take(block)
            start = stop
        if start < len(chunk):
            self._pieces.append(chunk[start:])
            self._bytes += len(chunk) - start

    def finish(self) -> None:
        """Hand the rest on, if there is one."""
        if self._pieces:
            self._take(b"".join(self._pieces))
