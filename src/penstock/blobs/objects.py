"""Objects of one bucket through obstore: constant memory, bounded retries, and a CRC32C of our own.

obstore checks no bytes that it reads (reference/wire.md 5), so everything that passes here is
counted and summed; who calls compares that with what is known of the object.
"""

import base64
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import google_crc32c
import msgspec
import obstore
import obstore.exceptions

from penstock.blobs.deliveries import finish_at_exit
from penstock.errors import BlobMissing, ProviderUnreachable

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, RetryConfig, S3Store

    AnyStore = GCSStore | S3Store | AzureStore

PART_BYTES: Final = 8 * 1024 * 1024
"""One part of a multipart upload; the services want at least 5 MiB and at most 10,000 parts."""

UPLOAD_CONCURRENCY: Final = 2
"""Parts in flight. Two were as fast as twelve and cost 18 MiB instead of 98 (wire.md 5)."""

READ_BYTES: Final = 1024 * 1024

CRC32C: Final = "crc32c"
"""The name under which an object carries our own checksum, where the service states none."""

RETRY: Final["RetryConfig"] = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
"""The lifecycle tries again by itself and shows why; long retries below it would hide that."""

REQUEST_TIMEOUT: Final = "10 minutes"
"""A total deadline per request, which obstore sets to 30 seconds; it resumes reads by itself."""


class Sum(msgspec.Struct, frozen=True):
    """How many bytes there were, and their CRC32C in base64."""

    size: int
    crc32c: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a list."""

    name: str
    modified_at: float


class Summer:
    """Sums bytes up as they pass."""

    def __init__(self) -> None:
        self._checksum = google_crc32c.Checksum()
        self._size = 0

    def add(self, block: bytes) -> None:
        """Take the next bytes."""
        self._checksum.update(block)
        self._size += len(block)

    @property
    def sum(self) -> Sum:
        """What passed so far."""
        return Sum(self._size, base64.b64encode(self._checksum.digest()).decode())


async def _nothing() -> None:
    """Renew nothing: obstore's own chains of credentials do that themselves."""


class Objects:
    """One bucket; every error is `ProviderUnreachable` or `BlobMissing`."""

    def __init__(
        self,
        open_store: Callable[[], "AnyStore"],
        service: str,
        root: str,
        renew: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`open_store` is called once, at the first use, because only then its library is loaded.

        `service` and `root` (`gs://bucket`) are for messages; `renew` runs before each call.
        """
        self._open_store = open_store
        self._service = service
        self._root = root
        self._renew = renew

    @cached_property
    def _store(self) -> "AnyStore":
        finish_at_exit()
        return self._open_store()

    def uri(self, name: str) -> str:
        """Return the address of an object or prefix."""
        return f"{self._root}/{name}"

    async def put(
        self, name: str, blocks: AsyncIterator[bytes], attributes: Mapping[str, str] | None = None
    ) -> Sum:
        """Upload in constant memory and return what was sent; nobody has compared it yet.

        What fails in the middle leaves no object.
        """
        summer = Summer()
        await self._renew()
        try:
            async with obstore.open_writer_async(
                self._store,
                name,
                attributes=cast(Any, attributes),
                buffer_size=PART_BYTES,
                max_concurrency=UPLOAD_CONCURRENCY,
            ) as writer:
                async for block in blocks:
                    await self._renew()
                    summer.add(block)
                    await writer.write(block)
        except (obstore.exceptions.BaseError, OSError) as error:
            # Closing obstore's writer raises bare OSErrors for whatever the service answered. Those
            # of this machine, from reading the blocks, have an errno and are another matter.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._unreachable(error, f"write {self.uri(name)}") from error
        return summer.sum

    # obstore raises Python's own FileNotFoundError for a missing object, not its NotFoundError.
    async def size(self, name: str) -> int:
        """Return how many bytes an object has."""
        await self._renew()
        try:
            return (await obstore.head_async(self._store, name))["size"]
        except FileNotFoundError as error:
            raise self._missing(name) from error
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"look at {self.uri(name)}") from error

    async def read(
        self,
        name: str,
        *,
        version: str | None = None,
        part: range | None = None,
        told: dict[str, str] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield an object's bytes, or a part of them; its attributes are put into `told`."""
        options: dict[str, Any] = {} if version is None else {"version": version}
        if part is not None:
            options["range"] = (part.start, part.stop)
        await self._renew()
        try:
            answer = await obstore.get_async(
                self._store, name, options=cast(Any, options) if options else None
            )
            if told is not None:
                told.update(cast(Any, answer.attributes))
            async for chunk in answer.stream(min_chunk_size=READ_BYTES):
                await self._renew()
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise self._missing(name) from error
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"read {self.uri(name)}") from error

    async def pieces(self, name: str, parts: Sequence[range]) -> list[bytes]:
        """Return parts of an object, fetched at the same time."""
        if not parts:
            return []
        await self._renew()
        try:
            found = await obstore.get_ranges_async(
                self._store,
                name,
                starts=[part.start for part in parts],
                ends=[part.stop for part in parts],
            )
        except FileNotFoundError as error:
            raise self._missing(name) from error
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"read {self.uri(name)}") from error
        return [bytes(piece) for piece in found]

    async def entries(self, prefix: str) -> AsyncIterator[list[Entry]]:
        """Yield what lies below a prefix, some at a time, in the order of the names."""
        await self._renew()
        try:
            async for batch in obstore.list(self._store, prefix=prefix):
                await self._renew()
                yield [
                    Entry(name=one["path"], modified_at=_seconds(one["last_modified"]))
                    for one in batch
                ]
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"list {self.uri(prefix)}") from error

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket."""
        await self._renew()
        try:
            await obstore.copy_async(self._store, source, target)
        except FileNotFoundError as error:
            raise self._missing(source) from error
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"copy {self.uri(source)}") from error

    async def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        await self._renew()
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except obstore.exceptions.BaseError as error:
            raise self._unreachable(error, f"delete {self.uri(name)}") from error

    def _missing(self, name: str) -> BlobMissing:
        return BlobMissing(f"{self.uri(name)} does not exist.")

    def _unreachable(self, error: Exception, doing: str) -> ProviderUnreachable:
        return ProviderUnreachable(f"{self._service} could not {doing}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return what happened; the rest of obstore's messages can hold the whole answer."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _seconds(stamp: datetime) -> float:
    return stamp.timestamp()
