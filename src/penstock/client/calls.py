"""What HTTP means here, without any of it being done: addresses, pauses, and errors in words.

Both kinds of the client speak through `wire`, which does it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from penstock.client.errors import APIError, ClientError, ConnectionFailed, error_from

T = TypeVar("T")

Query = Mapping[str, str | Sequence[str]]
"""Parameters of an address; those with several values stand there several times."""

API_PATH: Final = "/api/v1/"
BASE_PATH: Final = "/api/v1/ie/requestqueue/apikey"
ATTEMPTS_MAX: Final = 5
FIRST_ATTEMPTS_MAX: Final = 3
"""To reach a server that has never answered yet: the address may be wrong."""
RETRIED_STATUS: Final = frozenset({429, 502, 503, 504})
SUBMIT_READ_SECONDS: Final = 600.0
"""The answer to a submission comes when every line is checked and on disk."""
DEFAULT_TIMEOUT: Final = httpx2.Timeout(connect=10.0, read=60.0, write=60.0, pool=10.0)
ERRORS_FROM: Final = 400
PARTIAL_CONTENT: Final = 206
NOTHING_LEFT: Final = 416

_REDIRECTS: Final = range(300, 400)
_UNAVAILABLE: Final = frozenset({502, 503, 504})
_CONFLICT: Final = 409
_TAKEN: Final = frozenset({"idempotency_in_flight", "idempotency_lost"})
_FIRST_DELAY_SECONDS: Final = 0.5
_DELAY_SECONDS_MAX: Final = 8.0
_RETRY_AFTER_SECONDS_MAX: Final = 60.0
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+")


def decode(content: bytes, kind: type[T]) -> T:
    """Return what the server answered; raises `ClientError` if it is nothing of the kind."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(
            f"the answer is not one of Penstock's: {error}",
            hint="check that the address is a Penstock server's, and not of something before it",
        ) from error


def server_address(url: str) -> httpx2.URL:
    """Return the address of a server; raises `ClientError` if it cannot be one."""
    try:
        root = httpx2.URL(url)
    except httpx2.InvalidURL:
        root = httpx2.URL("")
    if root.scheme not in {"http", "https"} or not root.host:
        raise ClientError(
            f"{url!r} is not the address of a server",
            hint="give it with its scheme, such as http://127.0.0.1:8080",
        )
    return root


def headers_of(key: str, organization: str | None) -> dict[str, str]:
    """Return the headers of each call; raises `ClientError` for what cannot be one."""
    headers = {"Authorization": f"Bearer {header_value('API key', key)}"}
    if organization is not None:
        headers["X-Organization-ID"] = header_value("organization", organization)
    return headers


def header_value(what: str, value: str) -> str:
    """Refuse what cannot be a header here, since the HTTP library would quote it in its message."""
    if not _HEADER_VALUE.fullmatch(value):
        raise ClientError(
            f"the {what} is empty or has characters that cannot be sent",
            hint="copy it again, without spaces or line ends",
        )
    return value


def known(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Leave out parameters without a value."""
    return {name: value for name, value in (params or {}).items() if value is not None}


def backoff_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row: 0.5, 1, 2, 4, then 8 seconds."""
    return float(min(_FIRST_DELAY_SECONDS * 2 ** (failures - 1), _DELAY_SECONDS_MAX))


def delay_seconds(response: httpx2.Response, failures: int) -> float:
    """Return the server's own wish in seconds, within reason, or our backoff."""
    wish = response.headers.get("Retry-After", "")
    if wish.isascii() and wish.isdigit():
        return float(min(int(wish), _RETRY_AFTER_SECONDS_MAX))
    return backoff_seconds(failures)


def may_pass(response: httpx2.Response) -> bool:
    """Return whether the same submission may be taken a little later.

    A quota is none of that: it may be used up until tomorrow.
    """
    if response.status_code == _CONFLICT:
        return error_from(response.status_code, response.content).code in _TAKEN
    return response.status_code in _UNAVAILABLE


def refusal(response: httpx2.Response, content: bytes) -> APIError:
    """Return the error that an answer is; a redirect is one, as the key is not taken elsewhere."""
    error = error_from(response.status_code, content, response.headers.get("X-Request-ID"))
    if response.status_code in _REDIRECTS:
        error.hint = f"give the address that it redirects to{_target_of(response)}"
    return error


def _target_of(response: httpx2.Response) -> str:
    try:
        target = httpx2.URL(response.headers.get("Location", ""))
    except httpx2.InvalidURL:
        # Whoever redirects does not know where to.
        return ""
    return f" ({origin(target)})" if target.host else ""


def content_of(response: httpx2.Response) -> bytes:
    """Return the content of a good answer, which has been read; raise what a bad one says."""
    if not response.is_success:
        raise refusal(response, response.content)
    return response.content


def unanswered(method: str, address: httpx2.URL, error: httpx2.RequestError) -> ConnectionFailed:
    """Return the error for a call without an answer; what was sent may have been taken."""
    if method == "GET" or isinstance(error, _NOT_SENT):
        return unreachable(address, error)
    return ConnectionFailed(
        f"the connection to {origin(address)} broke before the answer came "
        f"({_why(error)}); the server may or may not have taken it",
        hint="look at the list of jobs (penstock ls) before you send it again",
    )


def unreachable(address: httpx2.URL, error: httpx2.RequestError) -> ConnectionFailed:
    """Return the error for a server that cannot be read from."""
    what = "cannot reach" if isinstance(error, _NOT_SENT) else "the connection broke to"
    return ConnectionFailed(
        f"{what} {origin(address)}: {_why(error)}", hint=_advice(address, error)
    )


def origin(address: httpx2.URL) -> str:
    """Return scheme, host and port: the rest may hold a password or a signature."""
    port = f":{address.port}" if address.port else ""
    return f"{address.scheme}://{address.host}{port}"


def _advice(address: httpx2.URL, error: httpx2.RequestError) -> str:
    why = _why(error)
    if "WRONG_VERSION_NUMBER" in why or "record layer failure" in why:
        return "the server speaks plain HTTP: give its address with http://"
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return "its certificate is not trusted here: let SSL_CERT_FILE name the one that signed it"
    if address.scheme == "http" and not isinstance(error, _NOT_SENT):
        return "look whether the server runs; if it speaks TLS, give its address with https://"
    return "check the address, and that the server runs (penstock serve, or penstock dev)"


def _why(error: httpx2.RequestError) -> str:
    return str(error) or type(error).__name__
