"""`penstock config`: where the settings of the command line come from."""

from __future__ import annotations

import os

from penstock.cli.auth import whence
from penstock.cli.command import group
from penstock.cli.connection import Answer, Server, answering, connected
from penstock.cli.recent import recent
from penstock.client.profile import config_path


@group()
def config() -> None:
    """Show where the settings of the command line and of the Python client come from.

    The settings of a server are another matter: `penstock serve --check` shows those.

    \b
    Examples:
      penstock config path
      penstock config show
    """  # noqa: D301  # click's mark is a real backspace


@config.command()
@answering
def path(answer: Answer) -> None:
    """Print the path of the file of profiles, whether it is there or not.

    \b
    Examples:
      penstock config path
    """  # noqa: D301  # click's mark is a real backspace
    where = config_path(os.environ)
    answer.show({"path": str(where), "exists": where.exists()}, [str(where)])


@config.command()
@connected
def show(server: Server) -> None:
    """Show which server, key and organisation a command would use, and where each comes from.

    No server is asked; `penstock auth status` does that.

    \b
    Examples:
      penstock config show
      penstock config show --profile work --json
    """  # noqa: D301  # click's mark is a real backspace
    said = whence(server.caller)
    rows = [("file", str(config_path(os.environ)))]
    for member in ("url", "key", "organization"):
        origin = said[f"{member}_from"]
        text = said[member] or "none"
        rows.append((member, f"{text} ({origin})" if origin else str(text)))
    rows += [("profile", said["profile"] or "none"), ("cache", str(recent(os.environ).path))]
    value = {**said, "file": rows[0][1], "cache": rows[-1][1]}
    server.show(value, server.sheet([f"{name:<12} {text}" for name, text in rows]))
