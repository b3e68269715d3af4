"""Cuts what comes from the server into lines, of which one is held."""

from collections.abc import Iterator
from typing import Final

from penstock.client.errors import ClientError

LINE_BYTES_MAX: Final = 256 * 1024 * 1024
"""A line that is longer is no answer that anybody has asked for."""


class Splitter:
    """The beginning of a line whose end has not come yet."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, without their ends."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            if self._held:
                yield bytes(self._held) + piece[start:end]
                self._held.clear()
            else:
                yield piece[start:end]
            start = end + 1
        self._held += piece[start:]
        if len(self._held) > LINE_BYTES_MAX:
            raise ClientError(
                f"a line of the output is longer than {LINE_BYTES_MAX:,} bytes",
                hint="download the output and look at it there",
            )

    def rest(self) -> Iterator[bytes]:
        """Yield what has no end, once nothing more comes."""
        if self._held:
            yield bytes(self._held)
            self._held.clear()
