"""A local directory whose files are either whole and durable, or absent.

Bytes are written to `incoming/` and renamed into `jobs/<id>/` after an fsync; then the directories
are synced too, because a rename that only the page cache knows is undone by a power cut. What a
crash leaves behind is therefore always in `incoming/` (removed at the next start) or a job folder
without a row (removed by `lifecycle/prune`).
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from penstock.blobs.part import Part
from penstock.blobs.room import DiskUse
from penstock.directory import make_directory, sync_directory
from penstock.errors import BlobMissing
from penstock.fault import fault

INPUT: Final = "input.jsonl"
INPUT_INDEX: Final = "input.idx"
OUTPUT: Final = "output.jsonl"
"""The output of a job whose row names none; each run that collects takes a name of its own."""


class Spool:
    """The directory; every method blocks, so the event loop calls them in a thread.

    Only one that `is_counted` knows how much it stores: looking through all jobs takes a while.
    """

    def __init__(self, root: Path, *, is_counted: bool = False) -> None:
        self._incoming = root / "incoming"
        self._jobs = root / "jobs"
        for folder in (root, self._incoming, self._jobs):
            make_directory(folder)
        # Resumable uploads lie beside this spool's own files (`blobs/partial`).
        self._unfinished = (self._incoming, root / "uploads")
        self._is_counted = is_counted
        self._counting = threading.Lock()
        self._jobs_bytes = _size(self._jobs) if is_counted else 0

    def clear_incoming(self) -> int:
        """Remove what an earlier process left half written; return how many files."""
        left = list(self._incoming.iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def measure(self) -> DiskUse:
        """Return the use of the disk; `stored_bytes` is 0 for a spool that is not counted."""
        disk = shutil.disk_usage(self._incoming)
        stored = 0
        if self._is_counted:
            unfinished = sum(_size(folder, has_shares=True) for folder in self._unfinished)
            stored = self._jobs_bytes + unfinished
        return DiskUse(total_bytes=disk.total, free_bytes=disk.free, stored_bytes=stored)

    def begin(self, job_id: str, name: str) -> Part:
        """Begin a file of a job; of several that work on the same one, each has its own."""
        return Part(self._incoming / f"{job_id}.{token_hex(4)}.{name}.part")

    def commit(self, job_id: str, parts: dict[str, Part]) -> None:
        """Make parts durable under their names; all are on disk when this returns."""
        folder = self._jobs / job_id
        for part in parts.values():
            part.sync()
        fault("accept.synced" if INPUT in parts else "collect.synced")
        folder.mkdir(exist_ok=True)
        before = self._counted(folder)
        for name, part in parts.items():
            part.path.rename(folder / name)
        fault("accept.renamed" if INPUT in parts else "collect.renamed")
        self._count(self._counted(folder) - before)
        for directory in (folder, self._jobs, self._incoming):
            sync_directory(directory)

    def path(self, job_id: str, name: str) -> Path:
        """Return the path of a committed file; raise `BlobMissing` if it is not there."""
        path = self._jobs / job_id / name
        if not path.is_file():
            raise BlobMissing(f"The file {name} of {job_id} is missing from the data directory.")
        return path

    def scratch(self, job_id: str, name: str) -> Path:
        """Return a new path for a working file, which is removed at the next start."""
        return self._incoming / f"{job_id}.{token_hex(4)}.{name}.scratch"

    def remove_job(self, job_id: str) -> None:
        """Remove all files of a job."""
        folder = self._jobs / job_id
        before = self._counted(folder)
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        self._count(-before)
        sync_directory(self._jobs)

    def remove(self, job_id: str, name: str) -> None:
        """Remove one file of a job; nothing happens if it is gone already."""
        folder = self._jobs / job_id
        before = self._counted(folder)
        try:
            (folder / name).unlink()
        except FileNotFoundError:
            return
        self._count(self._counted(folder) - before)
        sync_directory(folder)

    def files(self, job_id: str) -> dict[str, float]:
        """Return the files of a job and when each of them was last written."""
        with os.scandir(self._jobs / job_id) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries}

    def job_ids(self) -> Iterator[str]:
        """Yield the ids of all jobs that have a folder."""
        for entry in os.scandir(self._jobs):
            yield entry.name

    def _counted(self, folder: Path) -> int:
        return _size(folder) if self._is_counted else 0

    def _count(self, more_bytes: int) -> None:
        # Uploads and collects commit in threads of their own.
        with self._counting:
            self._jobs_bytes += more_bytes


def _size(folder: Path, *, has_shares: bool = False) -> int:
    """Return the bytes of all files below a folder; those that vanish meanwhile have none.

    With shares, a file that has more names counts for its part by each: a stored upload is on its
    way to be a job's input, too.
    """
    total = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found = (Path(path) / name).stat()
                total += found.st_size // (found.st_nlink if has_shares else 1)
    return total
