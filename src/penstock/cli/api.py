"""`penstock api`: any call of the server's HTTP API, with the key of the profile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.stdin import standard_input

if TYPE_CHECKING:
    from collections.abc import Iterator

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_BLOCK_BYTES: Final = 262_144
_PUBLIC: Final = frozenset({"/openapi.json", "/healthz", "/readyz"})
"""Paths that ask for no key, and are no part of the request queue."""


@command()
@click.argument("method", type=click.Choice(_METHODS, case_sensitive=False))
@click.argument("path")
@click.option(
    "-f",
    "--field",
    "fields",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of a GET, HEAD or DELETE, or a member of the JSON body of any other call; "
    "true, false, null and numbers are JSON's. May be given several times.",
)
@click.option(
    "--input",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help='Send this file as the body; "-" reads standard input.',
)
@click.option("--content-type", default="application/json", show_default=True, help="Of the body.")
@connected
def api(
    server: Server,
    *,
    method: str,
    path: str,
    fields: tuple[str, ...],
    source: str | None,
    **form: Any,  # noqa: ANN401  # options that are passed on
) -> None:
    """Call PATH of the server, such as /api/v1/usage, and print what it answers as it is.

    A path that does not begin with /api/ is one of the request queue: /requests, /models. A whole
    address works as well if it is one of the server's. The document of all calls is at
    /openapi.json.

    \b
    Examples:
      penstock api GET /api/v1/usage
      penstock api GET /requests -f limit=1
      penstock api POST /api/v1/keys -f name=ci
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    method = method.upper()
    if fields and source is not None:
        raise click.UsageError("give --field or --input, not both")
    pairs = _pairs(fields)
    has_query = method in {"GET", "HEAD", "DELETE"}
    headers = None
    content: Iterator[bytes] | None = None
    if source is not None:
        content = _blocks(source)
    elif pairs and not has_query:
        content = iter([json.dumps(pairs).encode()])
    if content is not None:
        headers = {"Content-Type": form["content_type"]}
    params = {key: _text(value) for key, value in pairs.items()} if has_query else None
    own = _own(server.caller.url, path)
    with server.client(source or "input") as client:
        if own in _PUBLIC:
            with client.wire.stream(own, {}) as stream:
                _write(stream.read())
            return
        answer = client.wire.exchange(
            method, own, headers=headers, params=params or None, content=content
        )
    _write(answer.content)


def _write(content: bytes) -> None:
    out = sys.stdout.buffer
    out.write(content)
    if content and not content.endswith(b"\n"):
        out.write(b"\n")
    out.flush()


def _own(url: str, path: str) -> str:
    """Return a path of the server; the key is not sent anywhere else."""
    base = url.rstrip("/")
    if path.startswith(base + "/"):
        path = path[len(base) :]
    if "://" in path or not path.startswith("/"):
        raise click.UsageError(f"{path!r} is no path of {url}; a path begins with /")
    return path.removeprefix("/api/v1/ie/requestqueue/apikey") or "/"


def _pairs(fields: tuple[str, ...]) -> dict[str, Any]:
    pairs = {}
    for text in fields:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise click.UsageError(f"{text!r} is not KEY=VALUE")
        pairs[key] = _value(value)
    return pairs


def _value(text: str) -> Any:  # noqa: ANN401  # JSON
    try:
        found = json.loads(text)
    except ValueError:
        # Most values are texts, which need no quotes here.
        return text
    return text if isinstance(found, str | list | dict) else found


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _blocks(source: str) -> Iterator[bytes]:
    file = standard_input() if source == "-" else Path(source).open("rb")  # noqa: SIM115  # closed below
    try:
        while block := file.read(_BLOCK_BYTES):
            yield block
    finally:
        if source != "-":
            file.close()
