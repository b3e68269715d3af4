"""Which names this server answers to: every request's Host is checked before it is routed.

A Host that somebody else chose would stand in download links and, of a page that rebinds its own
name to this address, turn a browser into a client. The probes alone are open to any name, because
Kubernetes asks them by the address of the pod. Nothing is ever allowed because of a request's URL.
"""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address
from typing import Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.api.answers import error_answer
from penstock.errors import HostNotAllowed, InvalidRequest, Refused

PROBES: Final = frozenset({"/healthz", "/readyz"})
PORT_MAX: Final = 65_535
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(
    rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<address>[0-9A-Fa-f:.]{{2,45}})\])"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
_NAME_CHARS_MAX: Final = 253


class KnownAs(msgspec.Struct, frozen=True, kw_only=True):
    """How clients reach this server."""

    names: frozenset[str]
    """Names and addresses, as `name_of` writes them."""
    is_https: bool
    """Whether they come over TLS, which a proxy in front speaks."""


def name_of(host: str) -> str | None:
    """Return the name or address of a Host in its one spelling, without the port; else None."""
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > PORT_MAX:
        return None
    if found["address"] is None:
        name: str = found["name"].lower()
        return name if len(name) <= _NAME_CHARS_MAX else None
    try:
        return str(IPv6Address(found["address"]))
    except AddressValueError:
        return None


class HostCheck:
    """Refuses what was meant for another server."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI event stream."""
        if scope["type"] == "http" and scope["path"] not in PROBES:
            refusal = _refusal(scope["headers"], self._names)
            if refusal is not None:
                await error_answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(headers: Iterable[tuple[bytes, bytes]], names: frozenset[str]) -> Refused | None:
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    name = name_of(hosts[0]) if len(hosts) == 1 else None
    if name is None:
        return InvalidRequest(
            f"The request has {len(hosts)} Host headers."
            if len(hosts) != 1
            else "The Host header is not a name or address with an optional port.",
            code="host_invalid",
            hint="Send one Host header, as HTTP/1.1 asks.",
        )
    if name in names:
        return None
    return HostNotAllowed(
        f"This server does not answer to the name {name[:80]}.",
        hint="Use the address that its operator gives; operators name it in hosts_allowed.",
    )
