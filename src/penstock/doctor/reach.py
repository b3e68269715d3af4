"""Of the way to the server: its name, TLS, whether it is Penstock, its version and its clock."""

import socket
import ssl
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx2
import msgspec

from penstock import __version__
from penstock.clock import Clock, monotonic
from penstock.doctor.check import Finding, fails, holds, unknown, warns
from penstock.doctor.here import is_internal

TIMEOUT_SECONDS: Final = 10.0
SKEW_SECONDS_WARNED: Final = 10.0
SKEW_SECONDS_MAX: Final = 300.0
"""From there on receivers of webhooks refuse what they get (Standard Webhooks)."""
CERTIFICATE_DAYS_WARNED: Final = 14
_DAY_SECONDS: Final = 86_400
_START: Final = "start it (penstock serve, or penstock dev), or correct the address (PENSTOCK_URL)"


class Way(msgspec.Struct, kw_only=True):
    """What was found out about the way to the server."""

    findings: list[Finding]
    is_reached: bool = False


def look(url: str, http: httpx2.Client, clock: Clock, *, is_proxied: bool) -> Way:
    """Go to the server as every command does, and tell where the way ends."""
    way = Way(findings=[])
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        saw, todo = f"{url!r} is not the address of a server", "write it as https://host"
        way.findings.append(fails("address", saw, todo, 2))
        return way
    if not is_proxied:
        # A proxy looks names up by itself; this machine may not know them.
        way.findings.append(_address(parts.hostname, parts.port))
        if way.findings[-1].exit_code:
            return way
    base = url.rstrip("/")
    begun = monotonic()
    try:
        answer = http.get(f"{base}/healthz")
    except httpx2.RequestError as error:
        way.findings.append(_not_reached(base, error))
        return way
    milliseconds = round(1000 * (monotonic() - begun))
    if not _is_ours(answer):
        saw = f"{base} answers {answer.status_code}, but not as Penstock does"
        way.findings.append(
            fails("server", saw, "correct the address: something else is there, or before it")
        )
        return way
    way.is_reached = True
    way.findings.append(holds("server", f"{base} answers in {milliseconds} ms", ms=milliseconds))
    way.findings.append(_version(base, http))
    way.findings.append(_tls(parts, clock.now(), is_proxied=is_proxied))
    way.findings.append(_clock(answer.headers.get("Date"), clock.now()))
    return way


def _address(host: str, port: int | None) -> Finding:
    try:
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return fails("address", f"{host} has no address: {error}", "correct the name, or the DNS")
    addresses = sorted({str(one[4][0]) for one in found})
    return holds("address", f"{host} is {', '.join(addresses)}", addresses=addresses)


def _not_reached(base: str, error: httpx2.RequestError) -> Finding:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        todo = "name the file of your own authority in SSL_CERT_FILE; never turn the check off"
        return fails("tls", f"the certificate of {base} is not good: {cause.verify_message}", todo)
    if isinstance(cause, ssl.SSLError):
        saw = f"{base} does not speak TLS: {cause.reason or cause}"
        return fails("tls", saw, "write http:// if it is meant to be without")
    why = str(error) or type(error).__name__
    return fails("server", f"{base} cannot be reached: {why}", _START)


def _is_ours(answer: httpx2.Response) -> bool:
    said = object_of(answer)
    return answer.status_code == httpx2.codes.OK and said.get("status") == "ok"


def _version(base: str, http: httpx2.Client) -> Finding:
    try:
        info = object_of(http.get(f"{base}/openapi.json")).get("info")
    except httpx2.RequestError as error:
        return unknown("version", f"the connection broke: {error}")
    version = info.get("version") if isinstance(info, dict) else None
    if not isinstance(version, str):
        todo = "a worker without an API, or something in between that keeps /openapi.json back?"
        return unknown("version", "the server does not tell its version", todo)
    facts = {"server": version, "client": __version__}
    if version.split(".")[:2] == __version__.split(".")[:2]:
        return holds("version", f"server {version}, client {__version__}", **facts)
    older = "client" if _number(__version__) < _number(version) else "server"
    saw = f"server {version}, client {__version__}: what is new in one is unknown to the other"
    return warns("version", saw, f"upgrade the {older}", **facts)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _tls(url: SplitResult, now: float, *, is_proxied: bool) -> Finding:
    host = url.hostname or ""
    if url.scheme == "http":
        if is_internal(host):
            return holds("tls", f"none, and {host} is an internal address")
        saw = "none: whoever is on the way can read the key"
        return warns("tls", saw, "write https://, and put a TLS proxy before the server")
    if is_proxied:
        return holds("tls", "the certificate is good (seen through the proxy)")
    try:
        days = _certificate_days(host, url.port or 443, now)
    except OSError as error:
        return unknown("tls", f"the certificate could not be looked at again: {error}")
    if days < CERTIFICATE_DAYS_WARNED:
        return warns("tls", f"the certificate ends in {days} days", "renew it", days=days)
    return holds("tls", f"the certificate is good for {days} days", days=days)


def _certificate_days(host: str, port: int, now: float) -> int:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        ends = str((secure.getpeercert() or {}).get("notAfter", ""))
    return int((ssl.cert_time_to_seconds(ends) - now) // _DAY_SECONDS)


def _clock(date: str | None, now: float) -> Finding:
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return unknown("clock", "the server tells no time")
    # A Date header has whole seconds, cut off.
    skew_seconds = now - theirs - 0.5
    size, word = abs(skew_seconds), "ahead of" if skew_seconds > 0 else "behind"
    if size <= SKEW_SECONDS_WARNED:
        return holds("clock", "the same as the server's", skew_seconds=round(skew_seconds, 1))
    saw = f"{size:,.0f} s {word} the server's"
    todo = "set the clock of this machine or of the server (NTP): links and webhooks expire by it"
    if size > SKEW_SECONDS_MAX:
        return fails("clock", saw, todo)
    return warns("clock", saw, todo, skew_seconds=round(skew_seconds, 1))


def object_of(answer: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if it is none."""
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
