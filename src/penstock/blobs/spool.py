"""A local directory whose files are either whole and durable, or absent.

Bytes are written to `incoming/` and renamed into `jobs/<id>/` after an fsync; then the directories
are synced too, because a rename that only the page cache knows is undone by a power cut. What a
crash leaves behind is therefore always in `incoming/` (removed at the next start) or a job folder
without a row (removed by `lifecycle/prune`).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from penstock.errors import BlobMissing, StorageFull

INPUT: Final = "input.jsonl"
INPUT_INDEX: Final = "input.idx"
OUTPUT: Final = "output.jsonl"

FREE_BYTES_MIN: Final = 256 * 1024 * 1024
"""Below this an upload is not begun: the database needs room to record what already runs."""


class Part:
    """A file that is being written and does not exist yet for anybody else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append all of `data`; an error of the disk surfaces here, not at the end."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _full(error) from error

    def sync(self) -> None:
        """Make the bytes durable and close the file."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _full(error) from error
        finally:
            self._file.close()

    def discard(self) -> None:
        """Remove the file; nothing happens if it is gone already."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Spool:
    """The directory; every method blocks, so the event loop calls them in a thread."""

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._jobs = root / "jobs"
        for folder in (root, self._incoming, self._jobs):
            folder.mkdir(parents=True, exist_ok=True)

    def clear_incoming(self) -> int:
        """Remove what an earlier process left half written; return how many files."""
        left = list(self._incoming.iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def check_room(self, bytes_expected: int) -> None:
        """Raise `StorageFull` unless the disk can take `bytes_expected` more."""
        free = shutil.disk_usage(self._incoming).free
        if free < bytes_expected + FREE_BYTES_MIN:
            raise StorageFull(
                f"The server has {free} bytes free and needs {bytes_expected + FREE_BYTES_MIN}.",
                hint="Try again later, or tell the operator to make room.",
                retry_after_seconds=60,
            )

    def begin(self, job_id: str, name: str) -> Part:
        """Begin a file of a job."""
        return Part(self._incoming / f"{job_id}.{name}.part")

    def commit(self, job_id: str, parts: dict[str, Part]) -> None:
        """Make parts durable under their names; all are on disk when this returns."""
        folder = self._jobs / job_id
        for part in parts.values():
            part.sync()
        folder.mkdir(exist_ok=True)
        for name, part in parts.items():
            part.path.rename(folder / name)
        for directory in (folder, self._jobs, self._incoming):
            _sync_directory(directory)

    def path(self, job_id: str, name: str) -> Path:
        """Return the path of a committed file; raise `BlobMissing` if it is not there."""
        path = self._jobs / job_id / name
        if not path.is_file():
            raise BlobMissing(f"The file {name} of {job_id} is missing from the data directory.")
        return path

    def scratch(self, job_id: str, name: str) -> Path:
        """Return a path for working files, which are removed at the next start."""
        return self._incoming / f"{job_id}.{name}.scratch"

    def remove_job(self, job_id: str) -> None:
        """Remove all files of a job."""
        folder = self._jobs / job_id
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        _sync_directory(self._jobs)

    def job_ids(self) -> Iterator[str]:
        """Yield the ids of all jobs that have a folder."""
        for entry in os.scandir(self._jobs):
            yield entry.name


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(error: OSError) -> StorageFull:
    return StorageFull(
        f"The server could not write: {error.strerror}.",
        hint="Nothing was stored. Try again later, or tell the operator to make room.",
        retry_after_seconds=60,
    )
