"""`penstock version`: what runs here, and what runs there."""

from __future__ import annotations

import json
import platform
from typing import Any

from penstock import __version__
from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.failure import Failure


@command()
@connected
def version(server: Server) -> None:
    """Show the version of this command and of the server, if there is one.

    The command ends well without a server. Client and server of different versions work together;
    what the older one does not know is told when it is asked for.

    \b
    Examples:
      penstock version
      penstock version --json
    """  # noqa: D301  # click's mark is a real backspace
    there, why = _of_the_server(server)
    value: dict[str, Any] = {
        "client": __version__,
        "python": platform.python_version(),
        "url": server.caller.url,
        "server": there,
    }
    lines = [f"client  {__version__} (Python {platform.python_version()})"]
    lines.append(f"server  {there or 'unknown'} ({server.caller.url})")
    server.show(value, lines)
    if why:
        server.hint(f"the server's version is not known: {why}")
    elif there != __version__:
        server.hint("client and server are of different versions; upgrade the older one")


def _of_the_server(server: Server) -> tuple[str | None, str]:
    """Return the server's version, or why nobody knows it."""
    try:
        # The document is for everybody, so it is asked for without the key.
        with server.client() as client, client.wire.stream("/openapi.json", {}) as answer:
            document = json.loads(answer.read())
        return str(document["info"]["version"]), ""
    except Failure as failure:
        return None, failure.message
    except (ValueError, KeyError, TypeError):
        return None, "what answers there is no Penstock server"
