"""The provider's bucket: Cloud Storage by obstore, with the checksums that obstore does not check.

obstore speaks the XML API in constant memory, but returns corrupted bytes silently
(reference/wire.md 5). So we compute CRC32C of everything that passes and compare it with what
Cloud Storage states for the object, read by one small JSON call.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgspec
import obstore.store

from penstock.blobs.objects import REQUEST_TIMEOUT, RETRY, Objects, Sum, Summer
from penstock.clock import Clock
from penstock.errors import (
    BlobCorrupt,
    BlobMissing,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
)

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

        def opened() -> "obstore.store.GCSStore":
            # `skip_signature` would only cover reads and send writes to the metadata server.
            return obstore.store.GCSStore(
                bucket,
                config={"base_url": self._url},
                client_options={
                    "allow_http": self._url.startswith("http://"),
                    "timeout": REQUEST_TIMEOUT,
                },
                retry_config=RETRY,
                credential_provider=credential,  # type: ignore[arg-type]  # obstore wants a TypedDict
            )

        self.objects = Objects(opened, "Cloud Storage", f"gs://{bucket}", self._renew)

    def uri(self, name: str) -> str:
        """Return the `gs://` address of an object or prefix."""
        return self.objects.uri(name)

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stat:
        """Upload in constant memory and compare the CRC32C with the stored object's."""
        return await self.confirm(name, await self.objects.put(name, blocks))

    async def confirm(self, name: str, sent: Sum) -> Stat:
        """Compare the stored object with what was sent to it."""
        stat = await self.stat(name)
        if stat.size != sent.size or stat.crc32c != sent.crc32c:
            raise BlobCorrupt(
                f"{self.uri(name)} holds {stat.size} bytes with CRC32C {stat.crc32c}, "
                f"but {sent.size} bytes with {sent.crc32c} were sent."
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
        async for batch in self.objects.entries(prefix):
            names.extend(one.name for one in batch)
        return sorted(names)

    async def read(self, name: str, pinned: Pinned | None = None) -> AsyncGenerator[bytes, None]:
        """Yield an object's bytes; raise `BlobCorrupt` at the end if their CRC32C is wrong.

        A pinned object is read as it was then, or not at all.
        """
        stat = await self.stat(name) if pinned is None else pinned.stat
        version = None if pinned is None else pinned.generation
        summer = Summer()
        async with aclosing(self.objects.read(name, version=version)) as blocks:
            async for block in blocks:
                summer.add(block)
                yield block
        found = summer.sum
        if found.size != stat.size or (stat.crc32c is not None and stat.crc32c != found.crc32c):
            raise BlobCorrupt(
                f"{self.uri(name)} came as {found.size} bytes with CRC32C {found.crc32c}, "
                f"but Cloud Storage states {stat.size} bytes with {stat.crc32c}."
            )

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the bucket."""
        await self.objects.copy(source, target)

    async def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is fine."""
        await self.objects.delete(name)

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
