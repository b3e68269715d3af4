"""Objects that are compared with what was sent: once they are written, and whenever read whole.

How a service says that it has the right bytes differs (docs/decisions/0015):

| | after a put | at a read |
|---|---|---|
| Cloud Storage | size and CRC32C that it states | the same |
| S3 | parts carry their SHA-256, which S3 checks as it stores them; size | our CRC32C |
| Azure | read back | our CRC32C |

Our CRC32C is metadata of the object, made from the file before it is sent.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from penstock.blobs.bucket import Bucket
from penstock.blobs.objects import CRC32C, READ_BYTES, Objects, Sum, Summer
from penstock.blobs.threads import in_thread
from penstock.errors import BlobCorrupt

SUM_BYTES: Final = 1024 * 1024
"""What is read at a time to be summed; larger blocks leave the processor's cache."""


class Sealed(Protocol):
    """Objects that are known to be whole."""

    @property
    def objects(self) -> Objects:
        """The same objects, without any check."""
        ...

    async def put(self, name: str, path: Path) -> None:
        """Store a file; raises `BlobCorrupt` if the object differs from it."""
        ...

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all bytes of an object; raises `BlobCorrupt` at the end if they are not right."""
        ...


class SealedByService:
    """Cloud Storage, which states a CRC32C of every object."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    @property
    def objects(self) -> Objects:
        """The same objects, without any check."""
        return self._bucket.objects

    async def put(self, name: str, path: Path) -> None:
        """Store a file."""
        await self._bucket.put(name, blocks_of(path))

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all bytes of an object."""
        return self._bucket.read(name)


class SealedByUs:
    """A service that states no checksum that obstore passes on: objects carry ours."""

    def __init__(self, objects: Objects, *, reads_back: bool) -> None:
        """Read back what was put where the service does not check it by itself."""
        self._objects = objects
        self._reads_back = reads_back

    @property
    def objects(self) -> Objects:
        """The same objects, without any check."""
        return self._objects

    async def put(self, name: str, path: Path) -> None:
        """Store a file."""
        expected = await in_thread(partial(sum_of, path))
        seal = {CRC32C: expected.crc32c}
        sent = await self._objects.put(name, blocks_of(path), attributes=seal)
        if sent != expected:
            raise BlobCorrupt(f"{path.name} changed while it was sent.")
        size = await self._objects.size(name)
        if size != sent.size:
            raise BlobCorrupt(
                f"{self._objects.uri(name)} holds {size} bytes, but {sent.size} were sent."
            )
        if self._reads_back:
            async with aclosing(self.read(name)) as blocks:
                async for _ in blocks:
                    pass

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield all bytes of an object."""
        told: dict[str, str] = {}
        summer = Summer()
        async with aclosing(self._objects.read(name, told=told)) as blocks:
            async for block in blocks:
                summer.add(block)
                yield block
        found = summer.sum.crc32c
        if told.get(CRC32C) != found:
            raise BlobCorrupt(
                f"{self._objects.uri(name)} came with CRC32C {found}, "
                f"but {told.get(CRC32C)} was sent."
            )


def sum_of(path: Path) -> Sum:
    """Read a file and return its size and CRC32C."""
    summer = Summer()
    with path.open("rb", buffering=0) as file:
        while block := file.read(SUM_BYTES):
            summer.add(block)
    return summer.sum


async def blocks_of(path: Path) -> AsyncIterator[bytes]:
    """Yield a file in blocks, each read in a thread."""
    file: FileIO = await in_thread(lambda: path.open("rb", buffering=0))
    with file:
        while block := await in_thread(partial(file.read, READ_BYTES)):
            yield block
