"""HTTP as this client speaks it: who may be retried, what a failure means, where the key may go.

The key is a header of single calls to the server, never a default of the connection pool: downloads
use the same pool for addresses of other hosts and must not carry it.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack

import httpx2

from penstock.client.aio.io import LOSES_REFUSALS, Sleep, flow, pause
from penstock.client.calls import (
    API_PATH,
    ATTEMPTS_MAX,
    BASE_PATH,
    DEFAULT_TIMEOUT,
    ERRORS_FROM,
    FIRST_ATTEMPTS_MAX,
    NOTHING_LEFT,
    RETRIED_STATUS,
    SUBMIT_READ_SECONDS,
    Query,
    backoff_seconds,
    content_of,
    delay_seconds,
    known,
    may_pass,
    refusal,
    server_address,
    unanswered,
    unreachable,
)
from penstock.client.errors import AuthenticationFailed, ClientError, ConnectionFailed


class Connection(TypedDict, total=False):
    """How the server is reached; all of it may be left out."""

    transport: httpx2.AsyncBaseTransport | None
    timeout: httpx2.Timeout | float | None
    """In seconds, for each step of a call and not for all of it."""
    sleep: Sleep
    """Called for each pause."""


class Wire:
    """A connection pool that knows the server and the key."""

    def __init__(
        self, url: str, headers: Mapping[str, str], **connection: Unpack[Connection]
    ) -> None:
        self.root = server_address(url)
        self.sleep: Sleep = connection.get("sleep", pause)
        self._address = url.rstrip("/")
        self._headers = {"Accept": "application/json", **headers}
        timeout = connection.get("timeout")
        self._has_met = False
        self._pool = httpx2.AsyncClient(
            transport=connection.get("transport"),
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> bytes:
        """Return the content of a GET; what may pass by itself is tried again."""
        failures = 0
        while True:
            failures += 1
            # Whoever gave a wrong address should not have to wait long to hear it.
            last = failures == (ATTEMPTS_MAX if self._has_met else FIRST_ATTEMPTS_MAX)
            try:
                response = await self._send("GET", path, params=known(params))
            except ConnectionFailed:
                if last:
                    raise
                await self.sleep(backoff_seconds(failures))
                continue
            if last or response.status_code not in RETRIED_STATUS:
                return content_of(response)
            await self.sleep(delay_seconds(response, failures))

    async def post(self, path: str) -> bytes:
        """Return the content of a POST without a body, which is sent once."""
        return content_of(await self._send("POST", path))

    async def submit(
        self,
        path: str,
        content: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        *,
        can_repeat: bool,
        params: Query | None = None,
    ) -> bytes:
        """Return the answer to a body that has an idempotency key; what may pass is tried again.

        `content` begins the body anew for each try. Without `can_repeat` it is sent once.
        """
        failures = 0
        while True:
            failures += 1
            last = failures == ATTEMPTS_MAX or not can_repeat
            try:
                response = await self._send(
                    "POST",
                    path,
                    content=flow(content()),
                    headers=headers,
                    params=params,
                    timeout=self._patience(),
                )
            except ConnectionFailed:
                if LOSES_REFUSALS:
                    await self._refused()
                if last:
                    raise
                await self.sleep(backoff_seconds(failures))
                continue
            if last or not may_pass(response):
                return content_of(response)
            await self.sleep(delay_seconds(response, failures))

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Query | None = None,
        content: Iterator[bytes] | None = None,
    ) -> httpx2.Response:
        """Send once and return the answer; an error becomes ours."""
        response = await self._send(
            method,
            path,
            headers=headers,
            params=params,
            content=None if content is None else flow(content),
            timeout=self._patience(),
        )
        content_of(response)
        return response

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        """Open any address without the key; redirects are followed, errors are raised as ours.

        A relative address is one of the server's. 416 is left to the caller, to whom it says that
        there is nothing left to fetch.
        """
        address = self.root.join(url)
        try:
            async with self._pool.stream(
                "GET", address, headers=headers, follow_redirects=True
            ) as answer:
                if answer.status_code >= ERRORS_FROM and answer.status_code != NOTHING_LEFT:
                    raise refusal(answer, await answer.aread())
                yield answer
        except httpx2.RequestError as error:
            raise unreachable(address, error) from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401  # httpx2's own options, checked there
        # A path of another part of the API is whole.
        base = "" if path.startswith(API_PATH) else BASE_PATH
        address = httpx2.URL(self._address + base + path)
        headers = {**self._headers, **(options.pop("headers", None) or {})}
        try:
            response = await self._pool.request(method, address, headers=headers, **options)
        except httpx2.RequestError as error:
            raise unanswered(method, address, error) from error
        self._has_met = True
        return response

    async def _refused(self) -> None:
        """Raise `AuthenticationFailed` if that is what the answer may have been that was lost."""
        try:
            content_of(await self._send("GET", "/models"))
        except AuthenticationFailed:
            raise
        except ClientError:
            # It says nothing of the submission, whose own failure is told.
            return

    def _patience(self) -> httpx2.Timeout:
        """Return the timeout of calls that are answered when all that was sent is safe."""
        timeout = httpx2.Timeout(self._pool.timeout)
        timeout.read = max(SUBMIT_READ_SECONDS, timeout.read or 0.0)
        return timeout
