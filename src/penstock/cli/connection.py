"""What a command that calls a server is given: who is called, and in which form it answers.

Nothing here imports the client before it is used, because completions and `--help` are answered by
the same commands in a tenth of a second.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import Common
from penstock.cli.listing import UNLIMITED, columns, error_width, terminal_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.client import Api
    from penstock.client.profile import Caller
    from penstock.client.progress import Progress

_SERVER: Final = "Server"
_ANSWER: Final = "Answer"
_COMMAND: Final = "penstock "


class Answer:
    """The form in which a command answers: data on standard output, all else beside it."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        no_truncate: bool = False,
        no_color: bool = False,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._is_whole = no_truncate
        self._is_plain = no_color

    @property
    def width(self) -> int:
        """The columns that there are: 0 in a pipe, which gets everything and tabs."""
        width = terminal_width()
        return UNLIMITED if width and self._is_whole else width

    def show(self, value: object, lines: Sequence[str], ids: Sequence[str] | None = None) -> None:
        """Write the answer to standard output; `ids` is what `--quiet` leaves of it."""
        if self.as_json:
            import msgspec  # noqa: PLC0415  # lazy: completions and help need no JSON

            click.echo(msgspec.json.encode(value))
        elif self.quiet and ids is not None:
            for one in ids:
                click.echo(one)
        else:
            for line in lines:
                click.echo(line)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, drop: Sequence[str] = ()
    ) -> list[str]:
        """Return a table that fits; an empty one is nothing."""
        return columns(headings, rows, self.width, drop=drop) if rows else []

    def sheet(self, lines: Sequence[str]) -> list[str]:
        """Return lines of names and values so that none is wrapped by the terminal."""
        return wrapped(lines, self.width)

    def hint(self, text: str) -> None:
        """Say something on standard error that is no data, unless `--quiet` forbids it."""
        if self.quiet:
            return
        width = error_width()
        # What is to be copied is not broken: the terminal itself joins it again.
        for line in [text] if _COMMAND in text else wrapped([text], width, margin=""):
            click.echo(line, err=True)

    def next(self, command: str) -> None:
        """Say which command is likely to be wanted next."""
        text = f"next: {command}"
        width = error_width()
        self.hint(text if not width or len(text) <= width else f"next:\n  {command}")

    def progress(self) -> Progress:
        """Return who shows how far something is: a bar, lines of a log, or nobody."""
        from penstock.client.progress import Silent, auto  # noqa: PLC0415  # lazy: HTTP comes with it

        if self.quiet or sys.stderr is None:
            return Silent()
        plain = {"NO_COLOR": "1"} if self._is_plain else {}
        return auto(sys.stderr, environ={**os.environ, **plain}, modules={})


class Server(Answer):
    """Where the commands go, with which key, and in which form they answer."""

    def __init__(self, given: dict[str, str | None], **form: bool) -> None:
        super().__init__(**form)
        self._given = given

    @functools.cached_property
    def caller(self) -> Caller:
        """Who calls which server, as the options, the environment and the profile say."""
        from penstock.cli.dialling import found  # noqa: PLC0415  # lazy: HTTP comes with it

        return found(self._given)

    @contextmanager
    def client(self, file: str = "input") -> Iterator[Api]:
        """Open a client; its errors become failures that name `file` where lines are bad."""
        from penstock.cli.dialling import dialled  # noqa: PLC0415  # lazy: HTTP comes with it

        with dialled(self.caller, file) as client:
            yield client


def _option(*names: str, section: str, **attributes: Any) -> Callable[..., Any]:  # noqa: ANN401  # click's own
    return click.option(*names, cls=Common, section=section, **attributes)


_REACH: Final = (
    _option("--profile", section=_SERVER, help="Profile of the settings to use.", metavar="NAME"),
    _option(
        "--url",
        section=_SERVER,
        metavar="URL",
        help="Address of the server.  [env var: PENSTOCK_URL; default: http://127.0.0.1:8080]",
    ),
    _option(
        "--key",
        section=_SERVER,
        metavar="KEY",
        help="API key; better in PENSTOCK_API_KEY or a profile, where other users do not see it.",
    ),
    _option(
        "--organization",
        section=_SERVER,
        metavar="ORG",
        help="Organisation to act for.  [env var: PENSTOCK_ORGANIZATION]",
    ),
)
_FORM: Final = (
    _option("--json", "as_json", is_flag=True, section=_ANSWER, help="Answer with JSON."),
    _option(
        "--no-truncate", is_flag=True, section=_ANSWER, help="Cut nothing to fit the terminal."
    ),
    _option(
        "--no-color",
        is_flag=True,
        section=_ANSWER,
        help="Use no colours.  [env var: NO_COLOR]",
    ),
)
_QUIET: Final = _option(
    "-q", "--quiet", is_flag=True, section=_ANSWER, help="Print ids only, and no hints."
)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a server and of an answer, as one `Server`."""
    return _given(command, (*_REACH, *_FORM))


def connected_with_ids(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the same, and `--quiet`: what it answers has ids."""
    return _given(command, (*_REACH, *_FORM[:1], _QUIET, *_FORM[1:]))


def answering(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that calls no server the options of an answer, as one `Answer`."""
    return _answering(command, _FORM)


def answering_with_ids(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the same, and `--quiet`."""
    return _answering(command, (*_FORM[:1], _QUIET, *_FORM[1:]))


def _answering(
    command: Callable[..., None], options: Sequence[Callable[..., Any]]
) -> Callable[..., None]:
    @functools.wraps(command)
    def with_answer(**given: Any) -> None:  # noqa: ANN401  # the command's own options
        command(Answer(**_form(given)), **given)

    return _decorated(with_answer, options)


def _given(
    command: Callable[..., None], options: Sequence[Callable[..., Any]]
) -> Callable[..., None]:
    @functools.wraps(command)
    def with_server(**options: Any) -> None:  # noqa: ANN401  # the command's own options
        reach = {name: options.pop(name) for name in ("profile", "url", "key", "organization")}
        command(Server(reach, **_form(options)), **options)

    return _decorated(with_server, options)


def _form(options: dict[str, Any]) -> dict[str, bool]:
    names = ("as_json", "quiet", "no_truncate", "no_color")
    return {name: options.pop(name) for name in names if name in options}


def _decorated(
    command: Callable[..., None], options: Sequence[Callable[..., Any]]
) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command
