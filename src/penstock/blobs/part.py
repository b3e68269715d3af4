"""One file on its way into the spool. Imported by receiving processes too, so it imports little."""

import os
from pathlib import Path
from typing import IO

from penstock.errors import StorageFull


class Part:
    """A file that is being written and does not exist yet for anybody else."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Begin the file; another process opens it again with `create=False`, if it is still there.

        Raises `FileNotFoundError` when it is not.
        """
        self.path = path
        self._file: IO[bytes] = path.open("wb" if create else "r+b", buffering=0)

    @property
    def size_bytes(self) -> int:
        """How much is written so far, by whichever process."""
        return self.path.stat().st_size

    def write(self, data: bytes) -> None:
        """Append all of `data`; an error of the disk surfaces here, not at the end."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise storage_full(error) from error

    def become(self, path: Path, size_bytes: int) -> bool:
        """Be another name of a file that has these durable bytes, so that nobody copies them.

        False if it has others, or where the file system gives no file two names; then nothing has
        changed. The file must not be written again by whoever knows its first name.
        """
        link = self.path.with_suffix(".link")
        try:
            if path.stat().st_size != size_bytes:
                return False
            os.link(path, link)
        except OSError:
            return False
        # It is as young as if it had been written now: an orphan's age is told by this.
        os.utime(link)
        link.rename(self.path)
        self._file.close()
        self._file = self.path.open("r+b", buffering=0)
        return True

    def flush(self) -> None:
        """Have the disk hold what is written so far."""
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise storage_full(error) from error

    def sync(self) -> None:
        """Make the bytes durable and close the file."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_full(error) from error
        finally:
            self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def discard(self) -> None:
        """Remove the file; nothing happens if it is gone already."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def storage_full(error: OSError) -> StorageFull:
    """Return our error for one of the disk."""
    return StorageFull(
        f"The server could not write: {error.strerror}.",
        hint="Nothing was stored. Try again later, or tell the operator to make room.",
        retry_after_seconds=60,
    )
