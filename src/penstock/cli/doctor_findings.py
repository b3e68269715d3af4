"""How findings are shown: a line each, the worst decides the exit code."""

import shutil
import sys
from collections.abc import Sequence
from typing import Final, TextIO

import click
import msgspec

from penstock.client.screen import clean
from penstock.doctor.check import Finding, Verdict, exit_code_of

_MARKS: Final = {
    Verdict.HOLDS: "✓",
    Verdict.WARNS: "!",
    Verdict.FAILS: "✗",
    Verdict.UNKNOWN: "?",
}
_PLAIN: Final = {
    Verdict.HOLDS: "ok",
    Verdict.WARNS: "! ",
    Verdict.FAILS: "x ",
    Verdict.UNKNOWN: "? ",
}
_PLAIN_ARROW: Final = "->"


def told(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Write the findings, and end with the exit code of the worst."""
    code = exit_code_of(findings)
    if as_json:
        click.echo(msgspec.json.encode({"ok": code == 0, "checks": findings}))
    else:
        for line in lines(findings, width_of(sys.stdout), is_plain=not speaks_unicode(sys.stdout)):
            click.echo(line)
    if code:
        raise click.exceptions.Exit(code)


def lines(findings: Sequence[Finding], width: int, *, is_plain: bool) -> list[str]:
    """Return a line for each finding; what to do goes below it where it has no room."""
    names = max((len(finding.check) for finding in findings), default=0)
    shown: list[str] = []
    for finding in findings:
        mark = (_PLAIN if is_plain else _MARKS)[finding.verdict]
        head = f"{mark} {finding.check:<{names}}  {clean(finding.saw)}"
        todo = clean(finding.todo)
        arrow = _PLAIN_ARROW if is_plain else "→"
        if todo and width and len(head) + len(todo) + len(arrow) + 2 > width:
            shown += [head, f"{' ' * (len(mark) + 1)}{arrow} {todo}"]
        else:
            shown.append(f"{head} {arrow} {todo}" if todo else head)
    return [_ascii(line) for line in shown] if is_plain else shown


def width_of(stream: TextIO) -> int:
    """Return the columns of the terminal; 0 if nobody looks."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def speaks_unicode(stream: TextIO) -> bool:
    """Return whether the marks can be written."""
    try:
        "".join(_MARKS.values()).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _ascii(line: str) -> str:
    return line.encode("ascii", "replace").decode("ascii")
