"""Which addresses of files a request may name; the provider opens them with the operator's rights.

Nothing is fetched here, so an address is judged by its letters alone. What lies in the server's own
folders is refused in each spelling that a reader more generous than ours could mean by it.
"""

import re
from collections.abc import Sequence
from typing import Final, Self

import msgspec

from penstock.core.uri import SourceUri, prefix, read
from penstock.errors import ConfigurationError, InvalidRequest

SETTING: Final = "files_allowed"
PRIVATE: Final = "vertex.bucket with vertex.prefix, or blobs_url,"
SCHEMES: Final = ("gs", "https")

_GOOGLE_DOMAINS: Final = (".googleapis.com", ".google.com")
"""Cloud Storage answers under several names of these, with the bucket in the host or the path."""

_PATTERN: Final = re.compile(r"[%*?\[\]{}]")
"""In a name these may be escapes or wildcards to somebody."""

_INVALID_HINT: Final = (
    "Name a file like gs://bucket/name or https://host/path, without user or fragment."
)


class FileFault(msgspec.Struct, frozen=True):
    """Why an address is refused."""

    code: str
    message: str
    hint: str


class FileRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator allows; any file on `gs://` and `https://` unless something is listed.

    `private` are the server's own folders, in which all tenants' inputs and outputs lie. They are
    refused whatever is allowed.
    """

    allowed: tuple[SourceUri, ...] = ()
    private: tuple[SourceUri, ...] = ()

    @classmethod
    def of(cls, allowed: Sequence[str], private: Sequence[str]) -> Self:
        """Read the settings; raises `ConfigurationError` for an entry that allows nothing."""
        entries = tuple(prefix(text, SETTING) for text in allowed)
        for entry in entries:
            if entry.scheme not in SCHEMES:
                raise ConfigurationError(
                    f"{SETTING} has {entry.shown!r}, which anybody on the way can change.",
                    hint="Use https:// or gs://.",
                )
        return cls(allowed=entries, private=tuple(prefix(text, PRIVATE) for text in private))

    def fault(self, text: object) -> FileFault | None:
        """Return what is wrong with what stands where an address should, None if nothing is."""
        if not isinstance(text, str):
            return _invalid("it is no text")
        try:
            uri = read(text)
        except InvalidRequest as error:
            return _invalid(error.message)
        if uri.scheme not in SCHEMES:
            return _invalid("it is not gs:// or https://")
        if uri.scheme == "gs" and uri.path == "/":
            return _invalid("it names a bucket and no file")
        listed = not self.allowed or any(entry.covers(uri) for entry in self.allowed)
        if listed and not any(_is_inside(uri, own) for own in self.private):
            return None
        return FileFault(
            "file_uri_not_allowed",
            "requests may not name files of this place",
            self._hint(),
        )

    def _hint(self) -> str:
        shown = ", ".join(entry.shown for entry in self.allowed)
        if not shown:
            return "It holds what others have sent; put your files somewhere else."
        return f"Allowed are: {shown}. The operator lists them in {SETTING}."


ANY_FILE: Final = FileRule()


def _invalid(what: str) -> FileFault:
    return FileFault("invalid_file_uri", f"the address is not accepted: {what}", _INVALID_HINT)


def _is_inside(uri: SourceUri, own: SourceUri) -> bool:
    """Tell whether an address could lead into one of our folders, or to all of it."""
    if uri.scheme == "gs":
        place = uri.path.rstrip("/") + "/"
        shared = place.startswith(own.path) or own.path.startswith(place)
        return uri.host == own.host and (shared or bool(_PATTERN.search(uri.path)))
    if not f".{uri.host}".endswith(_GOOGLE_DOMAINS):
        return False
    return uri.host.startswith(own.host + ".") or own.host in uri.path.split("/")
