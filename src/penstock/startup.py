"""Reasons not to start that lie in the settings alone: names, addresses, limits that contradict.

A server that started with them would fail later and less clearly, show credentials to the network,
or answer to a name that is not its own.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from penstock.api.hosts import PORT_MAX, KnownAs, name_of
from penstock.errors import ConfigurationError
from penstock.settings import EMULATOR_TOKEN, Secret, Settings

GOOGLE: Final = "gs://"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})
_HTTP: Final = frozenset({"http", "https"})

_NOT_ZERO: Final = frozenset(
    {
        "database_connections_max",
        "database_seconds_max",
        "download_seconds",
        "receive_processes_max",
        "collect_concurrency",
        "prepare_concurrency",
        "jobs_in_flight_max",
        "uploads_concurrency_max",
        "limits.job_bytes_max",
        "limits.job_lines_max",
        "limits.line_bytes_max",
        "limits.envelope_bytes_max",
        "limits.header_bytes_max",
        "limits.header_seconds_max",
        "limits.idle_seconds_max",
        "limits.downloads_concurrency_max",
        "timing.poll_seconds_min",
        "timing.retry_seconds_min",
        "timing.heartbeat_seconds",
        "timing.worker_lost_seconds",
    }
)
"""Where 0 does not mean "no limit" but "nothing", or a loop without a pause."""

_ORDERED: Final = (
    ("timing.poll_seconds_min", "timing.poll_seconds_max"),
    ("timing.retry_seconds_min", "timing.retry_seconds_max"),
    ("timing.heartbeat_seconds", "timing.worker_lost_seconds"),
    ("timing.worker_lost_seconds", "timing.worker_forgotten_seconds"),
    ("limits.downloads_compressed_max", "limits.downloads_concurrency_max"),
)
"""The first of each pair may not exceed the second."""


def known_as(settings: Settings) -> KnownAs:
    """Return how clients reach a server with these settings; they have no faults."""
    public = urlsplit(settings.public_url)
    given = {public.netloc, *settings.hosts_allowed}
    if settings.host in LOOPBACK:
        given |= {"localhost", "127.0.0.1", "[::1]"}
    elif settings.host not in WILDCARDS:
        given.add(f"[{settings.host}]" if ":" in settings.host else settings.host)
    names = {name_of(host) for host in given if host}
    return KnownAs(
        names=frozenset(name for name in names if name is not None),
        is_https=public.scheme == "https",
    )


def needs_google(settings: Settings) -> bool:
    """Return whether tokens for Google have to be asked for."""
    if settings.vertex.access_token:
        return False
    sources = [settings.blobs_url, *settings.sources_allowed]
    # An API whose files lie elsewhere never asks Google for anything.
    return settings.works or any(source.startswith(GOOGLE) for source in sources)


def secret_values(settings: Settings) -> set[str]:
    """Return every text that may stand in no log; the emulator's token is a public word."""
    nested = (settings, settings.vertex)
    found = {
        value.reveal()
        for struct in nested
        for value in msgspec.structs.asdict(struct).values()
        if isinstance(value, Secret)
    }
    try:
        password = urlsplit(settings.database_url.reveal()).password or ""
    except ValueError:
        # The check of the database's URL says so.
        password = ""
    found |= {password, unquote(password)}
    return found - {"", EMULATOR_TOKEN}


def setting_faults(settings: Settings) -> Iterator[ConfigurationError]:
    """Yield every reason."""
    yield from _numbers(settings)
    yield from _order(settings)
    if settings.port > PORT_MAX:
        yield ConfigurationError(f"port is {settings.port}; the highest is {PORT_MAX}.")
    yield from _public_url(settings)
    yield from _names(settings)
    yield from _endpoints(settings)


def _public_url(settings: Settings) -> Iterator[ConfigurationError]:
    if not settings.public_url:
        return
    url = _url(settings.public_url)
    if url is None or url.query or url.fragment or "@" in url.netloc:
        yield ConfigurationError(
            "public_url is not an http(s) URL of a host, with nothing behind its path.",
            hint="It is how clients reach the server, such as https://penstock.example.com",
        )
    elif url.scheme == "http" and not _is_here(url) and not settings.allow_public_bind:
        yield ConfigurationError(
            "public_url is plain HTTP on a name that others use: "
            "keys and download links would be readable on the way.",
            hint="Make it https://, or set PENSTOCK_ALLOW_PUBLIC_BIND=true inside a private net.",
        )


def _names(settings: Settings) -> Iterator[ConfigurationError]:
    for host in settings.hosts_allowed:
        if name_of(host) is None:
            yield ConfigurationError(
                f"hosts_allowed has {host[:80]!r}, which is not a name or address.",
                hint="Write names alone: no scheme, no path, no *; IPv6 in brackets.",
            )
    if not settings.accepts or settings.host in LOOPBACK:
        return
    if not settings.public_url and not settings.hosts_allowed:
        yield ConfigurationError(
            f"host is {settings.host}, and no name is set by which clients reach the server; "
            "requests to any other name are refused.",
            hint="Set PENSTOCK_PUBLIC_URL, or PENSTOCK_HOSTS_ALLOWED to a list of names.",
        )


def _endpoints(settings: Settings) -> Iterator[ConfigurationError]:
    vertex = settings.vertex
    given = {
        "vertex.base_url": vertex.base_url,
        "vertex.storage_url": vertex.storage_url,
        "blobs_endpoint": settings.blobs_endpoint,
    }
    for name, text in given.items():
        url = _url(text)
        if text and url is None:
            yield ConfigurationError(f"{name} is not an http(s) URL.")
        elif url is None or name == "blobs_endpoint" or vertex.access_token:
            continue
        elif url.scheme == "http" and not _is_here(url):
            yield ConfigurationError(
                f"{name} is plain HTTP: Google's credentials would be readable on the way.",
                hint="Make it https://; an emulator takes vertex.access_token instead.",
            )


def _numbers(settings: Settings) -> Iterator[ConfigurationError]:
    for name, value in _flat(settings).items():
        # Text such as `nan` is a float, and compares with nothing.
        if value < 0 or not math.isfinite(value):
            yield ConfigurationError(f"{name} is {value}, and must be a number from 0 on.")
        elif value == 0 and name in _NOT_ZERO:
            yield ConfigurationError(f"{name} is 0: nothing would pass, or no time would be left.")


def _order(settings: Settings) -> Iterator[ConfigurationError]:
    values = _flat(settings)
    pairs = list(_ORDERED)
    if not settings.vertex.base_url:
        # An emulator lands no create late, so development may wait for less.
        pairs.append(("timing.send_window_seconds", "timing.settle_seconds"))
    for low, high in pairs:
        if values[low] > values[high]:
            yield ConfigurationError(
                f"{low} is {values[low]:g}, which exceeds {high} ({values[high]:g}).",
                hint="docs/settings.md says what each of the two is for.",
            )


def _flat(settings: Settings) -> Mapping[str, float]:
    values: dict[str, Any] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            nested = msgspec.structs.asdict(value)
            values |= {f"{name}.{field}": inner for field, inner in nested.items()}
        else:
            values[name] = value
    kept = values.items()
    return {name: value for name, value in kept if type(value) in {int, float}}


def _url(text: str) -> SplitResult | None:
    """Return the parts of an http(s) URL with a good host; None for anything else."""
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if not is_plain or url.scheme not in _HTTP:
        return None
    # What stands before an @ is judged by who asks.
    return url if name_of(url.netloc.rpartition("@")[2]) is not None else None


def _is_here(url: SplitResult) -> bool:
    return url.hostname in LOOPBACK
