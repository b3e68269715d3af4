"""A file from an `https://` address that a caller chose, fetched without being led astray.

How its host is reached is `blobs/egress`. Nothing of ours is sent along, and of an answer that is
no file only the status is told.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx2
import msgspec

from penstock.blobs.addresses import Address, is_public
from penstock.blobs.egress import UNREACHED, Egress, Outgoing, Patience, Resolve, resolve
from penstock.clock import Clock
from penstock.core.limits import Limits
from penstock.core.uri import SourceUri
from penstock.errors import SourceRefused, SourceUnavailable

RETRY_SECONDS: Final = 10
"""After a source that failed."""

_MAY_WORK_LATER: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_HINTS: Final = {
    HTTPStatus.UNAUTHORIZED: "Penstock sends no credentials; use a signed address.",
    HTTPStatus.FORBIDDEN: "Penstock sends no credentials; use a signed address, still valid.",
    HTTPStatus.NOT_FOUND: "Check the address.",
}

_HEADERS: Final = {"User-Agent": "penstock", "Accept": "*/*", "Accept-Encoding": "identity"}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An input that lies elsewhere, opened."""

    shown: str
    """Its address, for messages and records."""

    chunks: AsyncIterator[bytes]
    """Raises `SourceUnavailable` if they break off."""

    content_length: int | None
    encoding: str | None
    """As its server states it, in lower case."""


class Web:
    """Opens addresses whose prefix was allowed already."""

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        tls: ssl.SSLContext,
        resolve: Resolve = resolve,
        is_allowed: Callable[[Address], bool] = is_public,
    ) -> None:
        self._limits = limits
        self._clock = clock
        patience = Patience(
            connect_seconds=limits.source_connect_seconds_max,
            idle_seconds=limits.source_idle_seconds_max,
        )
        self._egress = Egress(tls, patience, resolve, is_allowed)

    @asynccontextmanager
    async def open(self, uri: SourceUri) -> AsyncIterator[Source]:
        """Ask for the file; raises `SourceRefused` or `SourceUnavailable` if none comes."""
        addresses = await self._addresses(uri)
        begun_at = self._clock.now()
        request = Outgoing(method="GET", uri=uri, headers=_HEADERS)
        async with self._answer(request, addresses) as response:
            yield Source(
                shown=uri.shown,
                chunks=self._chunks(response, uri, begun_at),
                content_length=_length(response, uri),
                encoding=_encoding(response),
            )

    async def _addresses(self, uri: SourceUri) -> list[Address]:
        """Resolve the host, once; raises `SourceRefused` if any of its addresses is not public."""
        try:
            # The list names a literal loopback address itself, or it would not have come here.
            addresses = await self._egress.addresses(uri, is_trusted=uri.is_loopback)
        except OSError as error:
            raise _unavailable(uri, str(error)) from error
        if addresses is None:
            # Which address it is would tell about the network that we are in.
            raise SourceRefused(
                f"The host of {uri.shown} has an address that is not on the public internet.",
                code="source_not_public",
                hint="Only public hosts are asked.",
            )
        return addresses

    @asynccontextmanager
    async def _answer(
        self, request: Outgoing, addresses: Sequence[Address]
    ) -> AsyncIterator[httpx2.Response]:
        async with AsyncExitStack() as stack:
            try:
                exchange = self._egress.exchange(request, addresses)
                response = await stack.enter_async_context(exchange)
            except UNREACHED as error:
                raise _unavailable(
                    request.uri, "its server cannot be reached, or shows no valid certificate"
                ) from error
            except httpx2.HTTPError as error:
                raise _unavailable(request.uri, "its server did not answer as HTTP does") from error
            _check_status(response, request.uri)
            yield response

    async def _chunks(
        self, response: httpx2.Response, uri: SourceUri, begun_at: float
    ) -> AsyncIterator[bytes]:
        received_bytes = 0
        try:
            async for chunk in response.aiter_raw():
                received_bytes += len(chunk)
                # The deadline between two chunks is the client's.
                if self._clock.now() - begun_at > self._limits.source_seconds_max:
                    seconds = self._limits.source_seconds_max
                    raise _unavailable(uri, f"it took longer than {seconds:g} seconds")
                yield chunk
        except httpx2.HTTPError as error:
            raise _unavailable(uri, f"it broke off after {received_bytes} bytes") from error


def _check_status(response: httpx2.Response, uri: SourceUri) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    # Our own words: the reason phrase is the other side's text.
    known = status in HTTPStatus.__members__.values()
    said = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _MAY_WORK_LATER:
        raise _unavailable(uri, f"its server answered {said}")
    hint = "Name an address that answers 200 with the file itself; redirects are not followed."
    raise SourceRefused(
        f"The server of {uri.shown} answered {said}.",
        hint=_HINTS.get(HTTPStatus(status), hint) if known else hint,
    )


def _length(response: httpx2.Response, uri: SourceUri) -> int | None:
    """Return the stated length; raises `SourceRefused` if a cut could not be told from the end."""
    length = response.headers.get("content-length")
    if length is not None:
        return int(length)
    if response.headers.get("transfer-encoding", "").lower() != "chunked":
        raise SourceRefused(
            f"The server of {uri.shown} does not say where the file ends.",
            code="source_length_unknown",
            hint="Use a server that sends Content-Length or chunks.",
        )
    return None


def _encoding(response: httpx2.Response) -> str | None:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return None if encoding in ("", "identity") else encoding


def _unavailable(uri: SourceUri, what: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"The input could not be read from {uri.shown}: {what}.",
        hint="Nothing is stored; try again.",
        retry_after_seconds=RETRY_SECONDS,
    )
