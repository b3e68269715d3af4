"""Parts of an upload that are written where they will stand in the object.

Who uploads in parts mostly sends parts of one size, several at a time, the last one shorter. The
first that comes says the size; each of that size is written to its place in one file, which becomes
the object. So nothing is copied when the upload is completed. A part of another size, or one that
comes again, is a file of its own and is copied then.
"""

import os
from pathlib import Path
from typing import Final, Self

from penstock.emulator.objects import Account

BYTES_MAX: Final = 1 << 40
"""A part whose number would make the file longer is a file of its own."""


class Slot:
    """The place of one part. A context manager; what it holds counts once somebody says so."""

    def __init__(self, path: Path, offset: int) -> None:
        self.account = Account()
        self._offset = offset
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._file)

    def write(self, chunk: bytes) -> None:
        """Write the next bytes; blocks for the disk."""
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self._file, view, self._offset)
            self._offset += written
            view = view[written:]
        self.account.add(chunk)
