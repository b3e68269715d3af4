"""What a request's head may say, so that nobody in front of us can read it as something else.

The parser refuses most of it: two lengths, a length beside chunks, bare line ends, folded lines,
control characters. What it lets through is judged here, before anything acts on the request:
a server and a proxy that disagree where a request ends, or whom it is for, are how a second request
is smuggled in.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from penstock.errors import InvalidRequest, Refused

Headers = Sequence[tuple[bytes, bytes]]

CHUNKED: Final = b"chunked"

_ONCE: Final = frozenset(
    {b"authorization", b"content-type", b"expect", b"host", b"transfer-encoding"}
)
"""Who repeats one of these means that two readers take different ones."""

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?\Z")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)(?:[/?]|\Z)", re.IGNORECASE)


class HttpInvalid(InvalidRequest):
    """What came is not one request in HTTP/1.1, or could be read as another one."""

    code = "invalid_http"


class ExpectationFailed(Refused):
    """The client expects what this server does not do."""

    code = "expectation_failed"
    status = HTTPStatus.EXPECTATION_FAILED


def check_head(method: bytes, target: bytes, version: str, headers: Headers) -> None:
    """Raise `HttpInvalid` or `ExpectationFailed` for a head that is not plainly one request's.

    Names come in lower case, as the protocol keeps them.
    """
    if version not in {"1.0", "1.1"}:
        raise _invalid(f"the version HTTP/{version} is not spoken here", "Use HTTP/1.1.")
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name in _ONCE:
            raise _invalid(f"{name.decode('ascii')} stands there twice", "Send it once.")
        found[name] = value.strip(b" \t")
    _check_target(method, target, found.get(b"host"))
    _check_host(version, found.get(b"host"))
    _check_body(version, found)


def length_of(headers: Headers) -> int | None:
    """Return the bytes of the body, None for one that comes in chunks; the parser saw digits."""
    found = dict(headers)
    return None if b"transfer-encoding" in found else int(found.get(b"content-length", 0))


def _check_target(method: bytes, target: bytes, host: bytes | None) -> None:
    if method == b"CONNECT" or b"#" in target:
        raise _invalid("the target is not a path", "This server is no proxy.")
    if target.startswith(b"/"):
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is None or host is None or absolute[1].lower() != host.lower():
        raise _invalid(
            "the target is neither a path nor an address of the Host", "Send the path alone."
        )


def _check_host(version: str, host: bytes | None) -> None:
    if host is None:
        if version == "1.1":
            raise _invalid("there is no Host", "Every request needs one.")
    elif not _HOST.match(host):
        raise _invalid("the Host is not a name with or without a port", "Send the server's name.")


def _check_body(version: str, found: dict[bytes, bytes]) -> None:
    coding = found.get(b"transfer-encoding")
    # The parser takes other codings before the last one, and would hand them on undecoded.
    if coding is not None and (version != "1.1" or coding.lower() != CHUNKED):
        raise _invalid(
            "its Transfer-Encoding is not chunked, or stands in HTTP/1.0",
            "Use Content-Length, or Transfer-Encoding: chunked; Content-Encoding names a coding.",
        )
    expected = found.get(b"expect")
    if expected is not None and expected.lower() != b"100-continue":
        raise ExpectationFailed(
            "Only 100-continue can be expected.", hint="Leave the Expect header out."
        )


def _invalid(what: str, hint: str) -> HttpInvalid:
    return HttpInvalid(f"The request is not accepted: {what}.", hint=hint)
