"""Object storage as the place for the files of jobs, shared by any number of processes.

`<prefix>/jobs/<id>/<name>`, one object a file. An object is put under its name at once and as a
whole, so there is nothing to rename; what is half put has no name.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from penstock.blobs.part import Part
from penstock.blobs.sealed import Sealed
from penstock.blobs.spool import Spool
from penstock.blobs.store import Folder
from penstock.blobs.threads import in_thread
from penstock.errors import BlobCorrupt, BlobsUnavailable, PenstockError, ProviderError

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 10
"""After a failure of the object storage."""

_PLACE_DEPTH: Final = 2
"""`<id>/<name>`; whatever lies deeper is not ours."""


class RemoteBlobs:
    """The jobs' folders below one prefix of a bucket; working copies lie in the spool."""

    def __init__(self, sealed: Sealed, prefix: str, spool: Spool) -> None:
        self._sealed = sealed
        self._root = f"{prefix}/jobs/" if prefix else "jobs/"
        self._spool = spool

    @property
    def is_shared(self) -> bool:
        """Whether other processes use the place, too."""
        return True

    async def commit(self, job_id: str, parts: dict[str, Part], *, is_again: bool = False) -> None:
        """Put the parts; each is compared with what the service has."""
        put: list[str] = []
        try:
            for name, part in parts.items():
                part.close()
                put.append(name)
                with _unavailable():
                    await self._sealed.put(self._name(job_id, name), part.path)
        except BaseException:
            if not is_again:
                await asyncio.shield(self._take_back(job_id, put))
            raise
        await in_thread(partial(_discard, list(parts.values())))

    async def _take_back(self, job_id: str, names: list[str]) -> None:
        """Remove what was just put, if the service lets us; else it is pruned one day."""
        for name in names:
            try:
                await self.remove(job_id, name)
            except PenstockError as error:
                _log.warning("%s of %s stays until it is pruned: %s", name, job_id, error.message)

    @asynccontextmanager
    async def local(self, job_id: str, name: str) -> AsyncIterator[Path]:
        """Fetch the file into scratch, and remove it at the end."""
        part = await in_thread(partial(Part, self._spool.scratch(job_id, name)))
        try:
            with _unavailable(keeps_corrupt=True):
                async with aclosing(self._sealed.read(self._name(job_id, name))) as blocks:
                    async for block in blocks:
                        await in_thread(partial(part.write, block))
            part.close()
            yield part.path
        finally:
            await asyncio.shield(in_thread(partial(_discard, [part])))

    async def find(self, job_id: str, name: str, size_bytes: int) -> Path | None:
        """Look at the object; it has no path here."""
        where = self._name(job_id, name)
        with _unavailable():
            found = await self._sealed.objects.size(where)
        if found != size_bytes:
            raise BlobCorrupt(f"{name} of {job_id} has {found} bytes; {size_bytes} were recorded.")
        return None

    async def stream(self, job_id: str, name: str, part: range) -> AsyncGenerator[bytes, None]:
        """Yield these bytes as they come; what breaks off is resumed, or raises."""
        if not part:
            return
        left = len(part)
        with _unavailable():
            async with aclosing(
                self._sealed.objects.read(self._name(job_id, name), part=part)
            ) as blocks:
                async for block in blocks:
                    left -= len(block)
                    yield block
        if left:
            raise BlobCorrupt(f"{name} of {job_id} ended {left} bytes too early.")

    async def pieces(self, job_id: str, name: str, parts: Sequence[range]) -> list[bytes]:
        """Return parts of an object, those that lie near each other by one request."""
        with _unavailable():
            return await self._sealed.objects.pieces(self._name(job_id, name), parts)

    async def remove(self, job_id: str, name: str) -> None:
        """Remove one object."""
        with _unavailable():
            await self._sealed.objects.delete(self._name(job_id, name))

    async def remove_job(self, job_id: str) -> None:
        """Remove the job's objects."""
        with _unavailable():
            async for batch in self._sealed.objects.entries(f"{self._root}{job_id}/"):
                for entry in batch:
                    if self._place(entry.name) is not None:
                        await self._sealed.objects.delete(entry.name)

    async def folders(self) -> AsyncIterator[Folder]:
        """Yield all jobs that have objects; a list is in the order of the names."""
        job_id, files = "", dict[str, float]()
        with _unavailable():
            async for batch in self._sealed.objects.entries(self._root):
                for entry in batch:
                    place = self._place(entry.name)
                    if place is None:
                        continue
                    if place[0] != job_id:
                        if files:
                            yield Folder(job_id=job_id, files=files)
                        job_id, files = place[0], {}
                    files[place[1]] = entry.modified_at
        if files:
            yield Folder(job_id=job_id, files=files)

    def _name(self, job_id: str, name: str) -> str:
        return f"{self._root}{job_id}/{name}"

    def _place(self, name: str) -> tuple[str, str] | None:
        """Return job and file of an object's name, or None for one that is not ours."""
        words = name.removeprefix(self._root).split("/")
        return (words[0], words[1]) if len(words) == _PLACE_DEPTH else None


def _discard(parts: list[Part]) -> None:
    for part in parts:
        part.discard()


@contextmanager
def _unavailable(*, keeps_corrupt: bool = False) -> Iterator[None]:
    """Say for both halves of the program that the storage failed and may work later.

    What differs after a put is a failed put, while what differs at a read is a corrupt file.
    """
    kinds = (ProviderError,) if keeps_corrupt else (ProviderError, BlobCorrupt)
    try:
        yield
    except kinds as error:
        raise BlobsUnavailable(
            f"The object storage failed: {error.message}",
            hint="Try again in a moment.",
            retry_after_seconds=RETRY_SECONDS,
        ) from error
