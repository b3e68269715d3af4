"""The way out to hosts that somebody else named: inputs that are pulled, webhooks that are told.

A name is resolved once, every address that it has must be public, and the connection goes to one of
those addresses, so that a name cannot point elsewhere between the check and the use. Nothing is
followed, and neither proxies nor anything else of the environment is used.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec

from penstock.blobs.addresses import Address, is_public
from penstock.core.uri import SourceUri

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name; raises `OSError` if there are none."""

UNREACHED: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)
"""No connection, or no valid certificate: nothing was sent."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the other side may take."""

    connect_seconds: float
    """To find its addresses, and again to connect to each."""
    idle_seconds: float
    """Without a byte."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request to send."""

    method: str
    uri: SourceUri
    headers: Mapping[str, str]
    """Beside Host."""
    content: bytes = b""
    on_sent: Callable[[], None] | None = None
    """Called when all of it was handed to the network."""


class Egress:
    """Finds hosts and talks to them."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        patience: Patience,
        resolve: Resolve = resolve,
        is_allowed: Callable[[Address], bool] = is_public,
    ) -> None:
        self._tls = tls
        self._patience = patience
        self._resolve = resolve
        self._is_allowed = is_allowed

    async def addresses(self, uri: SourceUri, *, is_trusted: bool = False) -> list[Address] | None:
        """Resolve the host, once; None if any of its addresses is not public.

        A host that is trusted may have any. Raises an `OSError` that says what is wrong.
        """
        literal = uri.literal
        found = [literal] if literal is not None else await self._look_up(uri)
        is_fine = is_trusted or all(self._is_allowed(address) for address in found)
        return found if is_fine else None

    @asynccontextmanager
    async def exchange(
        self, request: Outgoing, addresses: Sequence[Address]
    ) -> AsyncIterator[httpx2.Response]:
        """Send to the first of the addresses that can be reached, and open the answer.

        Raises httpx2's errors, one of `UNREACHED` if nothing was sent.
        """
        steps = _Steps(request.on_sent)
        # A client of its own: pooled connections are known by address, and the next name behind the
        # same address has not shown its certificate.
        async with httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False),
            timeout=httpx2.Timeout(
                self._patience.idle_seconds, connect=self._patience.connect_seconds
            ),
            trust_env=False,
            follow_redirects=False,
        ) as client:
            try:
                response = await _send(client, request, addresses, steps)
                try:
                    yield response
                finally:
                    await response.aclose()
            finally:
                await steps.close()

    async def _look_up(self, uri: SourceUri) -> list[Address]:
        try:
            async with asyncio.timeout(self._patience.connect_seconds):
                found = await self._resolve(uri.host, uri.port)
        except (OSError, UnicodeError) as error:
            raise OSError("its host is not found") from error
        if not found:
            raise OSError("its host has no address")
        return [ipaddress.ip_address(text) for text in dict.fromkeys(found)]


class _Steps:
    """Follows one request on its way, by httpx2's own hook.

    Closes what it opened, however it ends: who is cancelled in the middle of a TLS handshake would
    leave the connection open.
    """

    def __init__(self, on_sent: Callable[[], None] | None) -> None:
        self._on_sent = on_sent
        self._opened: list[Any] = []

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._opened.append(info["return_value"])
        elif event == "http11.send_request_body.complete" and self._on_sent is not None:
            self._on_sent()

    async def close(self) -> None:
        """Close the connections, again if they are closed."""
        for stream in self._opened:
            await stream.aclose()


async def _send(
    client: httpx2.AsyncClient, request: Outgoing, addresses: Sequence[Address], steps: _Steps
) -> httpx2.Response:
    failure: httpx2.HTTPError = httpx2.ConnectError("there is no address")
    for address in addresses:
        try:
            return await client.send(_to(client, request, address, steps), stream=True)
        except UNREACHED as error:
            failure = error
    raise failure


def _to(
    client: httpx2.AsyncClient, request: Outgoing, address: Address, steps: _Steps
) -> httpx2.Request:
    uri = request.uri
    raw_path = f"{uri.path}?{uri.query}" if uri.query else uri.path
    return httpx2.Request(
        request.method,
        httpx2.URL(scheme=uri.scheme, host=str(address), port=uri.port, raw_path=raw_path.encode()),
        headers={"Host": uri.netloc, **request.headers},
        content=request.content or None,
        extensions={
            # A request that is built by hand does not take over its client's timeout.
            "timeout": client.timeout.as_dict(),
            "sni_hostname": uri.host,
            "trace": steps,
        },
    )
