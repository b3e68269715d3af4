"""The provider's bucket: Cloud Storage by obstore, with the checksums that obstore does not check.

obstore speaks the XML API in constant memory, but returns corrupted bytes silently
(reference/wire.md 5). So we compute CRC32C of everything that passes and compare it with what
Cloud Storage states for the object, read by one small JSON call.
"""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import google_crc32c
import httpx2
import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import GCSStore

from penstock.clock import Clock
from penstock.errors import (
    BlobCorrupt,
    BlobMissing,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
)

PART_BYTES: Final = 8 * 1024 * 1024
"""One part of a multipart upload; Cloud Storage wants at least 5 MiB and at most 10,000 parts."""

UPLOAD_CONCURRENCY: Final = 2
"""Parts in flight. Two were as fast as twelve and cost 18 MiB instead of 98 (wire.md 5)."""

READ_BYTES: Final = 1024 * 1024

TOKEN_KEPT: Final = timedelta(minutes=2)
"""How long obstore keeps a token; Google's live an hour and are renewed minutes before."""

TokenSource = Callable[[], Awaitable[str]]
"""Returns a bearer token that is valid for at least some minutes."""


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """What Cloud Storage says about one object."""

    name: str
    size: int
    crc32c: str | None = None
    """Base64 of four big-endian bytes."""


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """One object as it was at one moment; what replaces it later is another generation."""

    stat: Stat
    generation: str
    content_encoding: str | None


