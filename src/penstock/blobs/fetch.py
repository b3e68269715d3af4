"""A file from an `https://` address that a caller chose, fetched without being led astray.

The name is resolved once, every address that it has must be public, and the connection goes to one
of those addresses, so that a name cannot point elsewhere between the check and the use. Nothing is
followed, nothing of ours is sent along, and of an answer that is no file only the status is told.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx2
import msgspec

from penstock.blobs.addresses import Address, is_public
from penstock.blobs.source_uri import SourceUri
from penstock.clock import Clock
from penstock.core.limits import Limits
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

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name; raises `OSError` if there are none."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An input that lies elsewhere, opened."""

    shown: str
    """Its address, for messages and records."""

    chunks: AsyncIterator[bytes]
    """Raises `SourceUnavailable` if they break off."""

    content_length: int | None
    encoding: str | None
    """As its server states it, in lower case."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]


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
        self._tls = tls
        self._resolve = resolve
        self._is_allowed = is_allowed

    @asynccontextmanager
    async def open(self, uri: SourceUri) -> AsyncIterator[Source]:
        """Ask for the file; raises `SourceRefused` or `SourceUnavailable` if none comes."""
        addresses = await self._addresses(uri)
        begun_at = self._clock.now()
        # A client of its own: pooled connections are known by address, and the next name behind the
        # same address has not shown its certificate.
        async with httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False),
            timeout=httpx2.Timeout(
                self._limits.source_idle_seconds_max,
                connect=self._limits.source_connect_seconds_max,
            ),
            trust_env=False,
            follow_redirects=False,
        ) as client:
            response = await self._ask(client, uri, addresses)
            try:
                yield Source(
                    shown=uri.shown,
                    chunks=self._chunks(response, uri, begun_at),
                    content_length=_length(response, uri),
                    encoding=_encoding(response),
                )
            finally:
                await response.aclose()

    async def _addresses(self, uri: SourceUri) -> list[Address]:
        """Resolve the host, once; raises `SourceRefused` if any of its addresses is not public."""
        literal = uri.literal
        if literal is not None:
            # The list names this address itself, or it would not have come here.
            addresses = [literal]
            if uri.is_loopback:
                return addresses
        else:
            addresses = await self._look_up(uri)
        if not all(self._is_allowed(address) for address in addresses):
            # Which address it is would tell about the network that we are in.
            raise SourceRefused(
                f"The host of {uri.shown} has an address that is not on the public internet.",
                code="source_not_public",
                hint="Only public hosts are asked.",
            )
        return addresses

    async def _look_up(self, uri: SourceUri) -> list[Address]:
        try:
            async with asyncio.timeout(self._limits.source_connect_seconds_max):
                found = await self._resolve(uri.host, uri.port)
        except (OSError, UnicodeError) as error:
            raise _unavailable(uri, "its host is not found") from error
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
        if not addresses:
            raise _unavailable(uri, "its host has no address")
        return addresses

    async def _ask(
        self, client: httpx2.AsyncClient, uri: SourceUri, addresses: Sequence[Address]
    ) -> httpx2.Response:
        headers = {
            "Host": uri.netloc,
            "User-Agent": "penstock",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        raw_path = f"{uri.path}?{uri.query}" if uri.query else uri.path
        failure: httpx2.HTTPError | None = None
        for address in addresses:
            url = httpx2.URL(
                scheme=uri.scheme, host=str(address), port=uri.port, raw_path=raw_path.encode()
            )
            request = httpx2.Request(
                "GET",
                url,
                headers=headers,
                extensions={**_timeout(client), "sni_hostname": uri.host},
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
                continue
            except httpx2.HTTPError as error:
                raise _unavailable(uri, "its server did not answer as HTTP does") from error
            await _check_status(response, uri)
            return response
        raise _unavailable(
            uri, "its server cannot be reached, or shows no valid certificate"
        ) from (failure)

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


async def _check_status(response: httpx2.Response, uri: SourceUri) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    await response.aclose()
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


def _timeout(client: httpx2.AsyncClient) -> dict[str, object]:
    # A request that is built by hand does not take over its client's.
    return {"timeout": client.timeout.as_dict()}


def _unavailable(uri: SourceUri, what: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"The input could not be read from {uri.shown}: {what}.",
        hint="Nothing is stored; try again.",
        retry_after_seconds=RETRY_SECONDS,
    )
