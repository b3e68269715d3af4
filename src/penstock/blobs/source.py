"""Inputs that lie elsewhere: `gs://` by our own access to Cloud Storage, `https://` by none.

A source gives bytes and a length, no more. What they mean is checked as if they had been sent.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from penstock.blobs.bucket import Bucket, Pinned
from penstock.blobs.fetch import RETRY_SECONDS, Source, Web
from penstock.blobs.source_uri import AllowList, parse
from penstock.core.uri import SourceUri
from penstock.errors import (
    BlobCorrupt,
    BlobMissing,
    PenstockError,
    ProviderError,
    ProviderRefused,
    SourceRefused,
    SourceUnavailable,
)

_ROLE_HINT: Final = "Give Penstock's account roles/storage.objectViewer on the bucket."


class Sources:
    """Opens what the operator allows."""

    def __init__(self, allowed: AllowList, bucket: Callable[[str], Bucket], web: Web) -> None:
        self._allowed = allowed
        self._web = web
        # Only buckets of the list are ever asked for, so there are few.
        self._buckets = {
            entry.host: bucket(entry.host) for entry in allowed.entries if entry.scheme == "gs"
        }

    @asynccontextmanager
    async def open(self, text: str) -> AsyncIterator[Source]:
        """Open an address.

        Raises `InvalidRequest` for a bad one, `Forbidden` for one that is not allowed,
        `SourceRefused` or `SourceUnavailable` for one that does not give its bytes.
        """
        uri = parse(text)
        self._allowed.check(uri)
        if uri.scheme == "gs":
            async with self._open_object(uri) as source:
                yield source
        else:
            async with self._web.open(uri) as source:
                yield source

    @asynccontextmanager
    async def _open_object(self, uri: SourceUri) -> AsyncIterator[Source]:
        bucket, name = self._buckets[uri.host], uri.path[1:]
        if not name or name.endswith("/"):
            raise SourceRefused(f"{uri.shown} is a folder.", hint="Name one object in it.")
        try:
            pinned = await bucket.pin(name)
        except (ProviderError, BlobMissing) as error:
            raise _translated(uri, error) from error
        if pinned.content_encoding is not None:
            raise SourceRefused(
                f"{uri.shown} has the Content-Encoding {pinned.content_encoding[:40]!r}, for which "
                "Cloud Storage may decode it on the way, and its checksum no longer fits.",
                code="source_encoded",
                hint="Store it without Content-Encoding; a name with .gz or .zst says it as well.",
            )
        async with aclosing(_read(bucket, pinned, uri)) as chunks:
            yield Source(
                shown=uri.shown, chunks=chunks, content_length=pinned.stat.size, encoding=None
            )


async def _read(bucket: Bucket, pinned: Pinned, uri: SourceUri) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(bucket.read(pinned.stat.name, pinned)) as blocks:
            async for block in blocks:
                yield block
    except BlobMissing as error:
        raise _unavailable(uri, "it was replaced or removed meanwhile.") from error
    except (ProviderError, BlobCorrupt) as error:
        raise _translated(uri, error) from error


def _translated(uri: SourceUri, error: PenstockError) -> PenstockError:
    """Return the error in the terms of the caller, who chose the address."""
    if isinstance(error, BlobMissing):
        return SourceRefused(f"{uri.shown} does not exist.", hint="Check the address.")
    if isinstance(error, ProviderRefused):
        return SourceRefused(
            f"Penstock's account may not read {uri.shown}.", code="source_denied", hint=_ROLE_HINT
        )
    return _unavailable(uri, error.message)


def _unavailable(uri: SourceUri, what: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"The input could not be read from {uri.shown}: {what}",
        hint="Nothing is stored; try again.",
        retry_after_seconds=RETRY_SECONDS,
    )
