"""Addresses of files, as callers and operators write them: one spelling each, and one meaning.

Strict on purpose: two programs that read an address differently are how lists of allowed places are
evaded. What could be read in two ways is refused.
"""

import ipaddress
import re
from typing import Final, NoReturn

import msgspec

from penstock.errors import ConfigurationError, InvalidRequest

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

CHARACTERS_MAX: Final = 4_096
"""Signed addresses have hundreds; nothing honest has thousands."""

OBJECT_NAME_BYTES_MAX: Final = 1_024
"""Cloud Storage's own limit."""

_WEB: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]*\]|[^/?#:\[\]]*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
"""A host whose last label looks like this is an IPv4 address in one of its many spellings."""

_PATH: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._~]")
_STRUCTURAL: Final = "/\\%"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CONTROL_END: Final = 0x20
_DELETE: Final = 0x7F


class SourceUri(msgspec.Struct, frozen=True, kw_only=True):
    """One address, in the one spelling that it has."""

    scheme: str
    host: str
    """In lower case; the bucket of a `gs://` address."""

    port: int
    """0 for `gs://`."""

    path: str
    """From its first slash, which is not part of an object's name."""

    query: str = ""

    @property
    def shown(self) -> str:
        """The address for messages and records: a query may hold a signature."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def netloc(self) -> str:
        """Host and port as they stand in an address and in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port in (0, _DEFAULT_PORTS.get(self.scheme))
        return host if is_default else f"{host}:{self.port}"

    @property
    def literal(self) -> _Address | None:
        """The address that the host is, if it is not a name."""
        if ":" in self.host:
            return ipaddress.IPv6Address(self.host)
        is_number = _NUMBER.fullmatch(self.host.rpartition(".")[2])
        return ipaddress.IPv4Address(self.host) if is_number else None

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, by its number and not by a name."""
        return self.scheme != "gs" and self.literal is not None and self.literal.is_loopback

    def covers(self, other: "SourceUri") -> bool:
        """Whether this entry of the list allows another address.

        One that ends in a slash allows everything below it, any other one itself.
        """
        same_place = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        below = self.path.endswith("/") and other.path.startswith(self.path)
        return same_place and (below or self.path == other.path)


def read(text: str) -> SourceUri:
    """Read an address; raises `InvalidRequest` whose message is what is wrong with it."""
    if len(text) > CHARACTERS_MAX:
        _refuse(f"it has more than {CHARACTERS_MAX} characters")
    if "\\" in text or any(ord(c) < _CONTROL_END or ord(c) == _DELETE for c in text):
        _refuse("it has a backslash or a control character")
    if text.startswith("gs://"):
        return _parse_gs(text)
    found = _WEB.fullmatch(text)
    if found is None:
        if "@" in text.partition("://")[2].partition("/")[0]:
            _refuse("it has a user or password")
        _refuse("it is not like gs://bucket/name or https://host/path")
    scheme = found["scheme"].lower()
    port = _DEFAULT_PORTS[scheme] if found["port"] is None else int(found["port"])
    if not 1 <= port <= 65_535:  # noqa: PLR2004  # the ports that there are
        _refuse("its port does not exist")
    path, query = found["path"] or "/", found["query"] or ""
    _check_path(path)
    if not _QUERY.fullmatch(query):
        _refuse("its query has a character that must be percent-encoded")
    host = _host(found["host"].lower())
    return SourceUri(scheme=scheme, host=host, port=port, path=_upper(path), query=query)


def _parse_gs(text: str) -> SourceUri:
    bucket, _, name = text.removeprefix("gs://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        _refuse("its bucket has no valid name")
    if "#" in name:
        _refuse("it has a fragment")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        _refuse("its name is not Unicode text")
    if size > OBJECT_NAME_BYTES_MAX:
        _refuse(f"its name has more than {OBJECT_NAME_BYTES_MAX} bytes")
    _check_segments(f"/{name}")
    return SourceUri(scheme="gs", host=bucket, port=0, path=f"/{name}")


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            _refuse("its host is not an IPv6 address")
    if "@" in host:
        _refuse("it has a user or password")
    if not _HOST.fullmatch(host):
        _refuse("its host is not a valid name; write others than ASCII as xn--…")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            _refuse("its host is not an IPv4 address of four decimal numbers")
    return host


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        _refuse("its path has a character that must be percent-encoded")
    for code in _ESCAPE.findall(path):
        character = chr(int(code, 16))
        if _PLAIN.fullmatch(character):
            _refuse(f"%{code} in its path must be written as it is")
        if character in _STRUCTURAL or ord(character) < _CONTROL_END or ord(character) == _DELETE:
            _refuse(f"%{code} is not allowed in its path")
    _check_segments(path)


def _check_segments(path: str) -> None:
    segments = path.split("/")[1:]
    # Some servers cut parameters off before they read the dots.
    if any(segment.partition(";")[0] in (".", "..") for segment in segments):
        _refuse("its path has a segment of dots")
    if "" in segments[:-1]:
        _refuse("its path has an empty segment")


def _upper(path: str) -> str:
    return _ESCAPE.sub(lambda escape: escape[0].upper(), path)


def prefix(text: str, setting: str) -> SourceUri:
    """Read an entry of an operator's list; raises `ConfigurationError` naming the setting."""
    try:
        entry = read(text)
    except InvalidRequest as error:
        raise ConfigurationError(f"{setting} has {text[:80]!r}: {error.message}.") from error
    if entry.query:
        raise ConfigurationError(
            f"{setting} has {entry.shown!r} with a query; a prefix ends before that."
        )
    return entry


def _refuse(what: str) -> NoReturn:
    raise InvalidRequest(what, code="invalid_address")