class Bucket:
    """One bucket, all names relative to it."""

    def __init__(
        self,
        bucket: str,
        storage_url: str,
        token: TokenSource,
        http: httpx2.AsyncClient,
        clock: Clock,
    ) -> None:
        self.name = bucket
        self._url = storage_url.rstrip("/")
        self._token = token
        self._http = http
        self._fresh_token = ""

        def credential() -> dict[str, object]:
            # Not a coroutine: obstore's uploads ask from a thread without an event loop. Every
            # operation renews the token first, and obstore asks again after `expires_at`.
            expires_at = datetime.fromtimestamp(clock.now(), UTC) + TOKEN_KEPT
            return {"token": self._fresh_token, "expires_at": expires_at}

        # `skip_signature` would only cover reads and send writes to the metadata server.
        self._store = GCSStore(
            bucket,
            config={"base_url": self._url},
            client_options={
                "allow_http": self._url.startswith("http://"),
                # A total deadline per request; obstore resumes reads by itself after it.
                "timeout": "10 minutes",
            },
            # The lifecycle tries again by itself and shows why; long retries here would hide it.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
            credential_provider=credential,  # type: ignore[arg-type]  # obstore wants a TypedDict
        )

    def uri(self, name: str) -> str:
        """Return the `gs://` address of an object or prefix."""
        return f"gs://{self.name}/{name}"

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stat:
        """Upload in constant memory and compare the CRC32C with the stored object's."""
        checksum = google_crc32c.Checksum()
        size = 0
        await self._renew()
        try:
            async with obstore.open_writer_async(
                self._store, name, buffer_size=PART_BYTES, max_concurrency=UPLOAD_CONCURRENCY
            ) as writer:
                async for block in blocks:
                    await self._renew()
                    checksum.update(block)
                    size += len(block)
                    await writer.write(block)
        except (BaseError, OSError) as error:
            # Closing obstore's writer raises bare OSErrors for whatever the service answered. Those
            # of this machine, from reading the blocks, have an errno and are another matter.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise _unreachable(error, f"write {self.uri(name)}") from error
        stat = await self.stat(name)
        expected = base64.b64encode(checksum.digest()).decode()
        if stat.size != size or stat.crc32c != expected:
            raise BlobCorrupt(
                f"{self.uri(name)} holds {stat.size} bytes with CRC32C {stat.crc32c}, "
                f"but {size} bytes with {expected} were sent."
            )
        return stat

    async def stat(self, name: str) -> Stat:
        """Return size and CRC32C; raise `BlobMissing` if there is no such object."""
        return _stat(await self._describe(name, "name,size,crc32c"))

    async def pin(self, name: str) -> Pinned:
        """Return what identifies the object as it is now; raises what `stat` raises."""
        answer = await self._describe(name, "name,size,crc32c,generation,contentEncoding")
        return Pinned(
            stat=_stat(answer),
            generation=str(answer["generation"]),
            content_encoding=answer.get("contentEncoding") or None,
        )

    async def _describe(self, name: str, fields: str) -> dict[str, Any]:
        url = f"{self._url}/storage/v1/b/{self.name}/o/{quote(name, safe='')}"
        try:
            response = await self._http.get(
                url,
                params={"fields": fields},
                headers={"Authorization": f"Bearer {await self._token()}"},
            )
        except httpx2.HTTPError as error:
            raise ProviderUnreachable(f"Cloud Storage did not answer: {error}.") from error
        if response.status_code == httpx2.codes.NOT_FOUND:
            raise BlobMissing(f"{self.uri(name)} does not exist.")
        if response.status_code != httpx2.codes.OK:
            raise _http_error(response.status_code, f"read {self.uri(name)}")
        answer: dict[str, Any] = response.json()
        return answer

    async def list(self, prefix: str) -> list[str]:
        """Return the names below a prefix, sorted."""
        names: list[str] = []
        await self._renew()
        try:
            async for batch in obstore.list(self._store, prefix=prefix):
                names.extend(entry["path"] for entry in batch)
        except BaseError as error:
            raise _unreachable(error, f"list {self.uri(prefix)}") from error
        return sorted(names)

    # obstore raises Python's own FileNotFoundError for a missing object, not its NotFoundError.
    async def read(self, name: str, pinned: Pinned | None = None) -> AsyncGenerator[bytes, None]:
        """Yield an object's bytes; raise `BlobCorrupt` at the end if their CRC32C is wrong.

        A pinned object is read as it was then, or not at all.
        """
        stat = await self.stat(name) if pinned is None else pinned.stat
        checksum = google_crc32c.Checksum()
        size = 0
        await self._renew()
        try:
            answer = await obstore.get_async(
                self._store,
                name,
                options=None if pinned is None else {"version": pinned.generation},
            )
            async for chunk in answer.stream(min_chunk_size=READ_BYTES):
                await self._renew()
                block = bytes(chunk)
                checksum.update(block)
                size += len(block)
                yield block
        except FileNotFoundError as error:
            raise BlobMissing(f"{self.uri(name)} does not exist.") from error
        except BaseError as error:
            raise _unreachable(error, f"read {self.uri(name)}") from error
        found = base64.b64encode(checksum.digest()).decode()
        if size != stat.size or (stat.crc32c is not None and stat.crc32c != found):
            raise BlobCorrupt(
                f"{self.uri(name)} came as {size} bytes with CRC32C {found}, "
                f"but Cloud Storage states {stat.size} bytes with {stat.crc32c}."
            )

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket."""
        await self._renew()
        try:
            await obstore.copy_async(self._store, source, target)
        except FileNotFoundError as error:
            raise BlobMissing(f"{self.uri(source)} does not exist.") from error
        except BaseError as error:
            raise _unreachable(error, f"copy {self.uri(source)}") from error

    async def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        await self._renew()
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _unreachable(error, f"delete {self.uri(name)}") from error

    async def _renew(self) -> None:
        self._fresh_token = await self._token()


def _stat(answer: dict[str, Any]) -> Stat:
    return Stat(name=answer["name"], size=int(answer["size"]), crc32c=answer.get("crc32c"))


def _http_error(status: int, doing: str) -> ProviderError:
    if status in {401, 403}:
        return ProviderRefused(
            f"Cloud Storage answered {status} to: {doing}.",
            hint="Give Penstock's account roles/storage.objectAdmin on the bucket.",
        )
    return ProviderUnreachable(f"Cloud Storage answered {status} to: {doing}.")


def _unreachable(error: Exception, doing: str) -> ProviderUnreachable:
    # The client's message can hold the whole answer; its first line says what happened.
    first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return ProviderUnreachable(f"Cloud Storage could not {doing}: {first}")
