"""HTTP as this client speaks it: who may be retried, what a failure means, where the key may go.

The key is a header of single calls to the server, never a default of the connection pool: downloads
use the same pool for addresses of other hosts and must not carry it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from penstock.client.errors import ClientError, ConnectionFailed, error_from

T = TypeVar("T")

API_PATH: Final = "/api/v1/"
BASE_PATH: Final = "/api/v1/ie/requestqueue/apikey"
ATTEMPTS_MAX: Final = 5
_RETRIED_STATUS: Final = frozenset({429, 502, 503, 504})
_UNAVAILABLE: Final = frozenset({502, 503, 504})
_CONFLICT: Final = 409
_TAKEN: Final = frozenset({"idempotency_in_flight", "idempotency_lost"})
_FIRST_DELAY_SECONDS: Final = 0.5
_DELAY_SECONDS_MAX: Final = 8.0
_RETRY_AFTER_SECONDS_MAX: Final = 60.0
_ERRORS_FROM: Final = 400
_NOTHING_LEFT: Final = 416
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)

DEFAULT_TIMEOUT: Final = httpx2.Timeout(connect=10.0, read=60.0, write=60.0, pool=10.0)
SUBMIT_READ_SECONDS: Final = 600.0
"""The answer to a submission comes when every line is checked and on disk."""


def decode(content: bytes, kind: type[T]) -> T:
    """Return what the server answered; raises `ClientError` if it is nothing of the kind."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(
            f"the answer is not one of Penstock's: {error}",
            hint="check that the address is a Penstock server's, and not of something before it",
        ) from error


def backoff_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row: 0.5, 1, 2, 4, then 8 seconds."""
    return float(min(_FIRST_DELAY_SECONDS * 2 ** (failures - 1), _DELAY_SECONDS_MAX))


class Wire:
    """A connection pool that knows the server and the key."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        transport: httpx2.BaseTransport | None,
        timeout: httpx2.Timeout | float | None,
        sleep: Callable[[float], None],
    ) -> None:
        self.root = httpx2.URL(url)
        if self.root.scheme not in {"http", "https"} or not self.root.host:
            raise ClientError(
                f"{url!r} is not the address of a server",
                hint="give it with its scheme, such as http://127.0.0.1:8080",
            )
        self.sleep = sleep
        self._address = url.rstrip("/")
        self._headers = {"Accept": "application/json", **headers}
        self._pool = httpx2.Client(
            transport=transport, timeout=DEFAULT_TIMEOUT if timeout is None else timeout
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> bytes:
        """Return the content of a GET; what may pass by itself is tried again."""
        known = {name: value for name, value in (params or {}).items() if value is not None}
        failures = 0
        while True:
            failures += 1
            last = failures == ATTEMPTS_MAX
            try:
                response = self._send("GET", path, params=known)
            except ConnectionFailed:
                if last:
                    raise
                self.sleep(backoff_seconds(failures))
                continue
            if last or response.status_code not in _RETRIED_STATUS:
                return _content(response)
            self.sleep(_delay(response, failures))

    def post(self, path: str) -> bytes:
        """Return the content of a POST without a body, which is sent once."""
        return _content(self._send("POST", path))

    def submit(
        self,
        path: str,
        content: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        *,
        can_repeat: bool,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the answer to a body that has an idempotency key; what may pass is tried again.

        `content` begins the body anew for each try. Without `can_repeat` it is sent once.
        """
        timeout = httpx2.Timeout(self._pool.timeout)
        timeout.read = max(SUBMIT_READ_SECONDS, timeout.read or 0.0)
        failures = 0
        while True:
            failures += 1
            last = failures == ATTEMPTS_MAX or not can_repeat
            try:
                response = self._send(
                    "POST",
                    path,
                    content=content(),
                    headers=headers,
                    params=params,
                    timeout=timeout,
                )
            except ConnectionFailed:
                if last:
                    raise
                self.sleep(backoff_seconds(failures))
                continue
            if last or not _may_pass(response):
                return _content(response)
            self.sleep(_delay(response, failures))

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
    ) -> httpx2.Response:
        """Send once and return the answer; an error becomes ours."""
        timeout = httpx2.Timeout(self._pool.timeout)
        timeout.read = max(SUBMIT_READ_SECONDS, timeout.read or 0.0)
        response = self._send(
            method, path, headers=headers, params=params, content=content, timeout=timeout
        )
        if not response.is_success:
            raise error_from(response.status_code, response.content)
        return response

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """Open any address without the key; redirects are followed, errors are raised as ours.

        A relative address is one of the server's. 416 is left to the caller, to whom it says that
        there is nothing left to fetch.
        """
        address = self.root.join(url)
        try:
            with self._pool.stream(
                "GET", address, headers=headers, follow_redirects=True
            ) as answer:
                if answer.status_code >= _ERRORS_FROM and answer.status_code != _NOTHING_LEFT:
                    raise error_from(answer.status_code, answer.read())
                yield answer
        except httpx2.RequestError as error:
            raise _unreachable(address, error) from error

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401  # httpx2's own options, checked there
        # A path of another part of the API is whole.
        base = "" if path.startswith(API_PATH) else BASE_PATH
        address = httpx2.URL(self._address + base + path)
        headers = {**self._headers, **(options.pop("headers", None) or {})}
        try:
            return self._pool.request(method, address, headers=headers, **options)
        except httpx2.RequestError as error:
            if method == "GET" or isinstance(error, _NOT_SENT):
                raise _unreachable(address, error) from error
            raise ConnectionFailed(
                f"the connection to {_origin(address)} broke before the answer came "
                f"({_why(error)}); the server may or may not have taken it",
                hint="look at the list of jobs (penstock ls) before you send it again",
            ) from error


def _content(response: httpx2.Response) -> bytes:
    if not response.is_success:
        raise error_from(response.status_code, response.content)
    return response.content


def _may_pass(response: httpx2.Response) -> bool:
    """Return whether the same submission may be taken a little later.

    A quota is none of that: it may be used up until tomorrow.
    """
    if response.status_code == _CONFLICT:
        return error_from(response.status_code, response.content).code in _TAKEN
    return response.status_code in _UNAVAILABLE


def _delay(response: httpx2.Response, failures: int) -> float:
    """Return the server's own wish in seconds, within reason, or our backoff."""
    wish = response.headers.get("Retry-After", "")
    if wish.isascii() and wish.isdigit():
        return float(min(int(wish), _RETRY_AFTER_SECONDS_MAX))
    return backoff_seconds(failures)


def _unreachable(address: httpx2.URL, error: httpx2.RequestError) -> ConnectionFailed:
    what = "cannot reach" if isinstance(error, _NOT_SENT) else "the connection broke to"
    return ConnectionFailed(
        f"{what} {_origin(address)}: {_why(error)}",
        hint="check the address, and that the server runs (penstock serve, or penstock dev)",
    )


def _origin(address: httpx2.URL) -> str:
    """Return scheme, host and port: the rest may hold a password or a signature."""
    port = f":{address.port}" if address.port else ""
    return f"{address.scheme}://{address.host}{port}"


def _why(error: httpx2.RequestError) -> str:
    return str(error) or type(error).__name__
