"""How a command fails: one sentence, where, what to do, and an exit code for scripts."""

import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any

import click

from penstock.client.screen import clean

if TYPE_CHECKING:
    # What the server says, and what we find ourselves; neither is needed to run.
    from penstock.client.errors import Detail
    from penstock.errors import Problem

PROBLEMS_SHOWN_MAX = 20


class ExitCode(IntEnum):
    """What the shell gets to see; `penstock --help` lists the same."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    JOB_FAILED = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    INPUT_INVALID = 6
    LIMIT = 7
    STILL_RUNNING = 8
    LINES_FAILED = 9
    INTERRUPTED = 130
    READER_GONE = 141


_BY_STATUS = {
    400: ExitCode.USAGE,
    401: ExitCode.NOT_ALLOWED,
    402: ExitCode.LIMIT,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.INPUT_INVALID,
    429: ExitCode.LIMIT,
}


def exit_code_for(status: int, *, lines_bad: bool) -> ExitCode:
    """Return the exit code for an HTTP status; a 400 about lines is the input's fault."""
    if lines_bad:
        return ExitCode.INPUT_INVALID
    return _BY_STATUS.get(status, ExitCode.UNEXPECTED)


def located(message: str, path: str | None) -> str:
    """Return the message with the JSON path that it is about."""
    return f"{message} ({path})" if path else message


class Failure(Exception):
    """A failure that is told to the user: `error[code]: message`, places, then `fix: …`."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        exit_code: ExitCode,
        fix: str | None = None,
        places: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.exit_code = int(exit_code)
        self.fix = fix
        self.places = places

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        out = sys.stderr if file is None else file
        click.echo(f"error[{clean(self.code)}]: {clean(self.message)}", file=out)
        for place in self.places:
            click.echo(f"  {place}", file=out)
        if self.fix:
            click.echo(f"fix: {clean(self.fix)}", file=out)


def places(
    file: str, faults: "Iterable[Problem | Detail]", *, names_codes: bool = False
) -> list[str]:
    """Return bad lines as they are shown: where, what, the text around it, what to do.

    What to do stands below the first that it helps with: twenty times the same would hide where
    they differ.
    """
    shown: list[str] = []
    told: set[str] = set()
    for fault in faults:
        where = ":".join(
            str(part) for part in (clean(file), fault.line, fault.column) if part is not None
        )
        what = located(fault.message, fault.path)
        shown.append(f"{where}  {clean(f'{fault.code}: {what}' if names_codes else what)}")
        if fault.excerpt:
            shown.append(f"    {clean(fault.excerpt)}")
        if fault.hint and fault.hint not in told:
            told.add(fault.hint)
            shown.append(f"    hint: {clean(fault.hint)}")
    return shown


def first_places(
    file: str, faults: "Sequence[Problem | Detail]", total: int, *, names_codes: bool = False
) -> list[str]:
    """Return the first of so many bad lines as they are shown, and how many more there are."""
    shown = faults[:PROBLEMS_SHOWN_MAX]
    told = places(file, shown, names_codes=names_codes)
    more = total - len(shown)
    return [*told, f"… and {more:,} more"] if more > 0 else told
