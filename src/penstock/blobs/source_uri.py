"""The operator's list of the addresses that `input_uri` may hold."""

from collections.abc import Sequence
from typing import Final

from penstock.core.uri import SourceUri, prefix, read
from penstock.errors import ConfigurationError, Forbidden, InvalidRequest

SETTING: Final = "sources_allowed"


class AllowList:
    """What the operator allows; nothing unless something is listed.

    `private` are the server's own folders, in which all tenants' inputs and outputs lie.
    """

    def __init__(self, entries: Sequence[str], private: Sequence[str] = ()) -> None:
        self.entries = tuple(_entry(text) for text in entries)
        for own in map(parse, private):
            for entry in self.entries:
                if not (entry.covers(own) or own.covers(entry)):
                    continue
                raise ConfigurationError(
                    f"{SETTING} has {entry.shown!r}, with which everybody could read the inputs "
                    f"and outputs of all jobs in {own.shown}.",
                    hint="Allow another folder or bucket.",
                )

    def check(self, uri: SourceUri) -> None:
        """Raise `Forbidden` unless an entry covers the address."""
        if any(entry.covers(uri) for entry in self.entries):
            return
        allowed = ", ".join(entry.shown for entry in self.entries) or "none"
        raise Forbidden(
            f"The server does not pull from {uri.shown[:200]}.",
            code="source_not_allowed",
            hint=f"Allowed are: {allowed}. The operator lists them in {SETTING} "
            f"(PENSTOCK_{SETTING.upper()}).",
        )


def parse(text: str) -> SourceUri:
    """Read what `input_uri` holds; raises `InvalidRequest` saying what is wrong with it."""
    try:
        return read(text)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"The address in `input_uri` is not accepted: {error.message}.",
            code="invalid_input_uri",
            hint="Send one like gs://bucket/name or https://host/path, without user or fragment.",
        ) from error


def _entry(text: str) -> SourceUri:
    entry = prefix(text, SETTING)
    if entry.scheme == "http" and not entry.is_loopback:
        raise ConfigurationError(
            f"{SETTING} has {entry.shown!r}, which anybody on the way can change.",
            hint="Use https://; http:// is for a loopback address such as 127.0.0.1 only.",
        )
    return entry
