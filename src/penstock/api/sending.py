"""An output as the body of an answer: whole, in part, or compressed on the way.

Plain bytes go by `sendfile` where the server offers it (`api/zero_copy`), else read in a thread and
written. zstd is made while it is sent, a block at a time in a thread of its own, at the level that
is faster than most networks. gzip is not offered: it costs ten times the CPU of zstd for no smaller
a file, and the plain bytes are right for everybody who cannot read zstd. What lies in object
storage passes through here block by block, under the same headers.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, contextmanager
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock.api.zero_copy import EXTENSION
from penstock.core.limits import Limits
from penstock.core.share import share_of
from penstock.errors import BlobCorrupt, BlobMissing, Unavailable

if sys.version_info >= (3, 14):  # pragma: no cover  # one Python sees one of the two
    from compression import zstd
else:
    from backports import zstd

READ_BYTES: Final = 256 * 1024
"""One read where `sendfile` is not offered; a client that does not read holds two of them."""

BLOCK_BYTES: Final = 1024 * 1024
"""What is compressed in one turn of a thread."""

ZSTD_LEVEL: Final = 1
THREADS: Final = 2
"""Read and compress; more would take the cores from the API and send no faster."""

Stream = Callable[[range], AsyncGenerator[bytes, None]]
"""Yields these bytes of a file that lies elsewhere, a megabyte at a time."""

NICENESS: Final = 10
RETRY_AFTER_SECONDS: Final = 10


class Slots:
    """How many downloads run; all of it happens on the event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._org_max = share_of(
            limits.downloads_concurrency_max, limits.downloads_concurrency_tenant_max
        )
        self._taken_by: Counter[str] = Counter()
        self.compressing = 0

    @property
    def taken(self) -> int:
        """How many run now."""
        return self._taken_by.total()

    @property
    def may_compress(self) -> bool:
        """Whether another download may be compressed; one that may not is sent as it is."""
        return self.compressing < self._limits.downloads_compressed_max

    @contextmanager
    def take(self, org_id: str, *, is_compressed: bool) -> Iterator[None]:
        """Hold a slot; raises `Unavailable` when all, or all for this organisation, are taken."""
        if self.taken >= self._limits.downloads_concurrency_max:
            raise _too_many(self.taken, "are", "downloads_concurrency_max")
        own = self._taken_by[org_id]
        if own >= self._org_max:
            raise _too_many(own, "of one organisation are", "downloads_concurrency_tenant_max")
        self._taken_by[org_id] += 1
        self.compressing += is_compressed
        try:
            yield
        finally:
            self._taken_by[org_id] -= 1
            if not self._taken_by[org_id]:
                del self._taken_by[org_id]
            self.compressing -= is_compressed

    @contextmanager
    def take_to_make(self, org_id: str) -> Iterator[None]:
        """Hold a slot for an output that is made while it is sent and cannot be sent otherwise."""
        if not self.may_compress:
            raise _too_many(self.compressing, "made on the way are", "downloads_compressed_max")
        with self.take(org_id, is_compressed=True):
            yield


def _too_many(count: int, which: str, limit: str) -> Unavailable:
    return Unavailable(
        f"{count} downloads {which} running (limit {limit}).",
        code="too_many_downloads",
        hint="Try again when some of them have ended.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


class Slot(Protocol):
    """Where a download takes its slot."""

    def __call__(self, *, is_compressed: bool) -> AbstractContextManager[None]:
        """Hold it."""
        ...


class OutputBody(Response):
    """The answer with the bytes; they are read while they are sent, and never held.

    The file is as long as the headers say, or the connection is cut: an answer that ends in order
    is whole.
    """

    def __init__(
        self,
        source: Path | Stream,
        size: int,
        part: range | None,
        headers: dict[str, str],
        slot: Slot,
        pool: ThreadPoolExecutor,
    ) -> None:
        # Not Response's own beginning, which would state the length of a body that is not there.
        self.status_code = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
        self.background = None
        self._source = source
        self._size = size
        self._part = range(size) if part is None else part
        self._is_compressed = "Content-Encoding" in headers
        if not self._is_compressed:
            headers["Content-Length"] = str(len(self._part))
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        self.init_headers(headers)
        self._slot = slot
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        with self._slot(is_compressed=self._is_compressed):
            if not isinstance(self._source, Path):
                await self._begin(send)
                await send_pieces(self._streamed(self._source), receive, send)
                return
            # A file object, so that a cancelled wait leaves no descriptor open.
            file = await asyncio.to_thread(open_whole, self._source, self._size)
            with file:
                await self._begin(send)
                if not self._is_compressed and EXTENSION in scope.get("extensions", {}):
                    where = {"offset": self._part.start, "count": len(self._part)}
                    await send({"type": EXTENSION, "file": file.fileno(), **where})
                else:
                    await send_pieces(self._pieces(file.fileno()), receive, send)

    async def _begin(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})

    async def _pieces(self, file: int) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        packer = Packer(self._size) if self._is_compressed else None
        step = READ_BYTES if packer is None else BLOCK_BYTES
        for offset in range(self._part.start, self._part.stop, step):
            count = min(step, self._part.stop - offset)
            if packer is None:
                yield await loop.run_in_executor(self._pool, _read, file, count, offset)
            else:
                yield await loop.run_in_executor(self._pool, packer.pack, file, count, offset)

    async def _streamed(self, stream: Stream) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        packer = Packer(self._size) if self._is_compressed else None
        async with aclosing(stream(self._part)) as blocks:
            async for block in blocks:
                if packer is None:
                    yield block
                else:
                    yield await loop.run_in_executor(self._pool, packer.squeeze, block)


async def send_pieces(sent: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send a body piece by piece, until the client goes away."""
    # A server drops what is sent to nobody, so the whole file would be read for nothing.
    watch = asyncio.create_task(_disconnect(receive))
    try:
        async with aclosing(sent) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if watch.done():
                    return
        await send({"type": "http.response.body", "body": b""})
    finally:
        watch.cancel()


class Packer:
    """Makes one zstd frame of a file; it states its size and ends with a checksum."""

    def __init__(self, size: int) -> None:
        names = zstd.CompressionParameter
        options: dict[int, int] = {names.compression_level: ZSTD_LEVEL, names.checksum_flag: 1}
        self._frame = zstd.ZstdCompressor(options=options)
        self._frame.set_pledged_input_size(size)
        self._left = size

    def pack(self, file: int, count: int, offset: int) -> bytes:
        """Return what comes of the next bytes of a file; it may be nothing yet."""
        return self.squeeze(_read(file, count, offset))

    def squeeze(self, data: bytes) -> bytes:
        """Return what comes of these bytes."""
        self._left -= len(data)
        if self._left:
            return self._frame.compress(data)
        return self._frame.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def _read(file: int, count: int, offset: int) -> bytes:
    data = os.pread(file, count, offset)
    if len(data) < count:
        raise BlobCorrupt(
            f"A file that is being downloaded ended at byte {offset + len(data)}, too early."
        )
    return data


def open_whole(path: Path, size: int) -> FileIO:
    """Open a file; raise `BlobMissing`, or `BlobCorrupt` unless it has this size."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise BlobMissing(f"The file of a download is gone: {path.name}.") from error
    found = os.fstat(file.fileno()).st_size
    if found != size:
        file.close()
        raise BlobCorrupt(f"{path.name} has {found} bytes; {size} were recorded.")
    return file


async def _disconnect(receive: Receive) -> None:
    """Return when the client has gone; a body that nobody asked for is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass
