"""Where webhooks may go: public hosts by https, and what the operator allows beside them."""

from collections.abc import Sequence
from typing import Final

from penstock.blobs.addresses import is_public
from penstock.core.limits import Limits
from penstock.core.uri import SourceUri, read
from penstock.errors import ConfigurationError, InvalidRequest, PenstockError

SETTING: Final = "webhooks_private_allowed"
PORTS: Final = (443, 8443)
_HINT: Final = "Send one like https://hooks.example.com/penstock, with the port 443 or 8443."


class Addresses:
    """Tells which addresses are fine; one instance per process."""

    def __init__(self, limits: Limits, private_allowed: Sequence[str] = ()) -> None:
        self._characters_max = limits.webhook_url_characters_max
        self._allowed = tuple(_entry(text) for text in private_allowed)

    def read(self, text: str) -> SourceUri:
        """Read an address; raises `InvalidRequest` for one to which nothing may be sent."""
        if len(text) > self._characters_max:
            raise _refused(f"it has more than {self._characters_max} characters")
        try:
            uri = read(text)
        except InvalidRequest as error:
            raise _refused(error.message) from error
        if self.is_trusted(uri):
            return uri
        if uri.scheme != "https":
            raise _refused("it is not https")
        if uri.port not in PORTS:
            raise _refused(f"its port is neither {PORTS[0]} nor {PORTS[1]}")
        if uri.literal is not None and not is_public(uri.literal):
            raise _refused("its host is not on the public internet")
        return uri

    def is_trusted(self, uri: SourceUri) -> bool:
        """Whether the operator allows it, wherever it may lead."""
        return any(entry.covers(uri) for entry in self._allowed)


def _refused(what: str) -> PenstockError:
    return InvalidRequest(
        f"The address in `url` is not accepted: {what}.", code="invalid_webhook_url", hint=_HINT
    )


def _entry(text: str) -> SourceUri:
    try:
        entry = read(text)
    except InvalidRequest as error:
        raise ConfigurationError(f"{SETTING} has {text[:80]!r}: {error.message}.") from error
    is_private = entry.literal is not None and not is_public(entry.literal)
    if entry.scheme == "https" or (entry.scheme == "http" and is_private):
        return entry
    raise ConfigurationError(
        f"{SETTING} has {entry.shown!r}, to which events would travel for everybody to read.",
        hint="Use https://; http:// is for private addresses such as 127.0.0.1 only.",
    )
