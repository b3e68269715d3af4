"""Where accepted inputs, their indexes and outputs live: the one seam in front of all places.

A job has a folder of a few files; a file is whole and durable under its name, or absent. What is on
its way is a `Part` of the process's own spool, whatever the place.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.blobs.part import Part


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one job."""

    job_id: str
    files: dict[str, float]
    """When each was written, in seconds since the epoch by the clock of the place."""


class Blobs(Protocol):
    """A place for the files of jobs.

    A place that is not this machine's raises `BlobsUnavailable` when it does not do what it should.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other processes use the place, too; then what looks like an orphan may not be."""
        ...

    async def commit(self, job_id: str, parts: dict[str, Part], *, is_again: bool = False) -> None:
        """Make parts durable under their names; all are there, and checked, when this returns.

        Then the parts are gone. If it raises they are still the caller's to discard, and what was
        committed of them is taken back; unless `is_again`, which says that the same names may have
        been committed before and be in use.
        """
        ...

    def local(self, job_id: str, name: str) -> AbstractAsyncContextManager[Path]:
        """Give a file, checked, a path on this machine for as long as the block runs.

        Raises `BlobMissing` or `BlobCorrupt`.
        """
        ...

    async def find(self, job_id: str, name: str, size_bytes: int) -> Path | None:
        """Return the path of a file that lies on this machine; None means `stream` it.

        Raises `BlobMissing` if there is none, `BlobCorrupt` if it has another size.
        """
        ...

    def stream(self, job_id: str, name: str, part: range) -> AsyncGenerator[bytes, None]:
        """Yield these bytes of a file in order; raises `BlobCorrupt` if it ends before they do."""
        ...

    async def pieces(self, job_id: str, name: str, parts: Sequence[range]) -> list[bytes]:
        """Return small parts of a file; one that its end cuts off is shorter.

        Each begins within the file. Raises `BlobMissing` if there is none.
        """
        ...

    async def remove(self, job_id: str, name: str) -> None:
        """Remove one file; nothing happens if it is gone already."""
        ...

    async def remove_job(self, job_id: str) -> None:
        """Remove all files of a job; nothing happens if they are gone already."""
        ...

    def folders(self) -> AsyncIterator[Folder]:
        """Yield all jobs that have files."""
        ...
